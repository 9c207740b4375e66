//! What a channel tells of attestations, and a channel that is asked whether it could send.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_attest::mock::{Behaviour, MockTee};
use tower_attest::time::ManualClock;
use tower_attest::tls::{Attestation, EndpointState, Stage, Tls};

use crate::support::{Attested, channel_error, get, settle, text, until};

type Told = Arc<Mutex<Vec<Attestation>>>;

fn telling() -> (Told, impl Fn(&Attestation) + Send + Sync + 'static) {
    let told = Told::default();
    let sink = Arc::clone(&told);
    (told, move |attestation: &Attestation| sink.lock().unwrap().push(attestation.clone()))
}

#[tokio::test]
async fn each_attestation_is_told_and_the_status_follows_renewals() {
    const AGE: Duration = Duration::from_secs(100);
    let tee = MockTee::new();
    let (server, clock, (told, observer)) = (Attested::start(&tee).await, ManualClock::new(), telling());
    let builder = server.builder(&tee).max_evidence_age(AGE).clock(clock.clone()).on_attestation(observer);
    let channel = builder.connect().await.unwrap();
    let drawn = || match &channel.endpoints()[0].state {
        EndpointState::Attested(report) => report.drawn_at(),
        other => panic!("{other:?}"),
    };
    let first = drawn();
    {
        let told = told.lock().unwrap();
        assert_eq!((told.len(), told[0].is_renewal(), told[0].address()), (1, false, &server.server.uri()));
        assert_eq!(told[0].outcome().unwrap().drawn_at(), first);
    }
    text(get(&channel, "/").await.unwrap()).await;
    clock.advance(AGE / 2);
    text(get(&channel, "/").await.unwrap()).await;
    until(|| told.lock().unwrap().len() == 2).await;
    assert!(told.lock().unwrap()[1].is_renewal() && told.lock().unwrap()[1].outcome().is_ok());
    text(get(&channel, "/").await.unwrap()).await;
    assert_eq!(drawn(), first + AGE / 2);

    server.provider.set_behaviour(Behaviour::Failing);
    clock.advance(AGE / 2);
    text(get(&channel, "/").await.unwrap()).await;
    until(|| told.lock().unwrap().len() == 3).await;
    let failed = told.lock().unwrap()[2].clone();
    assert_eq!((failed.is_renewal(), failed.outcome().unwrap_err().stage()), (true, Stage::Evidence));
    assert_eq!(drawn(), first + AGE / 2, "the old evidence still holds");
}

#[tokio::test]
async fn attempts_that_fail_are_told_with_their_stage_and_time() {
    let tee = MockTee::new();
    let (server, (told, observer)) = (Attested::start(&tee).await, telling());
    let other = tee.clone().with_measurement([9; 48]);
    let error = server.builder(&other).on_attestation(observer).connect().await.unwrap_err();
    let told = told.lock().unwrap();
    assert_eq!((told.len(), told[0].is_renewal()), (1, false));
    assert_eq!(told[0].outcome().unwrap_err().stage(), error.stage());
    assert_eq!(error.stage(), Stage::Policy);
    assert!(told[0].took() > Duration::ZERO);
}

#[tokio::test]
async fn asking_whether_one_could_send_attests_and_sends_nothing() {
    let tee = MockTee::new();
    for alpn in ["h2", "http/1.1"] {
        let server = Attested::start(&tee).await;
        let channel = server.builder(&tee).alpn([alpn]).connect_lazy().unwrap();
        settle().await;
        assert_eq!(server.record().connections(), 0, "lazy");
        for _ in 0..3 {
            channel.attest().await.unwrap();
        }
        let record = server.record();
        assert_eq!((record.connections(), record.preflights(), record.applications()), (1, 1, 0));
        assert!(matches!(channel.endpoints()[0].state, EndpointState::Attested(_)));
        assert_eq!(text(get(&channel, "/").await.unwrap()).await, "ok");
        channel.attest().await.unwrap();
    }
}

#[tokio::test]
async fn asking_whether_one_could_send_says_why_not_and_brings_a_server_that_returns_back() {
    let tee = MockTee::new();
    let tls = Tls::self_signed("localhost").unwrap();
    let server = Attested::start_at(&tee, ([127, 0, 0, 1], 0).into(), tls.clone(), |layer| layer).await;
    let channel = server.builder(&tee).connect().await.unwrap();
    text(get(&channel, "/").await.unwrap()).await;
    let addr = server.server.stop().await;
    let error = loop {
        if let Err(error) = channel.attest().await {
            break error;
        }
        settle().await;
    };
    assert_eq!(channel_error(&error).stage(), Stage::Connect);
    let back = Attested::start_at(&tee, addr, tls, |layer| layer).await;
    while channel.attest().await.is_err() {
        settle().await;
    }
    assert_eq!((back.record().preflights(), back.record().applications()), (1, 0));
}
