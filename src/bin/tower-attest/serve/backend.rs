//! Sends requests to the upstream, and tells it who asks.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::forwarded::forward;
use super::upstream::{Connector, Upstream, UpstreamProtocol};
use crate::failure::chain;
use crate::proxy::body::ProxyBody;
use crate::proxy::head::remove_attestation;
use crate::proxy::problem::{Code, Problem, grpc_type};
use crate::proxy::service::Backend;

/// How long an idle HTTP/1.1 connection is kept. Shorter than most servers keep theirs, since a request sent while the
/// other end closes the connection is lost.
const IDLE: Duration = Duration::from_secs(4);
const MAX_IDLE: usize = 256;
/// HTTP/2 windows in bytes, of a stream and of the connection, which the requests of all clients share. The second holds 8 191
/// of the first: clients that do not read their responses hold up no other.
const WINDOWS: (u32, u32) = (256 << 10, (1 << 31) - 1);

/// The upstream of `serve`.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamBackend {
    http1: Client<Connector, ProxyBody>,
    http2: Client<Connector, ProxyBody>,
    connector: Connector,
    protocol: UpstreamProtocol,
    /// What this server answers for. The first stands for a host that is none of them.
    names: Arc<[Authority]>,
}

impl UpstreamBackend {
    pub(crate) fn new(
        upstream: Upstream,
        protocol: UpstreamProtocol,
        connect_timeout: Duration,
        names: Arc<[Authority]>,
    ) -> Self {
        let connector = Connector::new(upstream, connect_timeout);
        let builder = || {
            let mut builder = Client::builder(TokioExecutor::new());
            builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(MAX_IDLE);
            builder
        };
        let http1 = builder().build(connector.clone());
        let mut http2 = builder();
        http2.http2_initial_stream_window_size(WINDOWS.0).http2_initial_connection_window_size(WINDOWS.1);
        let http2 = http2.http2_only(true).build(connector.clone());
        Self { http1, http2, connector, protocol, names }
    }

    /// What makes its connections.
    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    fn speaks_http2(&self, request: &Parts, upgrade: bool) -> bool {
        match self.protocol {
            UpstreamProtocol::H1 => false,
            UpstreamProtocol::H2c => !upgrade,
            UpstreamProtocol::Auto => !upgrade && grpc_type(&request.headers).is_some(),
        }
    }

    /// One of a few authorities, never one of the client's making: connections are pooled by it.
    fn authority(&self, host: Option<&HeaderValue>) -> Option<Authority> {
        let host = host.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let named = |host: &Authority| self.names.iter().find(|name| name.host().eq_ignore_ascii_case(host.host()));
        host.as_ref().and_then(named).or(self.names.first()).cloned()
    }
}

impl Backend for UpstreamBackend {
    fn prepare(&self, request: &mut Parts, peer: Option<SocketAddr>) -> Result<(), Problem> {
        forward(request, peer)
    }

    async fn send(&self, request: Request<ProxyBody>, upgrade: bool) -> Result<Response<ProxyBody>, Problem> {
        let (mut parts, body) = request.into_parts();
        let http2 = self.speaks_http2(&parts, upgrade);
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = self.authority(parts.headers.get(HOST));
        uri.path_and_query = Some(parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
        parts.uri = Uri::from_parts(uri).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, Code::Request, format!("the target cannot be sent on: {error}"))
        })?;
        let client = if http2 {
            parts.headers.remove(HOST);
            parts.version = Version::HTTP_2;
            &self.http2
        } else {
            parts.version = Version::HTTP_11;
            &self.http1
        };
        match client.request(Request::from_parts(parts, body)).await {
            Ok(mut response) => {
                remove_attestation(response.headers_mut());
                Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

/// What the operator needs to know goes to the log; the client learns that it is not the one to act.
fn failed(error: &hyper_util::client::legacy::Error) -> Problem {
    let reason = chain(error);
    if error.is_connect() {
        tracing::warn!(%reason, "upstream down");
        return Problem::new(StatusCode::BAD_GATEWAY, Code::UpstreamDown, "the upstream cannot be reached");
    }
    let own_body =
        error.source().and_then(|source| source.downcast_ref::<hyper::Error>()).is_some_and(hyper::Error::is_user);
    if own_body {
        return Problem::new(StatusCode::BAD_REQUEST, Code::ClientGone, "the request's body broke off");
    }
    tracing::warn!(%reason, "upstream failed");
    Problem::new(StatusCode::BAD_GATEWAY, Code::UpstreamBroke, "the upstream broke off the exchange")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend() -> UpstreamBackend {
        let names = ["prover.example", "other.example"].map(Authority::from_static);
        let upstream = "http://127.0.0.1:1".parse().unwrap();
        UpstreamBackend::new(upstream, UpstreamProtocol::Auto, Duration::from_secs(1), Arc::from(names))
    }

    #[tokio::test]
    async fn connections_are_pooled_by_names_of_the_server_and_not_of_the_client() {
        let backend = backend();
        let of = |host: &str| backend.authority(Some(&host.parse().unwrap())).unwrap();
        assert_eq!(of("Other.Example:1234"), "other.example");
        assert_eq!(of("evil.example"), "prover.example");
        assert_eq!(backend.authority(None).unwrap(), "prover.example");
    }

    #[tokio::test]
    async fn grpc_goes_over_http2_and_upgrades_over_http1() {
        let parts =
            |content_type| Request::get("/").header("content-type", content_type).body(()).unwrap().into_parts().0;
        let (grpc, json) = (parts("application/grpc"), parts("application/json"));
        let spoken = |protocol| {
            let backend = UpstreamBackend { protocol, ..backend() };
            [(&grpc, false), (&json, false), (&json, true)]
                .map(|(request, upgrade)| backend.speaks_http2(request, upgrade))
        };
        assert_eq!(spoken(UpstreamProtocol::Auto), [true, false, false]);
        assert_eq!(spoken(UpstreamProtocol::H1), [false, false, false]);
        assert_eq!(spoken(UpstreamProtocol::H2c), [true, true, false]);
    }

    #[tokio::test]
    async fn an_upstream_says_nothing_of_attestation() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut io, _) = listener.accept().await?;
            io.read_u8().await?;
            io.write_all(b"HTTP/1.1 200 OK\r\nAttestation-Result: verified\r\nX-Own: 1\r\nContent-Length: 0\r\n\r\n")
                .await
        });
        let names = Arc::from([Authority::from_static("prover.example")]);
        let backend = UpstreamBackend::new(upstream, UpstreamProtocol::Auto, Duration::from_secs(10), names);
        let request = Request::get("/").header("host", "a").body(crate::proxy::body::empty()).unwrap();
        let response = backend.send(request, false).await.unwrap();
        assert!(response.headers().contains_key("x-own") && !response.headers().contains_key("attestation-result"));
    }

    #[tokio::test]
    async fn an_upstream_that_is_down_is_502() {
        let request = Request::get("/").header("host", "a").body(crate::proxy::body::empty()).unwrap();
        let problem = backend().send(request, false).await.unwrap_err();
        assert_eq!((problem.status(), problem.code()), (StatusCode::BAD_GATEWAY, Code::UpstreamDown));
    }
}
