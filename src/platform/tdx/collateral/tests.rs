//! The sources, against a simulated PCS with faults.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;

use super::*;
use crate::platform::tdx::sim::{CollateralSpec, PcsFault, SimProvider, SimulatedIntel, SimulatedPcs, SimulatedTd};
use crate::platform::tdx::{TdxPolicy, TdxVerifier};
use crate::verifier::ReportVerifier as _;

const DAY: Duration = Duration::from_secs(86_400);

fn issued() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

fn spec() -> CollateralSpec {
    SimulatedIntel::new().collateral().issued_at(issued())
}

fn id() -> PlatformId {
    td().platform.pck.id
}

fn td() -> SimulatedTd {
    SimulatedTd::new([1; 48])
}

fn pcs() -> SimulatedPcs {
    let pcs = SimulatedPcs::new();
    pcs.publish(&td().platform, &spec());
    pcs
}

async fn kind(source: &impl CollateralSource, now: SystemTime) -> Result<(), CollateralErrorKind> {
    source.collateral(&id(), now).await.map(|_| ()).map_err(|error| error.kind())
}

#[tokio::test]
async fn a_verifier_with_a_pcs_needs_nothing_stapled() {
    for client in [PcsClient::new(pcs()), PcsClient::new(pcs()).with_pccs("http://pccs.internal:8081/")] {
        let verifier = TdxVerifier::trusting_simulator(TdxPolicy::pin([1; 48]), &SimulatedIntel::new())
            .collateral_source(MemoryCollateral::new(client));
        let report = SimProvider::new(td()).make(&[7; 64]);
        verifier.verify(&report, issued() + DAY).await.unwrap();
    }
}

#[tokio::test]
async fn four_requests_fetch_a_platform_by_intels_urls() {
    let pcs = pcs();
    PcsClient::new(pcs.clone()).collateral(&id(), issued()).await.unwrap();
    let expected = [
        "/tdx/certification/v4/tcb?fmspc=51806f000000",
        "/tdx/certification/v4/qe/identity",
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "/IntelSGXRootCA.der",
    ];
    assert_eq!(pcs.requests(), expected);
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_the_service_is_an_error_that_says_whether_to_retry() {
    let status = |status| PcsFault::Status(status);
    for (fault, expected) in [
        (status(StatusCode::TOO_MANY_REQUESTS), CollateralErrorKind::Unavailable),
        (status(StatusCode::SERVICE_UNAVAILABLE), CollateralErrorKind::Unavailable),
        (status(StatusCode::NOT_FOUND), CollateralErrorKind::NotFound),
        (status(StatusCode::FOUND), CollateralErrorKind::Invalid),
        (status(StatusCode::UNAUTHORIZED), CollateralErrorKind::Invalid),
        (PcsFault::Oversized, CollateralErrorKind::Unavailable),
        (PcsFault::NoChain, CollateralErrorKind::Invalid),
        (PcsFault::Garbage, CollateralErrorKind::Invalid),
        (PcsFault::Hang, CollateralErrorKind::Unavailable),
    ] {
        let pcs = pcs();
        pcs.fail_next(fault);
        let client = PcsClient::new(pcs);
        assert_eq!(kind(&client, issued()).await, Err(expected), "{fault:?}");
        assert_eq!(kind(&client, issued()).await, Ok(()), "after {fault:?}");
    }
}

#[tokio::test]
async fn an_unknown_platform_is_not_found() {
    let client = PcsClient::new(SimulatedPcs::new());
    assert_eq!(kind(&client, issued()).await, Err(CollateralErrorKind::NotFound));
}

#[tokio::test]
async fn memory_fetches_once_for_all_who_ask() {
    let pcs = pcs();
    let memory = Arc::new(MemoryCollateral::new(PcsClient::new(pcs.clone())));
    let asking: Vec<_> = (0..16)
        .map(|_| {
            let memory = Arc::clone(&memory);
            tokio::spawn(async move { memory.collateral(&id(), issued()).await.map(|_| ()) })
        })
        .collect();
    for task in asking {
        task.await.unwrap().unwrap();
    }
    assert_eq!(pcs.requests().len(), 4);
}

#[tokio::test]
async fn memory_renews_a_day_before_the_end_and_lives_on_while_that_fails() {
    let pcs = pcs();
    let memory = MemoryCollateral::new(PcsClient::new(pcs.clone()));
    let requests = || pcs.requests().len();
    let second = Duration::from_secs(1);
    kind(&memory, issued()).await.unwrap();
    kind(&memory, issued() + 29 * DAY - second).await.unwrap();
    assert_eq!(requests(), 4);
    pcs.fail_next(PcsFault::Status(StatusCode::BAD_GATEWAY));
    kind(&memory, issued() + 29 * DAY).await.unwrap();
    assert_eq!(requests(), 5, "renewing fails, the old set is still valid");
    pcs.publish(&td().platform, &spec().issued_at(issued() + 20 * DAY));
    kind(&memory, issued() + 29 * DAY + Duration::from_secs(30)).await.unwrap();
    assert_eq!(requests(), 9);
    kind(&memory, issued() + 40 * DAY).await.unwrap();
    assert_eq!(requests(), 9, "the new set");
}

#[tokio::test]
async fn memory_gives_out_nothing_expired_and_remembers_a_failure_for_a_while() {
    let pcs = pcs();
    let memory = MemoryCollateral::new(PcsClient::new(pcs.clone()));
    kind(&memory, issued()).await.unwrap();
    let end = issued() + 30 * DAY;
    for _ in 0..3 {
        pcs.fail_next(PcsFault::Status(StatusCode::BAD_GATEWAY));
    }
    for seconds in [0, 10, 29] {
        let now = end + Duration::from_secs(seconds);
        assert_eq!(kind(&memory, now).await, Err(CollateralErrorKind::Unavailable));
        assert_eq!(pcs.requests().len(), 5, "{seconds}");
    }
    assert!(kind(&memory, end + Duration::from_secs(30)).await.is_err());
    assert_eq!(pcs.requests().len(), 6);
}

fn write(dir: &std::path::Path, collateral: &Collateral) {
    std::fs::create_dir_all(dir).unwrap();
    let signed = |name: &str, body: &str, signature: &[u8]| {
        format!("{{\"{name}\":{body},\"signature\":\"{}\"}}", Hex(signature)).into_bytes()
    };
    for (name, bytes) in [
        ("tcb_info.json", signed("tcbInfo", &collateral.tcb_info, &collateral.tcb_info_signature)),
        ("qe_identity.json", signed("enclaveIdentity", &collateral.qe_identity, &collateral.qe_identity_signature)),
        ("tcb_signing_chain.pem", collateral.tcb_info_issuer_chain.clone().into_bytes()),
        ("pck_crl.der", collateral.pck_crl.clone()),
        ("pck_crl_issuer_chain.pem", collateral.pck_crl_issuer_chain.clone().into_bytes()),
        ("root_ca_crl.der", collateral.root_ca_crl.clone()),
    ] {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

#[tokio::test]
async fn a_directory_serves_what_it_has_and_another_source_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let directory = CollateralDirectory::new(dir.path());
    assert_eq!(kind(&directory, issued()).await, Err(CollateralErrorKind::NotFound));
    let pcs = pcs();
    let both = directory.clone().or_else(PcsClient::new(pcs.clone()));
    kind(&both, issued()).await.unwrap();
    assert_eq!(pcs.requests().len(), 4, "the directory is empty");

    let files = directory.dir_of(&id());
    assert_eq!(files, dir.path().join("51806f000000-platform"));
    write(&files, &spec().build());
    kind(&both, issued() + 30 * DAY - DAY).await.unwrap();
    assert_eq!(pcs.requests().len(), 4, "the directory has it");
    kind(&both, issued() + 30 * DAY).await.unwrap();
    assert_eq!(pcs.requests().len(), 8, "what the directory has is expired");

    std::fs::write(files.join("tcb_info.json"), "{}").unwrap();
    assert_eq!(kind(&directory, issued()).await, Err(CollateralErrorKind::Invalid));
}

#[test]
fn a_response_over_its_limit_is_refused() {
    let collateral = spec().build();
    let long = vec![b' '; MAX_PART_LEN + 1];
    let refused = Collateral::from_pcs(PcsResponses {
        tcb_info: b"{}",
        tcb_info_issuer_chain: &collateral.tcb_info_issuer_chain,
        qe_identity: b"{}",
        qe_identity_issuer_chain: &collateral.qe_identity_issuer_chain,
        pck_crl: &long,
        pck_crl_issuer_chain: &collateral.pck_crl_issuer_chain,
        root_ca_crl: &collateral.root_ca_crl,
    });
    assert!(matches!(refused, Err(InvalidCollateral::TooLong { part: "the PCK CRL", .. })));
}
