//! A clock for tests of clients and refreshers.

use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use crate::time::{Clock, ManualClock, Now, Sleep};

/// Follows tokio's paused time, from a fixed moment on.
#[derive(Debug, Clone)]
pub(crate) struct PausedClock {
    start: Instant,
    wall: Duration,
}

impl PausedClock {
    /// Starts at `seconds` since 1970.
    pub(crate) fn starting_at(seconds: u64) -> Self {
        Self { start: Instant::now(), wall: Duration::from_secs(seconds) }
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Now {
        let monotonic = self.start.elapsed();
        Now { wall: UNIX_EPOCH + self.wall + monotonic, monotonic }
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        ManualClock::new().sleep(duration)
    }
}
