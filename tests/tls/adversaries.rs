//! Peers that are not what they say: each is refused before anything but the preflight was sent.

use tower_attest::mock::MockTee;
use tower_attest::protocol::{ATTESTATION_NONCE, ATTESTATION_REPORT, NonceHeader};
use tower_attest::tls::{AttestedChannel, ChannelError, Stage, Tls};
use tower_attest::{ChannelBinding, ErrorKind, GrpcCode};

use crate::support::{Attested, Server, Tamper, channel_error, get, relay, roots, settle};

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// Connects to a relay whose certificate the client trusts, and sends nothing to it but the preflight.
async fn refused(relay: &Server, tls: &Tls, tee: &MockTee) -> ChannelError {
    let builder = || AttestedChannel::builder(relay.uri(), tee.verifier()).roots(roots(tls));
    let eager = builder().connect().await.unwrap_err();
    let lazy = builder().connect_lazy().unwrap();
    let error = channel_error(&get(&lazy, "/secret").await.unwrap_err());
    assert_eq!((error.stage(), error.kind()), (eager.stage(), eager.kind()));
    settle().await;
    assert_eq!(relay.record.applications(), 0, "{:?}", relay.record.requests());
    error
}

#[tokio::test]
async fn a_relay_that_forwards_the_nonce_to_a_genuine_server_is_refused_and_gets_nothing() {
    let tee = MockTee::new();
    let genuine = Attested::start(&tee).await;
    let tls = Tls::self_signed("localhost").unwrap();
    let relay = relay(tls.clone(), &genuine, Tamper::default()).await;
    let error = refused(&relay, &tls, &tee).await;
    assert_eq!((error.stage(), error.kind()), (Stage::Evidence, ErrorKind::Stale), "{error}");
    assert_eq!(error.attest_error().grpc_code(), GrpcCode::Unauthenticated);
    assert!(genuine.record().preflights() >= 1, "the genuine server did answer");
}

#[tokio::test]
async fn a_relay_that_holds_the_servers_own_tls_key_is_refused_and_gets_nothing() {
    let tee = MockTee::new();
    let genuine = Attested::start(&tee).await;
    let relay = relay(genuine.tls.clone(), &genuine, Tamper::default()).await;
    let error = refused(&relay, &genuine.tls, &tee).await;
    assert_eq!((error.stage(), error.kind()), (Stage::Evidence, ErrorKind::Stale), "{error}");
}

#[tokio::test]
async fn a_relay_that_asks_for_unbound_evidence_is_refused() {
    let tee = MockTee::new();
    let genuine = Attested::start(&tee).await;
    let unbind = |headers: &mut http::HeaderMap| {
        let nonce = NonceHeader::from_headers(headers).unwrap().unwrap().nonce;
        headers.insert(ATTESTATION_NONCE, NonceHeader::new(nonce).to_value());
    };
    let relay = relay(genuine.tls.clone(), &genuine, Tamper { request: Some(unbind), response: None }).await;
    let error = refused(&relay, &genuine.tls, &tee).await;
    assert_eq!((error.stage(), error.kind()), (Stage::Evidence, ErrorKind::Stale), "{error}");
}

#[tokio::test]
async fn a_peer_that_reflects_the_nonce_to_the_clients_own_server_is_refused() {
    // The client is a TEE of the same measurement and a server itself: its own report would satisfy its policy.
    let tee = MockTee::new();
    let own = Attested::start(&tee).await;
    let tls = Tls::self_signed("localhost").unwrap();
    let reflector = relay(tls.clone(), &own, Tamper::default()).await;
    let error = refused(&reflector, &tls, &tee).await;
    assert_eq!((error.stage(), error.kind()), (Stage::Evidence, ErrorKind::Stale), "{error}");
}

#[tokio::test]
async fn evidence_that_is_bound_to_another_connection_is_refused() {
    let tee = MockTee::new();
    let tls = Tls::self_signed("localhost").unwrap();
    let stale = ChannelBinding::from_tls_exporter([7; 32]);
    let server =
        Attested::start_at(&tee, LOCAL.into(), tls.clone(), |layer| layer.binding_from(move |_| Some(stale))).await;
    let error = refused(&server.server, &tls, &tee).await;
    assert_eq!((error.stage(), error.kind()), (Stage::Evidence, ErrorKind::Stale), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_read_its_exporter_is_refused_as_a_configuration() {
    let tee = MockTee::new();
    let tls = Tls::self_signed("localhost").unwrap();
    let server = Attested::start_at(&tee, LOCAL.into(), tls.clone(), |layer| layer.binding_from(|_| None)).await;
    let error = refused(&server.server, &tls, &tee).await;
    assert_eq!((error.stage(), error.kind()), (Stage::Evidence, ErrorKind::Configuration), "{error}");
}

#[tokio::test]
async fn a_report_field_that_is_stripped_on_the_way_is_an_error_and_not_an_absence() {
    let tee = MockTee::new();
    let genuine = Attested::start(&tee).await;
    let strip = |headers: &mut http::HeaderMap| drop(headers.remove(ATTESTATION_REPORT));
    let relay = relay(genuine.tls.clone(), &genuine, Tamper { request: None, response: Some(strip) }).await;
    let error = refused(&relay, &genuine.tls, &tee).await;
    assert_eq!(error.kind(), ErrorKind::NoReport { status: 200 }, "{error}");
    assert_eq!(error.attest_error().grpc_code(), GrpcCode::Unauthenticated);
}

#[tokio::test]
async fn a_nonce_that_is_stripped_on_the_way_brings_no_evidence() {
    let tee = MockTee::new();
    let genuine = Attested::start(&tee).await;
    let strip = |headers: &mut http::HeaderMap| drop(headers.remove(ATTESTATION_NONCE));
    let relay = relay(genuine.tls.clone(), &genuine, Tamper { request: Some(strip), response: None }).await;
    let error = refused(&relay, &genuine.tls, &tee).await;
    assert_eq!(error.stage(), Stage::Evidence, "{error}");
    assert_ne!(error.attest_error().grpc_code(), GrpcCode::Unavailable, "not to be retried: {error}");
}

#[tokio::test]
async fn another_measurement_fails_the_policy_and_gets_nothing() {
    let tee = MockTee::new();
    let other = Attested::start(&tee.clone().with_measurement([9; 48])).await;
    let error = refused(&other.server, &other.tls, &tee).await;
    assert_eq!((error.stage(), error.kind()), (Stage::Policy, ErrorKind::Refused), "{error}");
}

#[tokio::test]
async fn another_root_key_is_refused() {
    let other = Attested::start(&MockTee::new()).await;
    let error = refused(&other.server, &other.tls, &MockTee::new()).await;
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[tokio::test]
async fn a_server_of_another_name_is_refused_even_if_attestation_alone_is_trusted() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let uri: http::Uri = format!("https://127.0.0.1:{}", server.server.addr.port()).parse().unwrap();
    let builder = || AttestedChannel::builder(uri.clone(), tee.verifier()).dangerous_trust_attestation_alone();
    let error = builder().connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Policy, ErrorKind::NameMismatch), "{error}");
    assert!(builder().name("localhost").connect().await.is_ok());
    assert!(builder().any_name().connect().await.is_ok());
}

#[tokio::test]
async fn another_configuration_is_refused() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let error = server.builder(&tee).config([1; 32]).connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Policy, ErrorKind::ConfigMismatch), "{error}");
}
