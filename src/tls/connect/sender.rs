//! An HTTP connection over either protocol, and the form that requests take on it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};

use crate::error::BoxError;

/// Request bodies, boxed once on their way in.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

pub(super) type Sent = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

impl Sender {
    /// Ready for one more request. On HTTP/1.1 that is once the response before it has been read.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match self {
            Self::Http1(sender) => sender.poll_ready(cx),
            Self::Http2(sender) => sender.poll_ready(cx),
        }
    }

    /// Another handle to the same connection, which only HTTP/2 can have.
    pub(super) fn try_clone(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    /// Sends a request to `authority`. On HTTP/1.1 in origin form with a `Host` field, on HTTP/2 with `:authority`.
    pub(super) fn send(&mut self, mut request: Request<RequestBody>, authority: &Authority) -> Sent {
        match self {
            Self::Http1(sender) => {
                if !request.headers().contains_key(header::HOST)
                    && let Ok(host) = HeaderValue::from_str(authority.as_str())
                {
                    request.headers_mut().insert(header::HOST, host);
                }
                *request.version_mut() = Version::HTTP_11;
                *request.uri_mut() = origin_form(request.uri());
                Box::pin(sender.send_request(request))
            }
            Self::Http2(sender) => {
                request.headers_mut().remove(header::HOST);
                *request.version_mut() = Version::HTTP_2;
                *request.uri_mut() = absolute_form(request.uri(), authority);
                Box::pin(sender.send_request(request))
            }
        }
    }
}

fn path_and_query(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

fn origin_form(uri: &Uri) -> Uri {
    Uri::from(path_and_query(uri))
}

fn absolute_form(uri: &Uri, authority: &Authority) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path_and_query(uri));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_gets_its_form_of_target() {
        let authority = Authority::from_static("prover.example");
        for (given, origin, absolute) in [
            ("/a?b", "/a?b", "https://prover.example/a?b"),
            ("/a?", "/a?", "https://prover.example/a?"),
            ("http://prover.example", "/", "https://prover.example/"),
            ("https://prover.example:443/x", "/x", "https://prover.example/x"),
        ] {
            let uri: Uri = given.parse().unwrap();
            assert_eq!(origin_form(&uri).to_string(), origin);
            assert_eq!(absolute_form(&uri, &authority).to_string(), absolute);
        }
    }
}
