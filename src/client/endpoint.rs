//! The server's evidence endpoint: the bare request to it, what its head must say, and its body up to a limit.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body::Body;
use pin_project::pin_project;

use super::exchange::{Exchange, no_report};
use super::trust::Origin;
use crate::error::{AttestError, BoxError, ErrorKind};
use crate::protocol::{ATTESTATION_NONCE, CMW_JSON, Nonce, Target, WELL_KNOWN_PATH};
use crate::time::Now;

/// Where a request goes, as far as asking the same server for evidence needs it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) origin: Origin,
    version: Version,
    host: Option<HeaderValue>,
}

impl Endpoint {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        Self {
            origin: Origin::of(request.uri()),
            version: request.version(),
            host: request.headers().get(header::HOST).cloned(),
        }
    }

    /// An exchange with the endpoint, and its request: Host and nonce, and nothing of the user's.
    pub(crate) fn ask<B: Default>(
        &self,
        nonce: Nonce,
        drawn: Now,
        bind: bool,
    ) -> Result<(Exchange, Request<B>), AttestError> {
        let (target, mut request) = self.request(Method::GET, WELL_KNOWN_PATH, B::default())?;
        let exchange = Exchange::new(nonce, drawn, Method::GET, target);
        request.headers_mut().insert(ATTESTATION_NONCE, exchange.nonce_header(Vec::new(), bind));
        Ok((exchange, request))
    }

    /// An exchange for a sealed request, and what carries that: to the same place, without a nonce yet.
    #[cfg(feature = "seal")]
    pub(crate) fn carry<B>(&self, nonce: Nonce, drawn: Now, body: B) -> Result<(Exchange, Request<B>), AttestError> {
        let (target, mut request) = self.request(Method::POST, crate::protocol::SEALED_PATH, body)?;
        let sealed = HeaderValue::from_static(crate::protocol::SEALED_REQUEST);
        request.headers_mut().insert(header::CONTENT_TYPE, sealed);
        Ok((Exchange::new(nonce, drawn, Method::POST, target), request))
    }

    fn request<B>(&self, method: Method, path: &'static str, body: B) -> Result<(Target, Request<B>), AttestError> {
        let uri = self.uri(path);
        let target = Target::of(&method, &uri)
            .map_err(|error| AttestError::with_source(ErrorKind::Configuration, error.to_string(), error))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = self.version;
        if let Some(host) = &self.host {
            request.headers_mut().insert(header::HOST, host.clone());
        }
        Ok((target, request))
    }

    fn uri(&self, path: &'static str) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        if let Some((scheme, authority)) = self.origin.parts() {
            parts.scheme = Some(scheme);
            parts.authority = Some(authority);
        }
        Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static(path))
    }
}

/// A server that cannot bind says so without a report, since it has nothing to sign.
pub(crate) fn judge_binding(status: StatusCode, bound: bool) -> Result<(), AttestError> {
    if !bound || status != StatusCode::BAD_REQUEST {
        return Ok(());
    }
    Err(AttestError::new(
        ErrorKind::Configuration,
        "expected evidence bound to the TLS connection, found status 400: TLS ends before the server, or the server does \
         not read the exporter",
    ))
}

/// What the endpoint's head says besides its report field: whether evidence follows.
pub(crate) fn judge_status(status: StatusCode, headers: &HeaderMap) -> Result<(), AttestError> {
    match status {
        StatusCode::OK => {}
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            return Err(AttestError::new(
                ErrorKind::Unavailable,
                format!("the server's endpoint answered {status}: its hardware is busy or down; retry later"),
            ));
        }
        other => return Err(no_report(other, headers)),
    }
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case(CMW_JSON) => Ok(()),
        found => Err(AttestError::new(
            ErrorKind::Malformed,
            format!("expected evidence as {CMW_JSON} from the endpoint, found Content-Type {found:?}"),
        )),
    }
}

/// How many frames without data a body may have. An honest one has its trailers; one that never ends would hold the task
/// that reads it, since a frame that is there at once gives no timeout a turn.
const MAX_EMPTY_FRAMES: usize = 1024;

/// Reads a body whole, up to a limit.
#[pin_project]
pub(crate) struct Collect<B> {
    #[pin]
    body: B,
    bytes: BytesMut,
    limit: usize,
    empty: usize,
}

impl<B: Body> Collect<B> {
    pub(crate) fn new(body: B, limit: usize) -> Self {
        Self { body, bytes: BytesMut::new(), limit, empty: 0 }
    }
}

impl<B> Future for Collect<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Output = Result<Bytes, AttestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let too_large = |found: usize, limit: usize| {
            let message = format!("evidence: expected at most {limit} bytes, found at least {found}");
            Poll::Ready(Err(AttestError::new(ErrorKind::Malformed, message)))
        };
        if let Ok(announced) = usize::try_from(this.body.size_hint().lower())
            && this.bytes.len().saturating_add(announced) > *this.limit
        {
            return too_large(announced, *this.limit);
        }
        loop {
            match ready!(this.body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(Ok(this.bytes.split().freeze())),
                Some(Err(error)) => {
                    let message = "the endpoint's body broke off (\"Invalid header bit\" below means that this layer stands outside GrpcWebClientLayer: put it inside)";
                    return Poll::Ready(Err(AttestError::with_source(ErrorKind::Transport, message, error)));
                }
                Some(Ok(frame)) => {
                    let Some(mut data) = frame.into_data().ok().filter(Buf::has_remaining) else {
                        *this.empty += 1;
                        if *this.empty > MAX_EMPTY_FRAMES {
                            let message = format!(
                                "evidence: expected data, found more than {MAX_EMPTY_FRAMES} frames without any"
                            );
                            return Poll::Ready(Err(AttestError::new(ErrorKind::Malformed, message)));
                        }
                        continue;
                    };
                    let found = this.bytes.len().saturating_add(data.remaining());
                    if found > *this.limit {
                        return too_large(found, *this.limit);
                    }
                    while data.has_remaining() {
                        let chunk = data.chunk();
                        this.bytes.extend_from_slice(chunk);
                        let read = chunk.len();
                        data.advance(read);
                    }
                }
            }
        }
    }
}
