//! [`AnyOf`]: one verifier for servers of several platforms.

use std::time::SystemTime;

use async_trait::async_trait;

use super::{Claims, ReportVerifier, VerifyError, VerifyErrorKind};
use crate::report::{Platform, Report};

/// Several verifiers, one per platform: the first that knows a report's platform judges it, alone.
#[derive(Debug)]
pub struct AnyOf {
    verifiers: Vec<Box<dyn ReportVerifier>>,
}

impl AnyOf {
    /// Starts with one verifier.
    pub fn new(verifier: impl ReportVerifier + 'static) -> Self {
        Self { verifiers: vec![Box::new(verifier)] }
    }

    /// Starts with none, and so accepts nothing: for platforms that are known only at run time, with
    /// [`or_maybe`](Self::or_maybe).
    pub fn none() -> Self {
        Self { verifiers: Vec::new() }
    }

    /// Adds a verifier if there is one, as [`or`](Self::or).
    #[must_use]
    pub fn or_maybe(self, verifier: Option<impl ReportVerifier + 'static>) -> Self {
        match verifier {
            Some(verifier) => self.or(verifier),
            None => self,
        }
    }

    /// Adds a verifier for platforms that none before it knows.
    #[must_use]
    pub fn or(mut self, verifier: impl ReportVerifier + 'static) -> Self {
        self.verifiers.push(Box::new(verifier));
        self
    }
}

#[async_trait]
impl ReportVerifier for AnyOf {
    fn platforms(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in self.verifiers.iter().flat_map(|verifier| verifier.platforms()) {
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        platforms
    }

    async fn verify(&self, report: &Report, now: SystemTime) -> Result<Claims, VerifyError> {
        match self.verifiers.iter().find(|verifier| verifier.platforms().contains(report.platform())) {
            Some(verifier) => verifier.verify(report, now).await,
            None => Err(VerifyError::new(
                VerifyErrorKind::UnsupportedPlatform,
                format!("expected one of {:?}, found {}", self.platforms(), report.platform()),
            )),
        }
    }

    /// Changes whenever one member's revision does: revisions only grow, so their sum does.
    fn revision(&self) -> u64 {
        self.verifiers.iter().fold(0, |sum: u64, verifier| sum.wrapping_add(verifier.revision()))
    }
}
