//! Judges mock reports as a verifier of hardware judges real ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::MockReport;
use crate::crypto;
use crate::report::{Hex, Platform, Report};
use crate::verifier::{Claims, FailedRule, ReportVerifier, VerifyError, VerifyErrorKind};

/// Which mock reports are accepted. There is no policy without a root key and a measurement.
///
/// ```
/// use tower_attest::mock::{MockPolicy, MockTee};
///
/// let tee = MockTee::new();
/// let policy = MockPolicy::pin(tee.root_key(), tee.measurement()).or_measurement([1; 48]);
/// assert_ne!(policy, policy.clone().allow_debug());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MockPolicy {
    roots: Vec<[u8; 32]>,
    measurements: HashMap<[u8; 48], Option<String>>,
    debug: bool,
}

impl MockPolicy {
    /// Accepts reports that this root key signed about this program, unless it runs under debugging.
    pub fn pin(root_key: [u8; 32], measurement: [u8; 48]) -> Self {
        Self { roots: vec![root_key], measurements: HashMap::from([(measurement, None)]), debug: false }
    }

    /// Trusts one more root key.
    #[must_use]
    pub fn or_root(mut self, root_key: [u8; 32]) -> Self {
        self.roots.push(root_key);
        self
    }

    /// Accepts one more program.
    #[must_use]
    pub fn or_measurement(mut self, measurement: [u8; 48]) -> Self {
        self.measurements.entry(measurement).or_default();
        self
    }

    /// Accepts a program and gives it a name.
    #[must_use]
    pub fn or_named(mut self, measurement: [u8; 48], name: impl Into<String>) -> Self {
        self.measurements.insert(measurement, Some(name.into()));
        self
    }

    /// Accepts programs under debugging too.
    #[must_use]
    pub fn allow_debug(mut self) -> Self {
        self.debug = true;
        self
    }

    fn failed_rules(&self, report: &MockReport) -> Vec<FailedRule> {
        let mut failed = Vec::new();
        if !self.measurements.contains_key(&report.measurement) {
            let mut accepted: Vec<_> = self.measurements.keys().map(|bytes| Hex(bytes).to_string()).collect();
            accepted.sort();
            failed.push(FailedRule::new("measurement", accepted.join(" or "), Hex(&report.measurement).to_string()));
        }
        if report.debug && !self.debug {
            failed.push(FailedRule::new("debug", "false", "true"));
        }
        failed
    }
}

/// Verifies mock reports against a [`MockPolicy`]. Clones share everything, so a test keeps one and gives one to the
/// client.
///
/// ```
/// use tower_attest::ReportVerifier;
/// use tower_attest::mock::MockTee;
///
/// let tee = MockTee::new();
/// let verifier = tee.verifier();
/// let before = verifier.revision();
/// verifier.set_policy(tee.policy().allow_debug());
/// assert_ne!(verifier.revision(), before, "clients drop the trust they gave under the old policy");
/// ```
#[derive(Debug, Clone)]
pub struct MockVerifier {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    policy: MockPolicy,
    revision: u64,
    delay: Option<Duration>,
    unavailable: bool,
    valid_until: Option<SystemTime>,
    verifications: u64,
}

impl MockVerifier {
    /// A verifier with this policy.
    pub fn new(policy: MockPolicy) -> Self {
        let state = State { policy, revision: 0, delay: None, unavailable: false, valid_until: None, verifications: 0 };
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// Replaces the policy, which changes the [revision](ReportVerifier::revision).
    pub fn set_policy(&self, policy: MockPolicy) {
        let mut state = self.state();
        state.policy = policy;
        state.revision += 1;
    }

    /// Changes the [revision](ReportVerifier::revision) alone, as a new revocation list would.
    pub fn bump_revision(&self) {
        self.state().revision += 1;
    }

    /// Makes each verification take this long, by tokio's clock.
    pub fn set_delay(&self, delay: Option<Duration>) {
        self.state().delay = delay;
    }

    /// Makes each verification fail as if collateral could not be fetched ([`VerifyErrorKind::Unavailable`]), or stops
    /// doing so.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.state().unavailable = unavailable;
    }

    /// Limits how long the claims may be believed, as the end of a certificate would.
    pub fn set_valid_until(&self, valid_until: Option<SystemTime>) {
        self.state().valid_until = valid_until;
    }

    /// How many reports have been judged.
    pub fn verifications(&self) -> u64 {
        self.state().verifications
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ReportVerifier for MockVerifier {
    fn platforms(&self) -> Vec<Platform> {
        vec![Platform::MOCK]
    }

    async fn verify(&self, report: &Report, _: SystemTime) -> Result<Claims, VerifyError> {
        let delay = {
            let mut state = self.state();
            state.verifications += 1;
            state.delay
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        self.state().judge(report)
    }

    fn revision(&self) -> u64 {
        self.state().revision
    }
}

impl State {
    fn judge(&self, report: &Report) -> Result<Claims, VerifyError> {
        if report.platform() != &Platform::MOCK {
            return Err(VerifyError::new(
                VerifyErrorKind::UnsupportedPlatform,
                format!("expected {}, found {}", Platform::MOCK, report.platform()),
            ));
        }
        if self.unavailable {
            return Err(VerifyError::new(VerifyErrorKind::Unavailable, "the mock was told to answer so"));
        }
        let (fields, signed, signature) = MockReport::parse(report.bytes())
            .map_err(|message| VerifyError::new(VerifyErrorKind::Malformed, message))?;
        if !self.policy.roots.contains(&fields.key) {
            let roots: Vec<_> = self.policy.roots.iter().map(|root| Hex(root).to_string()).collect();
            return Err(VerifyError::failed(
                VerifyErrorKind::Endorsement,
                vec![FailedRule::new("root", roots.join(" or "), Hex(&fields.key).to_string())],
            ));
        }
        if !crypto::verify_ed25519(&fields.key, signed, &signature) {
            return Err(VerifyError::new(
                VerifyErrorKind::Signature,
                "expected an Ed25519 signature by the root key over the bytes before it",
            ));
        }
        let failed = self.policy.failed_rules(&fields);
        if !failed.is_empty() {
            return Err(VerifyError::failed(VerifyErrorKind::Policy, failed));
        }
        let mut claims = Claims::new(Platform::MOCK, fields.report_data, fields.measurement)
            .with_fact("debug", fields.debug.to_string());
        if let Some(Some(name)) = self.policy.measurements.get(&fields.measurement) {
            claims = claims.with_measurement_name(name);
        }
        if let Some(time) = self.valid_until {
            claims = claims.with_valid_until(time);
        }
        Ok(claims.with_details(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::super::MockTee;
    use super::*;

    async fn refusal(verifier: &MockVerifier, report: &Report) -> VerifyError {
        verifier.verify(report, SystemTime::UNIX_EPOCH).await.unwrap_err()
    }

    #[tokio::test]
    async fn only_the_given_root_keys_are_trusted() {
        let (ours, theirs) = (MockTee::new(), MockTee::new());
        let verifier = ours.verifier();
        let error = refusal(&verifier, &theirs.sign([1; 64])).await;
        assert_eq!((error.kind(), error.failed_rules()[0].rule.as_str()), (VerifyErrorKind::Endorsement, "root"));
        verifier.set_policy(ours.policy().or_root(theirs.root_key()));
        verifier.verify(&theirs.sign([1; 64]), SystemTime::UNIX_EPOCH).await.unwrap();
    }

    #[tokio::test]
    async fn a_report_changed_anywhere_is_refused() {
        let tee = MockTee::new();
        let verifier = MockVerifier::new(tee.policy().allow_debug());
        let good = tee.sign([1; 64]);
        verifier.verify(&good, SystemTime::UNIX_EPOCH).await.unwrap();
        for position in 0..good.bytes().len() {
            let mut bytes = good.bytes().to_vec();
            bytes[position] ^= 1;
            refusal(&verifier, &Report::new(Platform::MOCK, bytes)).await;
        }
        let mut bytes = good.bytes().to_vec();
        bytes[8] ^= 1;
        let error = refusal(&verifier, &Report::new(Platform::MOCK, bytes)).await;
        assert_eq!(error.kind(), VerifyErrorKind::Signature);
    }

    #[tokio::test]
    async fn another_program_and_debugging_are_both_listed() {
        let tee = MockTee::new();
        let verifier = tee.verifier();
        let other = tee.clone().with_measurement([2; 48]).with_debug(true);
        let error = refusal(&verifier, &other.sign([1; 64])).await;
        let rules: Vec<_> = error.failed_rules().iter().map(|rule| rule.rule.as_str()).collect();
        assert_eq!((error.kind(), rules), (VerifyErrorKind::Policy, vec!["measurement", "debug"]));
        verifier.set_policy(tee.policy().or_named([2; 48], "canary").allow_debug());
        let claims = verifier.verify(&other.sign([1; 64]), SystemTime::UNIX_EPOCH).await.unwrap();
        assert_eq!(claims.measurement_name(), Some("canary"));
        assert!(claims.details::<MockReport>().unwrap().debug);
    }

    #[tokio::test]
    async fn a_report_of_another_platform_is_refused() {
        let tee = MockTee::new();
        let report = Report::new(Platform::SNP, tee.sign([1; 64]).bytes().clone());
        assert_eq!(refusal(&tee.verifier(), &report).await.kind(), VerifyErrorKind::UnsupportedPlatform);
        let broken = Report::new(Platform::MOCK, vec![0; 3]);
        assert_eq!(refusal(&tee.verifier(), &broken).await.kind(), VerifyErrorKind::Malformed);
    }

    #[tokio::test]
    async fn unavailability_and_validity_are_as_told() {
        let tee = MockTee::new();
        let verifier = tee.verifier();
        verifier.set_unavailable(true);
        assert_eq!(refusal(&verifier, &tee.sign([1; 64])).await.kind(), VerifyErrorKind::Unavailable);
        verifier.set_unavailable(false);
        verifier.set_valid_until(Some(SystemTime::UNIX_EPOCH));
        let claims = verifier.verify(&tee.sign([1; 64]), SystemTime::UNIX_EPOCH).await.unwrap();
        assert_eq!(claims.valid_until(), Some(SystemTime::UNIX_EPOCH));
        assert_eq!(verifier.verifications(), 2);
    }
}
