//! The attester's queue and batcher: whatever the order of events, no wake-up is lost, nobody is left waiting, and the device
//! is asked for one report at a time.

use std::sync::Arc;
use std::time::Duration;

use super::support::{ModelClock, in_every_order};
use tokio::sync::oneshot;
use tower_attest::mock::{Behaviour, MockProvider, MockTee};
use tower_attest::protocol::{Evidence, EvidenceStatement, KeysDigest};
use tower_attest::{
    Attester, AttesterBuilder, AttesterErrorKind, Health, Nonce, Platform, ProviderError, Report, ReportData,
    ReportProvider, async_trait,
};

/// A device that takes a moment, and says when it is dropped.
struct Device {
    hardware: MockProvider,
    _dropped: oneshot::Sender<()>,
}

#[async_trait]
impl ReportProvider for Device {
    fn platform(&self) -> Platform {
        Platform::MOCK
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        tokio::task::yield_now().await;
        self.hardware.report(data).await
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Device")
    }
}

struct Started {
    attester: Attester,
    hardware: MockProvider,
    clock: ModelClock,
    /// Ends when the batcher has dropped the device.
    ended: oneshot::Receiver<()>,
}

async fn start(settings: fn(AttesterBuilder) -> AttesterBuilder) -> Started {
    let (hardware, clock) = (MockTee::from_seed([1; 32]).provider(), ModelClock::new());
    let (dropped, ended) = oneshot::channel();
    let device = Device { hardware: hardware.clone(), _dropped: dropped };
    let builder = settings(Attester::builder(device).name("prover.example").clock(clock.clone()));
    Started { attester: builder.start().await.expect("healthy hardware"), hardware, clock, ended }
}

fn nonce(number: u8) -> Nonce {
    Nonce::from_bytes([number; 32])
}

/// The report is over this very nonce: nobody got another's share.
fn assert_own(evidence: &Evidence, number: u8) {
    let keys = KeysDigest::of(&evidence.keys);
    let statement = EvidenceStatement { platform: &Platform::MOCK, nonce: &nonce(number), binding: None, keys: &keys };
    let data = evidence.batch.report_data(&Platform::MOCK, &statement.leaf());
    assert!(evidence.report.bytes().windows(64).any(|window| window == data.as_bytes()));
}

#[test]
fn every_nonce_is_answered_with_its_own_evidence() {
    in_every_order(|| async {
        let Started { attester, hardware, .. } = start(|builder| builder.batch(2)).await;
        let asks: Vec<_> = (0..4)
            .map(|number| {
                let attester = attester.clone();
                tokio::spawn(async move {
                    let evidence = attester.evidence(&nonce(number), None).await.expect("evidence");
                    assert_own(&evidence, number);
                })
            })
            .collect();
        for ask in asks {
            ask.await.expect("no panic");
        }
        let stats = attester.stats();
        assert_eq!((stats.queued, stats.nonces, stats.refused), (0, 1 + 4, 0));
        assert!((1 + 2..=1 + 4).contains(&stats.reports), "{} reports", stats.reports);
        assert_eq!(hardware.most_at_once(), 1);
    });
}

#[test]
fn whoever_gives_up_leaves_no_place_taken_and_delays_nobody() {
    in_every_order(|| async {
        let Started { attester, .. } = start(|builder| builder.batch(1).queue(4)).await;
        let ask = |number| {
            let attester = attester.clone();
            tokio::spawn(async move { attester.evidence(&nonce(number), None).await })
        };
        let (patient, fickle) = ([ask(0), ask(1)], [ask(2), ask(3)]);
        let leave = tokio::spawn(async move {
            for task in &fickle {
                task.abort();
            }
            for task in fickle {
                // Given up, or answered before that.
                let _ = task.await;
            }
        });
        for (number, task) in (0..).zip(patient) {
            assert_own(&task.await.expect("no panic").expect("evidence"), number);
        }
        leave.await.expect("no panic");
        assert_eq!(attester.stats().queued, 0, "all places are free again");
        attester.evidence(&nonce(4), None).await.expect("evidence");
    });
}

#[test]
fn a_device_that_hangs_fails_all_who_wait_and_serves_again_once_it_returns() {
    in_every_order(|| async {
        let timeout = Duration::from_secs(30);
        let Started { attester, hardware, clock, .. } = start(|builder| builder.batch(1)).await;
        hardware.set_behaviour(Behaviour::Hanging);
        let asks: Vec<_> = (0..3)
            .map(|number| {
                let attester = attester.clone();
                tokio::spawn(async move { attester.evidence(&nonce(number), None).await.map_err(|error| error.kind()) })
            })
            .collect();
        hardware.called(2).await;
        // The timer of that call may not have been started yet: time passes until it has.
        let pass = tokio::spawn(async move {
            while attester.health() != Health::Stalled {
                clock.advance(timeout);
                tokio::task::yield_now().await;
            }
            attester
        });
        for ask in asks {
            assert_eq!(ask.await.expect("no panic").expect_err("the device hangs"), AttesterErrorKind::Stalled);
        }
        let attester = pass.await.expect("no panic");
        assert_eq!(attester.stats().queued, 0);
        hardware.set_behaviour(Behaviour::Healthy);
        while attester.health() == Health::Stalled {
            tokio::task::yield_now().await;
        }
        assert_own(&attester.evidence(&nonce(9), None).await.expect("evidence"), 9);
        assert_eq!(hardware.most_at_once(), 1, "no second call while the first has not returned");
    });
}

#[test]
fn a_device_that_fails_fails_its_batch_and_no_other() {
    in_every_order(|| async {
        let Started { attester, hardware, .. } = start(|builder| builder.batch(1)).await;
        hardware.set_behaviour(Behaviour::Failing);
        let asks: Vec<_> = (0..3)
            .map(|number| {
                let attester = attester.clone();
                tokio::spawn(async move { attester.evidence(&nonce(number), None).await.map_err(|error| error.kind()) })
            })
            .collect();
        let heal = tokio::spawn(async move {
            hardware.called(2).await;
            tokio::task::yield_now().await;
            hardware.set_behaviour(Behaviour::Healthy);
        });
        let mut failed = 0;
        for ask in asks {
            if let Err(kind) = ask.await.expect("no panic") {
                assert_eq!(kind, AttesterErrorKind::Hardware);
                failed += 1;
            }
        }
        assert_eq!(attester.stats().failures, failed);
        heal.await.expect("no panic");
        attester.evidence(&nonce(9), None).await.expect("evidence");
    });
}

#[test]
fn draining_serves_what_waits_refuses_the_rest_and_ends() {
    in_every_order(|| async {
        let Started { attester, ended, .. } = start(|builder| builder.batch(2)).await;
        let asks: Vec<_> = (0..3)
            .map(|number| {
                let attester = attester.clone();
                tokio::spawn(async move { attester.evidence(&nonce(number), None).await.map_err(|error| error.kind()) })
            })
            .collect();
        let drains: Vec<_> = (0..2)
            .map(|_| {
                let attester = attester.clone();
                tokio::spawn(async move { attester.drain().await })
            })
            .collect();
        let mut refused = 0;
        for ask in asks {
            if let Err(kind) = ask.await.expect("no panic") {
                assert_eq!(kind, AttesterErrorKind::Stopped);
                refused += 1;
            }
        }
        for drain in drains {
            drain.await.expect("no panic");
        }
        assert!(ended.await.is_err(), "the device is dropped");
        assert_eq!(attester.stats().refused, refused, "what was accepted is served");
        assert_eq!(attester.health(), Health::Stopped);
    });
}

#[test]
fn the_batcher_ends_with_the_last_handle() {
    in_every_order(|| async {
        let Started { attester, ended, .. } = start(|builder| builder).await;
        let handles: Arc<[Attester]> = (0..3).map(|_| attester.clone()).collect();
        drop(attester);
        let tasks: Vec<_> = (0..2)
            .map(|number: u8| {
                let attester = handles[usize::from(number)].clone();
                tokio::spawn(async move {
                    attester.evidence(&nonce(number), None).await.expect("evidence: this handle is still there");
                })
            })
            .collect();
        drop(handles);
        for task in tasks {
            task.await.expect("no panic");
        }
        assert!(ended.await.is_err(), "the device is dropped");
    });
}
