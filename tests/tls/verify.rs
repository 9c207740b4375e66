//! A channel that is asked whether its far end is believed, and has nothing to send.

use std::sync::Arc;
use std::time::Duration;

use tower_attest::mock::{MockPolicy, MockTee};
use tower_attest::time::ManualClock;
use tower_attest::tls::{AttestedChannel, Stage};
use tower_attest::{ErrorKind, Strength};

use crate::support::{Attested, get, roots, text, until};

#[tokio::test]
async fn it_connects_and_verifies_and_sends_no_request() {
    for (alpn, connections) in [("h2", 1), ("http/1.1", 1), ("h2", 2)] {
        let tee = MockTee::new();
        let server = Attested::start(&tee).await;
        let channel = server.builder(&tee).alpn([alpn]).connections(connections).connect_lazy().unwrap();
        let report = channel.verify().await.unwrap();
        assert_eq!((report.strength(), report.measurement()), (Strength::Channel, &tee.measurement()[..]));
        assert_eq!(server.record().applications(), 0, "{:?}", server.record().paths());
        assert!(server.record().preflights() >= 1);
        text(get(&channel, "/").await.unwrap()).await;
        channel.verify().await.unwrap();
        assert_eq!(server.record().paths().iter().filter(|path| *path == "/").count(), 1);
        assert!(server.record().preflights() <= connections);
    }
}

#[tokio::test]
async fn who_is_refused_is_refused_with_the_reason_and_found_again_when_it_changes_its_mind() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let verifier = Arc::new(tee.verifier());
    verifier.set_policy(MockPolicy::pin(tee.root_key(), [9; 48]));
    let channel = AttestedChannel::builder(server.server.uri(), Arc::clone(&verifier))
        .roots(roots(&server.tls))
        .connect_lazy()
        .unwrap();
    let error = channel.verify().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Policy, ErrorKind::Refused), "{error}");
    verifier.set_policy(tee.policy());
    while channel.verify().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.record().applications(), 0);
}

#[tokio::test]
async fn it_renews_evidence_that_is_due_though_nobody_sends_anything() {
    let age = Duration::from_secs(100);
    let tee = MockTee::new();
    let (server, clock) = (Attested::start(&tee).await, ManualClock::new());
    let channel = server.builder(&tee).max_evidence_age(age).clock(clock.clone()).connect().await.unwrap();
    channel.verify().await.unwrap();
    assert_eq!(server.record().preflights(), 1, "not before half");
    clock.advance(age / 2);
    channel.verify().await.unwrap();
    until(|| server.record().preflights() == 2).await;
    assert_eq!(server.record().connections(), 1);
}

#[tokio::test]
async fn a_connection_that_has_ended_is_found_out() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let channel = server.builder(&tee).connect().await.unwrap();
    text(get(&channel, "/").await.unwrap()).await;
    server.server.stop().await;
    while channel.verify().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = channel.verify().await.unwrap_err();
    assert_eq!(error.stage(), Stage::Connect, "{error}");
}
