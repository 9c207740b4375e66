//! What a guest must be to be trusted.

use super::genuine::SnpDetails;
use crate::report::Hex;
use crate::verifier::{FailedRule, VerifyError, VerifyErrorKind};

/// Rules for reports that have proved genuine.
#[derive(Debug, Clone)]
pub struct SnpPolicy {
    measurements: Vec<([u8; 48], Option<String>)>,
}

impl SnpPolicy {
    /// Accepts guests launched with `measurement`.
    pub fn pin(measurement: [u8; 48]) -> Self {
        Self { measurements: vec![(measurement, None)] }
    }

    pub(super) fn judge(&self, details: &SnpDetails) -> Result<Option<&str>, VerifyError> {
        let found = details.report().measurement();
        let mut failed = Vec::new();
        if details.report().policy().debug() {
            failed.push(FailedRule::new("guest-policy.debug", "off", "on: the host may debug the guest"));
        }
        let pinned = self.measurements.iter().find(|(measurement, _)| *measurement == found);
        if pinned.is_none() {
            failed.push(FailedRule::new("measurement", "a pinned measurement", Hex(&found).to_string()));
        }
        match pinned {
            Some((_, name)) if failed.is_empty() => Ok(name.as_deref()),
            _ => Err(VerifyError::failed(VerifyErrorKind::Policy, failed)),
        }
    }
}
