//! Collateral over real sockets, from a simulated PCS to the verifier's verdict.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use http::StatusCode;
use tokio::net::TcpListener;
use tower_attest::platform::fetch::HttpsClient;
use tower_attest::platform::tdx::sim::{PcsFault, SimProvider, SimulatedIntel, SimulatedPcs, SimulatedTd};
use tower_attest::platform::tdx::{
    CollateralRefresher, EndorsementError, EndorsementErrorKind, MemoryCollateral, PcsClient, TdxPolicy, TdxVerifier,
};
use tower_attest::{Report, ReportVerifier, VerifyError, VerifyErrorKind};

const MRTD: [u8; 48] = [0xab; 48];

/// Serves `pcs` on a loopback socket, as a PCCS.
async fn serve(pcs: &SimulatedPcs) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback_service(pcs.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn td() -> SimulatedTd {
    SimulatedTd::new(MRTD)
}

fn published() -> SimulatedPcs {
    let pcs = SimulatedPcs::new();
    pcs.publish(&td().platform, &SimulatedIntel::new().collateral().issued_at(SystemTime::now()));
    pcs
}

async fn client(pcs: &SimulatedPcs) -> PcsClient<HttpsClient> {
    PcsClient::new(HttpsClient::new()).with_pccs(&serve(pcs).await).unwrap().with_attempts(1)
}

fn bare_report() -> Report {
    SimProvider::new(td()).make(&[7; 64])
}

fn verifier(source: Arc<MemoryCollateral<PcsClient<HttpsClient>>>) -> Arc<TdxVerifier> {
    let verifier = TdxVerifier::trusting_simulator(TdxPolicy::pin(MRTD), &SimulatedIntel::new());
    Arc::new(verifier.with_collateral_source(source))
}

async fn verify(verifier: &TdxVerifier) -> Result<(), VerifyError> {
    verifier.verify(&bare_report(), SystemTime::now()).await.map(drop)
}

#[tokio::test]
async fn concurrent_verifications_fetch_a_platform_once() {
    let pcs = published();
    let memory = Arc::new(MemoryCollateral::new(client(&pcs).await));
    let _refresh = CollateralRefresher::new().spawn(&memory);
    let verifier = verifier(memory);
    let verdicts: Vec<_> = (0..32)
        .map(|_| {
            let verifier = Arc::clone(&verifier);
            tokio::spawn(async move { verify(&verifier).await })
        })
        .collect();
    for verdict in verdicts {
        verdict.await.unwrap().unwrap();
    }
    assert_eq!(pcs.requests().len(), 4);
    assert_eq!(pcs.requests().last().unwrap(), "/sgx/certification/v4/rootcacrl");
}

#[tokio::test]
async fn faults_of_the_service_are_refusals_that_say_whether_to_retry() {
    for (fault, expected) in [
        (PcsFault::Hang, VerifyErrorKind::Unavailable),
        (PcsFault::Status(StatusCode::BAD_GATEWAY), VerifyErrorKind::Unavailable),
        (PcsFault::RetryAfter(StatusCode::TOO_MANY_REQUESTS, 60), VerifyErrorKind::Unavailable),
        (PcsFault::Status(StatusCode::NOT_FOUND), VerifyErrorKind::EndorsementMissing),
        (PcsFault::Oversized, VerifyErrorKind::Endorsement),
        (PcsFault::Truncated, VerifyErrorKind::Endorsement),
        (PcsFault::Garbage, VerifyErrorKind::Endorsement),
    ] {
        let pcs = published();
        pcs.fail_next(fault);
        let client = client(&pcs).await;
        // Only who gets no answer is to wait for the end.
        let client = if fault == PcsFault::Hang { client.with_timeout(Duration::from_millis(200)) } else { client };
        let error = verify(&verifier(Arc::new(MemoryCollateral::new(client)))).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{fault:?}: {error}");
    }
}

#[tokio::test]
async fn a_requested_pause_reaches_the_caller() {
    let pcs = published();
    pcs.fail_next(PcsFault::RetryAfter(StatusCode::TOO_MANY_REQUESTS, 60));
    let verifier = verifier(Arc::new(MemoryCollateral::new(client(&pcs).await)));
    let error = verify(&verifier).await.unwrap_err();
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<EndorsementError>());
    let pause = EndorsementErrorKind::RateLimited { retry_after: Duration::from_secs(60) };
    assert_eq!(source.map(EndorsementError::kind), Some(pause));
    verify(&verifier).await.unwrap_err();
    assert_eq!(pcs.requests().len(), 1, "nothing is sent in the pause");
}
