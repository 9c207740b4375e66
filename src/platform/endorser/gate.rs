//! The pause that a failing server is given: one for all requests to it, however many callers there are.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{EndorsementError, EndorsementErrorKind};
use crate::crypto;

/// The pause after the first failure; each further failure in a row doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts failures that were told apart; a request that began before the latest does not count again.
    generation: u64,
    /// Failures in a row.
    failures: u32,
    /// Monotonic time until which nothing is sent.
    closed_until: Duration,
    last: Option<EndorsementError>,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long nothing may be sent from `now` on.
    pub(super) fn closed_for(&self, now: Duration) -> Duration {
        self.state().closed_until.saturating_sub(now)
    }

    /// The error of a caller that does not wait for the gate to open in `pause`.
    pub(super) fn refusal(&self, pause: Duration) -> EndorsementError {
        let last = self.state().last.clone();
        let message = match &last {
            Some(last) => format!("nothing is sent for another {} s, after: {last}", pause.as_secs_f32().ceil()),
            None => format!("nothing is sent for another {} s", pause.as_secs_f32().ceil()),
        };
        match last.map(|last| last.kind()) {
            Some(EndorsementErrorKind::RateLimited { .. }) => {
                EndorsementError::new(EndorsementErrorKind::RateLimited { retry_after: pause }, message)
            }
            _ => EndorsementError::new(EndorsementErrorKind::Unavailable, message),
        }
    }

    /// Marks the start of a request, for [`failed`](Self::failed).
    pub(super) fn enter(&self) -> u64 {
        self.state().generation
    }

    /// A request that began at `entered` failed: closes the gate for `retry_after` or the back-off, whichever is longer,
    /// but never for more than `longest`. Of requests that ran at the same time only the first counts as a new failure.
    /// Returns the pause.
    pub(super) fn failed(
        &self,
        entered: u64,
        now: Duration,
        retry_after: Option<Duration>,
        longest: Duration,
        error: &EndorsementError,
    ) -> Duration {
        let mut state = self.state();
        if entered == state.generation {
            state.generation = state.generation.wrapping_add(1);
            state.failures = state.failures.saturating_add(1);
        }
        let pause = retry_after.unwrap_or_default().max(back_off(state.failures)).min(longest);
        state.closed_until = state.closed_until.max(now.saturating_add(pause));
        state.last = Some(error.clone());
        pause
    }

    /// The server answered: the next failure is a first one again. A pause that is still running is kept, since it may
    /// have been asked for by an answer that came meanwhile.
    pub(super) fn answered(&self) {
        self.state().failures = 0;
    }
}

/// Between half of the full pause and all of it, so that many clients do not come back at one moment.
fn back_off(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = FIRST_PAUSE.saturating_mul(1 << doublings);
    let [jitter] = crypto::random::<1>();
    full / 2 + full / 2 * u32::from(jitter) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn unavailable() -> EndorsementError {
        EndorsementError::new(EndorsementErrorKind::Unavailable, "down")
    }

    #[test]
    fn pauses_double_with_jitter_up_to_the_longest() {
        let gate = Gate::default();
        let mut full = FIRST_PAUSE;
        for _ in 0..20 {
            let pause = gate.failed(gate.enter(), Duration::ZERO, None, LONGEST, &unavailable());
            assert!(pause >= (full / 2).min(LONGEST) && pause <= full.min(LONGEST), "{pause:?} of {full:?}");
            full = full.saturating_mul(2);
        }
        assert_eq!(gate.closed_for(Duration::ZERO), LONGEST);
    }

    #[test]
    fn requests_that_fail_together_count_once() {
        let gate = Gate::default();
        let entered = gate.enter();
        for _ in 0..8 {
            assert!(gate.failed(entered, Duration::ZERO, None, LONGEST, &unavailable()) <= FIRST_PAUSE);
        }
    }

    #[test]
    fn an_answer_makes_the_next_failure_a_first_one() {
        let gate = Gate::default();
        for _ in 0..10 {
            gate.failed(gate.enter(), Duration::ZERO, None, LONGEST, &unavailable());
        }
        gate.answered();
        assert!(gate.failed(gate.enter(), Duration::ZERO, None, LONGEST, &unavailable()) <= FIRST_PAUSE);
    }

    #[test]
    fn retry_after_is_kept_and_bounded() {
        let gate = Gate::default();
        let error = EndorsementError::new(
            EndorsementErrorKind::RateLimited { retry_after: Duration::from_secs(30) },
            "too many",
        );
        let pause = gate.failed(gate.enter(), Duration::ZERO, Some(Duration::from_secs(30)), LONGEST, &error);
        assert_eq!(pause, Duration::from_secs(30));
        let ten_later = gate.closed_for(Duration::from_secs(10));
        assert_eq!(ten_later, Duration::from_secs(20));
        assert_eq!(gate.refusal(ten_later).kind(), EndorsementErrorKind::RateLimited { retry_after: ten_later });
        gate.failed(gate.enter(), Duration::ZERO, Some(Duration::MAX), LONGEST, &error);
        assert_eq!(gate.closed_for(Duration::ZERO), LONGEST);
    }
}
