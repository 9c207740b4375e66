use http::StatusCode;

use super::*;
use crate::platform::endorser::EndorsementErrorKind;
use crate::platform::endorser::testing::PausedClock;
use crate::platform::tdx::collateral::PcsClient;
use crate::platform::tdx::collateral::tests::{DAY, ISSUED, id, issued, kind, pcs, spec, td};
use crate::platform::tdx::sim::{PcsFault, SimulatedIntel, SimulatedPcs};
use crate::platform::tdx::{TdxPolicy, TdxVerifier};
use crate::report::{Platform as Tee, Report};
use crate::verifier::ReportVerifier as _;

struct Setup {
    pcs: SimulatedPcs,
    memory: Arc<MemoryCollateral<PcsClient<SimulatedPcs>>>,
    refresh: CollateralRefresh,
}

/// A memory that has collateral of one platform, and its refresher, once an hour.
async fn setup() -> Setup {
    let (pcs, clock) = (pcs(), PausedClock::starting_at(ISSUED));
    let client = PcsClient::new(pcs.clone()).with_clock(clock.clone()).with_attempts(1);
    let memory = Arc::new(MemoryCollateral::new(client).with_clock(clock.clone()));
    let refresh = CollateralRefresher::new().with_interval(Duration::from_secs(3600)).with_clock(clock);
    kind(&memory, issued()).await.unwrap();
    let refresh = refresh.spawn(&memory);
    tokio::time::sleep(Duration::from_secs(1)).await;
    Setup { pcs, memory, refresh }
}

async fn minutes(minutes: u64) {
    tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_verification_fetched_is_renewed_each_interval() {
    let Setup { pcs, memory: _memory, refresh } = setup().await;
    assert_eq!(refresh.states().iter().map(|state| (state.platform(), state.tries())).collect::<Vec<_>>(), [(id(), 0)]);
    minutes(59).await;
    assert_eq!(pcs.requests().len(), 4);
    minutes(2).await;
    assert_eq!(pcs.requests().len(), 8);
    let [state] = &refresh.states()[..] else { panic!("one platform") };
    assert_eq!((state.tries(), state.next_update()), (1, Some(issued() + 30 * DAY)));
    minutes(60).await;
    assert_eq!(pcs.requests().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_with_growing_pauses_and_told_and_the_set_at_hand_serves_on() {
    let Setup { pcs, memory, refresh } = setup().await;
    for _ in 0..3 {
        pcs.fail_next(PcsFault::Status(StatusCode::BAD_GATEWAY));
    }
    minutes(60).await;
    assert_eq!(pcs.requests().len(), 5);
    assert_eq!(refresh.states()[0].error().map(EndorsementError::kind), Some(EndorsementErrorKind::Unavailable));
    kind(&memory, issued()).await.unwrap();
    minutes(1).await;
    assert_eq!(pcs.requests().len(), 6, "after one minute");
    minutes(2).await;
    assert_eq!(pcs.requests().len(), 7, "after two more");
    minutes(4).await;
    assert_eq!(pcs.requests().len(), 11, "after four more, and it succeeds");
    assert!(refresh.states()[0].error().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_new_set_takes_the_place_of_the_old_one_only_once_a_verification_accepts_it() {
    let Setup { pcs, memory, refresh: _refresh } = setup().await;
    let verifier = TdxVerifier::trusting_simulator(TdxPolicy::pin([1; 48]), &SimulatedIntel::new())
        .with_collateral_source(Arc::clone(&memory));
    let report = Report::new(Tee::TDX, td().quote(&[7; 64]));
    let until = |claims: crate::Claims| claims.valid_until();
    let foreign = spec().issued_at(issued() + DAY / 48).edit_tcb_info(|info| info["fmspc"] = "00906ed50000".into());
    pcs.publish(&td().platform, &foreign);
    minutes(61).await;
    let now = issued() + DAY / 24;
    assert_eq!(until(verifier.verify(&report, now).await.unwrap()), Some(issued() + 30 * DAY));
    assert_eq!(pcs.requests().len(), 8, "nothing was fetched for the verification");

    pcs.publish(&td().platform, &spec().issued_at(issued() + DAY / 24));
    minutes(60).await;
    assert_eq!(until(verifier.verify(&report, now).await.unwrap()), Some(issued() + 30 * DAY + DAY / 24));
    assert_eq!(pcs.requests().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_its_handle_and_with_the_memory() {
    let Setup { pcs, memory, refresh } = setup().await;
    drop(refresh);
    minutes(300).await;
    assert_eq!(pcs.requests().len(), 4);
    drop(memory);

    let Setup { pcs, memory, refresh } = setup().await;
    drop(memory);
    minutes(300).await;
    assert_eq!(pcs.requests().len(), 4);
    assert!(refresh.states.has_changed().is_err(), "the task is over");
}
