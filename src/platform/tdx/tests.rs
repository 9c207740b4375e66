//! What a simulated Intel can get wrong, and which check says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::json;

use super::sim::{CollateralSpec, QuoteFormat, SimProvider, SimulatedIntel, SimulatedTd};
use super::*;
use crate::async_trait;
use crate::report::{Platform as Tee, Report};
use crate::verifier::{Claims, ReportVerifier, VerifyError, VerifyErrorKind};

const MRTD: [u8; 48] = [0xab; 48];
const DATA: [u8; 64] = [7; 64];

/// Within the default collateral's window.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 86_400)
}

fn td() -> SimulatedTd {
    SimulatedTd::new(MRTD)
}

fn good() -> CollateralSpec {
    SimulatedIntel::new().collateral()
}

fn verifier() -> TdxVerifier {
    TdxVerifier::trusting_simulator(TdxPolicy::pin(MRTD), &SimulatedIntel::new())
}

fn judge(verifier: &TdxVerifier, report: &Report, at: SystemTime) -> Result<Claims, VerifyError> {
    tokio_test::block_on(verifier.verify(report, at))
}

fn verify(td: &SimulatedTd, collateral: CollateralSpec) -> Result<Claims, VerifyError> {
    judge(&verifier(), &SimProvider::new(td.clone()).stapling(collateral).make(&DATA), now())
}

#[track_caller]
fn refused(verdict: Result<Claims, VerifyError>, kind: VerifyErrorKind, message: &str) {
    let error = verdict.expect_err("must be refused");
    assert!(
        error.kind() == kind && error.to_string().contains(message),
        "expected {kind:?} {message:?}, found {error}"
    );
}

#[test]
fn every_format_is_accepted_and_its_claims_are_what_was_signed() {
    for format in [QuoteFormat::V4, QuoteFormat::V5Td10, QuoteFormat::V5Td15] {
        let td = td().with_format(format);
        let claims = verify(&td, good()).unwrap();
        assert_eq!(claims.report_data(), &DATA);
        assert_eq!(claims.measurement(), MRTD);
        let details = claims.details::<TdxDetails>().unwrap();
        assert_eq!(details.td_report, TdReport { report_data: DATA, ..td.report });
        assert_eq!(details.platform, td.platform.pck);
        assert_eq!(claims.valid_until(), Some(UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 30 * 86_400)));
        assert!(claims.fact("tcb").unwrap().starts_with("UpToDate, evaluation 18"));
    }
}

#[test]
fn a_verifier_of_real_hardware_refuses_every_simulated_quote() {
    for format in [QuoteFormat::V4, QuoteFormat::V5Td10, QuoteFormat::V5Td15] {
        let report = SimProvider::new(td().with_format(format)).stapling(good()).make(&DATA);
        let real = TdxVerifier::new(TdxPolicy::pin(MRTD));
        refused(judge(&real, &report, now()), VerifyErrorKind::Endorsement, "ends in another root");
        assert!(Genuineness::intel().check(&report, now()).is_err());
    }
}

#[test]
fn every_tcb_status_is_told_and_only_up_to_date_passes() {
    for (status, name) in tcb::TcbStatus::ALL {
        let verdict = verify(&td(), good().status(status, &["INTEL-SA-00001"]));
        match status {
            TcbStatus::UpToDate => drop(verdict.unwrap()),
            TcbStatus::Revoked => refused(verdict, VerifyErrorKind::Revoked, "revoked this platform's TCB"),
            _ => refused(verdict, VerifyErrorKind::Policy, &format!("found {name} with [\"INTEL-SA-00001\"]")),
        }
    }
}

#[test]
fn an_older_platform_module_or_quoting_enclave_is_out_of_date() {
    let out_of_date = |td: &SimulatedTd| refused(verify(td, good()), VerifyErrorKind::Policy, "found OutOfDate with");
    let mut td = self::td();
    td.platform.pck.cpu_svn[15] = 2;
    out_of_date(&td);
    let mut td = self::td();
    td.report.tee_tcb_svn[2] = 2;
    out_of_date(&td);
    let mut td = self::td();
    td.report.tee_tcb_svn[0] = 2;
    out_of_date(&td);
    let mut td = self::td();
    td.qe_isv_svn = 3;
    out_of_date(&td);
}

#[test]
fn a_platform_module_or_quoting_enclave_below_every_level_is_refused() {
    let unsupported = |td: &SimulatedTd, why| refused(verify(td, good()), VerifyErrorKind::Mismatch, why);
    let mut td = self::td();
    td.platform.pck.cpu_svn[0] = 1;
    unsupported(&td, "no TCB level");
    let mut td = self::td();
    td.platform.pck.pce_svn = 12;
    unsupported(&td, "no TCB level");
    let mut td = self::td();
    td.report.tee_tcb_svn[15] = 1;
    unsupported(&td, "no TCB level");
    let mut td = self::td();
    td.report.tee_tcb_svn[0] = 1;
    unsupported(&td, "below every level of its identity");
    let mut td = self::td();
    td.report.tee_tcb_svn[1] = 9;
    unsupported(&td, "no identity for TDX module TDX_09");
    let mut td = self::td();
    td.qe_isv_svn = 2;
    unsupported(&td, "ISVSVN 2 is below every level");
}

/// Intel's rule: bytes 0 and 1 are compared with the TDX components only where the module has no version.
#[test]
fn the_modules_svn_is_judged_by_its_identity_or_by_the_components() {
    let mut td = td();
    td.report.tee_tcb_svn = [3; 16];
    (td.report.tee_tcb_svn[0], td.report.tee_tcb_svn[1]) = (4, 1);
    verify(&td, good()).unwrap();
    td.report.tee_tcb_svn[1] = 0;
    refused(verify(&td, good()), VerifyErrorKind::Mismatch, "no TCB level");
}

#[test]
fn a_td_launched_before_an_update_should_be_relaunched() {
    let mut td = td().with_format(QuoteFormat::V5Td15);
    td.report.tee_tcb_svn[2] = 2;
    refused(verify(&td, good()), VerifyErrorKind::Policy, "found TDRelaunchAdvised with");
    let configuration = good().status(TcbStatus::ConfigurationNeeded, &[]);
    refused(verify(&td, configuration), VerifyErrorKind::Policy, "found TDRelaunchAdvisedConfigurationNeeded with");
    td.report.td15.as_mut().unwrap().tee_tcb_svn_2[2] = 2;
    refused(verify(&td, good()), VerifyErrorKind::Policy, "found OutOfDate with");
    td.report.td15.as_mut().unwrap().tee_tcb_svn_2[2] = 1;
    refused(verify(&td, good()), VerifyErrorKind::Mismatch, "no TCB level");
}

#[test]
fn a_td_whose_present_tcb_is_revoked_is_refused() {
    let mut td = td().with_format(QuoteFormat::V5Td15);
    td.report.td15.as_mut().unwrap().tee_tcb_svn_2[2] = 2;
    let collateral = good().edit_tcb_info(|info| info["tcbLevels"][1]["tcbStatus"] = json!("Revoked"));
    refused(verify(&td, collateral), VerifyErrorKind::Revoked, "revoked this platform's TCB");
}

#[test]
fn a_debug_td_or_one_with_a_foreign_module_is_refused() {
    let mut td = td();
    td.report.td_attributes |= 1;
    refused(verify(&td, good()), VerifyErrorKind::Policy, "td-attributes");
    let report = SimProvider::new(td.clone()).stapling(good()).make(&DATA);
    let error = Genuineness::trusting_simulator(&SimulatedIntel::new()).check(&report, now()).unwrap_err();
    assert_eq!(error.failed_rules()[0].rule, "td-attributes");

    let module = "signer or attributes are not those of its identity";
    let mut td = self::td();
    td.report.mr_signer_seam[0] = 1;
    refused(verify(&td, good()), VerifyErrorKind::Mismatch, module);
    let mut td = self::td();
    td.report.seam_attributes = 1;
    refused(verify(&td, good()), VerifyErrorKind::Mismatch, module);
    let unmasked =
        good().edit_tcb_info(|info| info["tdxModuleIdentities"][0]["attributesMask"] = json!("0000000000000000"));
    refused(verify(&td, unmasked), VerifyErrorKind::Mismatch, module);
    // A module without a version is judged by the base entry.
    td.report.tee_tcb_svn = [3; 16];
    td.report.tee_tcb_svn[1] = 0;
    let level = |info: &mut serde_json::Value| info["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][1] = json!({"svn": 0});
    refused(verify(&td, good().edit_tcb_info(level)), VerifyErrorKind::Mismatch, "(tdxModule)");
    td.report.seam_attributes = 0;
    verify(&td, good().edit_tcb_info(level)).unwrap();
}

#[test]
fn another_quoting_enclave_is_refused() {
    let foreign = |change: &dyn Fn(&mut SimulatedTd), field: &str| {
        let mut td = td();
        change(&mut td);
        refused(verify(&td, good()), VerifyErrorKind::Mismatch, &format!("its {field} is not"));
    };
    foreign(&|td| td.qe_mr_signer[31] ^= 1, "MRSIGNER");
    foreign(&|td| td.qe_isv_prod_id = 1, "ISVPRODID");
    foreign(&|td| td.qe_misc_select[0] = 1, "MISCSELECT");
    foreign(&|td| td.qe_attributes[0] |= 2, "ATTRIBUTES");
    let mut td = td();
    // A bit that the mask leaves out.
    td.qe_attributes[0] |= 4;
    verify(&td, good()).unwrap();
    td.qe_vouches = false;
    refused(verify(&td, good()), VerifyErrorKind::Signature, "does not vouch for the attestation key");
}

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
    refused(verify(&td(), good().platform(&processor)), VerifyErrorKind::Endorsement, "PCK certificate does not chain");
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
fn a_report_of_another_platform_is_refused() {
    let report = Report::new(Tee::SNP, td().quote(&DATA)).with_collateral(good().build().to_json());
    refused(judge(&verifier(), &report, now()), VerifyErrorKind::UnsupportedPlatform, "expected tdx, found snp");
}

#[test]
fn a_new_policy_holds_from_then_on_and_changes_the_revision() {
    let verifier = verifier();
    let report = SimProvider::new(td()).stapling(good()).make(&DATA);
    judge(&verifier, &report, now()).unwrap();
    let before = verifier.revision();
    verifier.set_policy(TdxPolicy::pin([1; 48]));
    assert_ne!(verifier.revision(), before);
    refused(judge(&verifier, &report, now()), VerifyErrorKind::Policy, "mrtd");
}

/// Remembered signatures must not outlive a revocation or an expiry.
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
    let verifier = verifier().collateral_source(Counted(Ok(good().build()), calls.clone()));
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

#[test]
fn a_source_that_fails_says_whether_to_try_again() {
    let bare = Report::new(Tee::TDX, td().quote(&DATA));
    for (kind, expected) in [
        (EndorsementErrorKind::Unavailable, VerifyErrorKind::Unavailable),
        (EndorsementErrorKind::NotFound, VerifyErrorKind::EndorsementMissing),
        (EndorsementErrorKind::Refused, VerifyErrorKind::Endorsement),
    ] {
        let verifier = verifier().collateral_source(Counted(Err(kind), Arc::default()));
        refused(judge(&verifier, &bare, now()), expected, "asked for a test");
    }
    refused(judge(&verifier(), &bare, now()), VerifyErrorKind::EndorsementMissing, "no collateral");
}

#[test]
fn nothing_is_fetched_for_a_quote_that_is_not_genuine() {
    let calls = Arc::new(AtomicUsize::new(0));
    let verifier = verifier().collateral_source(Counted(Ok(good().build()), calls.clone()));
    let quote = td().quote(&DATA);
    for position in [60, 600, 640, 720, 800, 1250, 1300, quote.len() - 400] {
        let mut forged = quote.clone();
        forged[position] ^= 1;
        assert!(judge(&verifier, &Report::new(Tee::TDX, forged), now()).is_err());
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[test]
fn a_quote_that_is_not_exactly_one_is_refused() {
    let quote = td().quote(&DATA);
    let parse = |bytes: Vec<u8>| Quote::parse(&Bytes::from(bytes));
    assert!(parse(quote.clone()).is_ok());
    for length in 0..quote.len() {
        assert!(parse(quote[..length].to_vec()).is_err(), "{length} bytes");
    }
    assert_eq!(parse([quote.clone(), vec![0]].concat()), Err(QuoteError::Trailing { part: "the quote", count: 1 }));
    assert_eq!(parse(vec![0; 40_000]), Err(QuoteError::TooLong(40_000)));
    let with = |position: usize, byte: u8| {
        let mut changed = quote.clone();
        changed[position] = byte;
        parse(changed)
    };
    let unsupported =
        |result, name| assert!(matches!(result, Err(QuoteError::Unsupported { field, .. }) if field == name), "{name}");
    unsupported(with(0, 6), "version");
    unsupported(with(2, 3), "attestation key type");
    unsupported(with(4, 0x82), "TEE type");
    unsupported(with(12, 0), "QE vendor id");
    unsupported(with(48 + 584 + 4 + 128, 5), "certification data type");
    unsupported(with(48 + 584 + 4 + 134 + 384 + 64 + 2 + 32, 1), "certification data type");
    assert_eq!(with(4, 0), Err(QuoteError::Sgx));
    assert_eq!(with(0, 3), Err(QuoteError::Sgx));
    let mut report = vec![0; 1024];
    report[0] = 0x81;
    assert_eq!(parse(report), Err(QuoteError::TdReport));
}

#[test]
fn a_version_5_body_must_be_of_a_known_type_and_length() {
    let quote = td().with_format(QuoteFormat::V5Td15).quote(&DATA);
    let with = |position: usize, byte: u8| {
        let mut changed = quote.clone();
        changed[position] = byte;
        Quote::parse(&Bytes::from(changed))
    };
    assert_eq!(with(48, 1), Err(QuoteError::Sgx));
    assert!(matches!(with(48, 4), Err(QuoteError::Unsupported { field: "body type", .. })));
    assert!(matches!(with(48, 2), Err(QuoteError::Unsupported { field: "body length", .. })));
    assert!(matches!(with(50, 0), Err(QuoteError::Unsupported { field: "body length", .. })));
}

/// Bytes that a part's length includes but no field takes.
#[test]
fn bytes_hidden_inside_a_quote_are_refused() {
    let quote = td().quote(&DATA);
    let data = 48 + 584;
    let grow = |hidden_in_certification: bool| {
        let mut grown = quote.clone();
        grown.push(0);
        let mut add_one = |position: usize| {
            let length = u32::from_le_bytes(grown[position..position + 4].try_into().unwrap()) + 1;
            grown[position..position + 4].copy_from_slice(&length.to_le_bytes());
        };
        add_one(data);
        if hidden_in_certification {
            add_one(data + 4 + 130);
        }
        Quote::parse(&Bytes::from(grown))
    };
    assert_eq!(grow(false), Err(QuoteError::Trailing { part: "the signature data", count: 1 }));
    assert_eq!(grow(true), Err(QuoteError::Trailing { part: "the QE certification data", count: 1 }));
}

#[test]
fn collateral_survives_its_json_form_and_bad_json_is_refused() {
    let collateral = good().build();
    assert_eq!(Collateral::from_json(&collateral.to_json()).unwrap(), collateral);
    let text = String::from_utf8(collateral.to_json()).unwrap();
    for bad in [
        text.replacen("\"pck_crl\":", "\"pck_crl\":\"00\",\"pck_crl\":", 1),
        text.replacen("\"root_ca_crl\":\"30", "\"root_ca_crl\":\"3", 1),
        text.replacen("\"tcb_info\":", "\"tcb_inf\":", 1),
        format!("{text}x"),
        " ".repeat(300 * 1024),
    ] {
        assert!(Collateral::from_json(bad.as_bytes()).is_err());
    }
}
