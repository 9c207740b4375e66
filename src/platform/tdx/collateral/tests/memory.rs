use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::*;
use crate::platform::tdx::{TdxPolicy, TdxVerifier};
use crate::report::{Platform as Tee, Report};
use crate::time::ManualClock;
use crate::verifier::ReportVerifier as _;

/// Answers with `answer` as often as its gate has permits.
#[derive(Debug)]
struct Scripted {
    answer: Mutex<Result<Arc<Collateral>, EndorsementError>>,
    gate: Semaphore,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answer: Result<CollateralSpec, EndorsementErrorKind>) -> Self {
        Self { answer: Mutex::new(scripted(answer)), gate: Semaphore::new(1000), asked: AtomicUsize::new(0) }
    }

    fn set(&self, answer: Result<CollateralSpec, EndorsementErrorKind>) {
        *self.answer.lock().unwrap() = scripted(answer);
    }
}

fn scripted(answer: Result<CollateralSpec, EndorsementErrorKind>) -> Result<Arc<Collateral>, EndorsementError> {
    answer.map(|spec| Arc::new(spec.build())).map_err(|kind| EndorsementError::new(kind, "scripted"))
}

#[async_trait]
impl CollateralSource for Scripted {
    async fn collateral(&self, _: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        self.asked.fetch_add(1, SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.answer.lock().unwrap().clone()
    }
}

fn memory(answer: Result<CollateralSpec, EndorsementErrorKind>) -> Arc<MemoryCollateral<Scripted>> {
    Arc::new(MemoryCollateral::new(Scripted::new(answer)))
}

fn asked(memory: &MemoryCollateral<Scripted>) -> usize {
    memory.get_ref().asked.load(SeqCst)
}

/// Asks eight times at once, with one answer at the gate.
async fn ask_together(memory: &Arc<MemoryCollateral<Scripted>>) -> Vec<Result<(), EndorsementErrorKind>> {
    memory.get_ref().gate.forget_permits(1000);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let memory = Arc::clone(memory);
            tokio::spawn(async move { kind(&memory, issued()).await })
        })
        .collect();
    tokio::task::yield_now().await;
    memory.get_ref().gate.add_permits(1);
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

#[tokio::test]
async fn concurrent_callers_share_one_fetch_and_one_failure() {
    for answer in [Ok(spec()), Err(EndorsementErrorKind::NotFound)] {
        let expected = answer.as_ref().map(drop).map_err(|kind| *kind);
        let memory = memory(answer);
        assert_eq!(ask_together(&memory).await, vec![expected; 8]);
        assert_eq!(asked(&memory), 1);
    }
}

#[tokio::test]
async fn a_cancelled_leader_leaves_the_fetch_to_the_next() {
    let memory = memory(Ok(spec()));
    memory.get_ref().gate.forget_permits(1000);
    let ask = || {
        let memory = Arc::clone(&memory);
        tokio::spawn(async move { kind(&memory, issued()).await })
    };
    let leader = ask();
    tokio::task::yield_now().await;
    let next = ask();
    tokio::task::yield_now().await;
    leader.abort();
    memory.get_ref().gate.add_permits(1);
    assert_eq!(next.await.unwrap(), Ok(()));
    assert_eq!(asked(&memory), 2);
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_while() {
    let clock = ManualClock::new();
    let memory = MemoryCollateral::new(Scripted::new(Err(EndorsementErrorKind::NotFound))).with_clock(clock.clone());
    for seconds in [0, 30, 29] {
        clock.advance(Duration::from_secs(seconds));
        assert_eq!(kind(&memory, issued()).await, Err(EndorsementErrorKind::NotFound));
        assert_eq!(asked(&memory), 1);
    }
    memory.get_ref().set(Ok(spec()));
    clock.advance(Duration::from_secs(1));
    assert_eq!(kind(&memory, issued()).await, Ok(()));
    assert_eq!(asked(&memory), 2);
}

#[tokio::test]
async fn it_renews_a_day_before_the_end_and_lives_on_while_that_fails() {
    let clock = ManualClock::new();
    let memory = MemoryCollateral::new(Scripted::new(Ok(spec()))).with_clock(clock.clone());
    let in_time = issued() + 29 * DAY;
    kind(&memory, issued()).await.unwrap();
    kind(&memory, in_time - Duration::from_secs(1)).await.unwrap();
    assert_eq!(asked(&memory), 1);

    memory.get_ref().set(Err(EndorsementErrorKind::Unavailable));
    for _ in 0..3 {
        kind(&memory, in_time).await.unwrap();
        assert_eq!(asked(&memory), 2, "renewing fails, the old set still holds, and the failure is remembered");
    }
    memory.get_ref().set(Ok(spec()));
    clock.advance(Duration::from_secs(1));
    for _ in 0..3 {
        kind(&memory, in_time).await.unwrap();
        assert_eq!(asked(&memory), 3, "the source has nothing newer, and is not asked again at once");
    }
    memory.get_ref().set(Ok(spec().issued_at(issued() + 20 * DAY)));
    clock.advance(Duration::from_secs(60));
    for days in [29, 40] {
        let found = ask(&memory, issued() + days * DAY).await.unwrap();
        assert_eq!(found.next_update(), Some(issued() + 50 * DAY));
    }
    assert_eq!(asked(&memory), 4);
}

#[tokio::test]
async fn while_one_renews_the_others_go_on() {
    let memory = memory(Ok(spec()));
    kind(&memory, issued()).await.unwrap();
    memory.get_ref().set(Ok(spec().issued_at(issued() + 20 * DAY)));
    memory.get_ref().gate.forget_permits(1000);
    let renewing = tokio::spawn({
        let memory = Arc::clone(&memory);
        async move { ask(&memory, issued() + 29 * DAY).await }
    });
    while asked(&memory) < 2 {
        tokio::task::yield_now().await;
    }
    let meanwhile = ask(&memory, issued() + 29 * DAY).await.unwrap();
    assert_eq!(meanwhile.next_update(), Some(issued() + 30 * DAY));
    memory.get_ref().gate.add_permits(1);
    assert_eq!(renewing.await.unwrap().unwrap().next_update(), Some(issued() + 50 * DAY));
    assert_eq!(asked(&memory), 2);
}

#[tokio::test]
async fn nothing_is_given_out_past_its_end() {
    let memory = memory(Ok(spec()));
    kind(&memory, issued()).await.unwrap();
    memory.get_ref().set(Err(EndorsementErrorKind::Unavailable));
    assert_eq!(kind(&memory, issued() + 30 * DAY).await, Err(EndorsementErrorKind::Unavailable));
    let stale = MemoryCollateral::new(Scripted::new(Ok(spec())));
    assert_eq!(kind(&stale, issued() + 30 * DAY).await, Err(EndorsementErrorKind::Refused));
}

#[tokio::test]
async fn what_fails_the_check_is_not_kept_and_what_no_longer_passes_is_fetched_anew() {
    let memory = memory(Ok(spec()));
    let strict = AtomicBool::new(true);
    let check = |collateral: &Arc<Collateral>| {
        let refused = strict.load(SeqCst) && collateral.tcb_info.contains("\"tcbEvaluationDataNumber\":18");
        if refused { Err(VerifyError::new(VerifyErrorKind::Policy, "below the floor")) } else { dated(collateral) }
    };
    let request = CollateralRequest::new(id(), issued(), &check);
    let error = memory.collateral(&request).await.unwrap_err();
    assert_eq!(VerifyError::from(error).kind(), VerifyErrorKind::Policy, "the verifier's own refusal");
    assert_eq!(memory.platforms(), []);

    let memory = super::memory::memory(Ok(spec()));
    strict.store(false, SeqCst);
    memory.collateral(&request).await.unwrap();
    strict.store(true, SeqCst);
    memory.get_ref().set(Ok(spec().evaluation_number(19)));
    let found = memory.collateral(&request).await.unwrap();
    assert!(found.tcb_info.contains("\"tcbEvaluationDataNumber\":19"));
    assert_eq!(asked(&memory), 2);
}

#[tokio::test]
async fn platforms_and_failures_are_bounded() {
    let four = std::num::NonZeroUsize::new(4).unwrap();
    for answer in [Ok(spec()), Err(EndorsementErrorKind::NotFound)] {
        let memory = MemoryCollateral::new(Scripted::new(answer)).with_capacity(four);
        for fmspc in 0..100 {
            let platform = PlatformId { fmspc: [fmspc; 6], ca: PckCa::Platform };
            let _ = memory.collateral(&CollateralRequest::new(platform, issued(), &dated)).await;
        }
        assert!(memory.platforms().len() <= 4, "{memory:?}");
        assert!(format!("{memory:?}").contains("failures: "), "{memory:?}");
    }
}

/// The verifier judges what a memory gives out by its policy of the moment.
#[tokio::test]
async fn a_floor_that_rises_is_met_by_newer_collateral_and_told_with_all_other_rules() {
    let memory = memory(Ok(spec()));
    let verifier = TdxVerifier::trusting_simulator(TdxPolicy::pin([1; 48]), &SimulatedIntel::new())
        .with_collateral_source(Arc::clone(&memory));
    let report = Report::new(Tee::TDX, td().quote(&[7; 64]));
    verifier.verify(&report, issued()).await.unwrap();
    verifier.set_policy(TdxPolicy::pin([2; 48]).with_min_tcb_evaluation_data_number(19));
    let error = verifier.verify(&report, issued()).await.unwrap_err();
    let rules: Vec<_> = error.failed_rules().iter().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(rules, ["mrtd", "min-tcb-evaluation-data-number"]);
    assert_eq!(asked(&memory), 2, "newer collateral was asked for");

    let memory = super::memory::memory(Ok(spec().evaluation_number(19)));
    let verifier = verifier.with_collateral_source(Arc::clone(&memory));
    verifier.set_policy(TdxPolicy::pin([1; 48]).with_min_tcb_evaluation_data_number(19));
    verifier.verify(&report, issued()).await.unwrap();
}

/// A verifier that takes collateral from this memory, and quotes of two machines of one kind.
fn two_machines(memory: &Arc<MemoryCollateral<Scripted>>) -> (TdxVerifier, Report, Report) {
    let verifier = TdxVerifier::trusting_simulator(TdxPolicy::pin([1; 48]), &SimulatedIntel::new())
        .with_collateral_source(Arc::clone(memory));
    let mut other = td();
    other.platform.serial += 1;
    let quote = |td: &SimulatedTd| Report::new(Tee::TDX, td.quote(&[7; 64]));
    (verifier, quote(&td()), quote(&other))
}

/// A verifier that has fetched collateral once, and a quote of a module that only the next day's collateral knows.
async fn updated_module(memory: &Arc<MemoryCollateral<Scripted>>) -> (TdxVerifier, Report) {
    let (verifier, known, _) = two_machines(memory);
    verifier.verify(&known, issued()).await.unwrap();
    let mut updated = td();
    updated.report.tee_tcb_svn[1] = 2;
    let second = |info: &mut serde_json::Value| info["tdxModuleIdentities"][0]["id"] = "TDX_02".into();
    memory.get_ref().set(Ok(spec().issued_at(issued() + DAY).edit_tcb_info(second)));
    (verifier, Report::new(Tee::TDX, updated.quote(&[7; 64])))
}

/// Newer collateral is Intel's whomever it refuses: a machine that it refuses cannot have it thrown away.
#[tokio::test]
async fn a_machine_that_newer_collateral_revokes_is_not_judged_by_the_older() {
    let memory = memory(Ok(spec()));
    let (verifier, revoked, other) = two_machines(&memory);
    verifier.verify(&revoked, issued()).await.unwrap();
    memory.get_ref().set(Ok(spec().issued_at(issued() + DAY).revoke_pck()));
    memory.prefetch(&CollateralRequest::new(id(), issued() + DAY, &dated)).await.unwrap();
    for _ in 0..2 {
        let error = verifier.verify(&revoked, issued() + DAY).await.unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::Revoked, "{error}");
    }
    let claims = verifier.verify(&other, issued() + DAY).await.unwrap();
    assert_eq!(claims.valid_until(), Some(issued() + 31 * DAY));
    assert_eq!(asked(&memory), 2);
}

#[tokio::test]
async fn a_machine_that_collateral_refuses_takes_it_from_no_other() {
    let clock = ManualClock::new();
    let memory = Arc::new(MemoryCollateral::new(Scripted::new(Ok(spec()))).with_clock(clock.clone()));
    let (verifier, good, _) = two_machines(&memory);
    let mut unsupported = td();
    unsupported.platform.pck.cpu_svn = [0; 16];
    let unsupported = Report::new(Tee::TDX, unsupported.quote(&[7; 64]));
    verifier.verify(&good, issued()).await.unwrap();
    for answer in [Err(EndorsementErrorKind::Unavailable), Ok(spec())] {
        clock.advance(Duration::from_secs(60));
        memory.get_ref().set(answer);
        let before = asked(&memory);
        for _ in 0..3 {
            let error = verifier.verify(&unsupported, issued()).await.unwrap_err();
            assert_eq!(error.kind(), VerifyErrorKind::Mismatch, "{error}");
            verifier.verify(&good, issued()).await.unwrap();
        }
        assert_eq!(asked(&memory), before + 1, "newer collateral may know better, and is not asked for at once again");
    }
}

#[tokio::test]
async fn a_module_that_the_collateral_at_hand_does_not_know_has_newer_collateral_fetched() {
    let memory = memory(Ok(spec()));
    let (verifier, updated) = updated_module(&memory).await;
    verifier.verify(&updated, issued() + DAY).await.unwrap();
    assert_eq!(asked(&memory), 2);
}

#[tokio::test]
async fn machines_that_the_collateral_at_hand_does_not_know_wait_for_the_one_that_fetches_newer() {
    let memory = memory(Ok(spec()));
    let (verifier, updated) = updated_module(&memory).await;
    memory.get_ref().gate.forget_permits(1000);
    let verifier = Arc::new(verifier);
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (verifier, updated) = (Arc::clone(&verifier), updated.clone());
            tokio::spawn(async move { verifier.verify(&updated, issued() + DAY).await.map(drop) })
        })
        .collect();
    while asked(&memory) < 2 {
        tokio::task::yield_now().await;
    }
    let (_, known, _) = two_machines(&memory);
    verifier.verify(&known, issued() + DAY).await.expect("the others go on");
    memory.get_ref().gate.add_permits(1);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(asked(&memory), 2);
}
