//! A verifier that another policy joins once its own is no longer the one in force.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use tower_attest::{Claims, Platform, Report, ReportVerifier, VerifyError, async_trait};

/// Added to the revision when another policy joins, so that trust given before ends.
const JOINED: u64 = 1 << 62;

/// Judges by one policy, later by that policy and by those that took its place: what still runs may have been promised the
/// first, and the operator asks for the last.
#[derive(Debug)]
pub(super) struct Narrowed {
    own: Box<dyn ReportVerifier>,
    later: OnceLock<Arc<Narrowed>>,
}

impl Narrowed {
    pub(super) fn new(own: impl ReportVerifier + 'static) -> Self {
        Self { own: Box::new(own), later: OnceLock::new() }
    }

    /// Judges by `later`, too, from now on.
    pub(super) fn narrow(&self, later: &Arc<Self>) {
        // A second would only repeat the first, which is itself narrowed when its time has come.
        let _ = self.later.set(Arc::clone(later));
    }
}

#[async_trait]
impl ReportVerifier for Narrowed {
    fn platforms(&self) -> Vec<Platform> {
        self.own.platforms()
    }

    async fn verify(&self, report: &Report, now: SystemTime) -> Result<Claims, VerifyError> {
        let claims = self.own.verify(report, now).await?;
        match self.later.get() {
            Some(later) => later.verify(report, now).await,
            None => Ok(claims),
        }
    }

    fn revision(&self) -> u64 {
        let later = self.later.get().map_or(0, |later| later.revision().wrapping_add(JOINED));
        self.own.revision().wrapping_add(later)
    }
}

#[cfg(test)]
mod tests {
    use tower_attest::mock::{MockPolicy, MockTee};
    use tower_attest::{Attester, Nonce};

    use super::*;

    fn accepting(tee: &MockTee, measurement: [u8; 48]) -> Arc<Narrowed> {
        let verifier = tee.verifier();
        verifier.set_policy(MockPolicy::pin(tee.root_key(), measurement));
        Arc::new(Narrowed::new(verifier))
    }

    #[tokio::test]
    async fn what_was_promised_holds_and_what_is_asked_for_now_holds_too() {
        let tee = MockTee::new();
        let ours = tee.measurement();
        let attester = Attester::builder(tee.provider()).name("a").start().await.unwrap();
        let report = attester.evidence(&Nonce::from_bytes([7; 32]), None).await.unwrap().report;
        for (first, second, third, expected) in [
            (ours, ours, ours, [true, true, true]),
            (ours, ours, [1; 48], [true, true, false]),
            (ours, [1; 48], ours, [true, false, false]),
            ([1; 48], ours, ours, [false, false, false]),
        ] {
            let [first, second, third] = [first, second, third].map(|policy| accepting(&tee, policy));
            let mut revisions = vec![first.revision()];
            let mut found = [false; 3];
            found[0] = first.verify(&report, SystemTime::now()).await.is_ok();
            first.narrow(&second);
            revisions.push(first.revision());
            found[1] = first.verify(&report, SystemTime::now()).await.is_ok();
            second.narrow(&third);
            revisions.push(first.revision());
            found[2] = first.verify(&report, SystemTime::now()).await.is_ok();
            assert_eq!(found, expected);
            revisions.dedup();
            assert_eq!(revisions.len(), 3, "trust given before ends");
        }
    }
}
