//! Collateral that a server sends along with its quotes, so that clients need no route to Intel.

#[cfg(all(test, feature = "sim"))]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;

use super::authenticate::Authentic;
use super::collateral::{Collateral, CollateralRequest, CollateralSource, PlatformId};
use super::encoding::show_time;
use super::genuine::{self, Genuineness};
use super::quote::Quote;
use crate::platform::endorser::{AbortOnDrop, EndorsementError, EndorsementErrorKind, LONGEST_SLEEP, Plan, SHORTEST};
use crate::provider::{ProviderError, ReportProvider};
use crate::report::{Platform, Report, ReportData};
use crate::time::{Clock, SystemClock};
use crate::verifier::VerifyError;

/// A provider of TDX quotes that staples collateral to them. Made by `TdxProvider::staple`, or around any other provider
/// of quotes.
///
/// ```no_run
/// # #[cfg(all(target_os = "linux", feature = "fetch"))]
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_attest::platform::fetch::HttpsClient;
/// use tower_attest::platform::tdx::{PcsClient, TdxProvider};
///
/// let provider = TdxProvider::open()?.staple(PcsClient::new(HttpsClient::new()));
/// let attester = tower_attest::Attester::builder(provider).name("prover.example").start().await?;
/// # Ok(()) }
/// ```
///
/// A quote never waits for collateral: the first one starts a task that fetches it, and goes out without. From then on
/// the task looks for newer collateral each [interval](Self::with_interval), or at half the time that is left where that
/// is sooner; after a failure it tries again in 1 min, doubling up to 1 h. What it finds is judged with this machine's own
/// quote, by the same checks as a client's, and stapled only while it holds. The attester puts stapled collateral into
/// the endpoint's answer, never into a header.
///
/// The source is asked about once a day: it needs no [`MemoryCollateral`](super::MemoryCollateral) around it. Where the
/// TD moves to a machine of another kind, the collateral of the old one is no longer stapled, and that of the new one is
/// fetched.
pub struct StaplingProvider<P> {
    provider: P,
    renewal: Renewal,
    task: Mutex<Option<(PlatformId, AbortOnDrop)>>,
}

/// What the task needs.
#[derive(Clone)]
struct Renewal {
    genuineness: Arc<Genuineness>,
    source: Arc<dyn CollateralSource>,
    interval: Duration,
    clock: Arc<dyn Clock>,
    kept: Arc<ArcSwapOption<Kept>>,
}

/// Collateral that passed every check.
struct Kept {
    platform: PlatformId,
    json: Bytes,
    until: SystemTime,
}

impl<P> StaplingProvider<P> {
    /// Staples what `source` has to the quotes of `provider`.
    pub fn new(provider: P, source: impl CollateralSource + 'static) -> Self {
        let renewal = Renewal {
            genuineness: Arc::new(Genuineness::intel()),
            source: Arc::new(source),
            interval: Duration::from_secs(24 * 60 * 60),
            clock: Arc::new(SystemClock),
            kept: Arc::default(),
        };
        Self { provider, renewal, task: Mutex::default() }
    }

    /// How long collateral is stapled before newer is looked for, at least 1 min: the time in which clients see a
    /// revocation. Default: 24 h.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.renewal.interval = interval.max(SHORTEST);
        self
    }

    /// Takes time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.renewal.clock = Arc::new(clock);
        self
    }

    /// Judges by the simulator's root, whose keys everybody knows, and **not** by Intel's. For tests only.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn trusting_simulator(mut self, intel: &super::sim::SimulatedIntel) -> Self {
        self.renewal.genuineness = Arc::new(Genuineness::trusting_simulator(intel));
        self
    }

    /// Until when the collateral at hand holds; `None` before the first has been fetched. For a health check: the attester
    /// takes an `Arc` of this provider, of which the caller keeps a clone.
    pub fn stapled_until(&self) -> Option<SystemTime> {
        self.renewal.kept.load().as_ref().map(|kept| kept.until)
    }

    /// The provider behind it.
    pub fn get_ref(&self) -> &P {
        &self.provider
    }

    /// The collateral at hand for this report, if it holds now.
    fn collateral(&self, report: &Report) -> Result<Option<Bytes>, VerifyError> {
        let now = self.renewal.clock.now().wall;
        let quote = genuine::quote(report)?;
        let platform = Authentic::check(&self.renewal.genuineness.root, &quote, now)?.platform.id;
        self.renew(platform, quote);
        let kept = self.renewal.kept.load();
        Ok(kept.as_ref().filter(|kept| kept.platform == platform && now < kept.until).map(|kept| kept.json.clone()))
    }

    /// Sees to it that a task renews the collateral of `platform`, and no other's.
    fn renew(&self, platform: PlatformId, quote: Quote) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = task.as_ref().is_some_and(|(of, task)| *of == platform && !task.0.is_finished());
        if let (false, Ok(runtime)) = (runs, tokio::runtime::Handle::try_current()) {
            let renewing = runtime.spawn(self.renewal.clone().run(platform, quote));
            *task = Some((platform, AbortOnDrop(renewing.abort_handle())));
        }
    }
}

impl Renewal {
    async fn run(self, platform: PlatformId, quote: Quote) {
        let mut plan = Plan::due_at(self.clock.now());
        loop {
            let now = self.clock.now();
            if !plan.is_due(now) {
                self.clock.sleep(plan.wait(now).min(LONGEST_SLEEP)).await;
                continue;
            }
            let outcome = self.fetch(platform, &quote, now.wall).await;
            let wait = plan.next(&outcome, self.clock.now(), self.interval).as_secs();
            match outcome {
                Ok(until) => {
                    tracing::debug!(%platform, until = show_time(until), wait_s = wait, "tdx.collateral.stapled");
                }
                Err(error) => tracing::warn!(%platform, %error, wait_s = wait, "tdx.collateral.not_stapled"),
            }
        }
    }

    /// Fetches collateral, judges it by `quote`, and keeps it. Returns its end.
    async fn fetch(
        &self,
        platform: PlatformId,
        quote: &Quote,
        now: SystemTime,
    ) -> Result<SystemTime, EndorsementError> {
        let authentic = Authentic::check(&self.genuineness.root, quote, now).map_err(|refusal| {
            EndorsementError::with_source(EndorsementErrorKind::Refused, "this machine's own quote", refusal)
        })?;
        let check = |found: &Arc<Collateral>| {
            let endorsed = authentic.endorse(found, now)?;
            authentic.apply(&endorsed, now).map(|_| endorsed.until)
        };
        let request = CollateralRequest::new(platform, now, &check);
        let found = self.source.collateral(&request).await?;
        let until = request.check(&found)?;
        self.kept.store(Some(Arc::new(Kept { platform, json: found.to_json().into(), until })));
        Ok(until)
    }
}

#[async_trait]
impl<P: ReportProvider> ReportProvider for StaplingProvider<P> {
    fn platform(&self) -> Platform {
        self.provider.platform()
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        let report = self.provider.report(data).await?;
        match self.collateral(&report) {
            Ok(Some(json)) => Ok(report.with_collateral(json)),
            Ok(None) => Ok(report),
            Err(error) => {
                // Clients will refuse it too, and say why.
                tracing::warn!(%error, "tdx.collateral.quote_not_genuine");
                Ok(report)
            }
        }
    }
}

impl<P: fmt::Debug> fmt::Debug for StaplingProvider<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaplingProvider")
            .field("provider", &self.provider)
            .field("source", &self.renewal.source)
            .field("interval", &self.renewal.interval)
            .field("stapled_until", &self.stapled_until().map(show_time))
            .finish_non_exhaustive()
    }
}
