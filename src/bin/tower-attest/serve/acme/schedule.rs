//! When to renew, and how long to wait after a failure. Pure: time is an argument.

use std::ops::Range;
use std::time::{Duration, SystemTime};

/// The CA is asked for its renewal information no more often than this.
pub(super) const OFTEN: Duration = Duration::from_secs(3_600);
/// And no less often than this, whatever it says.
pub(super) const RARELY: Duration = Duration::from_secs(86_400);
/// The longest nap: wall clocks are set, machines are suspended.
const LOOK: Duration = Duration::from_secs(3_600);
/// How long a certificate serves at least before the CA's word alone replaces it: a CA that errs costs one order an hour.
const SETTLED: Duration = Duration::from_secs(3_600);

/// When the certificate at hand is to be renewed: at two thirds of its life, or when the CA says so (RFC 9773), whichever
/// comes first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Schedule {
    two_thirds: SystemTime,
    suggested: Option<Suggested>,
    settled: SystemTime,
    ask: SystemTime,
}

/// A window, and the moment drawn in it.
#[derive(Debug, Clone, PartialEq)]
struct Suggested {
    window: Range<SystemTime>,
    drawn: SystemTime,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Order a certificate.
    Order,
    /// Ask the CA for its renewal information.
    Ask,
    /// Nothing, for so long.
    Wait(Duration),
}

impl Schedule {
    /// For a certificate with these dates that serves since `held`, which is `None` if it was there at the start.
    pub(super) fn new(not_before: SystemTime, not_after: SystemTime, held: Option<SystemTime>) -> Self {
        let life = not_after.duration_since(not_before).unwrap_or_default();
        Self {
            two_thirds: not_before + life / 3 * 2,
            suggested: None,
            settled: held.map_or(SystemTime::UNIX_EPOCH, |held| held + SETTLED),
            ask: SystemTime::UNIX_EPOCH,
        }
    }

    pub(super) fn step(&self, now: SystemTime) -> Step {
        let suggested = self.suggested.as_ref().map(|suggested| suggested.drawn.max(self.settled));
        let due = suggested.map_or(self.two_thirds, |suggested| suggested.min(self.two_thirds));
        if now >= due {
            return Step::Order;
        }
        if now >= self.ask {
            return Step::Ask;
        }
        let next = due.min(self.ask).duration_since(now).unwrap_or_default();
        Step::Wait(next.min(LOOK))
    }

    /// The CA suggests to renew in this window. A moment is drawn once for each window, `fraction` of the way through it.
    pub(super) fn suggest(&mut self, window: Range<SystemTime>, fraction: f64, again: Duration, now: SystemTime) {
        self.ask_again(again, now);
        if self.suggested.as_ref().is_none_or(|suggested| suggested.window != window) {
            let length = window.end.duration_since(window.start).unwrap_or_default();
            let drawn = window.start + length.mul_f64(fraction.clamp(0.0, 1.0));
            self.suggested = Some(Suggested { window, drawn });
        }
    }

    /// The CA suggests nothing, or did not answer. What it suggested before stays.
    pub(super) fn ask_again(&mut self, again: Duration, now: SystemTime) {
        self.ask = now + again.clamp(OFTEN, RARELY);
    }
}

/// Pauses that double, from a first one up to a longest.
#[derive(Debug, Clone, Default)]
pub(super) struct Backoff {
    failures: u32,
}

/// Why an attempt failed, as far as it decides when the next one is worth making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The CA was not reached, or something before it or in it is broken: from 5 seconds to 10 minutes.
    Unavailable,
    /// The CA said no, and repeats may count against its limits: from 2 minutes to 4 hours.
    Refused,
}

impl Cause {
    fn pauses(self) -> (Duration, Duration) {
        match self {
            Self::Unavailable => (Duration::from_secs(5), Duration::from_secs(600)),
            Self::Refused => (Duration::from_secs(120), Duration::from_secs(14_400)),
        }
    }
}

impl Backoff {
    /// The pause after one more failure: between half and the whole of its turn's length, and not before the CA wants to be
    /// asked again, for which at most a day is waited.
    pub(super) fn next(&mut self, cause: Cause, fraction: f64, come_again: Option<Duration>) -> Duration {
        let (first, longest) = cause.pauses();
        let turn = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let pause = turn.mul_f64(0.5 + fraction.clamp(0.0, 1.0) / 2.0);
        come_again.map_or(pause, |told| pause.max(told.min(RARELY)))
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number from 0 up to 1, so that servers that start together do not come together.
pub(super) fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        // Without randomness nothing else here works either.
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A certificate of 90 days that has been asked about.
    fn asked() -> Schedule {
        let mut schedule = Schedule::new(at(0), at(90 * DAY), None);
        schedule.ask_again(Duration::MAX, at(100 * DAY));
        schedule
    }

    #[test]
    fn without_a_suggestion_it_is_two_thirds_of_its_life() {
        let schedule = asked();
        assert_eq!(schedule.step(at(60 * DAY - 1)), Step::Wait(Duration::from_secs(1)));
        assert_eq!(schedule.step(at(60 * DAY)), Step::Order);
        assert_eq!(schedule.step(at(91 * DAY)), Step::Order, "an expired one too");
        assert_eq!(schedule.step(at(1)), Step::Wait(LOOK), "clocks are set");
    }

    #[test]
    fn a_suggestion_makes_it_earlier_and_never_later() {
        let mut schedule = asked();
        schedule.suggest(at(10 * DAY)..at(20 * DAY), 0.5, Duration::MAX, at(1));
        assert_eq!(schedule.step(at(15 * DAY - 1)), Step::Ask, "once a day");
        assert_eq!(schedule.step(at(15 * DAY)), Step::Order);
        let mut schedule = asked();
        schedule.suggest(at(80 * DAY)..at(85 * DAY), 0.0, Duration::MAX, at(1));
        assert_eq!(schedule.step(at(60 * DAY)), Step::Order);
    }

    #[test]
    fn in_one_window_a_moment_is_drawn_once() {
        let mut schedule = asked();
        let window = at(10 * DAY)..at(20 * DAY);
        schedule.suggest(window.clone(), 0.0, Duration::MAX, at(1));
        schedule.suggest(window, 1.0, Duration::MAX, at(9 * DAY));
        assert_eq!(schedule.step(at(10 * DAY)), Step::Order);
        schedule.suggest(at(11 * DAY)..at(20 * DAY), 1.0, Duration::MAX, at(10 * DAY));
        assert_ne!(schedule.step(at(19 * DAY)), Step::Order);
    }

    #[test]
    fn a_window_that_has_passed_means_now_but_not_twice_in_an_hour() {
        let mut found = Schedule::new(at(0), at(90 * DAY), None);
        found.suggest(at(1)..at(2), 0.5, Duration::ZERO, at(DAY));
        assert_eq!(found.step(at(DAY)), Step::Order);
        let mut ordered = Schedule::new(at(0), at(90 * DAY), Some(at(DAY)));
        ordered.suggest(at(1)..at(2), 0.5, Duration::MAX, at(DAY));
        assert_eq!(ordered.step(at(DAY + 3_599)), Step::Wait(Duration::from_secs(1)));
        assert_eq!(ordered.step(at(DAY + 3_600)), Step::Order);
    }

    #[test]
    fn a_window_that_ends_before_it_begins_is_its_beginning() {
        let mut schedule = asked();
        schedule.suggest(at(20 * DAY)..at(10 * DAY), 0.5, Duration::MAX, at(19 * DAY + 1));
        assert_eq!(schedule.step(at(20 * DAY)), Step::Order);
    }

    #[test]
    fn the_ca_is_asked_at_first_then_when_it_says_within_an_hour_and_a_day() {
        let mut schedule = Schedule::new(at(0), at(90 * DAY), None);
        assert_eq!(schedule.step(at(1)), Step::Ask);
        for (told, asked) in [(0, 3_600), (7_200, 7_200), (10 * DAY, DAY)] {
            schedule.ask_again(Duration::from_secs(told), at(1_000));
            assert_ne!(schedule.step(at(1_000 + asked - 1)), Step::Ask, "{told}");
            assert_eq!(schedule.step(at(1_000 + asked)), Step::Ask, "{told}");
        }
    }

    #[test]
    fn a_life_that_ends_before_it_begins_is_over() {
        assert_eq!(Schedule::new(at(10), at(0), None).step(at(11)), Step::Order);
    }

    #[test]
    fn pauses_double_and_a_refusal_waits_longer() {
        let pauses = |cause, fraction| {
            let mut backoff = Backoff::default();
            (0..20).map(|_| backoff.next(cause, fraction, None).as_secs_f64()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(Cause::Unavailable, 1.0)[..4], [5.0, 10.0, 20.0, 40.0]);
        assert_eq!(pauses(Cause::Unavailable, 0.0)[..4], [2.5, 5.0, 10.0, 20.0]);
        assert_eq!(pauses(Cause::Refused, 1.0)[..3], [120.0, 240.0, 480.0]);
        assert_eq!(pauses(Cause::Unavailable, 1.0)[19], 600.0);
        assert_eq!(pauses(Cause::Refused, 1.0)[19], 14_400.0);
        let mut backoff = Backoff::default();
        backoff.next(Cause::Unavailable, 1.0, None);
        backoff.reset();
        assert_eq!(backoff.next(Cause::Unavailable, 1.0, None), Duration::from_secs(5));
    }

    #[test]
    fn what_the_ca_says_is_waited_for_at_most_a_day() {
        let next = |told| Backoff::default().next(Cause::Unavailable, 1.0, Some(Duration::from_secs(told))).as_secs();
        assert_eq!((next(0), next(600), next(1 << 40)), (5, 600, DAY));
    }

    #[test]
    fn a_fraction_is_between_nothing_and_all() {
        let fractions: Vec<_> = (0..100).map(|_| random_fraction()).collect();
        assert!(fractions.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
        assert!(fractions.iter().any(|fraction| *fraction != fractions[0]));
    }
}
