//! [`SealFuture`]: one request from its seal to the opened response.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::Body;
use pin_project::pin_project;
use tower_service::Service;

use super::body::{CarrierBody, OpenedBody, broken};
use super::judge::{self, Judged, Unjudged};
use super::unsent::{Sent, Unsent, no_key};
use crate::client::VerifiedReport;
use crate::client::endpoint::Endpoint;
use crate::client::exchange::VerifiedKeys;
use crate::client::preflight::{Preflight, Want};
use crate::client::service::{Shared, never_ready};
use crate::client::transport::Closer;
use crate::client::verification::{Deadline, Verification};
use crate::client::verified::Observation;
use crate::error::{AttestError, BoxError, ErrorKind};
use crate::seal::message::{Event, OpenBody};

/// The response of a [`Seal`](super::Seal), once it is judged and its head is open.
///
/// It may be dropped at any time. It is `Send` if the inner service, its future and all bodies are.
#[pin_project]
pub struct SealFuture<S, F, C, ReqBody, ResBody> {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    /// Need not be ready. For sending after a preflight, and for asking for evidence.
    service: S,
    unsent: Option<Box<Unsent<ReqBody>>>,
    /// How often evidence was waited for before sending.
    asked: u8,
    /// Whether it has been sealed a second time.
    repeated: bool,
    #[pin]
    state: State<S, F, C, ResBody>,
}

type Ask<S, F, C, ResBody> = Pin<Box<Preflight<S, F, C, ResBody>>>;

#[pin_project(project = StateProj)]
enum State<S, F, C, ResBody> {
    Refused(Option<AttestError>),
    /// Waiting for evidence before sending.
    Cold(Ask<S, F, C, ResBody>),
    /// Waiting for the inner service, with the keys to seal to and the verifier's revision when they were verified.
    Readying(Arc<VerifiedKeys>, u64),
    /// Waiting for the response that carries the sealed one.
    InFlight(#[pin] F, Option<Box<Sent>>),
    /// Waiting for the verifier to judge evidence in its head.
    Verifying(Box<Verification>, Deadline, Option<Box<Unjudged<ResBody>>>),
    /// Waiting for evidence for the keys that signed it.
    Asking(Ask<S, F, C, ResBody>, Option<Box<Unjudged<ResBody>>>),
    /// Waiting for the head of the sealed response.
    Opening(Option<Pin<Box<OpenBody<ResBody>>>>, Option<Box<(http::response::Parts, VerifiedReport)>>),
}

/// How often one request waits for evidence, should what allowed sealing go before the inner service is ready.
const MAX_ASKED: u8 = 3;

impl<S, F, C, ReqBody, ResBody> SealFuture<S, F, C, ReqBody, ResBody> {
    fn new(
        shared: Arc<Shared>,
        endpoint: Endpoint,
        service: S,
        unsent: Option<Box<Unsent<ReqBody>>>,
        state: State<S, F, C, ResBody>,
    ) -> Self {
        Self { shared, endpoint, service, unsent, asked: 1, repeated: false, state }
    }

    pub(super) fn refused(shared: Arc<Shared>, endpoint: Endpoint, service: S, error: AttestError) -> Self {
        Self::new(shared, endpoint, service, None, State::Refused(Some(error)))
    }

    pub(super) fn in_flight(
        shared: Arc<Shared>,
        endpoint: Endpoint,
        service: S,
        future: F,
        sent: Sent,
        unsent: Unsent<ReqBody>,
    ) -> Self {
        let state = State::InFlight(future, Some(Box::new(sent)));
        Self::new(shared, endpoint, service, Some(Box::new(unsent)), state)
    }
}

impl<S: Clone, F, C, ReqBody, ResBody> SealFuture<S, F, C, ReqBody, ResBody> {
    /// `service` need not be ready.
    pub(super) fn cold(shared: Arc<Shared>, endpoint: Endpoint, service: S, unsent: Unsent<ReqBody>) -> Self {
        let preflight = Preflight::new(Arc::clone(&shared), endpoint.clone(), Want::Any, service.clone());
        Self::new(shared, endpoint, service, Some(Box::new(unsent)), State::Cold(preflight))
    }
}

impl<S, C, ReqBody, ResBody> Future for SealFuture<S, S::Future, C, ReqBody, ResBody>
where
    S: Service<Request<C>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    C: CarrierBody<ReqBody>,
    ReqBody: Body + Default + 'static,
    ReqBody::Error: Into<BoxError>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<Response<OpenedBody<ResBody>>, BoxError>;

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
                StateProj::Cold(preflight) => {
                    let next = match ready!(preflight.as_mut().poll(cx)) {
                        Ok(keys) => State::Readying(keys, shared.revision()),
                        Err(error) => State::Refused(Some(error)),
                    };
                    this.state.set(next);
                    continue;
                }
                StateProj::Readying(keys, revision) => {
                    ready!(service.poll_ready(cx)).map_err(Into::into)?;
                    let Some(unsent) = this.unsent.as_deref_mut() else { return Poll::Pending };
                    let now = shared.now();
                    let plan = shared.trust.draw(&endpoint.origin, now, shared.revision());
                    let next = if shared.must_ask_again(&plan, keys, *revision, now) {
                        if *this.asked >= MAX_ASKED {
                            State::Refused(Some(never_ready()))
                        } else {
                            *this.asked += 1;
                            // What is ready gives its permit back: the preflight may need it.
                            *service = service.clone();
                            let want = Want::Any;
                            State::Cold(Preflight::new(
                                Arc::clone(this.shared),
                                endpoint.clone(),
                                want,
                                service.clone(),
                            ))
                        }
                    } else {
                        let to = if keys.document().fields().seal.is_some() {
                            Some(Arc::clone(keys))
                        } else {
                            plan.sealable()
                        };
                        let sealed = to.ok_or_else(no_key).and_then(|keys| unsent.seal(plan, keys, now));
                        match sealed {
                            Ok((sent, request)) => State::InFlight(service.call(request), Some(Box::new(sent))),
                            Err(error) => State::Refused(Some(error)),
                        }
                    };
                    this.state.set(next);
                    continue;
                }
                StateProj::InFlight(future, sent) => {
                    let response = ready!(future.poll(cx)).map_err(Into::into)?;
                    let Some(sent) = sent.take() else { return Poll::Pending };
                    judge::head(shared, endpoint, *sent, response)
                }
                StateProj::Verifying(verification, deadline, unjudged) => {
                    let verified = match verification.poll(shared, &endpoint.origin, cx) {
                        Poll::Ready(verified) => verified,
                        Poll::Pending => Err(ready!(deadline.poll(shared, "verified evidence", cx))),
                    };
                    let Some(unjudged) = unjudged.take() else { return Poll::Pending };
                    unjudged.verified(shared, endpoint, verified)
                }
                StateProj::Asking(preflight, unjudged) => {
                    let answered = ready!(preflight.as_mut().poll(cx));
                    let Some(unjudged) = unjudged.take() else { return Poll::Pending };
                    match answered {
                        Ok(keys) => unjudged.signed_by(shared, endpoint, &keys),
                        Err(error) => Judged::Refused(unjudged.closer(), error),
                    }
                }
                StateProj::Opening(opening, opened) => {
                    let Some(body) = opening else { return Poll::Pending };
                    let head = ready!(body.as_mut().poll_head(cx));
                    let (Some(body), Some(opened)) = (opening.take(), opened.take()) else { return Poll::Pending };
                    let (carrier, report) = *opened;
                    let head = match head {
                        Ok(Event::Response(head)) => Ok(head),
                        Ok(_) => Err(not_a_head().into()),
                        Err(error) => Err(broken(error)),
                    };
                    let mut head = match head {
                        Ok(head) => head,
                        Err(error) => {
                            if let Some(refusal) = error.downcast_ref::<AttestError>() {
                                shared.tell(&Observation::Refused(refusal.clone()));
                                Closer::of(&carrier.extensions).close();
                            }
                            return Poll::Ready(Err(error));
                        }
                    };
                    shared.tell(&Observation::Verified(report.clone()));
                    (head.version, head.extensions) = (carrier.version, carrier.extensions);
                    head.extensions.insert(report);
                    return Poll::Ready(Ok(Response::from_parts(head, OpenedBody::new(body))));
                }
            };
            let next = match judged {
                Judged::Refused(closer, error) => {
                    closer.close();
                    State::Refused(Some(error))
                }
                Judged::Verify(verification, unjudged) => {
                    State::Verifying(verification, Deadline::default(), Some(unjudged))
                }
                Judged::Ask(unjudged) => {
                    let want = Want::Keys(*unjudged.keys());
                    let ask = Preflight::new(Arc::clone(this.shared), endpoint.clone(), want, service.clone());
                    State::Asking(ask, Some(unjudged))
                }
                Judged::OtherKeys(keys, revision) => {
                    let unsent = this.unsent.as_ref().filter(|unsent| unsent.is_repeatable() && !*this.repeated);
                    match unsent {
                        Some(_) => {
                            *this.repeated = true;
                            State::Readying(keys, revision)
                        }
                        None => State::Refused(Some(sealed_to_others(&keys))),
                    }
                }
                Judged::Open(body, opened) => State::Opening(Some(body), Some(opened)),
            };
            this.state.set(next);
        }
    }
}

fn not_a_head() -> AttestError {
    AttestError::new(ErrorKind::SealBroken, "expected the head of the sealed response, found something else")
}

fn sealed_to_others(keys: &VerifiedKeys) -> AttestError {
    AttestError::new(
        ErrorKind::UnknownKeys,
        format!(
            "found a server that does not hold the keys that the request was sealed to; its own, {:?}, are verified and \
             known from now on. The request was not repeated, since it may have been delivered: retry if that does no \
             harm, or mark it Repeatable",
            keys.digest()
        ),
    )
}

impl<S, F, C, ReqBody, ResBody> fmt::Debug for SealFuture<S, F, C, ReqBody, ResBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealFuture").finish_non_exhaustive()
    }
}
