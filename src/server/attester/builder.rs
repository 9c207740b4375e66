//! Setting up an attester.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::error::{AttesterError, AttesterErrorKind};
use super::keys::{KeyRing, KeySettings};
use super::observe::{Observer, ReportCall};
use super::queue::Queue;
use super::{Attester, Core, Handle, Settings, batcher};
use crate::crypto;
use crate::protocol::{MAX_BATCH, Nonce};
use crate::provider::ReportProvider;
use crate::time::{Clock, SystemClock};

/// How long the previous keys still sign, unless set or longer than an epoch.
const DEFAULT_GRACE: Duration = Duration::from_secs(300);

/// The most requests that an epoch can note, in 272 MiB.
#[cfg(feature = "seal")]
const MAX_REPLAY_CACHE: usize = 1 << 24;

/// Settings of an [`Attester`], each with a default that suits a server on real hardware.
///
/// ```
/// # #[cfg(feature = "mock")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_attest::AttesterError> {
/// use std::time::Duration;
/// use tower_attest::Attester;
/// use tower_attest::mock::MockTee;
///
/// let attester = Attester::builder(MockTee::new().provider())
///     .name("prover.example")
///     .report_timeout(Duration::from_secs(10))
///     .start()
///     .await?;
/// assert_eq!(attester.stats().reports, 1, "the hardware has been asked once");
/// # Ok(()) }
/// # #[cfg(not(feature = "mock"))] fn main() {}
/// ```
#[derive(Debug)]
#[must_use = "an attester does nothing until it is started"]
pub struct AttesterBuilder {
    provider: Box<dyn ReportProvider>,
    names: Vec<String>,
    config: Option<[u8; 32]>,
    route: Option<String>,
    #[cfg(feature = "seal")]
    seal: bool,
    #[cfg(feature = "seal")]
    replay_cache: usize,
    settings: Settings,
    grace: Option<Duration>,
    observer: Observer,
    clock: Arc<dyn Clock>,
}

impl AttesterBuilder {
    pub(super) fn new(provider: Box<dyn ReportProvider>) -> Self {
        Self {
            provider,
            names: Vec::new(),
            config: None,
            route: None,
            #[cfg(feature = "seal")]
            seal: false,
            #[cfg(feature = "seal")]
            replay_cache: 900_000,
            settings: Settings {
                queue: 4096,
                batch: 4096,
                report_timeout: Duration::from_secs(30),
                evidence_wait: Duration::from_secs(5),
                epoch: Duration::from_secs(3600),
            },
            grace: None,
            observer: Observer::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Adds a host name that this server answers for. A client that expects a name refuses a server without it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Adds several host names. All of them together fit a key document of 4 KiB.
    pub fn names<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }

    /// SHA-256 of the configuration that decides where plaintext goes, for clients to pin. Default: none.
    /// [`Attester::set_config`] changes it while the attester runs.
    pub fn config(mut self, digest: [u8; 32]) -> Self {
        self.config = Some(digest);
        self
    }

    /// A token that clients repeat on sealed requests, in `Attestation-Route`, so that a balancer in front of several
    /// servers can send each request to the one that holds the keys. 1 to 64 of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-`;
    /// everybody who sees the key document sees it. Default: none.
    pub fn route(mut self, route: impl Into<String>) -> Self {
        self.route = Some(route.into());
        self
    }

    /// Makes, in each epoch, a key that clients can seal requests to, and names it in the key document. Its private half
    /// is never stored, and wiped when the epoch and its grace are over.
    #[cfg(feature = "seal")]
    pub fn seal(mut self) -> Self {
        self.seal = true;
        self
    }

    /// How many sealed requests one epoch opens, 1 to 16 777 216: each is noted, so that none is served twice. At this
    /// number new keys are made at once, and the full ones given up without grace: clients then need fresh evidence.
    ///
    /// Default: 900 000, which is 250 a second for an hour, and takes 17 MiB from the first sealed request of an epoch
    /// until the end of its grace.
    #[cfg(feature = "seal")]
    pub fn replay_cache(mut self, requests: usize) -> Self {
        self.replay_cache = requests;
        self
    }

    /// How many nonces may wait for the hardware, at least 1. Default: 4 096, some 0.5 MB.
    pub fn queue(mut self, nonces: usize) -> Self {
        self.settings.queue = nonces;
        self
    }

    /// How many nonces may share one report, 1 to 65 536. Default: 4 096, as many as may wait: one report then serves all of
    /// them. A proof has 8 bytes, and 48 more for each doubling of those that did share it: 392 for 256, 584 for 4 096.
    pub fn batch(mut self, nonces: usize) -> Self {
        self.settings.batch = nonces;
        self
    }

    /// How long one report may take before the device counts as stalled. Default: 30 s, since some hosts throttle.
    pub fn report_timeout(mut self, timeout: Duration) -> Self {
        self.settings.report_timeout = timeout;
        self
    }

    /// How long a response that is ready waits for its evidence before it goes out without. Default: 5 s.
    pub fn evidence_wait(mut self, wait: Duration) -> Self {
        self.settings.evidence_wait = wait;
        self
    }

    /// How long keys are used. Default: 1 h.
    pub fn epoch(mut self, epoch: Duration) -> Self {
        self.settings.epoch = epoch;
        self
    }

    /// How long the previous keys still sign for clients that know only them, at most an epoch. Default: 5 min, or the
    /// epoch where that is shorter.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Calls `f` after each call of the hardware, whether that made a report or not, the one at the start included: for
    /// histograms of latency and batch size. It runs on the attester's task, so it must not block. A panic in it is logged.
    ///
    /// ```
    /// # #[cfg(feature = "mock")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_attest::AttesterError> {
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use tower_attest::Attester;
    /// use tower_attest::mock::MockTee;
    ///
    /// let made = Arc::new(AtomicU64::new(0));
    /// let count = Arc::clone(&made);
    /// let builder = Attester::builder(MockTee::new().provider()).name("prover.example").on_report(move |call| {
    ///     if call.error().is_none() {
    ///         count.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// });
    /// let _attester = builder.start().await?;
    /// assert_eq!(made.load(Ordering::Relaxed), 1);
    /// # Ok(()) }
    /// # #[cfg(not(feature = "mock"))] fn main() {}
    /// ```
    pub fn on_report(mut self, f: impl Fn(&ReportCall) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(f);
        self
    }

    /// Where time comes from. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes the first keys, spawns the task that owns the provider, and asks the hardware for one report.
    ///
    /// # Errors
    ///
    /// [`AttesterErrorKind::Configuration`] if a setting cannot work or there is no tokio runtime;
    /// [`AttesterErrorKind::Hardware`] or [`AttesterErrorKind::Stalled`] if the hardware makes no report.
    pub async fn start(self) -> Result<Attester, AttesterError> {
        self.check()?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| wrong("runtime", "start() inside a tokio runtime", "none"))?;
        let platform = self.provider.platform();
        let keys = KeySettings {
            names: self.names,
            route: self.route,
            #[cfg(feature = "seal")]
            seal: self.seal.then_some(self.replay_cache),
            epoch: self.settings.epoch,
            grace: self.grace.unwrap_or_else(|| DEFAULT_GRACE.min(self.settings.epoch)),
        };
        let Self { provider, settings, observer, clock, .. } = self;
        let keys = KeyRing::new(keys, self.config, clock.now())
            .map_err(|error| AttesterError::new(AttesterErrorKind::Configuration, error.to_string()))?;
        let queue = Arc::new(Queue::new(settings.queue));
        let core = Arc::new(Core { platform, keys, queue, settings, observer, clock });
        let (ended_sender, ended) = watch::channel(());
        runtime.spawn(batcher::run(Arc::clone(&core), provider, ended_sender));
        let attester = Attester { handle: Arc::new(Handle { core, ended }) };
        let nonce = Nonce::from_bytes(crypto::random());
        match attester.evidence(&nonce, None).await {
            Ok(_) => Ok(attester),
            Err(error) => Err(error.at_start()),
        }
    }

    fn check(&self) -> Result<(), AttesterError> {
        let Settings { queue, batch, report_timeout, evidence_wait: _, epoch } = &self.settings;
        let most = usize::try_from(MAX_BATCH).unwrap_or(usize::MAX);
        if *queue == 0 {
            return Err(wrong("queue", "at least 1", "0"));
        }
        if !(1..=most).contains(batch) {
            return Err(wrong("batch", &format!("1 to {most}"), &batch.to_string()));
        }
        if report_timeout.is_zero() {
            return Err(wrong("report_timeout", "more than zero", "zero"));
        }
        if epoch.is_zero() {
            return Err(wrong("epoch", "more than zero", "zero"));
        }
        if let Some(grace) = self.grace.filter(|grace| grace > epoch) {
            return Err(wrong("grace", &format!("at most the epoch, {epoch:?}"), &format!("{grace:?}")));
        }
        #[cfg(feature = "seal")]
        if !(1..=MAX_REPLAY_CACHE).contains(&self.replay_cache) {
            let found = self.replay_cache.to_string();
            return Err(wrong("replay_cache", &format!("1 to {MAX_REPLAY_CACHE}"), &found));
        }
        Ok(())
    }
}

fn wrong(setting: &str, expected: &str, found: &str) -> AttesterError {
    AttesterError::new(AttesterErrorKind::Configuration, format!("{setting}: expected {expected}, found {found}"))
}
