use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::mock::{Behaviour, MockProvider, MockTee};
use crate::provider::ProviderError;
use crate::report::{Report, ReportData};
use crate::time::ManualClock;
use crate::verifier::ReportVerifier;

const SECOND: Duration = Duration::from_secs(1);

/// An attester that has started, and its hardware.
async fn started(setting: impl FnOnce(AttesterBuilder) -> AttesterBuilder) -> (Attester, MockTee, MockProvider) {
    let tee = MockTee::new();
    let provider = tee.provider();
    let builder = Attester::builder(provider.clone()).name("prover.example");
    (setting(builder).start().await.unwrap(), tee, provider)
}

fn nonce(number: u32) -> Nonce {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Nonce::from_bytes(bytes)
}

/// Asks for evidence in a task of its own; the nonce is in the queue when this returns.
fn ask(attester: &Attester, number: u32) -> tokio::task::JoinHandle<Result<Evidence, AttesterError>> {
    let pending = attester.request_evidence(&attester.current_keys(), &nonce(number), None);
    tokio::spawn(async move { pending?.await })
}

/// A nonce that the hardware works on, behind a closed gate, so that all further ones queue.
async fn occupy(
    attester: &Attester,
    provider: &MockProvider,
) -> tokio::task::JoinHandle<Result<Evidence, AttesterError>> {
    provider.hold();
    let calls = provider.calls();
    let first = ask(attester, u32::MAX);
    provider.called(calls + 1).await;
    first
}

async fn assert_fresh(tee: &MockTee, evidence: &Evidence, nonce: &Nonce, binding: Option<&ChannelBinding>) {
    let claims = tee.verifier().verify(&evidence.report, SystemTime::UNIX_EPOCH).await.unwrap();
    let keys = KeysDigest::of(&evidence.keys);
    let leaf = EvidenceStatement { platform: &Platform::MOCK, nonce, binding, keys: &keys }.leaf();
    assert_eq!(claims.report_data(), evidence.batch.report_data(&Platform::MOCK, &leaf).as_bytes());
}

async fn kind_of(task: tokio::task::JoinHandle<Result<Evidence, AttesterError>>) -> AttesterErrorKind {
    task.await.unwrap().unwrap_err().kind()
}

#[tokio::test]
async fn a_thousand_nonces_at_once_cost_two_reports_and_none_is_lost() {
    let (attester, tee, provider) = started(|builder| builder.batch(1000)).await;
    let first = occupy(&attester, &provider).await;
    let others: Vec<_> = (0..999).map(|number| ask(&attester, number)).collect();
    assert_eq!(attester.stats().queued, 999);
    provider.release();
    assert_fresh(&tee, &first.await.unwrap().unwrap(), &nonce(u32::MAX), None).await;
    for (number, other) in (0..).zip(others) {
        assert_fresh(&tee, &other.await.unwrap().unwrap(), &nonce(number), None).await;
    }
    let stats = attester.stats();
    assert_eq!((stats.reports, stats.nonces, stats.largest_batch, stats.queued), (1 + 2, 1001, 999, 0));
    assert_eq!((provider.reports(), provider.most_at_once()), (3, 1));
}

#[tokio::test]
async fn a_batch_takes_no_more_than_its_limit_and_the_oldest_first() {
    let (attester, _, provider) = started(|builder| builder.batch(4)).await;
    let first = occupy(&attester, &provider).await;
    let others: Vec<_> = (0..9).map(|number| ask(&attester, number)).collect();
    provider.release();
    first.await.unwrap().unwrap();
    let mut sizes = vec![];
    for other in others {
        sizes.push(other.await.unwrap().unwrap().batch.size());
    }
    assert_eq!(sizes, [4, 4, 4, 4, 4, 4, 4, 4, 1]);
}

#[tokio::test]
async fn evidence_is_for_the_nonce_the_channel_and_the_keys_it_was_asked_for() {
    let clock = ManualClock::new();
    let (attester, tee, provider) = started(|builder| builder.clock(clock.clone())).await;
    let first = occupy(&attester, &provider).await;
    let bound = ChannelBinding::from_tls_exporter([5; 32]);
    let old_keys = attester.current_keys();
    let old = attester.request_evidence(&old_keys, &nonce(1), Some(&bound)).unwrap();
    clock.advance(Duration::from_secs(3600));
    let new_keys = attester.current_keys();
    let new = attester.request_evidence(&new_keys, &nonce(2), None).unwrap();
    provider.release();
    first.await.unwrap().unwrap();
    let (old, new) = (old.await.unwrap(), new.await.unwrap());
    assert_eq!((old.batch.size(), old.report == new.report), (2, true), "one report for two epochs");
    assert_eq!((&old.keys, &new.keys), (old_keys.document().bytes(), new_keys.document().bytes()));
    assert_fresh(&tee, &old, &nonce(1), Some(&bound)).await;
    assert_fresh(&tee, &new, &nonce(2), None).await;
}

#[tokio::test]
async fn a_failure_fails_its_batch_and_the_next_asks_again() {
    let (attester, tee, provider) = started(|builder| builder).await;
    for behaviour in [Behaviour::Failing, Behaviour::Busy, Behaviour::Panicking] {
        provider.set_behaviour(behaviour);
        assert_eq!(kind_of(ask(&attester, 1)).await, AttesterErrorKind::Hardware, "{behaviour:?}");
        assert_eq!(attester.health(), Health::Failing);
    }
    provider.set_behaviour(Behaviour::Healthy);
    assert_fresh(&tee, &attester.evidence(&nonce(2), None).await.unwrap(), &nonce(2), None).await;
    assert_eq!(attester.health(), Health::Ready);
    assert_eq!((attester.stats().failures, attester.stats().stalls), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_device_fails_all_who_wait_and_is_not_asked_again_until_it_returns() {
    let (attester, _, provider) = started(|builder| builder.report_timeout(30 * SECOND)).await;
    provider.set_behaviour(Behaviour::Hanging);
    let first = ask(&attester, 1);
    provider.called(2).await;
    let queued = ask(&attester, 2);
    tokio::time::sleep(29 * SECOND).await;
    assert!(!first.is_finished() && attester.health() == Health::Ready);
    tokio::time::sleep(2 * SECOND).await;
    assert!(first.is_finished() && queued.is_finished(), "after 31 seconds");
    assert_eq!(kind_of(first).await, AttesterErrorKind::Stalled);
    assert_eq!(kind_of(queued).await, AttesterErrorKind::Stalled);
    assert_eq!(attester.health(), Health::Stalled);
    let refused = attester.request_evidence(&attester.current_keys(), &nonce(3), None).unwrap_err();
    assert_eq!((refused.kind(), refused.retry_after()), (AttesterErrorKind::Stalled, 10 * SECOND));
    tokio::time::sleep(3600 * SECOND).await;
    assert_eq!(provider.calls(), 2, "one call at start, and the one that hangs");

    provider.set_behaviour(Behaviour::Healthy);
    tokio::time::sleep(SECOND).await;
    attester.evidence(&nonce(4), None).await.unwrap();
    assert_eq!((attester.health(), provider.most_at_once()), (Health::Ready, 1));
    let stats = attester.stats();
    assert_eq!((stats.stalls, stats.failures, stats.refused, stats.reports), (1, 1, 1, 2));
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_waiter_that_goes_gives_its_slot_back_at_once() {
    let (attester, _, provider) = started(|builder| builder.queue(2)).await;
    let first = occupy(&attester, &provider).await;
    let keys = attester.current_keys();
    let request = |number| attester.request_evidence(&keys, &nonce(number), None);
    let (one, two) = (request(1).unwrap(), request(2).unwrap());
    let refused = request(3).unwrap_err();
    assert_eq!((refused.kind(), refused.retry_after()), (AttesterErrorKind::QueueFull, SECOND));
    drop(one);
    let four = request(4).unwrap();
    assert_eq!(request(5).unwrap_err().kind(), AttesterErrorKind::QueueFull);
    provider.release();
    first.await.unwrap().unwrap();
    assert_eq!((two.await.unwrap().batch.size(), four.await.unwrap().batch.size()), (2, 2));
    assert_eq!((attester.stats().refused, attester.stats().queued), (2, 0));
}

#[tokio::test]
async fn waiters_that_have_all_gone_cost_no_report() {
    let (attester, _, provider) = started(|builder| builder).await;
    let first = occupy(&attester, &provider).await;
    let gone: Vec<_> = (0..5).map(|number| ask(&attester, number)).collect();
    for task in gone {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    provider.release();
    first.await.unwrap().unwrap();
    attester.evidence(&nonce(9), None).await.unwrap();
    assert_eq!(attester.stats().reports, 1 + 1 + 1);
}

#[tokio::test(start_paused = true)]
async fn cancelled_at_any_point_a_waiter_leaves_nothing_behind() {
    let (attester, tee, provider) = started(|builder| builder.queue(1)).await;
    provider.set_behaviour(Behaviour::Slow(SECOND));
    for polls in 0..6 {
        let wanted = nonce(polls);
        let mut evidence = tokio_test::task::spawn(attester.evidence(&wanted, None));
        for _ in 0..polls {
            let _ = evidence.poll();
            tokio::time::sleep(SECOND / 4).await;
            if evidence.is_woken() {
                break;
            }
        }
        drop(evidence);
        assert_eq!(attester.stats().queued, 0, "after {polls} polls");
    }
    assert_fresh(&tee, &attester.evidence(&nonce(99), None).await.unwrap(), &nonce(99), None).await;
    assert_eq!(provider.most_at_once(), 1);
}

#[tokio::test]
async fn draining_serves_who_waits_and_refuses_who_comes_later() {
    let (attester, tee, provider) = started(|builder| builder).await;
    let first = occupy(&attester, &provider).await;
    let queued = ask(&attester, 1);
    let draining = tokio::spawn({
        let attester = attester.clone();
        async move { attester.drain().await }
    });
    tokio::task::yield_now().await;
    assert_eq!(kind_of(ask(&attester, 2)).await, AttesterErrorKind::Stopped);
    assert!(!draining.is_finished());
    provider.release();
    draining.await.unwrap();
    first.await.unwrap().unwrap();
    assert_fresh(&tee, &queued.await.unwrap().unwrap(), &nonce(1), None).await;
    assert_eq!(attester.health(), Health::Stopped);
    attester.drain().await;
}

#[tokio::test(start_paused = true)]
async fn draining_does_not_wait_for_a_stalled_device() {
    let (attester, _, provider) = started(|builder| builder).await;
    provider.set_behaviour(Behaviour::Hanging);
    assert_eq!(kind_of(ask(&attester, 1)).await, AttesterErrorKind::Stalled);
    attester.drain().await;
    let (attester, _, provider) = started(|builder| builder).await;
    provider.set_behaviour(Behaviour::Hanging);
    let waiter = ask(&attester, 1);
    provider.called(2).await;
    attester.drain().await;
    assert_eq!(kind_of(waiter).await, AttesterErrorKind::Stalled, "who waits is told after the report timeout");
}

/// A provider that shows when it is dropped.
#[derive(Debug)]
struct Watched(MockProvider, #[expect(dead_code, reason = "counted")] Arc<()>);

#[async_trait::async_trait]
impl ReportProvider for Watched {
    fn platform(&self) -> Platform {
        self.0.platform()
    }
    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        self.0.report(data).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle_whatever_the_device_does() {
    for (behaviour, wait) in
        [(Behaviour::Healthy, Duration::ZERO), (Behaviour::Hanging, SECOND), (Behaviour::Hanging, 3600 * SECOND)]
    {
        let (provider, alive) = (MockTee::new().provider(), Arc::new(()));
        let watched = Watched(provider.clone(), Arc::clone(&alive));
        let attester = Attester::builder(watched).name("a.example").start().await.unwrap();
        provider.set_behaviour(behaviour);
        let waiter = ask(&attester, 1);
        provider.called(2).await;
        tokio::time::sleep(wait).await;
        waiter.abort();
        let _ = waiter.await;
        let second = attester.clone();
        drop(attester);
        tokio::time::sleep(SECOND / 8).await;
        assert_eq!(Arc::strong_count(&alive), 2, "a handle is left");
        drop(second);
        tokio::time::sleep(SECOND / 8).await;
        assert_eq!(Arc::strong_count(&alive), 1, "{behaviour:?} after {wait:?}");
    }
}

#[tokio::test]
async fn who_waits_is_served_even_after_the_last_handle_is_gone() {
    let (attester, tee, provider) = started(|builder| builder).await;
    let first = occupy(&attester, &provider).await;
    let queued = ask(&attester, 1);
    drop(attester);
    tokio::task::yield_now().await;
    provider.release();
    first.await.unwrap().unwrap();
    assert_fresh(&tee, &queued.await.unwrap().unwrap(), &nonce(1), None).await;
}

#[test]
fn without_its_runtime_an_attester_refuses_rather_than_hangs() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    let (attester, waiting) = first.block_on(async {
        let (attester, _, provider) = started(|builder| builder).await;
        occupy(&attester, &provider).await;
        let waiting = attester.request_evidence(&attester.current_keys(), &nonce(1), None).unwrap();
        (attester, waiting)
    });
    drop(first);
    let second = runtime();
    assert_eq!(second.block_on(waiting).unwrap_err().kind(), AttesterErrorKind::Stopped);
    let later = second.block_on(attester.evidence(&nonce(2), None));
    assert_eq!((later.unwrap_err().kind(), attester.health()), (AttesterErrorKind::Stopped, Health::Stopped));
}

#[tokio::test(start_paused = true)]
async fn hardware_that_makes_no_right_report_fails_the_start_with_advice() {
    for (behaviour, kind, words) in [
        (Behaviour::Unsupported, AttesterErrorKind::Hardware, "run on a machine with this TEE"),
        (Behaviour::Busy, AttesterErrorKind::Hardware, "start again"),
        (Behaviour::Failing, AttesterErrorKind::Hardware, "kernel's log"),
        (Behaviour::Panicking, AttesterErrorKind::Hardware, "panicked"),
        (Behaviour::OtherPlatform, AttesterErrorKind::Hardware, "platform mock, found snp"),
        (Behaviour::OtherReportData, AttesterErrorKind::Hardware, "other REPORTDATA"),
        (Behaviour::Hanging, AttesterErrorKind::Stalled, "the device hangs"),
    ] {
        let provider = MockTee::new().provider();
        provider.set_behaviour(behaviour);
        let error = Attester::builder(provider).name("a.example").start().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{behaviour:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_fail_the_start_by_name() {
    type Setting = fn(AttesterBuilder) -> AttesterBuilder;
    let cases = [
        ((|builder| builder.queue(0)) as Setting, "queue"),
        (|builder| builder.batch(0), "batch"),
        (|builder| builder.batch(65_537), "batch"),
        (|builder| builder.report_timeout(Duration::ZERO), "report_timeout"),
        (|builder| builder.epoch(Duration::ZERO).grace(Duration::ZERO), "epoch"),
        (|builder| builder.grace(3601 * SECOND), "grace"),
        (|builder| builder.names(vec!["n".repeat(200); 30]), "key document"),
        (|builder| builder.route("zone 1"), "route"),
        #[cfg(feature = "seal")]
        (|builder| builder.replay_cache(0), "replay_cache"),
        #[cfg(feature = "seal")]
        (|builder| builder.replay_cache((1 << 24) + 1), "replay_cache"),
    ];
    for (setting, name) in cases {
        let provider = MockTee::new().provider();
        let builder = setting(Attester::builder(provider.clone()).name("a.example"));
        let error = builder.start().await.unwrap_err();
        assert_eq!((error.kind(), provider.calls()), (AttesterErrorKind::Configuration, 0));
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
}

#[test]
fn starting_outside_a_runtime_is_an_error_and_no_panic() {
    let start = Attester::builder(MockTee::new().provider()).name("a.example").start();
    match tokio_test::task::spawn(start).poll() {
        Poll::Ready(Err(error)) => assert_eq!(error.kind(), AttesterErrorKind::Configuration),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_attester_renews_its_keys_and_lets_the_old_ones_go_after_a_grace_of_an_epoch_at_most() {
    for (epoch, grace) in [(3600 * SECOND, 300 * SECOND), (60 * SECOND, 60 * SECOND)] {
        let clock = ManualClock::new();
        let (attester, ..) = started(|builder| builder.epoch(epoch).clock(clock.clone())).await;
        let first = Arc::downgrade(&attester.current_keys());
        clock.advance(epoch);
        tokio::time::sleep(epoch + SECOND).await;
        assert!(first.upgrade().is_some(), "grace");
        clock.advance(grace);
        tokio::time::sleep(grace + SECOND).await;
        assert!(first.upgrade().is_none());
    }
}

#[tokio::test]
async fn another_configuration_counts_from_the_next_keys_on_which_begin_at_once() {
    let (attester, ..) = started(|builder| builder.config([1; 32])).await;
    let before = attester.current_keys();
    attester.set_config([2; 32]).unwrap();
    assert_eq!(attester.key_document().fields().config, Some([2; 32]));
    assert_ne!(attester.current_keys().digest(), before.digest());
}

#[tokio::test(start_paused = true)]
async fn keys_are_renewed_while_the_device_hangs() {
    let clock = ManualClock::new();
    let (attester, _, provider) = started(|builder| builder.clock(clock.clone())).await;
    let first = Arc::downgrade(&attester.current_keys());
    provider.set_behaviour(Behaviour::Hanging);
    assert_eq!(kind_of(ask(&attester, 1)).await, AttesterErrorKind::Stalled);
    clock.advance(3600 * SECOND);
    tokio::time::sleep(3601 * SECOND).await;
    clock.advance(300 * SECOND);
    tokio::time::sleep(301 * SECOND).await;
    assert!(first.upgrade().is_none());
    assert_eq!(attester.health(), Health::Stalled);
}
