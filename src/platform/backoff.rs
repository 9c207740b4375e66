//! Repetition with growing pauses, for devices that are busy.

use std::time::Duration;

use crate::provider::{ProviderError, ProviderErrorKind};
use crate::time::Clock;

/// How often, and after which pauses, a device is asked again that is busy, timed out or was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// At most `attempts` attempts (at least one is made), with a pause of `first` after the first, twice that after the
    /// second, and so on up to `longest`.
    pub const fn new(first: Duration, longest: Duration, attempts: u32) -> Self {
        Self { first, longest, attempts }
    }

    /// The pause after attempt `number` (from 1), or `None` if that was the last.
    fn pause(&self, number: u32) -> Option<Duration> {
        if number >= self.attempts {
            return None;
        }
        let doublings = number.saturating_sub(1).min(31);
        Some(self.first.saturating_mul(1_u32 << doublings).min(self.longest))
    }

    /// Repeats `call` while it fails in a way that time may heal.
    pub(crate) async fn repeat<T, F>(&self, clock: &dyn Clock, mut call: impl FnMut() -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let mut attempt = 1;
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let again = matches!(error.kind(), ProviderErrorKind::Busy | ProviderErrorKind::Timeout);
            match self.pause(attempt).filter(|_| again) {
                Some(pause) => {
                    tracing::debug!(attempt, ?pause, %error, "asking the device again");
                    clock.sleep(pause).await;
                }
                None => return Err(error),
            }
            attempt += 1;
        }
    }
}

impl Default for Backoff {
    /// Eight attempts in about five seconds: 50 ms, doubling up to 2 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2), 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;

    async fn attempts(backoff: Backoff, kind: ProviderErrorKind, fail: u32) -> (u32, bool) {
        let mut made = 0;
        let outcome = backoff
            .repeat(&SystemClock, || {
                made += 1;
                std::future::ready(if made > fail { Ok(()) } else { Err(ProviderError::new(kind, "no")) })
            })
            .await;
        (made, outcome.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_time_may_heal_is_repeated_and_not_for_ever() {
        let backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(600), 4);
        let before = tokio::time::Instant::now();
        assert_eq!(attempts(backoff, ProviderErrorKind::Busy, 3).await, (4, true));
        assert_eq!(before.elapsed(), Duration::from_secs(60 + 120 + 240));
        assert_eq!(attempts(backoff, ProviderErrorKind::Timeout, u32::MAX).await, (4, false));
        assert_eq!(attempts(backoff, ProviderErrorKind::Failed, 1).await, (1, false));
        assert_eq!(attempts(backoff, ProviderErrorKind::Unsupported, 1).await, (1, false));
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(150), 4);
        let pauses: Vec<_> = (1..6).map(|n| backoff.pause(n).map(|p| p.as_millis())).collect();
        assert_eq!(pauses, [Some(50), Some(100), Some(150), None, None]);
        assert_eq!(Backoff::new(Duration::MAX, Duration::MAX, u32::MAX).pause(4_000), Some(Duration::MAX));
        assert_eq!(Backoff::new(Duration::ZERO, Duration::ZERO, 0).pause(1), None);
    }
}
