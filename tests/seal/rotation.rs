//! Keys in time: renewed, over, full.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use tower::Layer;
use tower_attest::mock::MockTee;
use tower_attest::seal::SealLayer;
use tower_attest::time::ManualClock;
use tower_attest::{ErrorKind, VerifiedReport};

use crate::support::{Server, Wire, call, client, kind, post, relay};

#[tokio::test]
async fn a_renewed_key_is_sealed_to_and_the_last_one_serves_out_its_grace() {
    let (tee, clock) = (MockTee::new(), ManualClock::new());
    let own = clock.clone();
    let server = Server::start_with(&tee, move |builder| builder.clock(own)).await;
    let layer = SealLayer::new(tee.verifier()).clock(clock.clone());
    let client = layer.layer(server.transport.clone());
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let old = *server.attester.key_document().digest();

    clock.advance(minutes(58));
    call(&client, post("a")).await.unwrap();
    clock.advance(minutes(3));
    let response = call(&client, post("b")).await.unwrap();
    let report = VerifiedReport::of(&response).unwrap();
    assert_eq!(report.keys_digest(), &old, "within its grace the old key still opens");
    // Past half the age of its evidence the answer renews, and comes signed by the new key.
    clock.advance(minutes(3));
    let response = call(&client, post("c")).await.unwrap();
    assert_eq!(VerifiedReport::of(&response).unwrap().keys_digest(), &old);
    let new = *server.attester.key_document().digest();
    assert_ne!(new, old);
    clock.advance(minutes(3));
    let response = call(&client, post("d")).await.unwrap();
    assert_eq!(VerifiedReport::of(&response).unwrap().keys_digest(), &new);
    let bodies: Vec<Bytes> = server.seen().into_iter().map(|seen| seen.body.unwrap()).collect();
    assert_eq!(bodies, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn keys_that_end_between_a_requests_head_and_its_body_are_no_attack() {
    let (tee, clock) = (MockTee::new(), ManualClock::new());
    let own = clock.clone();
    let server = Server::start_with(&tee, move |builder| builder.clock(own)).await;
    let hours = Duration::from_secs(2 * 3600);
    let slow = relay(&server.transport, move |request: Request<Wire>, server| {
        let clock = clock.clone();
        let late = move |frame| {
            clock.advance(hours);
            frame
        };
        async move { server.send(request.map(|body| Wire::new(body.map_frame(late)))).await }
    });
    let client = client(&tee, slow);
    let error = call(&client, post("witness")).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::UnknownKeys), "{error}");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_key_that_is_full_is_left_for_the_next_one() {
    let tee = MockTee::new();
    let server = Server::start_with(&tee, |builder| builder.replay_cache(2)).await;
    let client = client(&tee, server.transport.clone());
    let mut failures = vec![];
    for _ in 0..7 {
        if let Err(error) = call(&client, post("w")).await {
            failures.push(kind(&error).unwrap());
        }
    }
    assert!(failures.len() <= 3, "{failures:?}");
    assert!(server.seen().len() >= 4);
}
