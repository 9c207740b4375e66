//! A certificate that its owner replaces, its dates, and a CA's TLS-ALPN-01 validations.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncReadExt;
use tower::ServiceExt;
use tower_attest::VerifiedReport;
use tower_attest::mock::MockTee;
use tower_attest::tls::{AttestedChannel, CertificateSlot, Tls};

use crate::listener::{bind, client, connect};
use crate::support::{roots, until};

const ACME: &[u8] = b"acme-tls/1";

fn issue() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.der().clone(), PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into())
}

fn trusting(certificate: &CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    roots
}

/// Knows the certificate of one challenge, for one name.
#[derive(Debug)]
struct Challenge {
    name: &'static str,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Challenge {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        (hello.server_name() == Some(self.name)).then(|| Arc::clone(&self.key))
    }
}

fn challenge(name: &'static str) -> (Arc<Challenge>, RootCertStore) {
    let (certificate, key) = issue();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = Arc::new(CertifiedKey::from_der(vec![certificate.clone()], key, &provider).unwrap());
    (Arc::new(Challenge { name, key }), trusting(&certificate))
}

fn offering(roots: RootCertStore, protocols: &[&[u8]]) -> rustls::ClientConfig {
    let mut config = client(roots);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

#[tokio::test]
async fn a_replaced_certificate_serves_the_next_handshake() {
    let ((first, key), (second, other_key)) = (issue(), issue());
    let slot = CertificateSlot::new(vec![first.clone()], key).unwrap();
    let (mut listener, port) = bind(&Tls::replaceable(&slot)).await;
    tokio::spawn(async move { while listener.accept().await.is_some() {} });
    assert!(connect(port, client(trusting(&first))).await.is_ok());
    slot.replace(vec![second.clone()], other_key).unwrap();
    assert!(connect(port, client(trusting(&first))).await.is_err());
    assert!(connect(port, client(trusting(&second))).await.is_ok());
}

#[tokio::test]
async fn every_kind_of_certificate_says_until_when_it_is_valid_but_a_resolver_of_ones_own() {
    let tls = Tls::self_signed("localhost").unwrap();
    assert!(tls.served_certificate().not_before() < tls.served_certificate().not_after());
    let (resolver, _) = challenge("localhost");
    assert_eq!(Tls::resolver(resolver).served_certificate().not_after(), None);
}

#[tokio::test]
async fn an_attested_channel_does_not_notice_a_new_certificate() {
    let tee = MockTee::new();
    let ((first, key), (second, other_key)) = (issue(), issue());
    let slot = CertificateSlot::new(vec![first.clone()], key).unwrap();
    let (listener, port) = bind(&Tls::replaceable(&slot)).await;
    let attester = tower_attest::Attester::builder(tee.provider()).name("localhost").start().await.unwrap();
    let app = axum::Router::new()
        .route("/", axum::routing::get(|| async { "served" }))
        .layer(tower_attest::ReportLayer::new(attester));
    tokio::spawn(async move {
        axum::serve(listener, app.into_make_service_with_connect_info::<tower_attest::ConnectionInfo>()).await
    });
    let uri: http::Uri = format!("https://localhost:{port}").parse().unwrap();
    let open = |roots| AttestedChannel::builder(uri.clone(), tee.verifier()).roots(roots).connect();
    let before = open(trusting(&first)).await.unwrap();
    slot.replace(vec![second.clone()], other_key).unwrap();
    let after = open(trusting(&second)).await.unwrap();
    assert!(open(trusting(&first)).await.is_err());
    // The key document's keys are the same: no certificate stands in it.
    let mut keys = Vec::new();
    for channel in [before, after] {
        let response = channel.oneshot(Request::get("/").body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        keys.push(*VerifiedReport::of(&response).unwrap().keys_digest());
    }
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_validation_sees_the_challenge_and_a_closed_connection() {
    let (resolver, roots_of_challenge) = challenge("localhost");
    let tls = Tls::self_signed("localhost").unwrap().acme_challenges(resolver);
    let (mut listener, port) = bind(&tls).await;
    let handle = listener.handle();
    let serving = tokio::spawn(async move { listener.accept().await.unwrap().0 });
    let mut validation = connect(port, offering(roots_of_challenge, &[ACME])).await.unwrap();
    assert_eq!(validation.get_ref().1.alpn_protocol(), Some(ACME));
    assert_eq!(validation.read(&mut [0; 16]).await.unwrap(), 0, "a clean end");
    until(|| handle.stats().challenges == 1).await;
    assert_eq!(handle.stats().completed, 0);
    // It was not handed out: the first that is comes from a client.
    let _client = connect(port, offering(roots(&tls), &[b"h2"])).await.unwrap();
    assert!(serving.await.unwrap().is_http2());
    assert_eq!(handle.stats().challenges, 1);
}

#[tokio::test]
async fn a_hello_that_offers_more_than_the_challenge_gets_the_certificate_proper() {
    let (resolver, roots_of_challenge) = challenge("localhost");
    let tls = Tls::self_signed("localhost").unwrap().acme_challenges(resolver);
    let (mut listener, port) = bind(&tls).await;
    tokio::spawn(async move { while listener.accept().await.is_some() {} });
    for protocols in [&[ACME, b"h2"][..], &[b"h2", ACME]] {
        let connected = connect(port, offering(roots(&tls), protocols)).await.unwrap();
        assert_eq!(connected.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        assert!(connect(port, offering(roots_of_challenge.clone(), protocols)).await.is_err());
    }
    let without = connect(port, client(roots(&tls))).await.unwrap();
    assert_eq!(without.get_ref().1.alpn_protocol(), None);
}

#[tokio::test]
async fn without_a_challenge_for_the_name_a_validation_fails() {
    let (resolver, roots_of_challenge) = challenge("other.example");
    let tls = Tls::self_signed("localhost").unwrap();
    for tls in [tls.clone(), tls.acme_challenges(resolver)] {
        let (mut listener, port) = bind(&tls).await;
        let handle = listener.handle();
        tokio::spawn(async move { while listener.accept().await.is_some() {} });
        assert!(connect(port, offering(roots_of_challenge.clone(), &[ACME])).await.is_err());
        assert!(connect(port, offering(roots(&tls), &[ACME])).await.is_err());
        until(|| handle.stats().failed == 2).await;
    }
}

#[tokio::test]
async fn a_validation_needs_no_client_certificate() {
    let (resolver, roots_of_challenge) = challenge("localhost");
    let (certificate, _) = issue();
    let tls = Tls::self_signed("localhost").unwrap().acme_challenges(resolver);
    let tls = tls.require_client_certificate(trusting(&certificate)).unwrap();
    let (mut listener, port) = bind(&tls).await;
    let handle = listener.handle();
    tokio::spawn(async move { while listener.accept().await.is_some() {} });
    let mut validation = connect(port, offering(roots_of_challenge, &[ACME])).await.unwrap();
    assert_eq!(validation.read(&mut [0; 16]).await.unwrap(), 0);
    until(|| handle.stats().challenges == 1).await;
    // And no client passes without one because challenges are answered.
    let _refused = connect(port, offering(roots(&tls), &[b"h2"])).await;
    until(|| handle.stats().failed == 1).await;
}
