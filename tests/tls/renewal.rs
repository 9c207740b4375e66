//! Evidence that ages while a connection serves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tower_attest::mock::{Behaviour, MockPolicy, MockTee, MockVerifier};
use tower_attest::time::ManualClock;
use tower_attest::tls::{AttestedChannel, Stage};
use tower_attest::{ErrorKind, VerifiedReport};

use crate::support::{Attested, channel_error, get, roots, settle, text, until};

const AGE: Duration = Duration::from_secs(100);

struct Setup {
    server: Attested,
    verifier: Arc<MockVerifier>,
    clock: ManualClock,
    channel: AttestedChannel,
    tee: MockTee,
}

async fn setup(alpn: &str) -> Setup {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let (verifier, clock) = (Arc::new(tee.verifier()), ManualClock::new());
    let channel = AttestedChannel::builder(server.server.uri(), Arc::clone(&verifier))
        .roots(roots(&server.tls))
        .alpn([alpn])
        .max_evidence_age(AGE)
        .clock(clock.clone())
        .connect()
        .await
        .unwrap();
    Setup { server, verifier, clock, channel, tee }
}

#[tokio::test]
async fn after_half_the_age_evidence_is_renewed_while_requests_go_on() {
    let Setup { server, clock, channel, .. } = setup("h2").await;
    clock.advance(AGE / 2 - Duration::from_secs(1));
    text(get(&channel, "/").await.unwrap()).await;
    settle().await;
    assert_eq!(server.record().preflights(), 1, "not before half");

    clock.advance(Duration::from_secs(2));
    server.provider.hold();
    for _ in 0..3 {
        let response = get(&channel, "/").await.unwrap();
        assert_eq!(VerifiedReport::of(&response).unwrap().age(), AGE / 2 + Duration::from_secs(1));
        text(response).await;
    }
    until(|| server.record().preflights() == 2).await;
    server.provider.release();
    loop {
        let response = get(&channel, "/").await.unwrap();
        if VerifiedReport::of(&response).unwrap().age() == Duration::ZERO {
            break;
        }
        text(response).await;
    }
    assert_eq!(server.record().preflights(), 2, "one renewal, however many requests");
    assert_eq!(server.record().connections(), 1, "on the same connection");
}

#[tokio::test]
async fn on_http1_renewal_comes_between_requests() {
    let Setup { server, clock, channel, .. } = setup("http/1.1").await;
    text(get(&channel, "/").await.unwrap()).await;
    clock.advance(AGE / 2);
    let response = get(&channel, "/").await.unwrap();
    assert_eq!(VerifiedReport::of(&response).unwrap().age(), Duration::ZERO);
    assert_eq!(server.record().preflights(), 2);
    assert_eq!(server.record().connections(), 1);
}

#[tokio::test]
async fn past_the_full_age_no_request_starts_and_running_streams_go_on() {
    let Setup { server, clock, channel, .. } = setup("h2").await;
    let mut stream = get(&channel, "/stream").await.unwrap().into_body();
    let feed = server.feed.lock().unwrap().take().unwrap();
    feed.send(Bytes::from_static(b"one")).await.unwrap();
    assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "one");

    server.provider.hold();
    clock.advance(AGE);
    let before = server.record().applications();
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { get(&channel, "/").await }
    });
    until(|| server.record().preflights() == 2).await;
    settle().await;
    assert_eq!(server.record().applications(), before, "it waits for evidence");
    feed.send(Bytes::from_static(b"two")).await.unwrap();
    assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "two");

    server.provider.release();
    text(waiting.await.unwrap().unwrap()).await;
    feed.send(Bytes::from_static(b"three")).await.unwrap();
    assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "three");
    assert_eq!(server.record().connections(), 1);
}

#[tokio::test]
async fn past_the_full_age_with_hardware_down_requests_fail_and_running_streams_go_on() {
    let Setup { server, clock, channel, .. } = setup("h2").await;
    let mut stream = get(&channel, "/stream").await.unwrap().into_body();
    let feed = server.feed.lock().unwrap().take().unwrap();
    server.provider.set_behaviour(Behaviour::Failing);

    clock.advance(AGE / 2);
    text(get(&channel, "/").await.unwrap()).await;
    until(|| server.record().preflights() == 2).await;
    text(get(&channel, "/").await.expect("old evidence still holds")).await;

    clock.advance(AGE / 2);
    let error = channel_error(&get(&channel, "/").await.unwrap_err());
    assert_eq!((error.stage(), error.kind()), (Stage::Evidence, ErrorKind::Unavailable), "{error}");
    feed.send(Bytes::from_static(b"still")).await.unwrap();
    assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "still");
}

#[tokio::test]
async fn a_new_revision_re_attests_before_the_next_request() {
    for alpn in ["h2", "http/1.1"] {
        let Setup { server, verifier, channel, .. } = setup(alpn).await;
        text(get(&channel, "/").await.unwrap()).await;
        verifier.bump_revision();
        server.provider.hold();
        let before = server.record().applications();
        let waiting = tokio::spawn({
            let channel = channel.clone();
            async move { get(&channel, "/").await }
        });
        until(|| server.record().preflights() == 2).await;
        settle().await;
        assert_eq!(server.record().applications(), before);
        server.provider.release();
        text(waiting.await.unwrap().unwrap()).await;
        assert_eq!(server.record().connections(), 1);
    }
}

#[tokio::test]
async fn a_policy_that_no_longer_accepts_the_server_ends_the_connection_and_its_streams() {
    let Setup { server, verifier, channel, tee, .. } = setup("h2").await;
    let mut stream = get(&channel, "/stream").await.unwrap().into_body();
    let feed = server.feed.lock().unwrap().take().unwrap();
    feed.send(Bytes::from_static(b"one")).await.unwrap();
    assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "one");

    verifier.set_policy(MockPolicy::pin(tee.root_key(), [9; 48]));
    let before = server.record().applications();
    let error = channel_error(&get(&channel, "/secret").await.unwrap_err());
    assert_eq!((error.stage(), error.kind()), (Stage::Policy, ErrorKind::Refused), "{error}");
    assert_eq!(server.record().applications(), before);
    assert!(stream.frame().await.unwrap().is_err(), "the connection is closed");
}

#[tokio::test]
async fn an_age_of_zero_asks_before_every_request_and_still_serves() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let channel = server.builder(&tee).max_evidence_age(Duration::ZERO).connect().await.unwrap();
    for asked in 1..=3 {
        text(get(&channel, "/").await.unwrap()).await;
        assert_eq!((server.record().preflights(), server.record().applications()), (asked, asked));
    }
}
