//! Revocation lists: where they come from and who takes them.

mod refresh;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::refresh::{CrlRefresh, CrlRefresher, CrlState};
use super::{EndorsementError, EndorsementErrorKind};
use crate::platform::snp::Product;
use crate::verifier::VerifyError;

/// Finds the revocation list that AMD publishes for a product.
///
/// A source asks [`CrlRequest::check`] before it keeps a list, and goes on to its next source where the check refuses one.
#[async_trait]
pub trait CrlSource: Send + Sync + fmt::Debug {
    /// The list (DER, at most 1 MiB) that `request` names.
    ///
    /// # Errors
    ///
    /// An [`EndorsementError`]; its kind says whether it is worth asking again and when.
    async fn crl(&self, request: &CrlRequest<'_>) -> Result<Bytes, EndorsementError>;
}

#[async_trait]
impl<S: CrlSource + ?Sized> CrlSource for Arc<S> {
    async fn crl(&self, request: &CrlRequest<'_>) -> Result<Bytes, EndorsementError> {
        (**self).crl(request).await
    }
}

/// Takes revocation lists: [`SnpVerifier`](crate::platform::snp::SnpVerifier).
pub trait CrlSink: Send + Sync {
    /// Verifies `crl` (DER) and judges by it from now on. The list that is in force already changes nothing. Returns its
    /// `nextUpdate`.
    ///
    /// # Errors
    ///
    /// The list does not parse, is not signed by the pinned ARK of `product`, is older than the one in force, or does not
    /// hold at `now`; then nothing changes.
    fn renew_crl(&self, product: Product, crl: &[u8], now: SystemTime) -> Result<SystemTime, VerifyError>;
}

/// A request for the revocation list of one product, with the sink that judges it.
#[derive(Clone, Copy)]
pub struct CrlRequest<'a> {
    product: Product,
    sink: &'a dyn CrlSink,
    now: SystemTime,
}

impl<'a> CrlRequest<'a> {
    /// The list of `product` for `sink`, at the wall-clock time `now`.
    pub fn new(product: Product, sink: &'a dyn CrlSink, now: SystemTime) -> Self {
        Self { product, sink, now }
    }

    /// Whose list is wanted.
    pub fn product(&self) -> Product {
        self.product
    }

    /// Hands `der` to the sink, which verifies it. Returns its `nextUpdate`.
    ///
    /// # Errors
    ///
    /// `Refused`, with the sink's refusal as source.
    pub fn check(&self, der: &[u8]) -> Result<SystemTime, EndorsementError> {
        self.sink.renew_crl(self.product, der, self.now).map_err(|refusal| {
            let message = format!("CRL of {}", self.product);
            EndorsementError::with_source(EndorsementErrorKind::Refused, message, refusal)
        })
    }
}

impl fmt::Debug for CrlRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CrlRequest").field(&self.product).finish()
    }
}
