//! Stapling, against a simulated PCS with faults.

use std::time::UNIX_EPOCH;

use http::StatusCode;

use super::*;
use crate::platform::endorser::testing::PausedClock;
use crate::platform::tdx::collateral::PcsClient;
use crate::platform::tdx::sim::{CollateralSpec, PcsFault, SimProvider, SimulatedIntel, SimulatedPcs, SimulatedTd};
use crate::platform::tdx::{TdxPolicy, TdxVerifier};
use crate::verifier::ReportVerifier as _;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// When the simulated collateral begins, in seconds since 1970; it ends 30 days later.
const ISSUED: u64 = 1_767_225_600;

fn issued() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(ISSUED)
}

fn spec() -> CollateralSpec {
    SimulatedIntel::new().collateral().issued_at(issued())
}

/// A TD that can move to another machine between quotes.
#[derive(Debug)]
struct Moving(Mutex<SimulatedTd>);

#[async_trait]
impl ReportProvider for Moving {
    fn platform(&self) -> Platform {
        Platform::TDX
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        Ok(SimProvider::new(self.0.lock().unwrap().clone()).make(data.as_bytes()))
    }
}

fn td() -> SimulatedTd {
    SimulatedTd::new([1; 48])
}

/// A TD of another machine.
fn elsewhere() -> SimulatedTd {
    let mut td = td();
    td.platform.pck.id.fmspc = [0x90, 0xc0, 0x6f, 0, 0, 0];
    td
}

struct Setup {
    pcs: SimulatedPcs,
    provider: StaplingProvider<Moving>,
    clock: PausedClock,
}

fn setup() -> Setup {
    let (pcs, clock) = (SimulatedPcs::new(), PausedClock::starting_at(ISSUED));
    pcs.publish(&td().platform, &spec());
    let source = PcsClient::new(pcs.clone()).with_clock(clock.clone()).with_attempts(1);
    let provider = StaplingProvider::new(Moving(Mutex::new(td())), source)
        .trusting_simulator(&SimulatedIntel::new())
        .with_interval(HOUR)
        .with_clock(clock.clone());
    Setup { pcs, provider, clock }
}

impl Setup {
    async fn report(&self) -> Report {
        self.provider.report(&ReportData::new([7; 64])).await.unwrap()
    }

    async fn is_stapled(&self) -> bool {
        self.report().await.collateral().is_some()
    }

    /// A first report, and time for what it sets off.
    async fn started(self) -> Self {
        assert!(!self.is_stapled().await);
        pass(Duration::from_secs(1)).await;
        self
    }

    /// Until when a client that has nothing of its own believes the report.
    async fn verified_until(&self) -> Result<Option<SystemTime>, VerifyError> {
        let verifier = TdxVerifier::trusting_simulator(TdxPolicy::pin([1; 48]), &SimulatedIntel::new());
        let claims = verifier.verify(&self.report().await, self.clock.now().wall).await?;
        Ok(claims.valid_until())
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_quote_does_not_wait_for_collateral_and_the_next_has_it() {
    let setup = setup();
    setup.pcs.fail_next(PcsFault::Hang);
    let before = setup.clock.now();
    assert!(!setup.is_stapled().await);
    assert_eq!((setup.clock.now(), setup.provider.stapled_until()), (before, None), "no time has passed");
    // The hung request ends by its own limit, and the next try a minute later succeeds.
    pass(5 * Duration::from_secs(60)).await;
    assert!(setup.is_stapled().await);
    assert_eq!(setup.verified_until().await.unwrap(), Some(issued() + 30 * DAY));
    assert_eq!(setup.provider.stapled_until(), Some(issued() + 30 * DAY));
}

#[tokio::test(start_paused = true)]
async fn collateral_is_renewed_each_interval_whether_or_not_anyone_asks() {
    let setup = setup().started().await;
    assert_eq!(setup.pcs.requests().len(), 4);
    setup.pcs.publish(&td().platform, &spec().issued_at(issued() + HOUR / 2));
    pass(HOUR).await;
    assert_eq!(setup.pcs.requests().len(), 8);
    assert_eq!(setup.verified_until().await.unwrap(), Some(issued() + HOUR / 2 + 30 * DAY));
    for _ in 0..9 {
        setup.report().await;
    }
    assert_eq!(setup.pcs.requests().len(), 8, "one task, however many quotes");
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_and_the_set_at_hand_is_stapled_meanwhile() {
    let setup = setup().started().await;
    for _ in 0..2 {
        setup.pcs.fail_next(PcsFault::Status(StatusCode::BAD_GATEWAY));
    }
    pass(HOUR).await;
    assert_eq!(setup.pcs.requests().len(), 5);
    assert!(setup.is_stapled().await);
    pass(Duration::from_secs(61)).await;
    assert_eq!(setup.pcs.requests().len(), 6, "after one minute");
    pass(Duration::from_secs(121)).await;
    assert_eq!(setup.pcs.requests().len(), 10, "after two more, and it succeeds");
}

#[tokio::test(start_paused = true)]
async fn collateral_that_has_ended_is_not_stapled() {
    let setup = setup().started().await;
    for _ in 0..3000 {
        setup.pcs.fail_next(PcsFault::Status(StatusCode::BAD_GATEWAY));
    }
    pass(30 * DAY - Duration::from_secs(2)).await;
    assert!(setup.is_stapled().await);
    pass(Duration::from_secs(2)).await;
    assert!(!setup.is_stapled().await);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_would_refuse_is_not_stapled() {
    for wrong in [
        spec().platform(&elsewhere().platform),
        spec().issued_at(issued() - 31 * DAY),
        spec().issued_at(issued() + DAY),
        spec().revoke_pck(),
        spec().edit_tcb_info(|info| info["id"] = "SGX".into()),
    ] {
        let setup = setup();
        // The service is asked by this platform's FMSPC; what it answers is its own affair.
        setup.pcs.publish(&td().platform, &wrong);
        let setup = setup.started().await;
        assert!(setup.pcs.requests().len() >= 4);
        assert!(!setup.is_stapled().await, "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_td_that_moves_gets_the_collateral_of_its_new_machine_and_never_the_old_ones() {
    let setup = setup().started().await;
    assert!(setup.is_stapled().await);
    setup.pcs.publish(&elsewhere().platform, &spec().platform(&elsewhere().platform));
    *setup.provider.get_ref().0.lock().unwrap() = elsewhere();
    assert!(!setup.is_stapled().await);
    pass(Duration::from_secs(1)).await;
    setup.verified_until().await.unwrap();
    let asked = setup.pcs.requests().len();
    pass(HOUR).await;
    assert_eq!(setup.pcs.requests().len(), asked + 4, "the old machine's task is over");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_for_a_quote_that_is_not_genuine() {
    let Setup { pcs, provider, clock } = setup();
    let real = StaplingProvider::new(Moving(Mutex::new(td())), PcsClient::new(pcs.clone())).with_clock(clock);
    assert!(real.report(&ReportData::new([7; 64])).await.unwrap().collateral().is_none());
    pass(HOUR).await;
    assert_eq!(pcs.requests().len(), 0);
    drop(provider);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_provider() {
    let Setup { pcs, provider, .. } = setup().started().await;
    drop(provider);
    pass(10 * HOUR).await;
    assert_eq!(pcs.requests().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_providers_error_passes_unchanged() {
    #[derive(Debug)]
    struct Broken;
    #[async_trait]
    impl ReportProvider for Broken {
        fn platform(&self) -> Platform {
            Platform::TDX
        }
        async fn report(&self, _: &ReportData) -> Result<Report, ProviderError> {
            Err(ProviderError::new(crate::ProviderErrorKind::Busy, "asked for a test"))
        }
    }
    let provider = StaplingProvider::new(Broken, PcsClient::new(SimulatedPcs::new()));
    let error = provider.report(&ReportData::new([7; 64])).await.unwrap_err();
    assert_eq!(error.kind(), crate::ProviderErrorKind::Busy);
}
