//! [`AnyOf`]: one verifier for servers of several platforms.

use std::hash::{DefaultHasher, Hasher as _};
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

    /// Changes whenever one member's revision does, whatever numbers those are: a hash of all of them, in their order.
    fn revision(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.verifiers.iter().for_each(|verifier| hasher.write_u64(verifier.revision()));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;

    #[derive(Debug, Default)]
    struct Numbered(AtomicU64);

    #[async_trait]
    impl ReportVerifier for Numbered {
        fn platforms(&self) -> Vec<Platform> {
            vec![Platform::SNP]
        }

        async fn verify(&self, _: &Report, _: SystemTime) -> Result<Claims, VerifyError> {
            Err(VerifyError::new(VerifyErrorKind::Policy, "nothing"))
        }

        fn revision(&self) -> u64 {
            self.0.load(SeqCst)
        }
    }

    /// A revision is any number that changes: a count, a hash of the policy, the version of a file that is rolled back.
    #[test]
    fn the_revision_changes_with_each_members_whatever_the_numbers_are() {
        let (one, two) = (Arc::new(Numbered::default()), Arc::new(Numbered::default()));
        let both = AnyOf::new(Arc::clone(&one)).or(Arc::clone(&two));
        let mut seen = std::collections::HashSet::new();
        for (first, second) in [(0, 0), (1, 0), (0, 1), (1, 2), (2, 1), (u64::MAX, 1), (1, u64::MAX), (5, 7), (7, 5)] {
            one.0.store(first, SeqCst);
            two.0.store(second, SeqCst);
            assert_eq!(both.revision(), both.revision());
            assert!(seen.insert(both.revision()), "{first} and {second}");
        }
    }
}
