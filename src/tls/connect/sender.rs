//! An HTTP connection over either protocol, and the form that requests take on it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};

use super::error::{ChannelError, Stage};
use crate::error::BoxError;

/// Request bodies, boxed once on their way in.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

pub(super) type Sent = Pin<Box<dyn Future<Output = Result<Response<Incoming>, BoxError>> + Send>>;

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
    /// Where the connection had ended before anything of the request was written, the error is an [`Unsent`].
    pub(super) fn send(&mut self, mut request: Request<RequestBody>, authority: &Authority) -> Sent {
        match self {
            Self::Http1(sender) => {
                // In place of the caller's: what was attested is a server of this name.
                if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
                    request.headers_mut().insert(header::HOST, host);
                }
                *request.version_mut() = Version::HTTP_11;
                *request.uri_mut() = origin_form(request.uri());
                answer(sender.try_send_request(request))
            }
            Self::Http2(sender) => {
                request.headers_mut().remove(header::HOST);
                *request.version_mut() = Version::HTTP_2;
                *request.uri_mut() = absolute_form(request.uri(), authority);
                answer(sender.try_send_request(request))
            }
        }
    }
}

fn answer(
    sent: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + Send + 'static,
) -> Sent {
    Box::pin(async move {
        sent.await.map_err(|mut failed| -> BoxError {
            let request = failed.take_message();
            let error = failed.into_error();
            match request {
                Some(request) => Unsent { request: Mutex::new(request), error }.into(),
                None => error.into(),
            }
        })
    })
}

/// A request that a connection has handed back: nothing of it was written.
#[derive(Debug, thiserror::Error)]
#[error("the connection had ended before the request was sent")]
pub(super) struct Unsent {
    /// Locked by nobody: it makes the error `Sync`.
    request: Mutex<Request<RequestBody>>,
    #[source]
    error: hyper::Error,
}

impl Unsent {
    /// The request, to be sent on another connection, if that is what an error is about.
    pub(super) fn take(error: BoxError) -> Result<(Request<RequestBody>, ChannelError), BoxError> {
        let unsent = error.downcast::<Self>()?;
        let message = unsent.to_string();
        let Self { request, error } = *unsent;
        let request = request.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((request, ChannelError::io(Stage::Http, message, error)))
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
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    use super::*;

    async fn send(mut sender: Sender) -> BoxError {
        let request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        sender.send(request, &Authority::from_static("prover.example")).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_request_that_no_connection_takes_any_more_was_not_sent_and_is_handed_back() {
        let (io, _far) = tokio::io::duplex(4096);
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        drop(connection);
        let (request, error) = Unsent::take(send(Sender::Http1(sender)).await).unwrap();
        assert_eq!((request.uri().path(), error.stage()), ("/", Stage::Http));

        let (io, _far) = tokio::io::duplex(4096);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        drop(connection);
        let (request, error) = Unsent::take(send(Sender::Http2(sender)).await).unwrap();
        assert_eq!((request.uri().path(), error.stage()), ("/", Stage::Http));
    }

    #[tokio::test]
    async fn a_request_of_which_something_was_written_is_not_called_unsent() {
        use tokio::io::AsyncReadExt;
        let (io, mut far) = tokio::io::duplex(4096);
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        let sent = tokio::spawn(send(Sender::Http1(sender)));
        far.read_exact(&mut [0; 16]).await.unwrap();
        drop(far);
        let error = Unsent::take(sent.await.unwrap()).unwrap_err();
        assert!(error.is::<hyper::Error>(), "{error:?}");
    }

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
