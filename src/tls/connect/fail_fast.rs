//! Answers calls at once with the failure at hand while no endpoint can serve them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_service::Service;

use super::error::ChannelError;
use super::status::Registry;
use crate::error::BoxError;

/// Around a service that is not ready for as long as its endpoints pause between attempts.
#[derive(Debug)]
pub(super) struct FailFast<S> {
    inner: S,
    registry: Registry,
    failure: Option<ChannelError>,
}

impl<S> FailFast<S> {
    pub(super) fn new(inner: S, registry: Registry) -> Self {
        Self { inner, registry, failure: None }
    }
}

impl<S, Request> Service<Request> for FailFast<S>
where
    S: Service<Request>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let ready = self.inner.poll_ready(cx).map_err(Into::into);
        self.failure = if ready.is_pending() { self.registry.failure() } else { None };
        if self.failure.is_some() { Poll::Ready(Ok(())) } else { ready }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.failure.take() {
            Some(error) => Box::pin(async move { Err(error.into()) }),
            None => {
                let called = self.inner.call(request);
                Box::pin(async move { called.await.map_err(Into::into) })
            }
        }
    }
}
