//! [`Seal`]: the service.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use http_body::Body;
use tower_service::Service;

use super::body::{CarrierBody, OpenedBody};
use super::future::SealFuture;
use super::unsent::{Unsent, no_key};
use super::verifying::Verifying;
use crate::client::TrustStats;
use crate::client::endpoint::Endpoint;
use crate::client::preflight::{Preflight, Want};
use crate::client::service::Shared;
use crate::error::BoxError;

/// A client's HTTP service behind a [`SealLayer`](super::SealLayer). `C` is the body type of the inner service.
///
/// Clones share what they believe, and wait for one preflight together. The error is a boxed
/// [`AttestError`](crate::AttestError) where this layer refuses, and the inner service's own where that fails.
pub struct Seal<S, C> {
    inner: S,
    shared: Arc<Shared>,
    carrier: PhantomData<fn() -> C>,
}

impl<S, C> Seal<S, C> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared, carrier: PhantomData }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service. Requests that are sent on it past this layer are neither sealed nor attested.
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

impl<S, C, ResBody> Seal<S, C>
where
    S: Service<Request<C>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    C: Default,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    /// Waits until something could be sealed to the server at `uri`, and sends no request of the user's: asks for evidence
    /// where none is believed. For a readiness probe.
    ///
    /// # Errors
    ///
    /// What a request would fail with now, an [`AttestError`](crate::AttestError).
    pub fn verify(&self, uri: Uri) -> Verifying<S, S::Future, C, ResBody> {
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        let endpoint = Endpoint::of(&request);
        Verifying(Preflight::new(Arc::clone(&self.shared), endpoint, Want::Any, self.inner.clone()))
    }
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for Seal<S, C>
where
    S: Service<Request<C>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    C: CarrierBody<ReqBody>,
    ReqBody: Body + Default + 'static,
    ReqBody::Error: Into<BoxError>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<OpenedBody<ResBody>>;
    type Error = BoxError;
    type Future = SealFuture<S, S::Future, C, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The service that was polled ready is the one to call; its clone is not ready.
        let unready = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, unready);
        let shared = Arc::clone(&self.shared);

        let mut unsent = match Unsent::new(request) {
            Ok(unsent) => unsent,
            Err((endpoint, error)) => return SealFuture::refused(shared, endpoint, ready, error),
        };
        let endpoint = unsent.endpoint.clone();
        let now = shared.now();
        let plan = shared.trust.draw(&endpoint.origin, now, shared.revision());
        if shared.must_ask_before(&plan) {
            // What was ready gives its permit back: whoever fetches evidence may need it.
            drop(ready);
            return SealFuture::cold(shared, endpoint, self.inner.clone(), unsent);
        }
        let sealed = plan.sealable().ok_or_else(no_key).and_then(|keys| unsent.seal(plan, keys, now));
        match sealed {
            Ok((sent, request)) => {
                let future = ready.call(request);
                SealFuture::in_flight(shared, endpoint, ready, future, sent, unsent)
            }
            Err(error) => SealFuture::refused(shared, endpoint, ready, error),
        }
    }
}

impl<S: Clone, C> Clone for Seal<S, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared), carrier: PhantomData }
    }
}

impl<S: fmt::Debug, C> fmt::Debug for Seal<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("inner", &self.inner).finish_non_exhaustive()
    }
}
