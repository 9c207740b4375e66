use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::*;
use crate::platform::endorser::testing::PausedClock;
use crate::platform::tdx::collateral::MemoryCollateral;
use crate::platform::tdx::collateral::tests::{DAY, ISSUED, ask, id, issued, kind, pcs, spec, td};
use crate::platform::tdx::sim::{PcsFault, SimProvider, SimulatedIntel, SimulatedPcs};
use crate::platform::tdx::{TdxPolicy, TdxVerifier};
use crate::time::ManualClock;
use crate::verifier::{ReportVerifier as _, VerifyErrorKind};

fn client(pcs: &SimulatedPcs) -> PcsClient<SimulatedPcs> {
    PcsClient::new(pcs.clone()).with_clock(PausedClock::starting_at(ISSUED))
}

fn verifier(source: impl CollateralSource + 'static) -> TdxVerifier {
    TdxVerifier::trusting_simulator(TdxPolicy::pin([1; 48]), &SimulatedIntel::new()).with_collateral_source(source)
}

#[tokio::test]
async fn a_verifier_with_a_pcs_needs_nothing_stapled() {
    for client in [PcsClient::new(pcs()), PcsClient::new(pcs()).with_pccs("http://pccs.internal:8081/").unwrap()] {
        let report = SimProvider::new(td()).make(&[7; 64]);
        verifier(MemoryCollateral::new(client)).verify(&report, issued() + DAY).await.unwrap();
    }
}

#[tokio::test]
async fn four_requests_fetch_a_platform_by_intels_urls() {
    let pcs = pcs();
    ask(&PcsClient::new(pcs.clone()), issued()).await.unwrap();
    let expected = [
        "/tdx/certification/v4/tcb?fmspc=51806f000000",
        "/tdx/certification/v4/qe/identity",
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "/IntelSGXRootCA.der",
    ];
    assert_eq!(pcs.requests(), expected);
}

#[tokio::test]
async fn a_pccs_is_asked_for_the_roots_crl_too() {
    let pcs = pcs();
    let client = PcsClient::new(pcs.clone()).with_pccs("https://pccs.internal:8081/cache/").unwrap();
    assert_eq!(client.base_url(), "https://pccs.internal:8081/cache");
    // The simulated service knows no prefix.
    assert_eq!(kind(&client, issued()).await, Err(EndorsementErrorKind::NotFound));
    assert_eq!(pcs.requests(), ["/cache/tdx/certification/v4/tcb?fmspc=51806f000000"]);
    let client = client.with_pccs("http://pccs.internal:8081").unwrap();
    ask(&client, issued()).await.unwrap();
    assert_eq!(pcs.requests().last().unwrap(), "/sgx/certification/v4/rootcacrl");
    assert_eq!(client.with_pccs("pccs.internal").unwrap_err().kind(), EndorsementErrorKind::Configuration);
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_the_service_is_an_error_that_says_whether_to_retry() {
    let limited = |seconds| EndorsementErrorKind::RateLimited { retry_after: Duration::from_secs(seconds) };
    let status = PcsFault::Status;
    for (fault, expected) in [
        (status(StatusCode::TOO_MANY_REQUESTS), limited(10)),
        (PcsFault::RetryAfter(StatusCode::TOO_MANY_REQUESTS, 60), limited(60)),
        (PcsFault::RetryAfter(StatusCode::TOO_MANY_REQUESTS, u64::MAX), limited(300)),
        (PcsFault::RetryAfter(StatusCode::SERVICE_UNAVAILABLE, 60), EndorsementErrorKind::Unavailable),
        (status(StatusCode::BAD_GATEWAY), EndorsementErrorKind::Unavailable),
        (PcsFault::Hang, EndorsementErrorKind::Unavailable),
        (status(StatusCode::NOT_FOUND), EndorsementErrorKind::NotFound),
        (status(StatusCode::FOUND), EndorsementErrorKind::Refused),
        (status(StatusCode::UNAUTHORIZED), EndorsementErrorKind::Refused),
        (PcsFault::Oversized, EndorsementErrorKind::Refused),
        (PcsFault::NoChain, EndorsementErrorKind::Refused),
        (PcsFault::Garbage, EndorsementErrorKind::Refused),
        (PcsFault::Truncated, EndorsementErrorKind::Refused),
    ] {
        let pcs = pcs();
        pcs.fail_next(fault);
        let client = client(&pcs).with_attempts(1);
        assert_eq!(kind(&client, issued()).await, Err(expected), "{fault:?}");
        // What parses only once all four are there has all four.
        let asked = if matches!(fault, PcsFault::NoChain | PcsFault::Garbage | PcsFault::Truncated) { 4 } else { 1 };
        assert_eq!(pcs.requests().len(), asked, "{fault:?}");
        tokio::time::advance(Duration::from_secs(300)).await;
        assert_eq!(kind(&client, issued()).await, Ok(()), "after {fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_in_passing_is_made_again_alone() {
    let pcs = pcs();
    pcs.fail_next(PcsFault::Status(StatusCode::SERVICE_UNAVAILABLE));
    pcs.fail_next(PcsFault::RetryAfter(StatusCode::TOO_MANY_REQUESTS, 3));
    let start = Instant::now();
    ask(&client(&pcs), issued()).await.unwrap();
    assert_eq!(pcs.requests().len(), 6, "the first one three times, the others once");
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_long_retry_after_silences_all_requests_until_it_is_over() {
    let pcs = pcs();
    pcs.fail_next(PcsFault::RetryAfter(StatusCode::TOO_MANY_REQUESTS, 60));
    let client = client(&pcs);
    let left = |seconds| Err(EndorsementErrorKind::RateLimited { retry_after: Duration::from_secs(seconds) });
    assert_eq!(kind(&client, issued()).await, left(60));
    tokio::time::advance(Duration::from_secs(20)).await;
    assert_eq!(kind(&client, issued()).await, left(40));
    assert_eq!(pcs.requests().len(), 1, "nothing was sent in the pause");
    tokio::time::advance(Duration::from_secs(40)).await;
    ask(&client, issued()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_four_requests_share_one_timeout() {
    // Every other response asks for a pause of 4 s, so that each request alone is well within its 10 s.
    let (pcs, asked) = (pcs(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Empty<Bytes>>| {
        if counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            pcs.fail_next(PcsFault::RetryAfter(StatusCode::TOO_MANY_REQUESTS, 4));
        }
        pcs.clone().call(request)
    });
    let client = PcsClient::new(service).with_clock(PausedClock::starting_at(ISSUED));
    let start = Instant::now();
    assert!(matches!(kind(&client, issued()).await, Err(EndorsementErrorKind::RateLimited { .. })));
    assert_eq!(start.elapsed().as_secs(), 8, "the third pause would end after ten seconds");
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    let patient = client.with_timeout(Duration::from_secs(17));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(kind(&patient, issued()).await, Ok(()));
}

#[tokio::test]
async fn collateral_of_another_platform_is_refused_and_not_kept() {
    let pcs = SimulatedPcs::new();
    pcs.publish(&td().platform, &spec().edit_tcb_info(|info| info["fmspc"] = "00906ed50000".into()));
    let clock = ManualClock::new();
    let memory = Arc::new(MemoryCollateral::new(PcsClient::new(pcs.clone())).with_clock(clock.clone()));
    let (verifier, report) = (verifier(Arc::clone(&memory)), SimProvider::new(td()).make(&[7; 64]));
    let error = verifier.verify(&report, issued()).await.unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Mismatch, "{error}");
    assert_eq!(memory.platforms(), []);
    pcs.publish(&td().platform, &spec());
    verifier.verify(&report, issued()).await.unwrap_err();
    assert_eq!(pcs.requests().len(), 4, "the refusal is remembered");
    clock.advance(Duration::from_secs(60));
    verifier.verify(&report, issued()).await.unwrap();
}

#[tokio::test]
async fn an_unknown_platform_is_not_found() {
    assert_eq!(kind(&client(&SimulatedPcs::new()), issued()).await, Err(EndorsementErrorKind::NotFound));
    assert!(matches!(ask(&client(&pcs()), issued()).await, Ok(found) if found.tcb_info.contains("51806f000000")));
    assert_eq!(id().to_string(), "fmspc 51806f000000, platform CA");
}
