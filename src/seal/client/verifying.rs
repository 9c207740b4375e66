//! [`Verifying`]: whether something could be sealed.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::unsent::no_key;
use crate::client::preflight::Preflight;
use crate::error::{AttestError, BoxError};

/// What [`Seal::verify`](super::Seal::verify) returns. It is `Send` if the inner service, its future and all bodies are.
#[must_use = "futures do nothing unless polled"]
pub struct Verifying<S, F, C, ResBody>(pub(super) Pin<Box<Preflight<S, F, C, ResBody>>>);

impl<S, C, ResBody> Future for Verifying<S, S::Future, C, ResBody>
where
    S: Service<Request<C>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    C: Default,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<(), AttestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let keys = ready!(self.0.as_mut().poll(cx))?;
        Poll::Ready(keys.document().fields().seal.as_ref().map(drop).ok_or_else(no_key))
    }
}

impl<S, F, C, ResBody> fmt::Debug for Verifying<S, F, C, ResBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifying").finish_non_exhaustive()
    }
}
