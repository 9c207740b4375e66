//! Sends requests to the upstream, and tells it who asks.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{FORWARDED, HOST, HeaderName};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::upstream::{Connector, Upstream, UpstreamProtocol};
use crate::failure::chain;
use crate::proxy::body::ProxyBody;
use crate::proxy::problem::{Code, Problem, grpc_type};
use crate::proxy::service::Backend;

/// How long an idle HTTP/1.1 connection is kept. Shorter than most servers keep theirs, since a request sent while the
/// other end closes the connection is lost.
const IDLE: Duration = Duration::from_secs(4);
const MAX_IDLE: usize = 256;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What a client may have set, to be taken for a proxy.
const FORGEABLE: [HeaderName; 7] = [
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
];

/// The upstream of `serve`.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamBackend {
    http1: Client<Connector, ProxyBody>,
    http2: Client<Connector, ProxyBody>,
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
        let http2 = builder().http2_only(true).build(connector);
        Self { http1, http2, protocol, names }
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
    /// What the client says of proxies before it is replaced by what is known here.
    fn prepare(&self, request: &mut Parts, peer: Option<SocketAddr>) -> Result<(), Problem> {
        for name in &FORGEABLE {
            request.headers.remove(name);
        }
        let host = match request.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => request.headers.get(HOST).cloned(),
        };
        let mut forwarded = Vec::new();
        if let Some(ip) = peer.map(|peer| peer.ip().to_canonical()) {
            forwarded.push(if ip.is_ipv6() { format!("for=\"[{ip}]\"") } else { format!("for={ip}") });
            insert(request, X_FORWARDED_FOR, &ip.to_string());
        }
        if let Some(host) = host {
            // A quoted string (RFC 7239, section 4); an authority has neither quotes nor backslashes.
            let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            let authority = authority.filter(|authority| !authority.as_str().contains('@')).ok_or_else(|| {
                Problem::new(StatusCode::BAD_REQUEST, Code::Request, "host: expected a host, found something else")
            })?;
            forwarded.push(format!("host=\"{authority}\""));
            insert(request, X_FORWARDED_HOST, authority.as_str());
            request.headers.insert(HOST, host);
        }
        forwarded.push("proto=https".to_owned());
        insert(request, FORWARDED, &forwarded.join(";"));
        insert(request, X_FORWARDED_PROTO, "https");
        Ok(())
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
            Ok(response) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn insert(request: &mut Parts, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        request.headers.insert(name, value);
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

    fn prepared(request: http::request::Builder, peer: &str) -> Result<Parts, StatusCode> {
        let mut parts = request.body(()).unwrap().into_parts().0;
        backend().prepare(&mut parts, peer.parse().ok()).map_err(|problem| problem.status())?;
        Ok(parts)
    }

    #[tokio::test]
    async fn what_a_client_says_of_proxies_before_it_is_replaced() {
        let mut request = Request::get("/").header("host", "prover.example:8443");
        for name in &FORGEABLE {
            request = request.header(name, "forged");
        }
        let headers = prepared(request, "192.0.2.7:1234").unwrap().headers;
        assert_eq!(headers["forwarded"], "for=192.0.2.7;host=\"prover.example:8443\";proto=https");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-host"], "prover.example:8443");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["host"], "prover.example:8443");
        assert!(headers.values().all(|value| value != "forged"), "{headers:?}");
    }

    #[tokio::test]
    async fn addresses_of_both_families_are_written_as_rfc_7239_has_them() {
        let forwarded = |peer| {
            let parts = prepared(Request::get("/").header("host", "a"), peer).unwrap();
            (parts.headers["forwarded"].clone(), parts.headers["x-forwarded-for"].clone())
        };
        assert_eq!(
            forwarded("[2001:db8::1]:9"),
            ("for=\"[2001:db8::1]\";host=\"a\";proto=https".parse().unwrap(), "2001:db8::1".parse().unwrap())
        );
        assert_eq!(forwarded("[::ffff:192.0.2.7]:9").1, "192.0.2.7");
    }

    #[tokio::test]
    async fn a_host_that_could_forge_a_field_is_refused() {
        for host in ["a\";for=evil", "a b", "a\\b", "user@a", "a/b", ""] {
            let refused = prepared(Request::get("/").header("host", host), "192.0.2.7:1").map(|_| ());
            assert_eq!(refused, Err(StatusCode::BAD_REQUEST), "{host:?}");
        }
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
    async fn an_upstream_that_is_down_is_502() {
        let request = Request::get("/").header("host", "a").body(crate::proxy::body::empty()).unwrap();
        let problem = backend().send(request, false).await.unwrap_err();
        assert_eq!((problem.status(), problem.code()), (StatusCode::BAD_GATEWAY, Code::UpstreamDown));
    }
}
