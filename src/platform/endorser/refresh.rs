//! When endorsements that end are fetched anew in the background.

use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;

use super::{EndorsementError, EndorsementErrorKind};
use crate::time::Now;

/// The shortest time between two tries.
pub(crate) const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60 * 60);
/// A machine's monotonic clock may stand still while it sleeps; the wall clock is looked at this often.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_secs(5 * 60);

/// When one endorsement is fetched next, by both clocks:
///
/// | after | the next try comes in |
/// |---|---|
/// | success | the interval, or half the time to `nextUpdate` where that is sooner; at least 1 min |
/// | failure | 1 min, doubling up to 1 h; a `Retry-After` that is longer is kept, up to the interval |
#[derive(Debug)]
pub(crate) struct Plan {
    due: Now,
    failures: u32,
}

impl Plan {
    pub(crate) fn due_at(due: Now) -> Self {
        Self { due, failures: 0 }
    }

    pub(crate) fn is_due(&self, now: Now) -> bool {
        now.wall >= self.due.wall || now.monotonic >= self.due.monotonic
    }

    pub(crate) fn wait(&self, now: Now) -> Duration {
        let by_wall = self.due.wall.duration_since(now.wall).unwrap_or_default();
        by_wall.min(self.due.monotonic.saturating_sub(now.monotonic))
    }

    /// Plans the try after one that brought `outcome`: the new `nextUpdate`, or a failure. Returns how long it is to wait.
    pub(crate) fn next(
        &mut self,
        outcome: &Result<SystemTime, EndorsementError>,
        now: Now,
        interval: Duration,
    ) -> Duration {
        let wait = match outcome {
            Ok(next_update) => {
                self.failures = 0;
                let left = next_update.duration_since(now.wall).unwrap_or_default();
                interval.min(left / 2).max(SHORTEST)
            }
            Err(error) => {
                let back_off = SHORTEST.saturating_mul(1 << self.failures.min(10)).min(LONGEST_BACK_OFF);
                self.failures = self.failures.saturating_add(1);
                let asked = match error.kind() {
                    EndorsementErrorKind::RateLimited { retry_after } => retry_after,
                    _ => Duration::ZERO,
                };
                back_off.max(asked).min(interval)
            }
        };
        self.due = Now { wall: now.wall + wait, monotonic: now.monotonic.saturating_add(wait) };
        wait
    }
}

/// Ends a task with its last handle.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
