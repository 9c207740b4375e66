//! [`AttestFuture`]: one request from the drawing of its nonce to the verdict.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::Body;
use pin_project::pin_project;
use tower_service::Service;

use super::endpoint::Endpoint;
use super::exchange::{Encoded, Exchange, Head, VerifiedKeys, lacks_endorsement, unknown_keys};
use super::layer::Mode;
use super::preflight::{Preflight, Want};
use super::service::{Shared, never_ready};
use super::transport::Closer;
use super::trust::Plan;
use super::verification::{Deadline, Verification};
use super::verified::{Observation, VerifiedReport};
use crate::error::{AttestError, BoxError, ErrorKind};
use crate::protocol::Target;

/// The response of an [`Attest`](crate::Attest): the inner service's, once it is judged.
///
/// It may be dropped at any time. It is `Send` if the inner service, its future and both bodies are.
#[pin_project]
pub struct AttestFuture<S, F, ReqBody, ResBody> {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    /// Need not be ready. For sending after a preflight, and for asking for evidence.
    service: S,
    #[pin]
    state: State<S, F, ReqBody, ResBody>,
}

/// What a request took with it.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) exchange: Exchange,
    pub(super) plan: Plan,
    pub(super) bind: bool,
}

type Ask<S, F, ReqBody, ResBody> = Pin<Box<Preflight<S, F, ReqBody, ResBody>>>;

#[pin_project(project = StateProj)]
enum State<S, F, ReqBody, ResBody> {
    /// Refused without sending.
    Refused(Option<AttestError>),
    /// Sent without a nonce.
    Passing(#[pin] F),
    /// Waiting for evidence before sending.
    Cold(Ask<S, F, ReqBody, ResBody>, Option<Box<Unsent<ReqBody>>>),
    /// Waiting for the inner service, with the keys that allow sending and the verifier's revision then.
    Readying(Option<Box<Unsent<ReqBody>>>, Arc<VerifiedKeys>, u64),
    /// Waiting for the response.
    InFlight(#[pin] F, Option<Sent>),
    /// Waiting for the verifier to judge evidence in the response's head.
    Verifying(Box<Verification>, Deadline, Option<Box<Unjudged<ResBody>>>),
    /// Waiting for evidence for the keys that signed the response.
    Asking(Ask<S, F, ReqBody, ResBody>, Option<Box<Unjudged<ResBody>>>),
}

struct Unsent<ReqBody> {
    request: Request<ReqBody>,
    target: Target,
    /// How often evidence was waited for.
    asked: u8,
}

/// How often one request waits for evidence, should what allowed sending go before the inner service is ready.
const MAX_ASKED: u8 = 3;

struct Unjudged<ResBody> {
    response: Response<ResBody>,
    sent: Sent,
    head: Head,
}

/// What follows from a response's head.
enum Judged<S, F, ReqBody, ResBody> {
    Verdict(Response<ResBody>, Verdict),
    Wait(State<S, F, ReqBody, ResBody>),
}

enum Verdict {
    /// The response itself has no report.
    Missing(AttestError),
    Decided(Result<VerifiedReport, AttestError>),
    Undecided(AttestError),
}

impl<S, F, ReqBody, ResBody> AttestFuture<S, F, ReqBody, ResBody> {
    fn new(shared: Arc<Shared>, endpoint: Endpoint, service: S, state: State<S, F, ReqBody, ResBody>) -> Self {
        Self { shared, endpoint, service, state }
    }

    pub(super) fn refused(shared: Arc<Shared>, endpoint: Endpoint, service: S, error: AttestError) -> Self {
        Self::new(shared, endpoint, service, State::Refused(Some(error)))
    }

    pub(super) fn passing(shared: Arc<Shared>, endpoint: Endpoint, service: S, future: F) -> Self {
        Self::new(shared, endpoint, service, State::Passing(future))
    }

    pub(super) fn in_flight(shared: Arc<Shared>, endpoint: Endpoint, service: S, future: F, sent: Sent) -> Self {
        Self::new(shared, endpoint, service, State::InFlight(future, Some(sent)))
    }
}

impl<S: Clone, F, ReqBody, ResBody> AttestFuture<S, F, ReqBody, ResBody> {
    /// `service` need not be ready.
    pub(super) fn cold(
        shared: Arc<Shared>,
        endpoint: Endpoint,
        service: S,
        request: Request<ReqBody>,
        target: Target,
    ) -> Self {
        let preflight = Preflight::new(Arc::clone(&shared), endpoint.clone(), Want::Any, service.clone());
        let state = State::Cold(preflight, Some(Box::new(Unsent { request, target, asked: 1 })));
        Self::new(shared, endpoint, service, state)
    }
}

impl<S, ReqBody, ResBody> Future for AttestFuture<S, S::Future, ReqBody, ResBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    ReqBody: Default,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<Response<ResBody>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let shared = &**this.shared;
            let (endpoint, service) = (&*this.endpoint, this.service);
            // `take` yields nothing only once this future has been ready: then it has nothing left to do.
            let judged = match this.state.as_mut().project() {
                StateProj::Refused(error) => {
                    let Some(error) = error.take() else { return Poll::Pending };
                    shared.tell(&Observation::Refused(error.clone()));
                    return Poll::Ready(Err(error.into()));
                }
                StateProj::Passing(future) => {
                    let mut response = ready!(future.poll(cx)).map_err(Into::into)?;
                    shared.tell(&Observation::Missing);
                    response.extensions_mut().insert(Observation::Missing);
                    return Poll::Ready(Ok(response));
                }
                StateProj::Cold(preflight, unsent) => {
                    let next = match ready!(preflight.as_mut().poll(cx)) {
                        Ok(keys) => State::Readying(unsent.take(), keys, shared.revision()),
                        Err(error) => State::Refused(Some(error)),
                    };
                    Judged::Wait(next)
                }
                StateProj::Readying(unsent, keys, revision) => {
                    ready!(service.poll_ready(cx)).map_err(Into::into)?;
                    let Some(mut unsent) = unsent.take() else { return Poll::Pending };
                    let now = shared.now();
                    let plan = shared.trust.draw(&endpoint.origin, now, shared.revision());
                    if shared.must_ask_again(&plan, keys, *revision, now) {
                        if unsent.asked >= MAX_ASKED {
                            Judged::Wait(State::Refused(Some(never_ready())))
                        } else {
                            unsent.asked += 1;
                            // What is ready gives its permit back: the preflight may need it.
                            *service = service.clone();
                            let again =
                                Preflight::new(Arc::clone(this.shared), endpoint.clone(), Want::Any, service.clone());
                            Judged::Wait(State::Cold(again, Some(unsent)))
                        }
                    } else {
                        let (sent, request) = shared.send(plan, now, unsent.request, unsent.target);
                        Judged::Wait(State::InFlight(service.call(request), Some(sent)))
                    }
                }
                StateProj::InFlight(future, sent) => {
                    let response = ready!(future.poll(cx)).map_err(Into::into)?;
                    let Some(sent) = sent.take() else { return Poll::Pending };
                    judge_head(this.shared, endpoint, service, sent, response)
                }
                StateProj::Verifying(verification, deadline, unjudged) => {
                    let verified = match verification.poll(shared, &endpoint.origin, cx) {
                        Poll::Ready(verified) => verified,
                        Poll::Pending if shared.settings.mode == Mode::Observe => Err(cannot_wait()),
                        Poll::Pending => Err(ready!(deadline.poll(shared, "verified evidence", cx))),
                    };
                    let Some(unjudged) = unjudged.take() else { return Poll::Pending };
                    unjudged.verified(this.shared, endpoint, service, verified)
                }
                StateProj::Asking(preflight, unjudged) => {
                    let answered = ready!(preflight.as_mut().poll(cx));
                    let Some(unjudged) = unjudged.take() else { return Poll::Pending };
                    match answered {
                        Ok(keys) => unjudged.signed_by(shared, endpoint, &keys),
                        Err(error) => Judged::Verdict(unjudged.response, Verdict::Decided(Err(error))),
                    }
                }
            };
            match judged {
                Judged::Verdict(response, verdict) => return Poll::Ready(conclude(shared, response, verdict)),
                Judged::Wait(state) => this.state.set(state),
            }
        }
    }
}

fn judge_head<S, F, ReqBody, ResBody>(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    service: &S,
    sent: Sent,
    response: Response<ResBody>,
) -> Judged<S, F, ReqBody, ResBody>
where
    S: Clone,
{
    let head = shared.judge_transport(&endpoint.origin, response.extensions()).and_then(|()| {
        let carrier = shared.carrier(response.extensions(), sent.bind);
        sent.exchange.judge_head(carrier, response.status(), response.headers())
    });
    let head = match head {
        Ok(head) => head,
        Err(error) => {
            let missing = matches!(error.kind(), ErrorKind::NoReport { .. });
            let verdict = if missing { Verdict::Missing(error) } else { Verdict::Decided(Err(error)) };
            return Judged::Verdict(response, verdict);
        }
    };
    if let Some(evidence) = head.evidence() {
        let expected = &shared.settings.expectations;
        match sent.exchange.judge_evidence(&head, Encoded::Cbor(evidence), expected) {
            Ok(pending) => {
                let verification = Box::new(Verification::new(shared, pending));
                let unjudged = Box::new(Unjudged { response, sent, head });
                return Judged::Wait(State::Verifying(verification, Deadline::default(), Some(unjudged)));
            }
            Err(error) => return Judged::Verdict(response, Verdict::Decided(Err(error))),
        }
    }
    if let Some(keys) = shared.believed(&endpoint.origin, &sent, &head) {
        return Unjudged { response, sent, head }.signed_by(shared, endpoint, &keys);
    }
    if shared.settings.mode == Mode::Observe {
        return Judged::Verdict(response, Verdict::Undecided(unknown_keys(head.keys())));
    }
    Unjudged { response, sent, head }.ask(shared, endpoint, service)
}

impl<ResBody> Unjudged<ResBody> {
    /// Asks the endpoint for evidence of the keys that signed, and of no others.
    fn ask<S: Clone, F, ReqBody>(
        self,
        shared: &Arc<Shared>,
        endpoint: &Endpoint,
        service: &S,
    ) -> Judged<S, F, ReqBody, ResBody> {
        let want = Want::Keys(*self.head.keys());
        let ask = Preflight::new(Arc::clone(shared), endpoint.clone(), want, service.clone());
        Judged::Wait(State::Asking(ask, Some(Box::new(self))))
    }

    /// Evidence that came with the response has been judged. Where it cannot be judged now, keys that are believed
    /// already still are, for as long as they are. A header may have had no room for endorsements: the endpoint has.
    fn verified<S: Clone, F, ReqBody>(
        self,
        shared: &Arc<Shared>,
        endpoint: &Endpoint,
        service: &S,
        verified: Result<Arc<VerifiedKeys>, AttestError>,
    ) -> Judged<S, F, ReqBody, ResBody> {
        let error = match verified {
            Ok(keys) => return self.signed_by(shared, endpoint, &keys),
            Err(error) => error,
        };
        let endorsement_missing = lacks_endorsement(&error);
        if endorsement_missing && shared.settings.mode != Mode::Observe {
            return self.ask(shared, endpoint, service);
        }
        if !endorsement_missing && !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
            return Judged::Verdict(self.response, Verdict::Decided(Err(error)));
        }
        match shared.believed(&endpoint.origin, &self.sent, &self.head) {
            Some(keys) => self.signed_by(shared, endpoint, &keys),
            None if shared.settings.mode == Mode::Observe => Judged::Verdict(self.response, Verdict::Undecided(error)),
            None => Judged::Verdict(self.response, Verdict::Decided(Err(error))),
        }
    }

    fn signed_by<S, F, ReqBody>(
        self,
        shared: &Shared,
        endpoint: &Endpoint,
        keys: &Arc<VerifiedKeys>,
    ) -> Judged<S, F, ReqBody, ResBody> {
        let report = self.sent.exchange.judge_signature(&self.head, keys);
        if report.is_ok() {
            shared.trust.used(&endpoint.origin, keys.digest());
        }
        Judged::Verdict(self.response, Verdict::Decided(report))
    }
}

/// Tells the verdict and does what the mode says: on refusal the response is dropped.
fn conclude<ResBody>(
    shared: &Shared,
    mut response: Response<ResBody>,
    verdict: Verdict,
) -> Result<Response<ResBody>, BoxError> {
    let mode = shared.settings.mode;
    let observation = match verdict {
        Verdict::Decided(Ok(report)) => Observation::Verified(report),
        Verdict::Missing(_) if mode != Mode::Required => Observation::Missing,
        Verdict::Missing(error) | Verdict::Decided(Err(error)) => Observation::Refused(error),
        Verdict::Undecided(error) => Observation::Undecided(error),
    };
    shared.tell(&observation);
    match (mode, observation) {
        (Mode::Required, Observation::Verified(report)) => {
            response.extensions_mut().insert(report);
        }
        (Mode::Required | Mode::Optional, Observation::Refused(error)) => {
            Closer::of(response.extensions()).close();
            return Err(error.into());
        }
        (_, observation) => {
            response.extensions_mut().insert(observation);
        }
    }
    Ok(response)
}

fn cannot_wait() -> AttestError {
    AttestError::new(
        ErrorKind::Unavailable,
        "expected a verifier that decides at once, found one that waits, for collateral it may be; Mode::Observe makes no \
         response wait for it",
    )
}

impl<S, F, ReqBody, ResBody> fmt::Debug for AttestFuture<S, F, ReqBody, ResBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestFuture").finish_non_exhaustive()
    }
}
