//! The sources, against a simulated PCS with faults.

mod memory;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::platform::endorser::{EndorsementError, EndorsementErrorKind};
use crate::platform::tdx::sim::{CollateralSpec, SimulatedIntel, SimulatedPcs, SimulatedTd};
use crate::verifier::{VerifyError, VerifyErrorKind};

pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// When the simulated collateral begins, in seconds since 1970; it ends 30 days later.
pub(super) const ISSUED: u64 = 1_767_225_600;

pub(super) fn issued() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(ISSUED)
}

pub(super) fn spec() -> CollateralSpec {
    SimulatedIntel::new().collateral().issued_at(issued())
}

pub(super) fn td() -> SimulatedTd {
    SimulatedTd::new([1; 48])
}

pub(super) fn id() -> PlatformId {
    td().platform.pck.id
}

pub(super) fn pcs() -> SimulatedPcs {
    let pcs = SimulatedPcs::new();
    pcs.publish(&td().platform, &spec());
    pcs
}

/// Passes what says when it ends.
pub(super) fn dated(collateral: &Arc<Collateral>) -> Result<SystemTime, VerifyError> {
    collateral.next_update().ok_or_else(|| VerifyError::new(VerifyErrorKind::Endorsement, "without an end"))
}

pub(super) async fn ask(source: &impl CollateralSource, now: SystemTime) -> Result<Arc<Collateral>, EndorsementError> {
    source.collateral(&CollateralRequest::new(id(), now, &dated)).await
}

pub(super) async fn kind(source: &impl CollateralSource, now: SystemTime) -> Result<(), EndorsementErrorKind> {
    ask(source, now).await.map(drop).map_err(|error| error.kind())
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
    assert_eq!(kind(&directory, issued()).await, Err(EndorsementErrorKind::NotFound));
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
    assert_eq!(kind(&directory, issued()).await, Err(EndorsementErrorKind::Refused));
}

#[tokio::test]
async fn the_next_source_is_asked_where_the_verifier_refuses_what_the_first_has() {
    let dir = tempfile::tempdir().unwrap();
    let directory = CollateralDirectory::new(dir.path());
    write(&directory.dir_of(&id()), &spec().evaluation_number(17).build());
    let pcs = pcs();
    let both = directory.or_else(PcsClient::new(pcs.clone()));
    let floor = |collateral: &Arc<Collateral>| {
        let old = collateral.tcb_info.contains("\"tcbEvaluationDataNumber\":17");
        if old { Err(VerifyError::new(VerifyErrorKind::Policy, "too old")) } else { dated(collateral) }
    };
    let found = both.collateral(&CollateralRequest::new(id(), issued(), &floor)).await.unwrap();
    assert!(found.tcb_info.contains("\"tcbEvaluationDataNumber\":18"));
    assert_eq!(pcs.requests().len(), 4);
}

/// What a server staples is as long as it likes; what is said of it is not.
#[test]
fn an_error_shows_only_the_start_of_what_is_not_collateral() {
    let long = "\u{e9}".repeat(60_000);
    for json in
        [format!("\"{long}\""), format!("{{\"pck_crl_issuer_chain\":{{\"{long}\":1}}}}"), format!("[\"{long}\"]")]
    {
        let error = Collateral::from_json(json.as_bytes()).unwrap_err().to_string();
        assert!(error.len() < 600, "{} bytes", error.len());
    }
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
