//! Fetches evidence from the server's endpoint, one request at a time for all who need it.
//!
//! The turn is a mutex guard in the leader's future. Whoever drops that future passes the turn to the next who waits;
//! nothing is spawned and nothing is left behind. A future that is kept and no longer polled keeps its turn from those who wait,
//! for as long as they wait, and from nobody after them.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::response::Parts;
use http::{Request, Response};
use http_body::Body;
use pin_project::pin_project;
use tokio::sync::OwnedMutexGuard;
use tower_service::Service;

use super::endpoint::{Collect, Endpoint, judge_binding, judge_status};
use super::exchange::{Encoded, Exchange, Head, VerifiedKeys};
use super::service::{Shared, draw_nonce, not_attested};
use super::transport::Closer;
use super::trust::Flight;
use super::verification::{Deadline, Verification};
use super::via::{Fetched, transport};
use crate::error::{AttestError, BoxError};
use crate::protocol::KeysDigest;

/// Which keys satisfy those who wait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Want {
    /// Any that are believed: enough to send.
    Any,
    /// Those that signed a response.
    Keys(KeysDigest),
}

/// Waits for its turn and, unless another's turn has settled it meanwhile, asks the endpoint.
#[pin_project]
pub(crate) struct Preflight<S, F, ReqBody, ResBody> {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    want: Want,
    service: S,
    flight: Flight,
    deadline: Deadline,
    /// Of the connection that answered.
    closer: Closer,
    leads: bool,
    turn: Option<OwnedMutexGuard<()>>,
    #[pin]
    step: Step<F, ResBody>,
    request: PhantomData<fn() -> ReqBody>,
}

#[pin_project(project = StepProj)]
enum Step<F, ResBody> {
    Waiting(Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>),
    Readying,
    Calling(#[pin] F, Arc<Asked>),
    CallingVia(Fetched, Arc<Asked>),
    Reading(#[pin] Collect<ResBody>, Arc<Answered>),
    Verifying(Box<Verification>, Arc<Answered>),
}

struct Asked {
    exchange: Exchange,
    bind: bool,
}

struct Answered {
    asked: Arc<Asked>,
    head: Head,
}

impl<S, F, ReqBody, ResBody> Preflight<S, F, ReqBody, ResBody> {
    /// `service` need not be ready.
    pub(crate) fn new(shared: Arc<Shared>, endpoint: Endpoint, want: Want, service: S) -> Pin<Box<Self>> {
        let flight = shared.trust.flight(&endpoint.origin);
        let waiting = Arc::clone(&flight.turn).lock_owned();
        Box::pin(Self {
            shared,
            endpoint,
            want,
            service,
            flight,
            deadline: Deadline::default(),
            closer: Closer::default(),
            leads: false,
            turn: None,
            step: Step::Waiting(Box::pin(waiting)),
            request: PhantomData,
        })
    }

    /// What another's turn has settled: evidence, or a failure.
    fn settled(&self) -> Option<Result<Arc<VerifiedKeys>, AttestError>> {
        let (shared, origin) = (&self.shared, &self.endpoint.origin);
        let (now, revision) = (shared.now(), shared.revision());
        let keys = match &self.want {
            Want::Keys(digest) => shared.trust.keys(origin, digest, now, revision),
            Want::Any => shared
                .trust
                .any(origin, now, revision)
                .and_then(|(keys, attested)| (attested || shared.settings.accept_presence).then_some(keys)),
        };
        match keys {
            Some(keys) => Some(Ok(keys)),
            None => shared.trust.failure(origin, &self.flight, now, revision).map(Err),
        }
    }
}

impl<S, ReqBody, ResBody> Preflight<S, S::Future, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ReqBody: Default,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    fn advance(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Arc<VerifiedKeys>, AttestError>> {
        loop {
            let mut this = self.as_mut().project();
            let next = match this.step.as_mut().project() {
                StepProj::Waiting(waiting) => {
                    *this.turn = Some(ready!(waiting.as_mut().poll(cx)));
                    if let Some(settled) = self.settled() {
                        return Poll::Ready(settled);
                    }
                    self.as_mut().lead()?
                }
                StepProj::Readying => {
                    ready!(this.service.poll_ready(cx)).map_err(transport)?;
                    let (asked, request) = ask(this.shared, this.endpoint)?;
                    Step::Calling(this.service.call(request), asked)
                }
                StepProj::Calling(call, asked) => {
                    let (parts, body) = ready!(call.poll(cx)).map_err(transport)?.into_parts();
                    *this.closer = Closer::of(&parts.extensions);
                    this.shared.judge_transport(&this.endpoint.origin, &parts.extensions)?;
                    let answered = Answered::judge(this.shared, asked, &parts)?;
                    Step::Reading(Collect::new(body, this.shared.settings.evidence_limit), answered)
                }
                StepProj::CallingVia(fetched, asked) => {
                    let (parts, body) = ready!(fetched.as_mut().poll(cx))?.into_parts();
                    let answered = Answered::judge(this.shared, asked, &parts)?;
                    Step::Verifying(answered.judge_body(this.shared, &body)?, answered)
                }
                StepProj::Reading(body, answered) => {
                    let body = ready!(body.poll(cx))?;
                    Step::Verifying(answered.judge_body(this.shared, &body)?, Arc::clone(answered))
                }
                StepProj::Verifying(verification, answered) => {
                    let keys = ready!(verification.poll(this.shared, &this.endpoint.origin, cx))?;
                    answered.asked.exchange.judge_signature(&answered.head, &keys)?;
                    return Poll::Ready(Ok(keys));
                }
            };
            this = self.as_mut().project();
            this.step.set(next);
        }
    }

    /// Takes the lead: from here on a failure fails all who wait.
    fn lead(self: Pin<&mut Self>) -> Result<Step<S::Future, ResBody>, AttestError> {
        let this = self.project();
        *this.leads = true;
        *this.deadline = Deadline::default();
        tracing::debug!(name: "attest.preflight", target: "tower_attest::client", "asking the server for evidence");
        let Some(via) = &this.shared.settings.preflight_via else { return Ok(Step::Readying) };
        if this.shared.requires_attested_transport() {
            return Err(not_attested());
        }
        let (asked, request) = ask(this.shared, this.endpoint)?;
        Ok(Step::CallingVia(via.fetch(request, this.shared.settings.evidence_limit), asked))
    }
}

impl<S, ReqBody, ResBody> Future for Preflight<S, S::Future, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ReqBody: Default,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<Arc<VerifiedKeys>, AttestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let advanced = self.as_mut().advance(cx);
        let this = self.project();
        let result = match advanced {
            Poll::Ready(result) => result,
            Poll::Pending => {
                let error = ready!(this.deadline.poll(this.shared, "evidence from the server", cx));
                if !*this.leads {
                    this.shared.trust.give_up(&this.endpoint.origin, this.flight);
                }
                Err(error)
            }
        };
        if let Err(error) = &result
            && *this.leads
        {
            this.closer.close();
            let shared = this.shared;
            shared.trust.failed(&this.endpoint.origin, error, shared.now(), shared.revision());
        }
        *this.turn = None;
        Poll::Ready(result)
    }
}

fn ask<B: Default>(shared: &Shared, endpoint: &Endpoint) -> Result<(Arc<Asked>, Request<B>), AttestError> {
    let bind = shared.binds_preflight(&endpoint.origin);
    let (exchange, request) = endpoint.ask(draw_nonce(), shared.now(), bind)?;
    Ok((Arc::new(Asked { exchange, bind }), request))
}

impl Answered {
    fn judge(shared: &Shared, asked: &Arc<Asked>, parts: &Parts) -> Result<Arc<Self>, AttestError> {
        judge_binding(parts.status, asked.bind)?;
        let carrier = shared.carrier(&parts.extensions, asked.bind);
        let head = asked.exchange.judge_head(carrier, parts.status, &parts.headers)?;
        judge_status(parts.status, &parts.headers)?;
        Ok(Arc::new(Self { asked: Arc::clone(asked), head }))
    }

    fn judge_body(&self, shared: &Shared, body: &[u8]) -> Result<Box<Verification>, AttestError> {
        let expected = &shared.settings.expectations;
        let pending = self.asked.exchange.judge_evidence(&self.head, Encoded::Json(body), expected)?;
        Ok(Box::new(Verification::new(shared, pending)))
    }
}
