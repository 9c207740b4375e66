//! hyper-util's pooled client with `BindingConnector` below `AttestLayer`.

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_attest::mock::MockTee;
use tower_attest::tls::{BindingConnector, Tls};
use tower_attest::{AttestError, AttestLayer, BoxError, ErrorKind, Strength, VerifiedReport};

use crate::support::{Attested, Body, Server, Tamper, body, relay, roots};

type Pooled = Client<BindingConnector<HttpConnector>, Body>;

fn pooled(tls: &Tls) -> Pooled {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    Client::builder(TokioExecutor::new()).build(BindingConnector::roots(http, roots(tls)).unwrap())
}

async fn send<S>(service: &S, server: &Server) -> Result<Response<Incoming>, BoxError>
where
    S: Service<Request<Body>, Response = Response<Incoming>, Error = BoxError> + Clone,
{
    let uri = format!("{}x", server.uri());
    service.clone().oneshot(Request::get(uri).body(Body::default()).unwrap()).await
}

fn layer(tee: &MockTee) -> AttestLayer {
    AttestLayer::new(tee.verifier()).accept_presence().bind_channel()
}

#[tokio::test]
async fn signatures_are_bound_and_the_strength_stays_presence() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let service = ServiceBuilder::new().layer(layer(&tee)).service(pooled(&server.tls));
    for _ in 0..3 {
        let response = send(&service, &server.server).await.unwrap();
        let report = VerifiedReport::of(&response).unwrap();
        assert_eq!(report.strength(), Strength::Presence);
        assert!(report.channel_bound());
    }
}

#[tokio::test]
async fn a_pool_that_switches_connection_is_verified_on_each() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let connector = BindingConnector::roots(http, roots(&server.tls)).unwrap();
    let client: Pooled = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let service = ServiceBuilder::new().layer(layer(&tee)).service(client);
    for _ in 0..3 {
        let response = send(&service, &server.server).await.unwrap();
        assert!(VerifiedReport::of(&response).unwrap().channel_bound());
    }
}

#[tokio::test]
async fn a_relay_is_refused_and_its_connection_is_not_used_again() {
    let tee = MockTee::new();
    let genuine = Attested::start(&tee).await;
    let tls = Tls::self_signed("localhost").unwrap();
    let relay = relay(tls.clone(), &genuine, Tamper::default()).await;
    let client = pooled(&tls);
    let refused = async || {
        let service = ServiceBuilder::new().layer(layer(&tee)).service(client.clone());
        let error = send(&service, &relay).await.unwrap_err();
        error.downcast_ref::<AttestError>().expect("an AttestError").kind()
    };
    assert_eq!(refused().await, ErrorKind::Stale);
    assert_eq!(refused().await, ErrorKind::Stale);
    assert_eq!(relay.record.connections(), 2, "the pool made a new one");
    assert_eq!(relay.record.applications(), 0);
}

#[tokio::test]
async fn a_response_that_is_refused_ends_its_connection_as_well() {
    // No preflight here: the mode sends first and judges the response alone.
    let tee = MockTee::new();
    let server = Attested::start(&tee.clone().with_measurement([9; 48])).await;
    let client = pooled(&server.tls);
    let service = ServiceBuilder::new().layer(layer(&tee).mode(tower_attest::Mode::Optional)).service(client);
    assert!(send(&service, &server.server).await.is_err());
    assert!(send(&service, &server.server).await.is_err());
    assert!(server.record().connections() >= 2, "{}", server.record().connections());
}

#[tokio::test]
async fn a_plain_http_uri_is_refused() {
    let client = pooled(&Tls::self_signed("localhost").unwrap());
    let request = Request::get("http://localhost:1/").body(body("")).unwrap();
    let error = client.request(request).await.unwrap_err();
    assert!(format!("{error:?}").contains("expected an https URI"), "{error:?}");
}
