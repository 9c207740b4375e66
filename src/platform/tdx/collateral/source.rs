//! Where collateral comes from when none is stapled to the report.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Collateral, CollateralRequest};
use crate::platform::endorser::EndorsementError;

/// Supplies collateral for platforms. The verifier asks only for platforms whose quote has already been found genuine,
/// so that strangers cannot make it fetch.
///
/// A source asks [`CollateralRequest::check`] before it keeps a set, and goes on to its next source where the check
/// refuses one. The verifier judges whatever a source returns exactly as it judges what is stapled, so a source that
/// lies can only make verification fail.
#[async_trait]
pub trait CollateralSource: Send + Sync + fmt::Debug {
    /// The collateral that `request` names.
    ///
    /// # Errors
    ///
    /// An [`EndorsementError`]; its kind says whether it is worth asking again and when.
    async fn collateral(&self, request: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError>;

    /// Asks `other` where this source fails, has nothing that passes the request's check, or does not know the platform's
    /// TCB yet.
    fn or_else<T: CollateralSource>(self, other: T) -> OrElse<Self, T>
    where
        Self: Sized,
    {
        OrElse { first: self, other }
    }
}

/// Two sources, the second for what the first does not have. Made by [`CollateralSource::or_else`].
#[derive(Debug, Clone)]
pub struct OrElse<A, B> {
    first: A,
    other: B,
}

#[async_trait]
impl<A: CollateralSource, B: CollateralSource> CollateralSource for OrElse<A, B> {
    async fn collateral(&self, request: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        let mut usable = None;
        if let Ok(found) = self.first.collateral(request).await {
            match request.check(&found) {
                Ok(_) if request.wants_newer() => usable = Some(found),
                Ok(_) => return Ok(found),
                Err(error) => tracing::warn!(platform = %request.platform(), %error, "tdx.collateral.passed_over"),
            }
        }
        let other = self.other.collateral(request).await;
        match usable {
            Some(usable) => Ok(other.ok().filter(|other| request.check(other).is_ok()).unwrap_or(usable)),
            None => other,
        }
    }
}

#[async_trait]
impl<S: CollateralSource + ?Sized> CollateralSource for Arc<S> {
    async fn collateral(&self, request: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        (**self).collateral(request).await
    }
}

/// One set, for whatever platform is asked about: a set for another platform is refused by the verifier.
#[async_trait]
impl CollateralSource for Collateral {
    async fn collateral(&self, _: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        Ok(Arc::new(self.clone()))
    }
}
