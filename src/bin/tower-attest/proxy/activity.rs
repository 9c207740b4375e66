//! When an exchange last moved, and when it has stood still or gone on for too long.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::limits::Limits;

/// How long after its limit an exchange may go on before its whole connection is ended. By then its timers have ended
/// all that polls them; what is left is a client that does not read.
pub(crate) const SLACK: Duration = Duration::from_secs(2);
/// How many exchanges a connection may have begun before those that ended are forgotten.
const SWEEP: usize = 64;

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Nothing moved for this long.
    Idle(Duration),
    /// It went on for this long.
    Total(Duration),
}

/// One exchange's clock, shared by both directions: each one's progress keeps the other alive.
#[derive(Debug)]
pub(crate) struct Activity {
    started: Instant,
    /// Milliseconds after `started`.
    moved: AtomicU64,
    idle: Option<Duration>,
    total: Option<Duration>,
    too_large: AtomicBool,
}

impl Activity {
    pub(crate) fn start(idle: Option<Duration>, total: Option<Duration>) -> Arc<Self> {
        let (started, moved, too_large) = (Instant::now(), AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { started, moved, idle, total, too_large })
    }

    /// Something was sent.
    pub(crate) fn touch(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(elapsed, Ordering::Relaxed);
    }

    /// The request's body is larger than it may be.
    pub(crate) fn set_too_large(&self) {
        self.too_large.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }

    /// Which limit is reached first as things stand, and when.
    fn limit(&self) -> Option<(Instant, Expired)> {
        let moved = self.started + Duration::from_millis(self.moved.load(Ordering::Relaxed));
        let idle = self.idle.map(|limit| (moved + limit, Expired::Idle(limit)));
        let total = self.total.map(|limit| (self.started + limit, Expired::Total(limit)));
        idle.into_iter().chain(total).min_by_key(|(at, _)| *at)
    }

    /// Whether a limit has passed.
    pub(crate) fn is_expired(&self) -> bool {
        self.limit().is_some_and(|(at, _)| at <= Instant::now())
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.limit().is_some_and(|(at, _)| at + SLACK <= now)
    }
}

/// Becomes ready when an exchange has passed a limit.
#[derive(Debug)]
pub(crate) struct Timer {
    activity: Arc<Activity>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(crate) fn new(activity: Arc<Activity>) -> Self {
        Self { activity, sleep: None }
    }
}

impl Future for Timer {
    type Output = Expired;

    /// The timer is set again only when it goes off, and not whenever something moves.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Expired> {
        let Self { activity, sleep } = &mut *self;
        loop {
            let Some((at, expired)) = activity.limit() else { return Poll::Pending };
            if at <= Instant::now() {
                return Poll::Ready(expired);
            }
            let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            ready!(sleep.as_mut().poll(cx));
            sleep.as_mut().reset(at);
        }
    }
}

/// The exchanges of one connection.
///
/// A body is not polled while its client does not read, so that its own timer cannot end it. The connection looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exchanges(Arc<Mutex<Vec<Weak<Activity>>>>);

impl Exchanges {
    pub(crate) fn begin(&self, limits: &Limits) -> Arc<Activity> {
        self.enter(Activity::start(limits.idle(), limits.total()))
    }

    /// The same around an exchange that has limits of its own, and whose own answer shall come first.
    pub(crate) fn begin_around(&self, limits: &Limits) -> Arc<Activity> {
        let later = |limit: Duration| limit.saturating_add(SLACK);
        self.enter(Activity::start(limits.idle().map(later), limits.total().map(later)))
    }

    fn enter(&self, activity: Arc<Activity>) -> Arc<Activity> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.len() >= SWEEP && running.len() == running.capacity() {
            running.retain(|exchange| exchange.strong_count() > 0);
        }
        running.push(Arc::downgrade(&activity));
        activity
    }

    /// Ready once an exchange is long past its limit, which its own timer did not end.
    pub(crate) async fn overdue(&self, limits: &Limits) {
        let Some(shortest) = limits.idle().into_iter().chain(limits.total()).min() else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep((shortest / 4).max(SLACK)).await;
            let now = Instant::now();
            let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            running.retain(|exchange| exchange.strong_count() > 0);
            if running.iter().filter_map(Weak::upgrade).any(|exchange| exchange.is_overdue(now)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::tests::limits;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_exchange_that_moves_lives_until_its_total_and_one_that_stands_still_does_not() {
        let activity = Activity::start(Some(10 * SECOND), Some(25 * SECOND));
        let mut timer = Timer::new(Arc::clone(&activity));
        for _ in 0..3 {
            assert!(tokio::time::timeout(8 * SECOND, &mut timer).await.is_err());
            activity.touch();
        }
        assert_eq!(timer.await, Expired::Total(25 * SECOND));

        let started = Instant::now();
        let still = Activity::start(Some(10 * SECOND), Some(25 * SECOND));
        assert_eq!(Timer::new(still).await, Expired::Idle(10 * SECOND));
        assert_eq!(started.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_it_never_expires() {
        let timer = Timer::new(Activity::start(None, None));
        assert!(tokio::time::timeout(1_000_000 * SECOND, timer).await.is_err());
        let exchanges = Exchanges::default();
        let limits = limits(&["--idle-timeout=0", "--total-timeout=0"]);
        let _running = exchanges.begin(&limits);
        assert!(tokio::time::timeout(1_000_000 * SECOND, exchanges.overdue(&limits)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_overdue_only_for_exchanges_that_still_run() {
        let (exchanges, limits) = (Exchanges::default(), limits(&["--idle-timeout=10s"]));
        drop(exchanges.begin(&limits));
        assert!(tokio::time::timeout(100 * SECOND, exchanges.overdue(&limits)).await.is_err());
        let running = exchanges.begin(&limits);
        assert!(tokio::time::timeout(9 * SECOND, exchanges.overdue(&limits)).await.is_err());
        running.touch();
        assert!(tokio::time::timeout(10 * SECOND, exchanges.overdue(&limits)).await.is_err());
        exchanges.overdue(&limits).await;
    }

    #[tokio::test]
    async fn exchanges_that_ended_are_forgotten() {
        let (exchanges, limits) = (Exchanges::default(), limits(&[]));
        for _ in 0..10_000 {
            drop(exchanges.begin(&limits));
        }
        assert!(exchanges.0.lock().unwrap().capacity() <= 4 * SWEEP);
    }
}
