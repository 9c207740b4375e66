//! [`Attest`]: the service, and what its clones share.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::endpoint::Endpoint;
use super::exchange::{Carrier, Exchange, Head, VerifiedKeys};
use super::future::{AttestFuture, Sent};
use super::layer::{Mode, Settings};
use super::transport::AttestedTransport;
use super::trust::{Origin, Plan, Trust, TrustStats};
use super::verified::{Observation, Verdict};
use crate::crypto;
use crate::error::{AttestError, BoxError, ErrorKind};
use crate::protocol::{ATTESTATION_NONCE, ChannelBinding, Nonce, Target};
use crate::time::Now;

/// A client's HTTP service behind an [`AttestLayer`](crate::AttestLayer).
///
/// Clones share what they believe, and wait for one preflight together. The error is a boxed [`AttestError`] where this layer
/// refuses, and the inner service's own where that fails.
#[derive(Clone)]
pub struct Attest<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What all requests through one layer share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) trust: Trust,
}

impl<S> Attest<S> {
    pub(crate) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service. Requests that are sent on it past this layer are not attested.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// How much it and its clones remember.
    pub fn trust(&self) -> TrustStats {
        self.shared.trust.stats()
    }

    /// Takes the inner service out.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: fmt::Debug> fmt::Debug for Attest<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attest").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Attest<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    ReqBody: Default,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = AttestFuture<S, S::Future, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The service that was polled ready is the one to call; its clone is not ready.
        let unready = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, unready);
        let shared = Arc::clone(&self.shared);

        let endpoint = Endpoint::of(&request);

        let target = match Target::of(request.method(), request.uri()) {
            Ok(target) => target,
            Err(error) => {
                let error = AttestError::with_source(ErrorKind::Configuration, error.to_string(), error);
                return match shared.settings.mode {
                    Mode::Required => AttestFuture::refused(shared, endpoint, ready, error),
                    Mode::Optional | Mode::Observe => {
                        let future = ready.call(request);
                        AttestFuture::passing(shared, endpoint, ready, future)
                    }
                };
            }
        };
        let now = shared.now();
        let plan = shared.trust.draw(&endpoint.origin, now, shared.revision());
        if shared.must_ask_before(&plan) {
            // What was ready gives its permit back: whoever fetches evidence may need it.
            drop(ready);
            return AttestFuture::cold(shared, endpoint, self.inner.clone(), request, target);
        }
        let (sent, request) = shared.send(plan, now, request, target);
        let future = ready.call(request);
        AttestFuture::in_flight(shared, endpoint, ready, future, sent)
    }
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        let trust = Trust::new(settings.max_evidence_age);
        Self { settings, trust }
    }

    pub(crate) fn now(&self) -> Now {
        self.settings.clock.now()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.settings.verifier.revision()
    }

    /// Whether a request must wait for evidence before it is sent.
    pub(crate) fn must_ask_before(&self, plan: &Plan) -> bool {
        self.settings.mode == Mode::Required
            && (plan.is_empty() || (self.requires_attested_transport() && !plan.attested))
    }

    /// Whether what allowed sending has gone while the inner service was not ready. Keys that were just fetched allow one
    /// request, however short the age.
    pub(crate) fn must_ask_again(&self, plan: &Plan, keys: &VerifiedKeys, revision: u64, now: Now) -> bool {
        let patience = self.settings.max_evidence_age.max(self.settings.timeout);
        plan.revision != revision
            || (self.requires_attested_transport() && !plan.attested)
            || keys.passed(now, patience)
    }

    /// Draws the nonce and puts it into the request, in place of any that the caller set.
    pub(super) fn send<B>(
        &self,
        mut plan: Plan,
        now: Now,
        mut request: Request<B>,
        target: Target,
    ) -> (Sent, Request<B>) {
        let exchange = Exchange::new(draw_nonce(), now, request.method().clone(), target);
        let bind = self.settings.bind_channel || plan.attested;
        let header = exchange.nonce_header(mem::take(&mut plan.have), bind);
        request.headers_mut().insert(ATTESTATION_NONCE, header);
        (Sent { exchange, plan, bind }, request)
    }

    /// Whether [`Mode::Required`] refuses to send over a transport that nobody attested.
    pub(crate) fn requires_attested_transport(&self) -> bool {
        self.settings.mode == Mode::Required && !self.settings.accept_presence
    }

    /// Whether evidence from the endpoint is to be bound. Another service's connections are not the inner one's.
    pub(crate) fn binds_preflight(&self, origin: &Origin) -> bool {
        self.settings.bind_channel || (self.settings.preflight_via.is_none() && self.trust.attested(origin))
    }

    /// What the transport says of the connection that served a response.
    pub(crate) fn carrier(&self, extensions: &Extensions, bind: bool) -> Result<Carrier, AttestError> {
        if !bind {
            return Ok(Carrier::Unbound);
        }
        if let Some(attested) = extensions.get::<AttestedTransport>() {
            return Ok(Carrier::Attested(attested.binding()));
        }
        match extensions.get::<ChannelBinding>() {
            Some(binding) => Ok(Carrier::Bound(*binding)),
            None => Err(AttestError::new(
                ErrorKind::Configuration,
                "expected a ChannelBinding in the response's extensions, found none: the transport below does not tell \
                 which TLS connection served a response",
            )),
        }
    }

    /// Notes whether the inner transport says that it has been attested, and demands it unless presence is accepted.
    pub(crate) fn judge_transport(&self, origin: &Origin, extensions: &Extensions) -> Result<(), AttestError> {
        let attested = extensions.get::<AttestedTransport>().is_some();
        self.trust.note_transport(origin, attested);
        if attested || !self.requires_attested_transport() { Ok(()) } else { Err(not_attested()) }
    }

    /// The keys with which a response may be signed: those believed when its request's nonce was drawn, unless the
    /// verifier has changed since, and those believed now.
    pub(super) fn believed(&self, origin: &Origin, sent: &Sent, head: &Head) -> Option<Arc<VerifiedKeys>> {
        let revision = self.revision();
        let then = if sent.plan.revision == revision { sent.plan.keys(head.keys()) } else { None };
        then.or_else(|| self.trust.keys(origin, head.keys(), sent.exchange.drawn(), revision))
    }

    /// Tells the log and the caller's hook.
    pub(crate) fn tell(&self, observation: &Observation) {
        let mode = self.settings.mode;
        match observation {
            Observation::Verified(report) => tracing::debug!(
                name: "attest.response_verified", target: "tower_attest::client",
                ?mode,
                platform = report.platform().name(),
                measurement = report.measurement_name(),
                strength = ?report.strength(),
                age = ?report.age(),
                "response verified"
            ),
            Observation::Missing => {
                tracing::info!(name: "attest.report_missing", target: "tower_attest::client", ?mode, "response without a report")
            }
            Observation::Refused(error) => {
                tracing::warn!(name: "attest.response_refused", target: "tower_attest::client", ?mode, kind = ?error.kind(), %error, "attestation refused");
            }
            Observation::Undecided(error) => {
                tracing::info!(name: "attest.response_undecided", target: "tower_attest::client", ?mode, kind = ?error.kind(), %error, "not judged");
            }
        }
        if let Some(on_verdict) = &self.settings.on_verdict {
            on_verdict(&Verdict::new(mode, observation.clone()));
        }
    }
}

pub(crate) fn draw_nonce() -> Nonce {
    Nonce::from_bytes(crypto::random())
}

pub(crate) fn not_attested() -> AttestError {
    AttestError::new(
        ErrorKind::NotAttested,
        "expected a transport that attests its connection before anything is sent, found one that does not say so: use \
         AttestedChannel (feature `tls`), or write .accept_presence() if knowing that a TEE is present is enough",
    )
}

/// The error for evidence that goes each time before it can be used.
pub(crate) fn never_ready() -> AttestError {
    AttestError::new(
        ErrorKind::Unavailable,
        "expected evidence that is still good once the inner service is ready, found that its age, the policy or the \
         transport had changed each time: retry",
    )
}
