//! Sends requests over attested channels, and nothing before they are attested.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_attest::tls::{AttestedChannel, ChannelBody, ChannelBuilder};
use tower_attest::{BoxError, VerifiedReport};

use super::result::{ATTESTATION_RESULT, failed, verified};
use crate::proxy::body::ProxyBody;
use crate::proxy::head::remove_attestation;
use crate::proxy::problem::{Code, Problem};
use crate::proxy::service::Backend;
use crate::trust::Believer;

/// The far end of `connect`.
#[derive(Debug, Clone)]
pub(crate) struct AttestedBackend {
    channel: AttestedChannel,
    far: Far,
    hosts: Hosts,
}

type Exchange = Pin<Box<dyn Future<Output = Result<Response<ChannelBody>, BoxError>> + Send>>;

/// How to reach and judge the far end.
#[derive(Debug, Clone)]
pub(crate) struct Far {
    pub(crate) uri: Uri,
    pub(crate) believer: Believer,
}

impl Far {
    pub(crate) fn builder(&self) -> ChannelBuilder {
        self.believer.channel(self.uri.clone())
    }
}

/// Which hosts clients may ask for. A web page whose name is made to resolve to a loopback address would otherwise reach
/// this port from a browser on the machine.
#[derive(Debug, Clone)]
pub(crate) enum Hosts {
    /// Any: whoever opens a Unix socket, or a port that is open to others anyway.
    Any,
    /// Loopback names and addresses, and these.
    Only(Arc<[String]>),
}

impl Hosts {
    fn check(&self, request: &Parts) -> Result<(), Problem> {
        let Self::Only(names) = self else { return Ok(()) };
        let authority = match request.uri.authority() {
            Some(authority) => Some(authority.clone()),
            None => request.headers.get(HOST).and_then(|host| host.to_str().ok()?.parse().ok()),
        };
        let allowed = authority.is_some_and(|authority| {
            let host = authority.host().trim_matches(['[', ']']);
            host.eq_ignore_ascii_case("localhost")
                || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.to_canonical().is_loopback())
                || names.iter().any(|name| name.eq_ignore_ascii_case(host))
        });
        if allowed {
            return Ok(());
        }
        let detail = "host: expected a loopback name, the far end's, or one of --allow-host, found another";
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, Code::Request, detail))
    }
}

impl AttestedBackend {
    pub(crate) fn new(channel: AttestedChannel, far: Far, hosts: Hosts) -> Self {
        Self { channel, far, hosts }
    }

    /// An upgrade takes its connection away, so that it gets one of its own, on which HTTP/1.1 is spoken.
    fn exchange(&self, request: Request<ProxyBody>, upgrade: bool) -> Exchange {
        // Made outside the block below, where the compiler cannot see that it is `Send`.
        let call = |channel: AttestedChannel| -> Exchange { Box::pin(channel.oneshot(request)) };
        if !upgrade {
            return call(self.channel.clone());
        }
        let builder = self.far.builder().alpn(["http/1.1"]);
        Box::pin(async move { call(builder.connect().await?).await })
    }
}

impl Backend for AttestedBackend {
    /// The far end knows itself by its own name, and this port's by none.
    fn prepare(&self, request: &mut Parts, _: Option<SocketAddr>) -> Result<(), Problem> {
        self.hosts.check(request)?;
        request.headers.remove(HOST);
        let target = request.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        request.uri = Uri::from(target);
        Ok(())
    }

    async fn send(&self, request: Request<ProxyBody>, upgrade: bool) -> Result<Response<ProxyBody>, Problem> {
        let mut response = self.exchange(request, upgrade).await.map_err(|error| failed(&error))?;
        remove_attestation(response.headers_mut());
        let Some(result) = VerifiedReport::of(&response).and_then(verified) else {
            // The channel puts one into each response; without it nothing may pass.
            let detail = "expected a verified report with the response, found none";
            return Err(Problem::new(StatusCode::BAD_GATEWAY, Code::NotAttested, detail));
        };
        response.headers_mut().insert(ATTESTATION_RESULT, result);
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(hosts: &Hosts, uri: &str, host: Option<&str>) -> bool {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        hosts.check(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn a_page_whose_name_resolves_to_loopback_does_not_reach_the_port() {
        let hosts = Hosts::Only(Arc::from(["prover.example".to_owned()]));
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "Prover.Example", "127.1.2.3"] {
            assert!(asks(&hosts, "/", Some(host)), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "prover.example.evil", "10.0.0.1", ""] {
            assert!(!asks(&hosts, "/", Some(host)), "{host}");
            assert!(asks(&Hosts::Any, "/", Some(host)));
        }
        assert!(!asks(&hosts, "/", None));
        assert!(!asks(&hosts, "http://evil.example/", Some("localhost")), "the target counts");
    }
}
