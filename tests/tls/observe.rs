//! What a channel tells of attestations.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_attest::mock::{Behaviour, MockTee};
use tower_attest::time::ManualClock;
use tower_attest::tls::{Attestation, EndpointState, Stage};

use crate::support::{Attested, get, text, until};

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
