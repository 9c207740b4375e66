//! Several servers behind one address, and servers that restart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::Constant;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::snp::sim::{SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::snp::{Product, SnpPolicy, SnpVerifier};
use tower_attest::{AttestLayer, ErrorKind, ReportLayer, VerifiedReport};

use crate::support::{attester, echo, echo_server, get, http2, kind, layer, serve};

/// A transport that sends to whichever address it is told, whatever the URI says: a balancer, or a restart.
fn directed(
    choose: impl Fn() -> SocketAddr + Clone + Send + 'static,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = http::Response<hyper::body::Incoming>,
    Error = hyper_util::client::legacy::Error,
    Future: Send,
> + Clone {
    let transport = http2();
    service_fn(move |mut request: Request<Full<Bytes>>| {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
        *request.uri_mut() = format!("http://{}{target}", choose()).parse().unwrap();
        transport.request(request)
    })
}

#[tokio::test]
async fn two_replicas_in_turn_make_no_report_once_both_are_known() {
    let tee = MockTee::new();
    let providers = [tee.provider(), tee.provider()];
    let addresses = [echo_server(providers[0].clone()).await, echo_server(providers[1].clone()).await];
    let turn = Arc::new(AtomicUsize::new(0));
    let in_turn = directed(move || addresses[turn.fetch_add(1, Ordering::Relaxed) % 2]);
    let client = layer(&tee).layer(in_turn);
    let anywhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for _ in 0..8 {
        let response = client.clone().oneshot(get(anywhere, "/x")).await.unwrap();
        assert!(VerifiedReport::of(&response).is_some());
    }
    let made = providers.each_ref().map(|provider| provider.reports());
    for _ in 0..20 {
        client.clone().oneshot(get(anywhere, "/x")).await.unwrap();
    }
    assert_eq!(providers.each_ref().map(|provider| provider.reports()), made);
}

#[tokio::test]
async fn towers_balance_over_two_replicas_is_verified_and_settles() {
    let tee = MockTee::new();
    let providers = [tee.provider(), tee.provider()];
    let mut endpoints = Vec::new();
    for provider in &providers {
        let address = echo_server(provider.clone()).await;
        endpoints.push(Constant::new(directed(move || address), 1u32));
    }
    let balance: Balance<_, Request<Full<Bytes>>> = Balance::new(ServiceList::new::<Request<Full<Bytes>>>(endpoints));
    let client = layer(&tee).layer(tower::buffer::Buffer::new(balance, 16));
    let anywhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let mut quiet = 0;
    let mut made = 0;
    for _ in 0..400 {
        let response = client.clone().oneshot(get(anywhere, "/x")).await.unwrap();
        assert!(VerifiedReport::of(&response).is_some());
        let now: u64 = providers.iter().map(|provider| provider.reports()).sum();
        quiet = if now == made { quiet + 1 } else { 0 };
        made = now;
        if quiet == 100 {
            return;
        }
    }
    panic!("reports are still being made after 400 requests: {made}");
}

#[tokio::test]
async fn a_replica_with_another_measurement_is_refused_while_the_other_serves() {
    let tee = MockTee::new();
    let other = tee.clone().with_measurement([0xee; 48]);
    let addresses = [echo_server(tee.provider()).await, echo_server(other.provider()).await];
    let turn = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&turn);
    let client = layer(&tee).layer(directed(move || addresses[at.load(Ordering::Relaxed)]));
    let anywhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    client.clone().oneshot(get(anywhere, "/x")).await.unwrap();
    turn.store(1, Ordering::Relaxed);
    let error = client.clone().oneshot(get(anywhere, "/x")).await.unwrap_err();
    assert_eq!(kind(&*error), Some(ErrorKind::Refused), "{error}");
    turn.store(0, Ordering::Relaxed);
    client.oneshot(get(anywhere, "/x")).await.unwrap();
}

/// SNP evidence with its certificate does not fit the default header: the certificate is left out there.
#[tokio::test]
async fn evidence_that_lost_its_certificate_in_the_header_is_completed_at_the_endpoint() {
    let measurement = [0x11; 48];
    let guest = || SimulatedGuest::new(Product::Genoa).with_measurement(measurement);
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let report = ReportLayer::new(attester(SimProvider::new(guest())).await);
        addresses.push(serve(report.layer(echo())).await);
    }
    let turn = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&turn);
    let verifier = SnpVerifier::trusting_simulator(SnpPolicy::pin(measurement), &SimulatedAmd::new());
    let attest = AttestLayer::new(verifier).accept_presence().name("localhost");
    let client = attest.layer(directed(move || addresses[at.load(Ordering::Relaxed)]));
    let anywhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for replica in [0, 1] {
        turn.store(replica, Ordering::Relaxed);
        let response = client.clone().oneshot(get(anywhere, "/x")).await.unwrap();
        let field = response.headers()["attestation-report"].to_str().unwrap();
        assert_eq!(field.contains("evidence="), replica == 1, "the first replica's keys came by the preflight");
        assert!(VerifiedReport::of(&response).is_some());
    }
}

#[tokio::test]
async fn a_restart_makes_have_stale_and_the_next_answer_brings_evidence() {
    let tee = MockTee::new();
    let addresses = [echo_server(tee.provider()).await, echo_server(tee.provider()).await];
    let turn = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&turn);
    let client = layer(&tee).layer(directed(move || addresses[at.load(Ordering::Relaxed)]));
    let anywhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let before = client.clone().oneshot(get(anywhere, "/x")).await.unwrap();
    turn.store(1, Ordering::Relaxed);
    let after = client.clone().oneshot(get(anywhere, "/x")).await.unwrap();
    let keys = [&before, &after].map(|response| *VerifiedReport::of(response).unwrap().keys_digest());
    assert_ne!(keys[0], keys[1]);
}
