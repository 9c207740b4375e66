//! The one seam to clocks and timers, so that tests and other runtimes can put their own in.
//!
//! ```
//! use std::time::Duration;
//! use tower_attest::time::{Clock, ManualClock};
//!
//! let clock = ManualClock::new();
//! let before = clock.now();
//! clock.advance(Duration::from_secs(5));
//! assert_eq!(clock.now().monotonic - before.monotonic, Duration::from_secs(5));
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall-clock time: certificates, revocation lists and collateral are judged by it.
    pub wall: SystemTime,
    /// Time since an arbitrary fixed moment; never goes back. Ages are judged by both clocks.
    pub monotonic: Duration,
}

/// A boxed timer.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of time and timers.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Reads both clocks.
    fn now(&self) -> Now;

    /// A timer that ends after `duration`.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// The machine's clocks, and tokio's timers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { wall: SystemTime::now(), monotonic: START.elapsed() }
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that only moves when told to. Its timers are tokio's, so pausing tokio's clock stops them too.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: Arc<Mutex<Now>>,
}

impl ManualClock {
    /// A clock that stands at this machine's present wall-clock time.
    pub fn new() -> Self {
        Self::at(SystemTime::now())
    }

    /// A clock that stands at `wall`.
    pub fn at(wall: SystemTime) -> Self {
        Self { now: Arc::new(Mutex::new(Now { wall, monotonic: Duration::from_secs(1) })) }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.wall += by;
        now.monotonic += by;
    }

    /// Sets the wall clock alone, as a person or NTP may.
    pub fn set_wall(&self, wall: SystemTime) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).wall = wall;
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Now {
        (**self).now()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        (**self).sleep(duration)
    }
}
