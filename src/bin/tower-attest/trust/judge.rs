//! The verifiers of one policy, until another takes its place.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use tower_attest::{AnyOf, Claims, Platform, Report, ReportVerifier, VerifyError, VerifyErrorKind, async_trait};

use crate::admin::metrics::believing::Believing;

/// Added to the revision of what is retired, so that trust given before ends.
const RETIRED: u64 = 1 << 63;

/// Judges until it is retired, and then believes nothing: what still waits on a channel of an earlier policy must not be
/// sent under it.
#[derive(Debug)]
pub(crate) struct Judge {
    verifiers: AnyOf,
    retired: AtomicBool,
    meter: OnceLock<Believing>,
}

impl Judge {
    pub(super) fn new(verifiers: AnyOf) -> Self {
        Self { verifiers, retired: AtomicBool::new(false), meter: OnceLock::new() }
    }

    /// Counts what it judges from now on.
    pub(super) fn count(&self, meter: Believing) {
        // Told once: there is one meter in a process.
        let _ = self.meter.set(meter);
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

#[async_trait]
impl ReportVerifier for Judge {
    fn platforms(&self) -> Vec<Platform> {
        self.verifiers.platforms()
    }

    async fn verify(&self, report: &Report, now: SystemTime) -> Result<Claims, VerifyError> {
        if self.is_retired() {
            let message = "another policy has taken this one's place: ask again";
            return Err(VerifyError::new(VerifyErrorKind::Unavailable, message));
        }
        let started = Instant::now();
        let outcome = self.verifiers.verify(report, now).await;
        if let Some(meter) = self.meter.get() {
            meter.verification(started.elapsed(), &outcome);
        }
        outcome
    }

    fn revision(&self) -> u64 {
        self.verifiers.revision().wrapping_add(if self.is_retired() { RETIRED } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation;

    #[tokio::test]
    async fn once_retired_it_believes_nothing_and_what_it_believed_ends() {
        let judge = Judge::new(AnyOf::new(simulation::mock().verifier()));
        let attester = tower_attest::Attester::builder(simulation::mock().provider()).name("a").start().await.unwrap();
        let evidence = attester.evidence(&tower_attest::Nonce::from_bytes([7; 32]), None).await.unwrap();
        judge.verify(&evidence.report, SystemTime::now()).await.unwrap();
        let before = judge.revision();
        judge.retire();
        assert_ne!(judge.revision(), before);
        let refused = judge.verify(&evidence.report, SystemTime::now()).await.unwrap_err();
        assert_eq!(refused.kind(), VerifyErrorKind::Unavailable);
    }
}
