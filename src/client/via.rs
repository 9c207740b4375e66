//! Another service for fetching evidence, its type erased.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tower_service::Service;

use super::endpoint::Collect;
use crate::error::{AttestError, BoxError, ErrorKind};

pub(super) type Fetched = Pin<Box<dyn Future<Output = Result<Response<Bytes>, AttestError>> + Send>>;

/// Sends a bare request and reads at most `limit` bytes of a successful answer's body.
pub(super) trait Via: Send + Sync {
    fn fetch(&self, request: Request<()>, limit: usize) -> Fetched;
}

pub(super) struct Erased<T, ReqBody> {
    service: Mutex<T>,
    body: PhantomData<fn() -> ReqBody>,
}

impl<T, ReqBody> Erased<T, ReqBody> {
    pub(super) fn new(service: T) -> Self {
        Self { service: Mutex::new(service), body: PhantomData }
    }
}

impl<T, ReqBody> fmt::Debug for Erased<T, ReqBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Erased").finish_non_exhaustive()
    }
}

impl<T, ReqBody, ResBody> Via for Erased<T, ReqBody>
where
    T: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
    ReqBody: Default + Send + 'static,
    ResBody: Body + Send + 'static,
    ResBody::Data: Send,
    ResBody::Error: Into<BoxError>,
{
    fn fetch(&self, request: Request<()>, limit: usize) -> Fetched {
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let request = request.map(|()| ReqBody::default());
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(transport)?;
            let (parts, body) = service.call(request).await.map_err(transport)?.into_parts();
            let bytes = if parts.status == StatusCode::OK { Collect::new(body, limit).await? } else { Bytes::new() };
            Ok(Response::from_parts(parts, bytes))
        })
    }
}

/// The error for a service that failed while evidence was being fetched.
pub(super) fn transport(error: impl Into<BoxError>) -> AttestError {
    AttestError::with_source(ErrorKind::Transport, "asking the server for evidence failed", error)
}
