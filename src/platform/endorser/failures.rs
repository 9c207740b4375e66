//! Failures remembered for a while, so that what is not there is not asked for again and again.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;

use super::{EndorsementError, EndorsementErrorKind};
use crate::time::{Clock, SystemClock};

const UNAVAILABLE_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(5 * 60);

/// The last failure for each key, of a bounded number of keys:
///
/// | failure | remembered for |
/// |---|---|
/// | not found, refused, misconfigured | `ttl`, 60 s |
/// | rate limited | as long as the source says, at most 5 min |
/// | unavailable | 1 s |
pub(crate) struct Failures<K> {
    kept: Cache<K, Failure>,
    pub(crate) ttl: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Failure {
    error: EndorsementError,
    /// Monotonic time.
    until: Duration,
}

impl<K: Hash + Eq + Copy> Failures<K> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { kept: Cache::new(capacity), ttl: Duration::from_secs(60), clock: Arc::new(SystemClock) }
    }

    /// Forgets everything, and keeps at most `capacity` from now on.
    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.kept = Cache::new(capacity);
    }

    /// The failure that is remembered for `key`, if its time has not passed.
    pub(crate) fn remembered(&self, key: &K) -> Option<EndorsementError> {
        let failure = self.kept.get(key)?;
        let now = self.clock.now().monotonic;
        if failure.until <= now {
            return None;
        }
        Some(match failure.error.kind() {
            EndorsementErrorKind::RateLimited { .. } => {
                failure.error.with_kind(EndorsementErrorKind::RateLimited { retry_after: failure.until - now })
            }
            _ => failure.error,
        })
    }

    pub(crate) fn remember(&self, key: K, error: EndorsementError) {
        let ttl = match error.kind() {
            EndorsementErrorKind::RateLimited { retry_after } => retry_after.min(LONGEST_TTL),
            EndorsementErrorKind::Unavailable => UNAVAILABLE_TTL,
            EndorsementErrorKind::NotFound | EndorsementErrorKind::Refused | EndorsementErrorKind::Configuration => {
                self.ttl
            }
        };
        let until = self.clock.now().monotonic.saturating_add(ttl);
        self.kept.insert(key, Failure { error, until });
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

impl<K: Hash + Eq + Copy> fmt::Debug for Failures<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failures").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ManualClock;

    #[test]
    fn a_failure_is_remembered_for_its_time_and_no_longer() {
        let second = Duration::from_secs(1);
        for (kind, ttl) in [
            (EndorsementErrorKind::NotFound, 60 * second),
            (EndorsementErrorKind::Refused, 60 * second),
            (EndorsementErrorKind::Configuration, 60 * second),
            (EndorsementErrorKind::Unavailable, second),
            (EndorsementErrorKind::RateLimited { retry_after: 30 * second }, 30 * second),
            (EndorsementErrorKind::RateLimited { retry_after: Duration::MAX }, LONGEST_TTL),
        ] {
            let clock = ManualClock::new();
            let mut failures = Failures::new(4);
            failures.clock = Arc::new(clock.clone());
            failures.remember(1, EndorsementError::new(kind, "no"));
            clock.advance(ttl - Duration::from_millis(1));
            let left = failures.remembered(&1).map(|error| error.kind());
            let expected = match kind {
                EndorsementErrorKind::RateLimited { .. } => {
                    EndorsementErrorKind::RateLimited { retry_after: Duration::from_millis(1) }
                }
                other => other,
            };
            assert_eq!(left, Some(expected));
            assert!(failures.remembered(&2).is_none());
            clock.advance(Duration::from_millis(1));
            assert!(failures.remembered(&1).is_none(), "{kind:?}");
        }
    }

    #[test]
    fn no_more_are_kept_than_asked_for() {
        let mut failures = Failures::new(100);
        failures.set_capacity(4);
        for key in 0..100 {
            failures.remember(key, EndorsementError::new(EndorsementErrorKind::NotFound, "no"));
        }
        assert!(failures.len() <= 4, "{}", failures.len());
    }
}
