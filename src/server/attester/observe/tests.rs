use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::{Attester, AttesterErrorKind, Health};
use super::*;
use crate::mock::{Behaviour, MockTee};
use crate::protocol::Nonce;
use crate::time::ManualClock;

const SECOND: Duration = Duration::from_secs(1);

type Told = Arc<Mutex<Vec<ReportCall>>>;

fn telling() -> (Told, impl Fn(&ReportCall) + Send + Sync + 'static) {
    let told = Told::default();
    let sink = Arc::clone(&told);
    (told, move |call: &ReportCall| sink.lock().unwrap().push(call.clone()))
}

async fn ask(attester: &Attester) -> Result<(), AttesterErrorKind> {
    attester.evidence(&Nonce::from_bytes([1; 32]), None).await.map(drop).map_err(|error| error.kind())
}

#[tokio::test]
async fn each_call_of_the_hardware_is_told_with_its_batch_and_how_long_it_took() {
    let (told, observer) = telling();
    let (provider, clock) = (MockTee::new().provider(), ManualClock::new());
    let builder = Attester::builder(provider.clone()).name("prover.example").clock(clock.clone());
    let attester = builder.on_report(observer).start().await.unwrap();
    provider.hold();
    let ask_later = || {
        let attester = attester.clone();
        tokio::spawn(async move { ask(&attester).await })
    };
    let first = ask_later();
    provider.called(2).await;
    let others = [ask_later(), ask_later(), ask_later()];
    while attester.stats().queued < 3 {
        tokio::task::yield_now().await;
    }
    clock.advance(7 * SECOND);
    provider.release();
    first.await.unwrap().unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    let told: Vec<_> = told.lock().unwrap().iter().map(|call| (call.nonces(), call.took())).collect();
    assert_eq!(told, [(1, Duration::ZERO), (1, 7 * SECOND), (3, Duration::ZERO)], "the one at the start comes first");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_makes_no_report_is_told_with_its_reason() {
    let (told, observer) = telling();
    let provider = MockTee::new().provider();
    let builder = Attester::builder(provider.clone()).name("prover.example").on_report(observer);
    let attester = builder.start().await.unwrap();
    for (behaviour, kind) in
        [(Behaviour::Failing, AttesterErrorKind::Hardware), (Behaviour::Hanging, AttesterErrorKind::Stalled)]
    {
        provider.set_behaviour(behaviour);
        assert_eq!(ask(&attester).await, Err(kind));
        let last = told.lock().unwrap().last().cloned().unwrap();
        assert_eq!(last.error().map(|error| error.kind()), Some(kind));
    }
    assert_eq!(told.lock().unwrap().len(), 3, "the report at the start, and two failures");
}

#[tokio::test]
async fn an_observer_that_panics_does_not_take_the_attester_with_it() {
    let observer = |_: &ReportCall| panic!("a fault of the application's");
    let builder = Attester::builder(MockTee::new().provider()).name("prover.example").on_report(observer);
    let attester = builder.start().await.unwrap();
    ask(&attester).await.unwrap();
    assert_eq!((attester.health(), attester.stats().reports), (Health::Ready, 2));
}

#[tokio::test]
async fn stats_say_how_queue_and_keys_stand_and_to_look_changes_nothing() {
    let clock = ManualClock::new();
    let builder = Attester::builder(MockTee::new().provider()).name("prover.example").queue(17).clock(clock.clone());
    let attester = builder.epoch(100 * SECOND).grace(SECOND).start().await.unwrap();
    let stats = attester.stats();
    assert_eq!((stats.queue_limit, stats.epoch, stats.keys_lifetime), (17, 1, 100 * SECOND));
    assert_eq!((stats.opened, stats.opened_limit), (0, 0), "nothing is sealed to these keys");
    clock.advance(150 * SECOND);
    assert_eq!((attester.stats().epoch, attester.stats().keys_age), (1, 150 * SECOND), "nobody has asked for keys yet");
    ask(&attester).await.unwrap();
    assert_eq!((attester.stats().epoch, attester.stats().keys_age), (2, Duration::ZERO));
}

#[cfg(feature = "seal")]
#[tokio::test]
async fn stats_say_how_full_the_record_of_sealed_requests_is() {
    let builder = Attester::builder(MockTee::new().provider()).name("prover.example").seal().replay_cache(3);
    let attester = builder.start().await.unwrap();
    let fill = || (attester.stats().opened, attester.stats().opened_limit);
    assert_eq!(fill(), (0, 3));
    let keys = *attester.key_document().digest();
    for request in 0..2 {
        attester.open(&keys, &[request; 32]).unwrap();
    }
    assert_eq!(fill(), (2, 3));
}
