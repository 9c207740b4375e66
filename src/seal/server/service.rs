//! [`Unseal`]: decides what becomes of a request.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::body::UnsealedBody;
use super::future::ResponseFuture;
use super::layer::Settings;
use super::opening::Opening;
use super::reject::Refusal;
use super::reply::SealedBody;
use crate::error::BoxError;
use crate::protocol::{KeysDigest, KeysHeader, SEALED_PATH, SEALED_REQUEST};
use crate::server::cors;
use crate::server::problem::Wire;

/// A service that answers sealed requests. Made by [`UnsealLayer`](super::UnsealLayer).
#[derive(Debug, Clone)]
pub struct Unseal<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> Unseal<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Unseal<S>
where
    S: Service<Request<UnsealedBody<ReqBody>>, Response = Response<ResBody>> + Clone,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
    ResBody: Body,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<SealedBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, S::Future, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (parts, body) = request.into_parts();
        match self.settings.judge(&parts) {
            Verdict::Plain => {
                let request = Request::from_parts(parts, UnsealedBody::plain(body));
                ResponseFuture::plain(self.inner.call(request))
            }
            Verdict::Sealed(keys) => {
                let inner = self.unready();
                let opening = Opening::new(keys, parts.extensions, body);
                ResponseFuture::sealed(opening, inner, Arc::clone(&self.settings))
            }
            Verdict::Refuse(refusal) => {
                self.unready();
                let wire = if parts.uri.path() == SEALED_PATH { Wire::Http } else { Wire::of(&parts.headers) };
                ResponseFuture::refused(refusal.response(&wire, &parts.method))
            }
        }
    }
}

impl<S: Clone> Unseal<S> {
    /// A service that is ready and not called keeps its permit. Whoever has not yet sent anything that opens shall not
    /// hold one: the clone that serves a sealed request gets ready when the request is open.
    fn unready(&mut self) -> S {
        self.inner = self.inner.clone();
        self.inner.clone()
    }
}

/// What becomes of a request.
enum Verdict {
    /// The inner service answers it as it is.
    Plain,
    /// It is to be opened with these keys.
    Sealed(KeysDigest),
    Refuse(Refusal),
}

impl Settings {
    fn judge(&self, request: &Parts) -> Verdict {
        if request.uri.path() == SEALED_PATH && !cors::is_preflight(&request.method, &request.headers) {
            return self.judge_sealed(request).map_or_else(Verdict::Refuse, Verdict::Sealed);
        }
        if self.takes_plaintext(request) { Verdict::Plain } else { Verdict::Refuse(Refusal::SealedOnly) }
    }

    fn judge_sealed(&self, request: &Parts) -> Result<KeysDigest, Refusal> {
        if request.method != Method::POST {
            return Err(Refusal::Method);
        }
        if !is_sealed_request(request) {
            return Err(Refusal::MediaType);
        }
        let header = KeysHeader::from_headers(&request.headers).map_err(Refusal::MalformedKeys)?;
        let KeysHeader { keys } = header.ok_or(Refusal::MissingKeys)?;
        // Asked again when the body's first bytes are there: keys may end in between.
        self.attester.sealing(&keys, |_| keys).ok_or(Refusal::UnknownKeys)
    }
}

/// Media types are compared without regard to case; this one has no parameters.
fn is_sealed_request(request: &Parts) -> bool {
    let media_type = request.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(SEALED_REQUEST.as_bytes())
}
