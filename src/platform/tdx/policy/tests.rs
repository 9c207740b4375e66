use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::platform::tdx::authenticate::Appraisal;
use crate::platform::tdx::collateral::{PckCa, PlatformId};
use crate::platform::tdx::pck::PckPlatform;
use crate::platform::tdx::quote::{Td15, TdReport};
use crate::platform::tdx::tcb::Verdict;
use crate::verifier::{VerifyError, VerifyErrorKind};

const NOW: SystemTime = UNIX_EPOCH;

struct Td {
    body: TdReport,
    platform: PckPlatform,
    appraisal: Appraisal,
}

/// An up-to-date TD that `pin([1; 48])` accepts.
fn td() -> Td {
    Td {
        body: TdReport {
            tee_tcb_svn: [5; 16],
            mr_seam: [2; 48],
            mr_signer_seam: [0; 48],
            seam_attributes: 0,
            td_attributes: SEPT_VE_DISABLE,
            xfam: 0x3,
            mr_td: [1; 48],
            mr_config_id: [3; 48],
            mr_owner: [4; 48],
            mr_owner_config: [5; 48],
            rtmr: [[10; 48], [11; 48], [12; 48], [13; 48]],
            report_data: [0; 64],
            td15: Some(Td15 { tee_tcb_svn_2: [5; 16], mr_service_td: [0; 48] }),
        },
        platform: PckPlatform {
            ppid: [6; 16],
            id: PlatformId { fmspc: [7; 6], ca: PckCa::Platform },
            pce_id: [0; 2],
            cpu_svn: [0; 16],
            pce_svn: 13,
            instance_id: Some([8; 16]),
            dynamic_platform: Some(true),
            cached_keys: Some(true),
            smt_enabled: Some(true),
        },
        appraisal: Appraisal {
            verdict: Verdict {
                status: TcbStatus::UpToDate,
                advisories: Vec::new(),
                tcb_date: "2024-11-13T00:00:00Z".to_owned(),
            },
            evaluation_number: 18,
            valid_until: NOW + Duration::from_secs(1),
        },
    }
}

fn judge(policy: &TdxPolicy, td: &Td) -> Result<Option<String>, VerifyError> {
    let subject = Subject { body: &td.body, platform: &td.platform, appraisal: &td.appraisal, now: NOW };
    policy.evaluate(&subject).map(|name| name.map(str::to_owned))
}

fn failed(policy: &TdxPolicy, td: &Td) -> Vec<String> {
    let error = judge(policy, td).unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Policy, "{error}");
    error.failed_rules().iter().map(|rule| rule.rule.clone()).collect()
}

fn pinned() -> TdxPolicy {
    TdxPolicy::pin([1; 48])
}

#[test]
fn a_policy_accepts_what_it_pins_and_says_its_name() {
    assert_eq!(judge(&pinned(), &td()).unwrap(), None);
    let policy =
        TdxPolicy::pin([9; 48]).or(TdMeasurement::new([1; 48]).with_name("prover").with_rtmr(2, [[0; 48], [12; 48]]));
    assert_eq!(judge(&policy, &td()).unwrap(), Some("prover".to_owned()));
}

#[test]
fn every_rule_refuses_alone() {
    let policies = [
        ("mrtd", TdxPolicy::pin([9; 48])),
        ("rtmr0", TdxPolicy::of(TdMeasurement::new([1; 48]).with_rtmr(0, [[9; 48]]))),
        ("rtmr1", TdxPolicy::of(TdMeasurement::new([1; 48]).with_rtmr(1, [[9; 48]]))),
        ("rtmr2", TdxPolicy::of(TdMeasurement::new([1; 48]).with_rtmr(2, [[9; 48]]))),
        ("rtmr3", TdxPolicy::of(TdMeasurement::new([1; 48]).with_rtmr(3, [[9; 48]]))),
        ("mr-config-id", pinned().with_mr_config_id([[0; 48]])),
        ("mr-owner", pinned().with_mr_owner([[0; 48]])),
        ("mr-owner-config", pinned().with_mr_owner_config([[0; 48]])),
        ("mr-seam", pinned().with_mr_seam([[0; 48]])),
        ("mr-signer-seam", pinned().with_mr_signer_seam([[1; 48]])),
        ("mr-service-td", pinned().with_mr_service_td([[1; 48]])),
        ("td-attributes", pinned().with_td_attributes(1 << 30, 0)),
        ("td-attributes", pinned().with_td_attributes(0, SEPT_VE_DISABLE)),
        ("xfam", pinned().with_xfam(1 << 2, 0)),
        ("xfam", pinned().with_xfam(0, 1)),
        ("min-tee-tcb-svn", pinned().with_min_tee_tcb_svn([5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6])),
        ("min-tcb-evaluation-data-number", pinned().with_min_tcb_evaluation_data_number(19)),
        ("dynamic-platform", pinned().with_dynamic_platform(false)),
        ("smt", pinned().with_smt(false)),
        ("cached-keys", pinned().with_cached_keys(false)),
        ("ppid", pinned().with_ppids([[0; 16]])),
        ("platform-instance", pinned().with_platform_instances([[0; 16]])),
    ];
    for (rule, policy) in policies {
        assert_eq!(failed(&policy, &td()), [rule]);
    }
}

#[test]
fn the_same_rules_accept_what_they_name() {
    let policy = TdxPolicy::of((0..4).fold(TdMeasurement::new([1; 48]), |m, i| m.with_rtmr(i, [td().body.rtmr[i]])))
        .with_mr_config_id([[3; 48]])
        .with_mr_owner([[4; 48]])
        .with_mr_owner_config([[5; 48]])
        .with_mr_seam([[2; 48]])
        .with_mr_signer_seam([[0; 48]])
        .with_mr_service_td([[9; 48], [0; 48]])
        .with_td_attributes(SEPT_VE_DISABLE, 1 << 30)
        .with_xfam(3, 4)
        .with_min_tee_tcb_svn([5; 16])
        .with_min_tcb_evaluation_data_number(18)
        .with_dynamic_platform(true)
        .with_smt(true)
        .with_cached_keys(true)
        .with_ppids([[6; 16]])
        .with_platform_instances([[8; 16]]);
    judge(&policy, &td()).unwrap();
}

#[test]
fn the_least_tee_tcb_svn_holds_for_the_launch_and_for_the_present() {
    let policy = pinned().with_min_tee_tcb_svn([5; 16]);
    for lower in [
        |td: &mut Td| td.body.tee_tcb_svn[9] = 4,
        |td: &mut Td| {
            td.body.td15.as_mut().unwrap().tee_tcb_svn_2[9] = 4;
        },
    ] {
        let mut td = td();
        lower(&mut td);
        assert_eq!(failed(&policy, &td), ["min-tee-tcb-svn"]);
    }
    let found = |launch: u8, present: u8| {
        let mut td = td();
        td.body.tee_tcb_svn = [launch; 16];
        td.body.td15.as_mut().unwrap().tee_tcb_svn_2 = [present; 16];
        judge(&policy, &td).unwrap_err().failed_rules()[0].found.clone()
    };
    assert_eq!(found(4, 4), "04".repeat(16));
    assert_eq!(found(4, 5), format!("{} at launch, {} now", "04".repeat(16), "05".repeat(16)));
}

#[test]
fn the_defaults_refuse_what_is_weak() {
    let refuses = |rule: &str, weaken: &dyn Fn(&mut Td)| {
        let mut td = td();
        weaken(&mut td);
        assert_eq!(failed(&pinned(), &td), [rule]);
    };
    for bit in (0..8).chain([8, 15, 17, 18, 22, 29, 32, 61, 62]) {
        refuses("td-attributes", &|td| td.body.td_attributes |= 1 << bit);
    }
    refuses("td-attributes", &|td| td.body.td_attributes = 0);
    refuses("xfam", &|td| td.body.xfam = 0x1);
    refuses("xfam", &|td| td.body.xfam |= 1 << 63);
    refuses("mr-signer-seam", &|td| td.body.mr_signer_seam[47] = 1);
    refuses("mr-service-td", &|td| td.body.td15.as_mut().unwrap().mr_service_td[0] = 1);
    for (status, _) in TcbStatus::ALL.into_iter().filter(|(status, _)| *status != TcbStatus::UpToDate) {
        refuses("tcb-status", &|td| td.appraisal.verdict.status = status);
    }
}

#[test]
fn the_defaults_allow_the_bits_that_are_known_and_weaken_nothing() {
    let mut td = td();
    for bit in [16, 27, 30, 31, 63] {
        td.body.td_attributes = SEPT_VE_DISABLE | 1 << bit;
        judge(&pinned(), &td).unwrap();
    }
    for bit in 0..64 {
        td.body.td_attributes = SEPT_VE_DISABLE;
        td.body.xfam = 0x3 | 1 << bit;
        let known = matches!(bit, 0..=2 | 5..=9 | 11 | 12 | 14 | 15 | 17 | 18);
        assert_eq!(judge(&pinned(), &td).is_ok(), known, "XFAM {bit}");
    }
}

#[test]
fn a_refusal_names_the_bits_that_are_wrong() {
    let mut td = td();
    td.body.td_attributes = 1 << 63 | 1 << 29 | 1;
    let error = judge(&pinned(), &td).unwrap_err();
    let rule = &error.failed_rules()[0];
    assert_eq!((&*rule.expected, &*rule.found), ("bits set [28], bits clear [0, 29]", "0x8000000020000001"));
    td.body.td_attributes = SEPT_VE_DISABLE | 1;
    assert_eq!(judge(&pinned(), &td).unwrap_err().failed_rules()[0].expected, "bits set [], bits clear [0]");
    td.body.td_attributes = 0;
    assert_eq!(judge(&pinned(), &td).unwrap_err().failed_rules()[0].expected, "bits set [28], bits clear []");
}

#[test]
fn a_td_under_debug_cannot_be_allowed() {
    let mut td = td();
    for bit in 0..8 {
        td.body.td_attributes = SEPT_VE_DISABLE | 1 << bit;
        assert_eq!(failed(&pinned().with_td_attributes(0, 0), &td), ["td-attributes"]);
    }
}

#[test]
fn all_failed_rules_are_listed() {
    let mut td = td();
    td.body.td_attributes |= 1;
    td.appraisal.verdict.status = TcbStatus::OutOfDate;
    let policy = TdxPolicy::pin([9; 48]).with_ppids([[0; 16]]);
    assert_eq!(failed(&policy, &td), ["mrtd", "td-attributes", "tcb-status", "ppid"]);
}

#[test]
fn another_status_is_accepted_with_its_advisories_until_its_end() {
    let mut td = td();
    td.appraisal.verdict.status = TcbStatus::OutOfDate;
    td.appraisal.verdict.advisories = vec!["INTEL-SA-1".into(), "INTEL-SA-2".into()];
    let grace = |advisories: &[&str], seconds| {
        let accepted = AcceptedStatus::new(TcbStatus::OutOfDate, advisories.iter().copied());
        pinned().accept(accepted.until(NOW + Duration::from_secs(seconds)))
    };
    judge(&grace(&["INTEL-SA-2", "INTEL-SA-1"], 1), &td).unwrap();
    assert_eq!(failed(&grace(&["INTEL-SA-1"], 1), &td), ["tcb-status"]);
    assert_eq!(failed(&grace(&["INTEL-SA-1", "INTEL-SA-2"], 0), &td), ["tcb-status"]);
    let endless = AcceptedStatus::new(TcbStatus::OutOfDate, ["INTEL-SA-1", "INTEL-SA-2"]);
    assert_eq!(failed(&pinned().accept(endless), &td), ["tcb-status"]);
    let other = AcceptedStatus::new(TcbStatus::SwHardeningNeeded, ["INTEL-SA-1", "INTEL-SA-2"]);
    assert_eq!(failed(&pinned().accept(other), &td), ["tcb-status"]);
}

#[test]
fn a_revoked_tcb_cannot_be_accepted() {
    let mut td = td();
    td.appraisal.verdict.status = TcbStatus::Revoked;
    let accepted = AcceptedStatus::new(TcbStatus::Revoked, [""; 0]);
    assert_eq!(failed(&pinned().accept(accepted), &td), ["tcb-status"]);
}

#[test]
fn a_denied_advisory_refuses_even_an_up_to_date_platform() {
    let mut td = td();
    td.appraisal.verdict.advisories = vec!["INTEL-SA-1".into()];
    judge(&pinned().deny_advisory("INTEL-SA-2"), &td).unwrap();
    assert_eq!(failed(&pinned().deny_advisory("INTEL-SA-1"), &td), ["denied-advisories"]);
}

#[test]
fn a_rule_that_cannot_apply_is_a_configuration_error() {
    let mut td = td();
    td.body.td15 = None;
    td.platform.instance_id = None;
    td.platform.dynamic_platform = None;
    td.platform.cached_keys = None;
    td.platform.smt_enabled = None;
    judge(&pinned(), &td).unwrap();
    for (rule, policy) in [
        ("dynamic-platform", pinned().with_dynamic_platform(true)),
        ("smt", pinned().with_smt(true)),
        ("cached-keys", pinned().with_cached_keys(true)),
        ("platform-instance", pinned().with_platform_instances([[8; 16]])),
        ("mr-service-td", pinned().with_mr_service_td([[1; 48]])),
    ] {
        let error = judge(&policy, &td).unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::Configuration, "{rule}");
        assert!(error.to_string().contains(rule), "{error}");
    }
}

#[test]
fn toml_says_every_rule() {
    let text = format!(
        r#"
        mr-config-id = "{m}"
        mr-owner = ["{m}"]
        mr-owner-config = "{m}"
        mr-seam = "{m}"
        mr-signer-seam = "{n}"
        mr-service-td = ["{m}", "{n}"]
        td-attributes = {{ require = "0x10000000", forbid = "0xff" }}
        xfam = {{ forbid = "0x8000000000000000" }}
        min-tee-tcb-svn = "{s}"
        min-tcb-evaluation-data-number = 18
        denied-advisories = ["INTEL-SA-01397"]
        dynamic-platform = false
        smt = true
        cached-keys = false
        ppid = "{s}"
        platform-instance = ["{s}"]
        [[measurement]]
        name = "prover"
        mrtd = "{m}"
        rtmr0 = "{m}"
        rtmr3 = ["{m}", "{n}"]
        [[measurement]]
        mrtd = "{n}"
        [[accept]]
        status = "OutOfDate"
        advisories = ["INTEL-SA-00960"]
        until = "1970-01-01T00:00:09Z"
        [[accept]]
        status = "SWHardeningNeeded"
        advisories = []
        "#,
        m = "01".repeat(48),
        n = "0A".repeat(48),
        s = "05".repeat(16),
    );
    let (m, n) = ([1; 48], [10; 48]);
    let expected = TdxPolicy::of(TdMeasurement::new(m).with_name("prover").with_rtmr(0, [m]).with_rtmr(3, [m, n]))
        .or(TdMeasurement::new(n))
        .with_mr_config_id([m])
        .with_mr_owner([m])
        .with_mr_owner_config([m])
        .with_mr_seam([m])
        .with_mr_signer_seam([n])
        .with_mr_service_td([m, n])
        .with_td_attributes(1 << 28, 0xff)
        .with_xfam(XFAM_FIXED, 1 << 63)
        .with_min_tee_tcb_svn([5; 16])
        .with_min_tcb_evaluation_data_number(18)
        .deny_advisory("INTEL-SA-01397")
        .with_dynamic_platform(false)
        .with_smt(true)
        .with_cached_keys(false)
        .with_ppids([[5; 16]])
        .with_platform_instances([[5; 16]])
        .accept(
            AcceptedStatus::new(TcbStatus::OutOfDate, ["INTEL-SA-00960"]).until(UNIX_EPOCH + Duration::from_secs(9)),
        )
        .accept(AcceptedStatus::new(TcbStatus::SwHardeningNeeded, [""; 0]));
    assert_eq!(TdxPolicy::from_toml(&text).unwrap(), expected);
}

#[test]
fn toml_with_an_unknown_key_or_an_unlimited_rule_is_refused() {
    let measurement = format!("[[measurement]]\nmrtd = '{}'\n", "01".repeat(48));
    assert_eq!(TdxPolicy::from_toml(&measurement).unwrap(), pinned());
    let refused = |text: String, message: &str| {
        let error = TdxPolicy::from_toml(&text).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    };
    refused(String::new(), "names no measurement");
    refused(format!("{measurement}[sgx]\n"), "unknown field `sgx`");
    refused(format!("mr-ownr = '00'\n{measurement}"), "unknown field `mr-ownr`");
    refused(format!("{measurement}rtmr4 = '00'\n"), "unknown field `rtmr4`");
    refused(format!("{measurement}rtmr1 = '00'\n"), "right length");
    refused(format!("{measurement}rtmr1 = []\n"), "accepts nothing");
    refused(format!("mr-seam = []\n{measurement}"), "accepts nothing");
    refused("[[measurement]]\nmrtd = '00'\n".into(), "expected 96 hexadecimal digits");
    refused(format!("td-attributes = {{ allow = '0x1' }}\n{measurement}"), "unknown field `allow`");
    for mask in ["1", "0x", "0x+1", "0x10000000000000000"] {
        refused(format!("xfam = {{ require = '{mask}' }}\n{measurement}"), "expected a mask");
    }
    let accept = |rest: &str| format!("{measurement}[[accept]]\nadvisories = []\n{rest}\n");
    refused(accept("status = 'OutOfDate'"), "needs an end");
    refused(accept("status = 'OutOfDateConfigurationNeeded'"), "needs an end");
    refused(accept("status = 'Revoked'\nuntil = '2030-01-01T00:00:00Z'"), "never accepted");
    refused(accept("status = 'Fine'"), "not a TCB status");
    refused(accept("status = 'OutOfDate'\nuntil = '2030-01-01'"), "expected a time");
    refused(format!("{measurement}[[accept]]\nstatus = 'SWHardeningNeeded'\n"), "missing field `advisories`");
}

#[test]
fn a_policy_is_read_from_at_most_a_mebibyte() {
    let text = format!("[[measurement]]\nmrtd = '{}'\n", "01".repeat(48));
    let padded = |length: usize| text.clone() + &"#".repeat(length - text.len());
    assert_eq!(padded(1 << 20).parse::<TdxPolicy>().unwrap(), pinned());
    let error = padded((1 << 20) + 1).parse::<TdxPolicy>().unwrap_err();
    assert_eq!(error.to_string(), "a TDX policy of 1048577 bytes: expected at most 1048576");
}
