//! Sends requests over attested channels, and nothing before they are attested.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use http_body_util::BodyExt;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tower::{Layer, ServiceExt};
use tower_attest::seal::Seal;
use tower_attest::tls::{AttestedChannel, ChannelBuilder, EndpointState};
use tower_attest::{AttestError, BoxError, VerifiedReport};

use super::location::keep_here;
use super::result::{ATTESTATION_RESULT, failed, verified};
use crate::admin::metrics::believing::Believing;
use crate::failure::Failure;
use crate::proxy::body::ProxyBody;
use crate::proxy::failed::Failed;
use crate::proxy::head::{remove_attestation, remove_listed};
use crate::proxy::lent::Loan;
use crate::proxy::problem::{Code, Problem};
use crate::proxy::service::Backend;
use crate::trust::Believer;

/// Whose page a browser asks for (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// HTTP/2 windows in bytes, of a stream and of the connection, which the requests of all programs share. The second holds
/// 1 023 of the first: programs that do not read their responses hold up no other.
const WINDOWS: (u32, u32) = (2 << 20, (1 << 31) - 1);
/// How often a request is sent that the far end says it has not processed.
const ATTEMPTS: usize = 3;

/// The far end of `connect`.
#[derive(Debug, Clone)]
pub(crate) struct AttestedBackend {
    route: Arc<ArcSwap<Route>>,
    hosts: Hosts,
}

/// Where requests go, and how. Another policy may put another in its place.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) way: Way,
    pub(crate) far: Far,
}

/// How requests get there.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// On connections whose far end has been verified.
    Channel(AttestedChannel),
    /// Each sealed to a key in verified evidence, over connections that need not be believed.
    Sealed(Box<Sealer>),
}

/// Seals requests for a client that any server with a certificate may answer.
pub(crate) type Sealer = Seal<Client<HttpsConnector<HttpConnector>, ProxyBody>, ProxyBody>;

type Exchange = Pin<Box<dyn Future<Output = Result<Response<ProxyBody>, BoxError>> + Send>>;

/// How to reach and judge the far end.
#[derive(Debug, Clone)]
pub(crate) struct Far {
    pub(crate) uri: Uri,
    pub(crate) believer: Believer,
    pub(crate) meter: Believing,
}

impl Far {
    pub(crate) fn new(uri: Uri, believer: Believer, meter: Believing) -> Self {
        believer.count(meter.clone());
        Self { uri, believer, meter }
    }

    pub(crate) fn builder(&self) -> ChannelBuilder {
        let meter = self.meter.clone();
        let channel = self.believer.channel(self.uri.clone()).http2_windows(WINDOWS.0, WINDOWS.1);
        channel.on_attestation(move |attestation| meter.attestation(attestation))
    }

    pub(crate) fn sealer(&self) -> Result<Sealer, Failure> {
        let meter = self.meter.clone();
        let layer = self.believer.seal_layer(&self.uri).on_verdict(move |verdict| meter.verdict(verdict));
        Ok(layer.layer(self.believer.carrier()?))
    }
}

/// Which hosts clients may ask for, and of which hosts' pages a browser may ask. Any web page that a browser on this machine
/// shows could otherwise send requests to this port, and open WebSockets on it and read them; and one whose name is made
/// to resolve to a loopback address could read every response.
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
        let allows = |authority: &Authority| {
            let host = authority.host().trim_matches(['[', ']']);
            host.eq_ignore_ascii_case("localhost")
                || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.to_canonical().is_loopback())
                || names.iter().any(|name| name.eq_ignore_ascii_case(host))
        };
        let authority = match request.uri.authority() {
            Some(authority) => Some(authority.clone()),
            None => request.headers.get(HOST).and_then(|host| host.to_str().ok()?.parse().ok()),
        };
        if !authority.is_some_and(|authority| allows(&authority)) {
            let detail = "host: expected a loopback name, the far end's, or one of --allow-host, found another";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, Code::Request, detail));
        }
        // `null`, of pages that have no origin, reads as a host of that name.
        let origin_allowed = |origin: &HeaderValue| {
            let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
            origin.as_ref().and_then(Uri::authority).is_some_and(allows)
        };
        if !request.headers.get_all(ORIGIN).iter().all(origin_allowed) {
            let detail =
                "origin: expected a page of a loopback name, the far end's, or one of --allow-host, found another";
            return Err(Problem::new(StatusCode::FORBIDDEN, Code::Request, detail));
        }
        // For what a page gets without a script, such as an image, a browser names no origin, and says this.
        let cross_site = request.headers.get_all(SEC_FETCH_SITE).iter().any(|site| site == "cross-site");
        if cross_site && !request.headers.contains_key(ORIGIN) {
            let detail = "sec-fetch-site: expected a request of no page, or of a page of a host that this port serves";
            return Err(Problem::new(StatusCode::FORBIDDEN, Code::Request, detail));
        }
        Ok(())
    }
}

impl AttestedBackend {
    pub(crate) fn new(route: Route, hosts: Hosts) -> Self {
        Self { route: Arc::new(ArcSwap::from_pointee(route)), hosts }
    }

    /// Where requests go that come now.
    pub(crate) fn route(&self) -> Arc<Route> {
        self.route.load_full()
    }

    /// Sends all later requests another way.
    pub(crate) fn replace(&self, route: Route) {
        self.route.store(Arc::new(route));
    }
}

impl Route {
    /// Waits until a request could be sent, and sends none.
    pub(crate) fn attest(&self) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>> {
        match &self.way {
            Way::Channel(channel) => {
                let verify = channel.verify();
                Box::pin(async move { verify.await.map(drop).map_err(Into::into) })
            }
            Way::Sealed(sealer) => {
                // Boxed outside the block below, where the compiler cannot see that it is `Send`.
                let verify: Pin<Box<dyn Future<Output = Result<(), AttestError>> + Send>> =
                    Box::pin(sealer.verify(self.far.uri.clone()));
                Box::pin(async move { verify.await.map_err(Into::into) })
            }
        }
    }

    /// Whether a connection stands that has been attested.
    pub(crate) fn is_attested(&self) -> bool {
        let Way::Channel(channel) = &self.way else { return false };
        channel.endpoints().iter().any(|endpoint| matches!(endpoint.state, EndpointState::Attested(_)))
    }

    /// An upgrade takes its connection away, so that it gets one of its own, on which HTTP/1.1 is spoken.
    fn exchange(&self, request: Request<ProxyBody>, upgrade: bool) -> Result<Exchange, Problem> {
        let channel = match &self.way {
            Way::Channel(channel) => channel.clone(),
            Way::Sealed(_) if upgrade => {
                let detail = "a connection that is upgraded cannot be sealed";
                return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, Code::Request, detail));
            }
            Way::Sealed(sealer) => {
                let sealer = ServiceExt::<Request<ProxyBody>>::map_response(Sealer::clone(sealer), |response| {
                    response.map(boxed)
                });
                return Ok(Box::pin(sealer.oneshot(self.absolute(request)?)));
            }
        };
        // Made outside the block below, where the compiler cannot see that it is `Send`.
        let call = |channel: AttestedChannel| -> Exchange {
            let channel = ServiceExt::<Request<ProxyBody>>::map_response(channel, |response| response.map(boxed));
            Box::pin(channel.oneshot(request))
        };
        if !upgrade {
            return Ok(call(channel));
        }
        let builder = self.far.builder().alpn(["http/1.1"]);
        Ok(Box::pin(async move { call(builder.connect().await?).await }))
    }

    /// Sealed requests say whom they are for, and are carried over HTTP/1.1, whatever the client speaks.
    fn absolute(&self, mut request: Request<ProxyBody>) -> Result<Request<ProxyBody>, Problem> {
        *request.version_mut() = Version::HTTP_11;
        let mut uri = self.far.uri.clone().into_parts();
        uri.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from_parts(uri).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, Code::Request, format!("the target cannot be sent on: {error}"))
        })?;
        Ok(request)
    }
}

fn boxed<B>(body: B) -> ProxyBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
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
        let (parts, body) = request.into_parts();
        let loan = Loan::new(body);
        let mut attempts = 0;
        let mut response = loop {
            attempts += 1;
            let attempt = Request::from_parts(parts.clone(), loan.lend().boxed_unsync());
            let route = self.route();
            let error = match route.exchange(attempt, upgrade)?.await {
                Ok(mut response) => {
                    keep_here(response.headers_mut(), &route.far.uri);
                    break response;
                }
                Err(error) => error,
            };
            // A server that ends a connection says which requests on it came too late.
            let unprocessed = matches!(Failed::of(&error, &loan), Failed::Unprocessed);
            if !unprocessed || !loan.is_whole() || attempts == ATTEMPTS {
                return Err(failed(&error));
            }
        };
        remove_attestation(response.headers_mut());
        // Before the result is said, which the far end must not list.
        remove_listed(response.headers_mut());
        let Some(result) = VerifiedReport::of(&response).and_then(verified) else {
            // Both ways put one into each response; without it nothing may pass.
            let detail = "expected a verified report with the response, found none";
            return Err(Problem::new(StatusCode::BAD_GATEWAY, Code::NotAttested, detail));
        };
        response.headers_mut().insert(ATTESTATION_RESULT, result);
        Ok(response)
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

    #[test]
    fn a_page_of_another_site_does_not_reach_the_port() {
        let hosts = Hosts::Only(Arc::from(["prover.example".to_owned()]));
        let asked_by = |origins: &[&str]| {
            let request = Request::post("/").header("host", "localhost:8080");
            let request = origins.iter().fold(request, |request, origin| request.header("origin", *origin));
            hosts.check(&request.body(()).unwrap().into_parts().0).map_err(|problem| problem.status())
        };
        assert_eq!(asked_by(&[]), Ok(()), "what is no page");
        for origin in ["http://localhost:3000", "http://127.0.0.1:8080", "http://[::1]", "https://Prover.Example"] {
            assert_eq!(asked_by(&[origin]), Ok(()), "{origin}");
        }
        for origin in ["https://evil.example", "http://localhost.evil.example", "null", "", "file://", "localhost\\"] {
            assert_eq!(asked_by(&[origin]), Err(StatusCode::FORBIDDEN), "{origin}");
            assert_eq!(asked_by(&["http://localhost", origin]), Err(StatusCode::FORBIDDEN), "{origin}");
        }
        let fetched = |site: &str, origin: Option<&str>| {
            let request = Request::get("/").header("host", "localhost:8080").header("sec-fetch-site", site);
            let request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
            hosts.check(&request.body(()).unwrap().into_parts().0).map_err(|problem| problem.status())
        };
        for site in ["none", "same-origin", "same-site"] {
            assert_eq!(fetched(site, None), Ok(()), "{site}");
        }
        assert_eq!(fetched("cross-site", None), Err(StatusCode::FORBIDDEN), "an image of another site's page");
        assert_eq!(fetched("cross-site", Some("https://prover.example")), Ok(()), "a page of the service's own");
        let request = Request::post("/").header("origin", "https://evil.example").body(()).unwrap();
        assert!(Hosts::Any.check(&request.into_parts().0).is_ok());
    }
}
