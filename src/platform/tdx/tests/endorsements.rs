//! Certificates, revocation and collateral, and where collateral comes from.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::async_trait;

#[test]
fn revoked_certificates_are_refused() {
    refused(verify(&td(), good().revoke_pck()), VerifyErrorKind::Revoked, "PCK certificate");
    refused(verify(&td(), good().revoke_ca()), VerifyErrorKind::Revoked, "PCK certificate");
    refused(verify(&td(), good().revoke_root()), VerifyErrorKind::Revoked, "pinned root");
}

#[test]
fn a_pck_certificate_that_the_root_issued_itself_is_refused() {
    let mut td = td();
    td.platform.issued_by_root = true;
    refused(verify(&td, good()), VerifyErrorKind::Endorsement, "PCK issuer");
}

#[test]
fn collateral_must_be_about_this_platform_and_of_the_right_kind() {
    let mut other = td().platform;
    other.pck.id.fmspc[0] = 0;
    refused(verify(&td(), good().platform(&other)), VerifyErrorKind::Mismatch, "for another platform");
    let mut other = td().platform;
    other.pck.pce_id[1] = 1;
    refused(verify(&td(), good().platform(&other)), VerifyErrorKind::Mismatch, "for another platform");
    for (member, value) in [("id", json!("SGX")), ("version", json!(2))] {
        let collateral = good().edit_tcb_info(|info| info[member] = value);
        refused(verify(&td(), collateral), VerifyErrorKind::Mismatch, "TCB info: expected TDX, version 3");
    }
    for (member, value) in [("id", json!("QE")), ("version", json!(1))] {
        let collateral = good().edit_qe_identity(|identity| identity[member] = value);
        refused(verify(&td(), collateral), VerifyErrorKind::Mismatch, "QE identity: expected TD_QE");
    }
    let short = good().edit_tcb_info(|info| info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"] = json!([]));
    refused(verify(&td(), short), VerifyErrorKind::Endorsement, "16 are expected");
}

#[test]
fn the_crl_of_the_other_pck_ca_does_not_count() {
    let processor = td().platform.with_processor_ca();
    refused(verify(&td(), good().platform(&processor)), VerifyErrorKind::Endorsement, "the PCK CRL: expected");
    let td = SimulatedTd { platform: processor.clone(), ..td() };
    verify(&td, good().platform(&processor)).unwrap();
}

#[test]
fn a_tcb_info_that_another_certificate_of_intel_signed_is_refused() {
    let collateral = good().build_signed_by_pck();
    let report = Report::new(Tee::TDX, td().quote(&DATA)).with_collateral(collateral.to_json());
    refused(judge(&verifier(), &report, now()), VerifyErrorKind::Endorsement, "Intel SGX TCB Signing");
}

#[test]
fn each_issuer_chain_is_verified_even_where_the_other_is_good() {
    let spoils: [fn(&mut Collateral); 2] =
        [|set| set.qe_identity_issuer_chain.clear(), |set| set.tcb_info_issuer_chain.clear()];
    for spoil in spoils {
        let mut collateral = good().build();
        spoil(&mut collateral);
        let report = Report::new(Tee::TDX, td().quote(&DATA)).with_collateral(collateral.to_json());
        assert_eq!(judge(&verifier(), &report, now()).unwrap_err().kind(), VerifyErrorKind::Endorsement);
    }
}

/// Remembered signatures must not outlive a revocation or an expiry.
#[test]
fn a_remembered_pck_chain_counts_only_within_its_dates() {
    let verifier = verifier();
    let good_report = SimProvider::new(td()).stapling(good()).make(&DATA);
    judge(&verifier, &good_report, now()).unwrap();
    for at in [UNIX_EPOCH, now() + Duration::from_secs(200 * 365 * 86_400)] {
        refused(judge(&verifier, &good_report, at), VerifyErrorKind::Endorsement, "PCK certificate does not chain");
    }
    judge(&verifier, &good_report, now()).unwrap();
}

/// What was read from a body counts for that body and that signature alone.
#[test]
fn a_warm_verifier_reads_changed_bodies_anew() {
    let verifier = verifier();
    let report = |spec: CollateralSpec| SimProvider::new(td()).stapling(spec).make(&DATA);
    judge(&verifier, &report(good()), now()).unwrap();
    let outdated = report(good().status(TcbStatus::OutOfDate, &[]));
    refused(judge(&verifier, &outdated, now()), VerifyErrorKind::Policy, "OutOfDate");
    let mut forged = good().build();
    forged.tcb_info = forged.tcb_info.replace("\"tcbEvaluationDataNumber\":18", "\"tcbEvaluationDataNumber\":19");
    let forged = Report::new(Tee::TDX, td().quote(&DATA)).with_collateral(forged.to_json());
    refused(judge(&verifier, &forged, now()), VerifyErrorKind::Endorsement, "signature over the TCB info");
}

#[test]
fn a_warm_verifier_judges_dates_and_revocation_anew() {
    let verifier = verifier();
    let report = |collateral| SimProvider::new(td()).stapling(collateral).make(&DATA);
    let good_report = report(good());
    judge(&verifier, &good_report, now()).unwrap();
    let end = now() + Duration::from_secs(30 * 86_400);
    refused(judge(&verifier, &good_report, end), VerifyErrorKind::Endorsement, "valid from");
    refused(judge(&verifier, &report(good().revoke_pck()), now()), VerifyErrorKind::Revoked, "CRL");
    let outdated = report(good().status(TcbStatus::OutOfDate, &[]));
    refused(judge(&verifier, &outdated, now()), VerifyErrorKind::Policy, "OutOfDate");
    judge(&verifier, &good_report, now()).unwrap();
}

/// A server chooses what it staples: a list that is older than one that the client knows takes nothing back.
#[test]
fn what_a_list_has_revoked_stays_revoked_whatever_list_is_stapled() {
    let later = UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 3600);
    let stapled = |td: &SimulatedTd, spec| SimProvider::new(td.clone()).stapling(spec).make(&DATA);
    for newer in [good().revoke_pck(), good().revoke_ca(), good().revoke_root()] {
        let verifier = verifier();
        judge(&verifier, &stapled(&td(), good()), now()).unwrap();
        refused(judge(&verifier, &stapled(&td(), newer.issued_at(later)), now()), VerifyErrorKind::Revoked, "CRL");
        refused(judge(&verifier, &stapled(&td(), good()), now()), VerifyErrorKind::Revoked, "CRL");
    }

    let verifier = verifier();
    refused(
        judge(&verifier, &stapled(&td(), good().issued_at(later).revoke_pck()), now()),
        VerifyErrorKind::Revoked,
        "CRL",
    );
    let mut other = td();
    other.platform.serial += 1;
    judge(&verifier, &stapled(&other, good()), now()).expect("an older list will do for who is on none");
}

/// Clients drop the trust that they gave under another revision: a machine that has been revoked since is judged anew.
#[test]
fn a_list_that_revokes_more_changes_the_revision() {
    let verifier = verifier();
    let mut other = td();
    other.platform.serial += 1;
    let hour = |hours: u64| UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 3600 * hours);
    let see = |spec: CollateralSpec| {
        let before = verifier.revision();
        judge(&verifier, &SimProvider::new(other.clone()).stapling(spec).make(&DATA), now()).unwrap();
        verifier.revision() != before
    };
    assert!(!see(good().issued_at(hour(1)).revoke_pck()), "the first list: nothing was believed without one");
    assert!(!see(good().issued_at(hour(2)).revoke_pck()), "a newer list of the same machines");
    assert!(!see(good()), "an older list");
    assert!(!see(good().issued_at(hour(3))), "a newer list of none");
    assert!(see(good().issued_at(hour(4)).revoke_pck()), "a newer list of one more");
}

/// Only lists that Intel signed and that hold now are remembered.
#[test]
fn a_list_that_intel_did_not_sign_revokes_nothing() {
    let verifier = verifier();
    let mut forged = good().issued_at(now() - Duration::from_secs(3600)).revoke_pck().build();
    let end = forged.pck_crl.len() - 1;
    forged.pck_crl[end] ^= 1;
    let forged = Report::new(Tee::TDX, td().quote(&DATA)).with_collateral(forged.to_json());
    refused(judge(&verifier, &forged, now()), VerifyErrorKind::Endorsement, "CRL");
    let future = SimProvider::new(td()).stapling(good().issued_at(now() + Duration::from_secs(1)).revoke_pck());
    refused(judge(&verifier, &future.make(&DATA), now()), VerifyErrorKind::Endorsement, "CRL");
    judge(&verifier, &SimProvider::new(td()).stapling(good()).make(&DATA), now()).unwrap();
}

#[derive(Debug)]
struct Counted(Result<Collateral, EndorsementErrorKind>, Arc<AtomicUsize>);

#[async_trait]
impl CollateralSource for Counted {
    async fn collateral(&self, request: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        assert_eq!(request.platform(), td().platform.pck.id);
        self.0.clone().map(Arc::new).map_err(|kind| EndorsementError::new(kind, "asked for a test"))
    }
}

#[test]
fn collateral_comes_from_the_source_where_none_good_is_stapled() {
    let calls = Arc::new(AtomicUsize::new(0));
    let verifier = verifier().with_collateral_source(Counted(Ok(good().build()), calls.clone()));
    let bare = Report::new(Tee::TDX, td().quote(&DATA));
    judge(&verifier, &bare, now()).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    judge(&verifier, &bare.clone().with_collateral(good().build().to_json()), now()).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1, "stapled collateral is enough");
    judge(&verifier, &bare.clone().with_collateral("{}"), now()).unwrap();
    let expired = good().issued_at(UNIX_EPOCH + Duration::from_secs(1_700_000_000)).build();
    judge(&verifier, &bare.with_collateral(expired.to_json()), now()).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

/// Has one set checked and hands out another.
#[derive(Debug)]
struct TwoFaced(CollateralSpec);

#[async_trait]
impl CollateralSource for TwoFaced {
    async fn collateral(&self, request: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        request.check(&Arc::new(good().build())).unwrap();
        Ok(Arc::new(self.0.clone().build()))
    }
}

#[test]
fn a_source_is_judged_by_what_it_returns_and_not_by_what_it_had_checked() {
    let bare = Report::new(Tee::TDX, td().quote(&DATA));
    judge(&verifier().with_collateral_source(TwoFaced(good())), &bare, now()).unwrap();
    let lying = verifier().with_collateral_source(TwoFaced(good().revoke_pck()));
    refused(judge(&lying, &bare, now()), VerifyErrorKind::Revoked, "CRL");
}

#[test]
fn a_source_that_fails_says_whether_to_try_again() {
    let bare = Report::new(Tee::TDX, td().quote(&DATA));
    for (kind, expected) in [
        (EndorsementErrorKind::Unavailable, VerifyErrorKind::Unavailable),
        (EndorsementErrorKind::NotFound, VerifyErrorKind::EndorsementMissing),
        (EndorsementErrorKind::Refused, VerifyErrorKind::Endorsement),
    ] {
        let verifier = verifier().with_collateral_source(Counted(Err(kind), Arc::default()));
        refused(judge(&verifier, &bare, now()), expected, "asked for a test");
    }
    refused(judge(&verifier(), &bare, now()), VerifyErrorKind::EndorsementMissing, "no collateral");
}

#[test]
fn nothing_is_fetched_for_a_quote_that_is_not_genuine() {
    let calls = Arc::new(AtomicUsize::new(0));
    let verifier = verifier().with_collateral_source(Counted(Ok(good().build()), calls.clone()));
    let quote = td().quote(&DATA);
    for position in [60, 600, 640, 720, 800, 1250, 1300, quote.len() - 400] {
        let mut forged = quote.clone();
        forged[position] ^= 1;
        assert!(judge(&verifier, &Report::new(Tee::TDX, forged), now()).is_err());
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}
