//! What goes wrong: hardware, clocks and collateral that can be told to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;
use tower_attest::tdx::{Collateral, CollateralRequest, CollateralSource, EndorsementError, EndorsementErrorKind};
use tower_attest::time::{Clock, Now, Sleep, SystemClock};
use tower_attest::{Platform, ProviderError, ProviderErrorKind, Report, ReportData, ReportProvider};

/// How a device treats the calls that it has not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    Healthy,
    Slow(Duration),
    Failing,
    /// Until another mode is set.
    Hanging,
}

/// Hardware whose mode is set from outside.
#[derive(Debug)]
pub(crate) struct FaultyDevice<P> {
    inner: P,
    mode: watch::Receiver<Device>,
}

impl<P> FaultyDevice<P> {
    pub(crate) fn new(inner: P) -> (watch::Sender<Device>, Self) {
        let (sender, mode) = watch::channel(Device::Healthy);
        (sender, Self { inner, mode })
    }
}

#[async_trait]
impl<P: ReportProvider> ReportProvider for FaultyDevice<P> {
    fn platform(&self) -> Platform {
        self.inner.platform()
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        let mut mode = self.mode.clone();
        let now = *mode.borrow_and_update();
        match now {
            Device::Healthy => {}
            Device::Slow(by) => tokio::time::sleep(by).await,
            Device::Failing => return Err(ProviderError::new(ProviderErrorKind::Failed, "told to fail")),
            Device::Hanging => {
                // A sender that is gone means that the soak is over.
                let _ = mode.wait_for(|mode| *mode != Device::Hanging).await;
            }
        }
        self.inner.report(data).await
    }
}

/// The machine's clocks, with a wall clock that somebody sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct SteppedClock {
    seconds: Arc<AtomicI64>,
}

impl SteppedClock {
    /// Sets the wall clock this far from the true time.
    pub(crate) fn set(&self, seconds: i64) {
        self.seconds.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for SteppedClock {
    fn now(&self) -> Now {
        let mut now = SystemClock.now();
        let seconds = self.seconds.load(Ordering::Relaxed);
        let step = Duration::from_secs(seconds.unsigned_abs());
        now.wall = if seconds < 0 { now.wall - step } else { now.wall + step };
        now
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        SystemClock.sleep(duration)
    }
}

/// Intel's collateral from a source that can be down.
#[derive(Debug)]
pub(crate) struct FlakyCollateral {
    collateral: Arc<Collateral>,
    up: watch::Receiver<bool>,
}

impl FlakyCollateral {
    pub(crate) fn new(collateral: Collateral) -> (watch::Sender<bool>, Self) {
        let (sender, up) = watch::channel(true);
        (sender, Self { collateral: Arc::new(collateral), up })
    }
}

#[async_trait]
impl CollateralSource for FlakyCollateral {
    async fn collateral(&self, _: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        if *self.up.borrow() {
            Ok(Arc::clone(&self.collateral))
        } else {
            Err(EndorsementError::new(EndorsementErrorKind::Unavailable, "told to be down"))
        }
    }
}

/// A day ago: when the simulated collateral was issued, so that no step of a clock comes before it.
pub(crate) fn yesterday() -> SystemTime {
    SystemTime::now() - Duration::from_secs(86_400)
}

/// A random duration between two numbers of milliseconds.
pub(crate) fn between(low: u64, high: u64) -> Duration {
    Duration::from_millis(fastrand::u64(low..high))
}
