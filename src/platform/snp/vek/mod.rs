//! Where endorsements that did not come with the report are found: VCEK certificates and CRLs.
//!
//! ```
//! use tower_attest::platform::snp::vek::{EndorsementDirectory, MemoryVeks};
//! use tower_attest::platform::snp::{SnpPolicy, SnpVerifier};
//!
//! // Memory, then files. `.then(KdsClient::new(..))` on the directory would ask AMD for what is not there.
//! let source = MemoryVeks::new(EndorsementDirectory::new("/var/lib/prover/endorsements"));
//! let verifier = SnpVerifier::new(SnpPolicy::pin([0x42; 48])).with_vek_source(source);
//! # let _ = verifier;
//! ```

mod crl;
mod directory;
mod kds;
mod memory;
mod request;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::crl::{CrlRefresh, CrlRefresher, CrlRequest, CrlSink, CrlSource, CrlState};
pub use self::directory::{EndorsementDirectory, NoSource};
pub use self::kds::KdsClient;
pub use self::memory::MemoryVeks;
pub use self::request::{VekId, VekRequest};
pub use crate::platform::endorser::{EndorsementError, EndorsementErrorKind};

/// Finds the VCEK certificate of a report that came without one.
///
/// A VLEK has no such source: AMD issues it to a cloud provider, whose host hands it to the guest; it must be stapled.
///
/// A source asks [`VekRequest::check`] before it keeps a certificate, and goes on to its next source where the check
/// refuses one. The verifier judges whatever a source returns exactly as it judges a stapled certificate, so a source
/// that lies can only make verification fail.
#[async_trait]
pub trait VekSource: Send + Sync + fmt::Debug {
    /// The certificate (DER, at most 16 KiB) that `request` names.
    ///
    /// # Errors
    ///
    /// An [`EndorsementError`]; its kind says whether it is worth asking again and when.
    async fn vek(&self, request: &VekRequest<'_>) -> Result<Bytes, EndorsementError>;
}

#[async_trait]
impl<S: VekSource + ?Sized> VekSource for Arc<S> {
    async fn vek(&self, request: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
        (**self).vek(request).await
    }
}
