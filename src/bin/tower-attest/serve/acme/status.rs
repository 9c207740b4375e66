//! What readiness and metrics may know of the certificate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

/// How it stands with the CA's certificate.
#[derive(Debug, Default)]
pub(crate) struct AcmeStatus {
    served: RwLock<Option<Served>>,
    issued: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Served {
    not_before: SystemTime,
    not_after: SystemTime,
    complete: bool,
}

impl AcmeStatus {
    /// Whether the CA's certificate serves, is for all names and is valid at `now`. The self-signed one that serves before is
    /// not.
    pub(crate) fn is_valid(&self, now: SystemTime) -> bool {
        let served = *self.served.read().unwrap_or_else(PoisonError::into_inner);
        served.is_some_and(|served| served.complete && served.not_before <= now && now <= served.not_after)
    }

    /// Until when the CA's certificate is valid; `None` while there is none.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        Some(self.served.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.not_after)
    }

    /// Certificates that the CA has issued since the start.
    pub(crate) fn issued_total(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// Attempts at one that failed since the start.
    pub(crate) fn failed_total(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn serves(&self, not_before: SystemTime, not_after: SystemTime, complete: bool) {
        let served = Some(Served { not_before, not_after, complete });
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = served;
    }

    pub(super) fn issued(&self) {
        self.issued.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_certificate_of_the_ca_for_all_names_and_within_its_dates_is_valid() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let status = AcmeStatus::default();
        assert!(!status.is_valid(at(0)));
        assert_eq!(status.not_after(), None);
        status.serves(at(10), at(20), true);
        let valid = [9, 10, 20, 21].map(|seconds| status.is_valid(at(seconds)));
        assert_eq!(valid, [false, true, true, false]);
        assert_eq!(status.not_after(), Some(at(20)));
        status.serves(at(10), at(20), false);
        assert!(!status.is_valid(at(15)));
    }

    #[test]
    fn attempts_are_counted_by_outcome() {
        let status = AcmeStatus::default();
        status.issued();
        status.failed();
        status.failed();
        assert_eq!((status.issued_total(), status.failed_total()), (1, 2));
    }
}
