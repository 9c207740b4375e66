//! Sealed requests: what relays see and cannot do, through both layers and over real transports.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    clippy::expect_used
)]

mod asking;
mod cancel;
#[cfg(all(feature = "sim", feature = "tls"))]
mod deployed;
mod grpc;
mod keys;
#[cfg(all(feature = "sim", feature = "tls"))]
#[path = "../support/proxy.rs"]
mod proxy;
mod relay_requests;
mod relay_responses;
mod rotation;
mod streams;
mod support;
mod transports;

#[path = "../../examples/support/prover.rs"]
#[allow(dead_code, missing_docs)]
mod prover;

use tower_attest::mock::MockTee;
use tower_attest::seal::SealLayer;
use tower_attest::{Strength, VerifiedReport};

use support::{Server, call, client, post};

#[tokio::test]
async fn a_whole_request_and_response_pass_sealed() {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    let client = client(&tee, server.transport.clone());
    for _ in 0..2 {
        let response = call(&client, post("witness")).await.unwrap();
        assert_eq!(response.body(), "witness");
        assert_eq!(response.headers()["x-inner"], "secret");
        let report = VerifiedReport::of(&response).unwrap();
        assert_eq!(report.strength(), Strength::Sealed);
        assert!(report.secret_before_send() && report.response_intact() && !report.channel_bound());
        assert_eq!(report.keys_digest(), server.attester.key_document().digest());
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].method.as_str(), seen[0].uri.to_string().as_str()),
        ("POST", "https://prover.example/prove?fast=1")
    );
    assert_eq!(seen[0].headers["authorization"], "Bearer t");
    assert_eq!(seen[0].body.as_deref().unwrap(), b"witness");
}

#[tokio::test]
async fn the_verdict_is_told_once() {
    use std::sync::{Arc, Mutex};
    use tower::Layer;
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    let told = Arc::<Mutex<Vec<_>>>::default();
    let log = Arc::clone(&told);
    let layer = SealLayer::new(tee.verifier()).name("prover.example");
    let layer =
        layer.on_verdict(move |verdict| log.lock().unwrap().push(verdict.report().map(VerifiedReport::strength)));
    let client = layer.layer(server.transport.clone());
    call(&client, post("w")).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [Some(Strength::Sealed)]);
}
