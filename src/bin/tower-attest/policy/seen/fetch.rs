//! What vouches for a report that came alone, as the verifiers' own sources find it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tower_attest::platform::snp::vek::{EndorsementError, VekRequest, VekSource};
use tower_attest::platform::snp::{SnpPolicy, SnpVerifier};
use tower_attest::platform::tdx::{Collateral, CollateralRequest, CollateralSource, TdxPolicy, TdxVerifier};
use tower_attest::{Platform, Report, ReportVerifier, VerifyError, VerifyErrorKind, async_trait};

/// A source that keeps what it found.
///
/// Which certificate a report needs, and that it is worth asking for, only a verifier knows. So one is let run with such
/// a source; what it then makes of the report does not matter here.
#[derive(Debug)]
struct Keeping<S, T> {
    source: S,
    found: Arc<Mutex<Option<T>>>,
}

/// The report with its certificate or collateral.
pub(super) async fn endorsed(
    report: &Report,
    veks: impl VekSource + 'static,
    collateral: impl CollateralSource + 'static,
    now: SystemTime,
) -> Result<Report, VerifyError> {
    if *report.platform() == Platform::SNP {
        let found = Arc::default();
        let source = Keeping { source: veks, found: Arc::clone(&found) };
        let verifier = SnpVerifier::new(SnpPolicy::pin([0; 48])).with_vek_source(source);
        let der: Bytes = take(&found, verifier.verify(report, now).await)?;
        Ok(report.clone().with_vek(der))
    } else {
        let found = Arc::default();
        let source = Keeping { source: collateral, found: Arc::clone(&found) };
        let verifier = TdxVerifier::new(TdxPolicy::pin([0; 48])).with_collateral_source(source);
        let collateral: Arc<Collateral> = take(&found, verifier.verify(report, now).await)?;
        Ok(report.clone().with_collateral(collateral.to_json()))
    }
}

/// What was found; else why nothing was.
fn take<T, C>(found: &Mutex<Option<T>>, verdict: Result<C, VerifyError>) -> Result<T, VerifyError> {
    match (found.lock().unwrap_or_else(PoisonError::into_inner).take(), verdict) {
        (Some(found), _) => Ok(found),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(VerifyError::new(VerifyErrorKind::EndorsementMissing, "found no endorsement")),
    }
}

impl<S, T: Clone> Keeping<S, T> {
    fn keep(&self, found: &T) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
    }
}

#[async_trait]
impl<S: VekSource> VekSource for Keeping<S, Bytes> {
    async fn vek(&self, request: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
        self.source.vek(request).await.inspect(|der| self.keep(der))
    }
}

#[async_trait]
impl<S: CollateralSource> CollateralSource for Keeping<S, Arc<Collateral>> {
    async fn collateral(&self, request: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        self.source.collateral(request).await.inspect(|collateral| self.keep(collateral))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower_attest::platform::snp::Product;
    use tower_attest::platform::snp::sim::{SimProvider, SimulatedGuest};

    #[derive(Debug)]
    struct Found(Bytes);

    #[async_trait]
    impl VekSource for Found {
        async fn vek(&self, _: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
            Ok(self.0.clone())
        }
    }

    #[derive(Debug)]
    struct Unasked;

    #[async_trait]
    impl CollateralSource for Unasked {
        async fn collateral(&self, _: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
            panic!("a report of SNP has no collateral")
        }
    }

    #[tokio::test]
    async fn a_report_that_came_alone_gets_what_its_source_finds() {
        let whole = SimProvider::new(SimulatedGuest::new(Product::Genoa)).make(&[7; 64]);
        let vek = whole.vek().unwrap().clone();
        let alone = whole.without_vek();
        let found = endorsed(&alone, Found(vek.clone()), Unasked, SystemTime::now()).await.unwrap();
        assert_eq!(found.vek(), Some(&vek));
    }

    #[tokio::test]
    async fn nothing_is_asked_for_what_is_no_report() {
        let nonsense = Report::new(Platform::SNP, vec![0; 1184]);
        let error = endorsed(&nonsense, Found(Bytes::new()), Unasked, SystemTime::now()).await.unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::Malformed);
    }
}
