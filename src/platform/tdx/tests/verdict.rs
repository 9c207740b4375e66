//! What a genuine quote says of the TD, its module, its quoting enclave and its platform.

use serde_json::json;

use super::*;

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
fn a_judgement_says_what_each_rule_asks_for_whether_it_holds_or_not() {
    let claims = verify(&td(), good()).unwrap();
    let details = claims.details::<TdxDetails>().unwrap();
    let outcome = |policy: TdxPolicy, rule: &str| {
        let judgement = policy.judge(details, now()).unwrap();
        let outcome = judgement.rules().iter().find(|outcome| outcome.rule == rule).unwrap();
        (outcome.passed, outcome.expected.clone())
    };
    let strict = TdxPolicy::pin(MRTD);
    let holds = outcome(strict.clone().with_xfam(0b11, 1 << 4 | 1 << 63), "xfam");
    assert_eq!(holds, (true, "bits set [0, 1], bits clear [4, 63]".to_owned()));
    let fails = outcome(strict.clone().with_xfam(1 << 40, 0), "xfam");
    assert_eq!(fails, (false, "bits set [40], bits clear []".to_owned()));
    let fails = outcome(strict.with_xfam(0, 1), "xfam");
    assert_eq!(fails, (false, "bits set [], bits clear [0]".to_owned()));
}

#[test]
fn advisories_are_claimed_where_there_are_any() {
    let advisories = |spec| {
        let policy = TdxPolicy::pin(MRTD).accept(AcceptedStatus::new(TcbStatus::SwHardeningNeeded, ["INTEL-SA-1"]));
        let verifier = TdxVerifier::trusting_simulator(policy, &SimulatedIntel::new());
        let report = SimProvider::new(td()).stapling(spec).make(&DATA);
        judge(&verifier, &report, now()).unwrap().fact("advisories").map(str::to_owned)
    };
    assert_eq!(advisories(good()), None);
    let hardening = good().status(TcbStatus::SwHardeningNeeded, &["INTEL-SA-1"]);
    assert_eq!(advisories(hardening), Some("INTEL-SA-1".to_owned()));
}

/// Bits outside the identity's mask may stand in its attributes, and not in the module's.
#[test]
fn a_modules_attributes_are_compared_under_the_mask() {
    let masked = |info: &mut serde_json::Value| {
        info["tdxModuleIdentities"][0]["attributes"] = json!("F100000000000000");
        info["tdxModuleIdentities"][0]["attributesMask"] = json!("0F00000000000000");
    };
    let mut td = td();
    for (attributes, accepted) in [(0x01, true), (0x00, false), (0x03, false), (0xf1, false), (0x11, false)] {
        td.report.seam_attributes = attributes;
        let verdict = verify(&td, good().edit_tcb_info(masked));
        assert_eq!(verdict.is_ok(), accepted, "{attributes:#x}: {verdict:?}");
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

/// The better of two statuses never hides the worse.
#[test]
fn a_td_whose_present_tcb_is_out_of_date_is_out_of_date_however_it_was_launched() {
    let mut td = td().with_format(QuoteFormat::V5Td15);
    td.report.td15.as_mut().unwrap().tee_tcb_svn_2[2] = 2;
    let advised = |info: &mut serde_json::Value| info["tcbLevels"][1]["advisoryIDs"] = json!(["INTEL-SA-00002"]);
    let found = "found OutOfDate with [\"INTEL-SA-00002\"]";
    refused(verify(&td, good().edit_tcb_info(advised)), VerifyErrorKind::Policy, found);
    let configuration = good().status(TcbStatus::ConfigurationNeeded, &["INTEL-SA-00001"]).edit_tcb_info(advised);
    let found = "found OutOfDateConfigurationNeeded with [\"INTEL-SA-00001\", \"INTEL-SA-00002\"]";
    refused(verify(&td, configuration), VerifyErrorKind::Policy, found);
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
fn a_new_policy_holds_from_then_on_and_changes_the_revision() {
    let verifier = verifier();
    let report = SimProvider::new(td()).stapling(good()).make(&DATA);
    judge(&verifier, &report, now()).unwrap();
    let before = verifier.revision();
    verifier.set_policy(TdxPolicy::pin([1; 48]));
    assert_ne!(verifier.revision(), before);
    refused(judge(&verifier, &report, now()), VerifyErrorKind::Policy, "mrtd");
}

/// What a policy accepts until a day is not believed past that day.
#[test]
fn what_is_accepted_for_a_while_is_believed_no_longer() {
    let outdated = || good().status(TcbStatus::OutOfDate, &["INTEL-SA-00001"]);
    let report = SimProvider::new(td()).stapling(outdated()).make(&DATA);
    let valid_until = |ends: &[u64]| {
        let policy = ends.iter().fold(TdxPolicy::pin(MRTD), |policy, end| {
            let status = AcceptedStatus::new(TcbStatus::OutOfDate, ["INTEL-SA-00001"]);
            policy.accept(status.until(now() + Duration::from_secs(*end)))
        });
        let verifier = TdxVerifier::trusting_simulator(policy, &SimulatedIntel::new());
        let claims = judge(&verifier, &report, now()).unwrap();
        assert_eq!(claims.details::<TdxDetails>().map(|details| details.valid_until), claims.valid_until());
        claims.valid_until().unwrap().duration_since(now()).unwrap().as_secs()
    };
    assert_eq!(valid_until(&[60]), 60);
    assert_eq!(valid_until(&[60, 90]), 90, "the entry that accepts it longest counts");
    assert_eq!(valid_until(&[40 * 86_400]), 29 * 86_400, "the collateral ends first");
}
