//! The client's preflight: whatever the order of events, one request asks for all who wait, and when it succeeds, fails, is
//! dropped or times out, all who wait go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::support::{ModelClock, Transport, in_every_order, request, server};
use tokio::task::JoinHandle;
use tower::{Layer, ServiceExt};
use tower_attest::mock::{Behaviour, MockProvider, MockTee};
use tower_attest::{Attest, AttestError, AttestLayer, Attester, ErrorKind, VerifiedReport};

struct Model {
    client: Attest<Transport>,
    asked: Arc<AtomicUsize>,
    hardware: MockProvider,
    clock: ModelClock,
}

const TIMEOUT: Duration = Duration::from_secs(10);

async fn model() -> Model {
    let (tee, clock) = (MockTee::from_seed([1; 32]), ModelClock::new());
    let hardware = tee.provider();
    // The server's clock stands still: it waits for its hardware for as long as that takes.
    let builder = Attester::builder(hardware.clone()).name("prover.example").clock(ModelClock::new());
    let (transport, asked) = server(builder.start().await.expect("healthy hardware"));
    let layer = AttestLayer::new(tee.verifier()).accept_presence().verification_timeout(TIMEOUT).clock(clock.clone());
    Model { client: layer.layer(transport), asked, hardware, clock }
}

impl Model {
    /// One request in a task of its own.
    fn send(&self) -> JoinHandle<Result<(), ErrorKind>> {
        let client = self.client.clone();
        tokio::spawn(async move {
            match client.oneshot(request()).await {
                Ok(response) => {
                    assert!(VerifiedReport::of(&response).is_some());
                    Ok(())
                }
                Err(error) => Err(error.downcast_ref::<AttestError>().expect("the layer's own error").kind()),
            }
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[test]
fn one_asks_for_all_who_wait() {
    in_every_order(|| async {
        let model = model().await;
        for task in [model.send(), model.send(), model.send(), model.send()] {
            task.await.expect("no panic").expect("verified");
        }
        assert_eq!(model.asked(), 1);
    });
}

#[test]
fn when_the_one_who_asks_is_dropped_another_takes_over() {
    in_every_order(|| async {
        let model = model().await;
        let (fickle, patient) = ([model.send(), model.send()], [model.send(), model.send()]);
        let leave = tokio::spawn(async move { fickle.iter().for_each(JoinHandle::abort) });
        for task in patient {
            task.await.expect("no panic").expect("verified");
        }
        leave.await.expect("no panic");
        // Each who was dropped may have asked before.
        assert!((1..=3).contains(&model.asked()), "asked {} times", model.asked());
    });
}

#[test]
fn a_failure_fails_all_who_wait_once() {
    in_every_order(|| async {
        let model = model().await;
        model.hardware.set_behaviour(Behaviour::Failing);
        for task in [model.send(), model.send(), model.send()] {
            assert_eq!(task.await.expect("no panic"), Err(ErrorKind::Unavailable));
        }
        assert_eq!(model.asked(), 1, "within a second nobody asks again");
        model.hardware.set_behaviour(Behaviour::Healthy);
        model.clock.advance(Duration::from_secs(1));
        model.send().await.expect("no panic").expect("verified");
        assert_eq!(model.asked(), 2);
    });
}

#[test]
fn a_server_that_does_not_answer_keeps_nobody_past_the_timeout() {
    in_every_order(|| async {
        let model = model().await;
        model.hardware.set_behaviour(Behaviour::Hanging);
        let tasks = [model.send(), model.send(), model.send()];
        let clock = model.clock.clone();
        let pass = tokio::spawn(async move {
            // A timer starts when something first has to be waited for, so one step may come too early for some.
            loop {
                clock.advance(TIMEOUT);
                tokio::task::yield_now().await;
            }
        });
        for task in tasks {
            assert_eq!(task.await.expect("no panic"), Err(ErrorKind::Timeout));
        }
        pass.abort();
        model.hardware.set_behaviour(Behaviour::Healthy);
        model.clock.advance(Duration::from_secs(1));
        model.send().await.expect("no panic").expect("verified");
    });
}
