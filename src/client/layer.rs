//! [`AttestLayer`]: what a client demands, and its settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::exchange::Expectations;
use super::service::{Attest, Shared};
use super::verified::Verdict;
use super::via::{Erased, Via};
use crate::error::BoxError;
use crate::protocol::MAX_EVIDENCE;
use crate::time::{Clock, SystemClock};
use crate::verifier::ReportVerifier;

/// How old evidence may grow before requests wait for new evidence, unless set: 10 minutes.
pub const DEFAULT_MAX_EVIDENCE_AGE: Duration = Duration::from_secs(600);
/// How long fetching and verifying evidence may take, unless set: 10 seconds.
pub const DEFAULT_VERIFICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// What happens to a response whose report is missing or bad.
///
/// | mode | no evidence yet | missing | bad | into the extensions |
/// |---|---|---|---|---|
/// | `Required` | requests wait for a preflight | refused | refused | [`VerifiedReport`](crate::VerifiedReport) |
/// | `Optional` | sent | passes | refused | [`Observation`](crate::Observation) |
/// | `Observe` | sent | passes | passes | [`Observation`](crate::Observation) |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Nothing is sent before the server's keys are verified, and no response is handed out that they did not sign.
    #[default]
    Required,
    /// A missing report passes, a bad one is refused. Nothing is known before sending.
    Optional,
    /// Counts and logs. Never refuses and never makes a request or a response wait.
    ///
    /// What cannot be judged from the head at once, with a single poll of the verifier, is
    /// [`Observation::Undecided`](crate::Observation::Undecided).
    Observe,
}

/// Puts [`Attest`] around a client's HTTP service: each response must be signed by keys that a genuine TEE vouches for.
///
/// See the [module](super) for an example. Each call of [`layer`](Layer::layer) starts with no trust; clones of the
/// [`Attest`] it makes share theirs.
#[derive(Clone)]
pub struct AttestLayer {
    settings: Settings,
}

type OnVerdict = dyn Fn(&Verdict) + Send + Sync;

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) verifier: Arc<dyn ReportVerifier>,
    pub(crate) expectations: Expectations,
    pub(crate) mode: Mode,
    pub(crate) accept_presence: bool,
    pub(crate) bind_channel: bool,
    pub(crate) max_evidence_age: Duration,
    pub(crate) timeout: Duration,
    pub(crate) evidence_limit: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) on_verdict: Option<Arc<OnVerdict>>,
    pub(super) preflight_via: Option<Arc<dyn Via>>,
}

impl AttestLayer {
    /// Demands what `verifier` accepts, in [`Mode::Required`].
    ///
    /// Unless the transport below has itself been attested, [`accept_presence`](Self::accept_presence) must be written too.
    pub fn new(verifier: impl ReportVerifier + 'static) -> Self {
        let expectations = Expectations { platforms: verifier.platforms(), ..Expectations::default() };
        Self {
            settings: Settings {
                verifier: Arc::new(verifier),
                expectations,
                mode: Mode::Required,
                accept_presence: false,
                bind_channel: false,
                max_evidence_age: DEFAULT_MAX_EVIDENCE_AGE,
                timeout: DEFAULT_VERIFICATION_TIMEOUT,
                evidence_limit: MAX_EVIDENCE,
                clock: Arc::new(SystemClock),
                on_verdict: None,
                preflight_via: None,
            },
        }
    }

    /// Accepts [`Strength::Presence`](crate::Strength::Presence): sends over a transport that nobody attested.
    ///
    /// A relay that holds a certificate for the server's name can then read and change requests, and response bodies. It
    /// protects against honest mistakes (a server without TEE, a wrong image), not against a relay.
    #[must_use]
    pub fn accept_presence(mut self) -> Self {
        self.settings.accept_presence = true;
        self
    }

    /// Expects `name` among the names that the server's key document lists. Without it any name will do.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.expectations.name = Some(name.into());
        self
    }

    /// Expects this SHA-256 of the server's effective configuration. Repeat it to accept several, as while a server moves
    /// from one to another. Without it any configuration will do.
    #[must_use]
    pub fn config(mut self, digest: [u8; 32]) -> Self {
        self.settings.expectations.configs.push(digest);
        self
    }

    /// What happens to missing and bad reports; [`Mode::Required`] unless set.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Asks for evidence and signatures that are bound to the TLS connection, and verifies them against the
    /// [`ChannelBinding`](crate::ChannelBinding) that the transport puts into each response's extensions (as a hyper-util
    /// connector does with `Connected::extra`).
    ///
    /// It must be asked for, because a server behind a TLS-terminating balancer answers 400, and a response without a
    /// `ChannelBinding` is then refused as [`Configuration`](crate::ErrorKind::Configuration). The strength stays
    /// [`Presence`](crate::Strength::Presence), since the request had left before the binding was verified. Over a transport that has been
    /// attested itself, signatures are always bound.
    #[must_use]
    pub fn bind_channel(mut self) -> Self {
        self.settings.bind_channel = true;
        self
    }

    /// How long keys are believed after the nonce in their evidence was drawn; 10 minutes unless set.
    ///
    /// Either clock may say that it has passed. After half of it one request renews the evidence; only past it do requests
    /// wait. Zero asks for evidence before and with every request.
    #[must_use]
    pub fn max_evidence_age(mut self, age: Duration) -> Self {
        self.settings.max_evidence_age = age;
        self
    }

    /// How long fetching and verifying evidence may take, apart from the request's own time; 10 seconds unless set.
    #[must_use]
    pub fn verification_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// The most bytes of evidence that are read from the endpoint; 256 KiB unless set, which is also the protocol's limit.
    #[must_use]
    pub fn evidence_limit(mut self, bytes: usize) -> Self {
        self.settings.evidence_limit = bytes.min(MAX_EVIDENCE);
        self
    }

    /// The clock for ages and timers; [`SystemClock`] unless set.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.settings.clock = Arc::new(clock);
        self
    }

    /// Calls `f` with the verdict on each request: once per request, before its response or error is handed out.
    #[must_use]
    pub fn on_verdict(mut self, f: impl Fn(&Verdict) + Send + Sync + 'static) -> Self {
        self.settings.on_verdict = Some(Arc::new(f));
        self
    }

    /// Fetches evidence through `service` instead of the inner service, for example past a limit on the inner one.
    ///
    /// What that transport says of itself does not count for the inner one: with it, [`Mode::Required`] needs
    /// [`accept_presence`](Self::accept_presence).
    #[must_use]
    pub fn preflight_via<T, ReqBody, ResBody>(mut self, service: T) -> Self
    where
        T: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
        T::Error: Into<BoxError>,
        T::Future: Send,
        ReqBody: Default + Send + 'static,
        ResBody: Body + Send + 'static,
        ResBody::Data: Send,
        ResBody::Error: Into<BoxError>,
    {
        self.settings.preflight_via = Some(Arc::new(Erased::new(service)));
        self
    }
}

#[cfg(feature = "seal")]
impl AttestLayer {
    /// What a service made by this layer shares with its clones.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::new(Shared::new(self.settings.clone()))
    }
}

impl<S> Layer<S> for AttestLayer {
    type Service = Attest<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Attest::new(inner, Arc::new(Shared::new(self.settings.clone())))
    }
}

impl fmt::Debug for AttestLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestLayer")
            .field("verifier", &self.settings.verifier)
            .field("mode", &self.settings.mode)
            .field("accept_presence", &self.settings.accept_presence)
            .field("bind_channel", &self.settings.bind_channel)
            .field("name", &self.settings.expectations.name)
            .field("max_evidence_age", &self.settings.max_evidence_age)
            .field("timeout", &self.settings.timeout)
            .finish_non_exhaustive()
    }
}
