//! [`ResponseFuture`]: opens the request, has it served, seals the response.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use pin_project::pin_project;
use tower_service::Service;

use super::body::UnsealedBody;
use super::layer::Settings;
use super::opening::{Opened, Opening, Reply};
use super::reply::SealedBody;
use crate::error::BoxError;
use crate::server::problem::Wire;

/// The response of an [`Unseal`](super::Unseal). Dropping it drops the inner service's own.
#[pin_project]
pub struct ResponseFuture<S, F, B> {
    #[pin]
    stage: Stage<S, F, B>,
}

#[pin_project(project = StageProjection)]
enum Stage<S, F, B> {
    /// The inner service works on a request that came in the clear.
    Plain(#[pin] F),
    /// The layer has answered.
    Refused(Option<Response<Bytes>>),
    /// The request is being opened.
    Opening { opening: Box<Opening<B>>, inner: Option<S>, settings: Arc<Settings> },
    /// The request is open, and waits for the inner service to be ready.
    Open { inner: S, request: Option<Box<Request<UnsealedBody<B>>>>, reply: Option<Reply> },
    /// The inner service works on it.
    Serving {
        #[pin]
        future: F,
        reply: Reply,
    },
}

impl<S, F, B> ResponseFuture<S, F, B> {
    pub(super) fn plain(future: F) -> Self {
        Self { stage: Stage::Plain(future) }
    }

    pub(super) fn refused(response: Response<Bytes>) -> Self {
        Self { stage: Stage::Refused(Some(response)) }
    }

    pub(super) fn sealed(opening: Opening<B>, inner: S, settings: Arc<Settings>) -> Self {
        Self { stage: Stage::Opening { opening: Box::new(opening), inner: Some(inner), settings } }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, S::Future, ReqBody>
where
    S: Service<Request<UnsealedBody<ReqBody>>, Response = Response<ResBody>>,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<Response<SealedBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            match stage.as_mut().project() {
                StageProjection::Plain(future) => {
                    return Poll::Ready(Ok(ready!(future.poll(cx))?.map(SealedBody::plain)));
                }
                StageProjection::Refused(response) => return Poll::Ready(Ok(taken(response).map(SealedBody::own))),
                StageProjection::Opening { opening, inner, settings } => {
                    match ready!(opening.poll(cx, &settings.attester)) {
                        Ok(Opened::Request(request, reply)) => {
                            let inner = taken(inner);
                            stage.set(Stage::Open { inner, request: Some(request), reply: Some(reply) });
                        }
                        Ok(Opened::Refused(refusal, wire, reply)) => {
                            return Poll::Ready(Ok(reply.refuse(&refusal, &wire)));
                        }
                        Err(refusal) => {
                            let response = refusal.response(&Wire::Http, &Method::POST);
                            return Poll::Ready(Ok(response.map(SealedBody::own)));
                        }
                    }
                }
                StageProjection::Open { inner, request, reply } => {
                    ready!(inner.poll_ready(cx))?;
                    let (future, reply) = (inner.call(*taken(request)), taken(reply));
                    stage.set(Stage::Serving { future, reply });
                }
                StageProjection::Serving { future, reply } => {
                    return Poll::Ready(Ok(reply.to(ready!(future.poll(cx))?)));
                }
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "as for every future, polling it after its end is a fault of the caller")]
fn taken<T>(option: &mut Option<T>) -> T {
    option.take().expect("polled after completion")
}

impl<S, F, B> fmt::Debug for ResponseFuture<S, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Plain(_) => "plain",
            Stage::Refused(_) => "refused",
            Stage::Opening { .. } => "opening",
            Stage::Open { .. } => "open",
            Stage::Serving { .. } => "serving",
        };
        f.debug_struct("ResponseFuture").field("stage", &stage).finish_non_exhaustive()
    }
}
