//! Wherever tower-attest finds a TDX quote genuine, `dcap-qvl` does, with the same TCB status and advisories; where only
//! one of them accepts, the reason stands here.

mod judges;
mod real;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tower_attest::platform::tdx::sim::{CollateralSpec, QuoteFormat, SimulatedIntel, SimulatedTd};
use tower_attest::platform::tdx::{TcbStatus, TdxPolicy, TdxVerifier};
use tower_attest::{Platform, Report, ReportVerifier};

use self::judges::{Case, Judges, Outcome, Tally};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 86_400)
}

fn good() -> CollateralSpec {
    SimulatedIntel::new().collateral()
}

fn td(format: QuoteFormat) -> SimulatedTd {
    SimulatedTd::new([0xab; 48]).with_format(format)
}

fn case(td: &SimulatedTd, collateral: &CollateralSpec) -> Case {
    Case { quote: td.quote(&[7; 64]), collateral: collateral.build().to_json(), time: now() }
}

const FORMATS: [QuoteFormat; 3] = [QuoteFormat::V4, QuoteFormat::V5Td10, QuoteFormat::V5Td15];

/// How far apart changes are: each quote and each member of collateral from another start.
#[derive(Clone, Copy)]
struct Strides {
    quote: usize,
    collateral: usize,
}

const SIMULATED: Strides = Strides { quote: 9, collateral: 29 };
/// Real quotes are many.
const REAL: Strides = Strides { quote: 61, collateral: 307 };

const OUTER_TYPE: &str = "the type of the outer certification data is not looked at";
const ARMOUR: &str = "PEM: what stands between and around certificates is not looked at";
const ROOT: &str = "the root in a chain is not looked at, since the pinned one counts";

/// Why dcap-qvl accepts a quote changed at `offset`, and we do not.
fn changed_quote(quote: &[u8], offset: usize) -> Option<&'static str> {
    let body = match quote[0] {
        4 => 48 + 584,
        _ => 54 + usize::try_from(u32::from_le_bytes(quote[50..54].try_into().unwrap())).unwrap(),
    };
    // Behind the length: signature, attestation key.
    let outer = body + 4 + 128;
    let authentication = outer + 6 + 384 + 64;
    let length = usize::from(u16::from_le_bytes(quote[authentication..authentication + 2].try_into().unwrap()));
    let certificates = authentication + 2 + length + 6;
    if (outer..outer + 2).contains(&offset) {
        return Some(OUTER_TYPE);
    }
    changed_chain(quote.get(certificates..)?, offset.checked_sub(certificates)?)
}

/// Why dcap-qvl accepts a chain in PEM changed at `offset`, and we do not.
fn changed_chain(pem: &[u8], offset: usize) -> Option<&'static str> {
    let text = String::from_utf8_lossy(pem);
    let root = text.rfind("-----BEGIN")?;
    if offset >= root {
        return Some(ROOT);
    }
    let line = text[..offset].rfind('\n').map_or(0, |end| end + 1);
    (pem[offset] == b'\n' || text[line..].starts_with("-----")).then_some(ARMOUR)
}

#[test]
fn simulated_quotes_changed_anywhere_get_the_same_verdict_or_a_stricter_one_for_a_known_reason() {
    let judges = Judges::simulated();
    let mut tally = Tally::default();
    for (number, format) in FORMATS.into_iter().enumerate() {
        changed_anywhere(
            &judges,
            &case(&td(format), &good()),
            &format!("{format:?}"),
            number,
            SIMULATED.quote,
            &mut tally,
        );
    }
    println!("{:?}", tally.0);
    assert_eq!(tally.of("both accept"), 3, "a change that both accept");
}

/// Changes one bit at every so manyth offset.
fn changed_anywhere(judges: &Judges, good: &Case, name: &str, start: usize, stride: usize, tally: &mut Tally) {
    tally.expect(name, judges.compare(name, good), None);
    for offset in (start..good.quote.len()).step_by(stride) {
        let mut changed = good.clone();
        changed.quote[offset] ^= 1 << (offset % 8);
        let what = format!("{name}: a change at {offset} of {}", good.quote.len());
        tally.expect(&what, judges.compare(&what, &changed), changed_quote(&good.quote, offset));
    }
    for length in [0, 1, 47, 48, 600, good.quote.len() - 1] {
        let mut changed = good.clone();
        changed.quote.truncate(length);
        let what = format!("{name}: {length} bytes");
        tally.expect(&what, judges.compare(&what, &changed), None);
    }
    let mut longer = good.clone();
    longer.quote.push(0);
    let outcome = judges.compare(name, &longer);
    assert!(matches!(outcome, Outcome::OnlyDcap(_)), "{name}: {outcome:?}");
    tally.count("bytes behind the quote are not looked at");
}

#[test]
fn every_tcb_gets_the_same_status_and_advisories() {
    let judges = Judges::simulated();
    let mut tally = Tally::default();
    let collaterals = [
        good().status(TcbStatus::SwHardeningNeeded, &["INTEL-SA-00001"]),
        good().status(TcbStatus::OutOfDate, &["INTEL-SA-00002", "INTEL-SA-00003"]),
    ];
    for collateral in &collaterals {
        let collateral = collateral.build().to_json();
        for module in [[2, 0], [3, 0], [1, 1], [2, 1], [3, 1], [4, 1], [3, 2]] {
            for (platform, pce_svn, qe_svn) in
                [(3, 13, 4), (2, 13, 4), (1, 13, 4), (3, 12, 4), (4, 14, 5), (3, 13, 3), (3, 13, 2)]
            {
                for format in FORMATS {
                    let mut td = td(format);
                    td.report.tee_tcb_svn[..2].copy_from_slice(&module);
                    td.platform.pck.cpu_svn = [platform; 16];
                    td.platform.pck.pce_svn = pce_svn;
                    td.qe_isv_svn = qe_svn;
                    let case = Case { quote: td.quote(&[7; 64]), collateral: collateral.clone(), time: now() };
                    let what = format!("{format:?} module {module:?} platform {platform} pce {pce_svn} qe {qe_svn}");
                    tally.expect(&what, judges.compare(&what, &case), None);
                }
            }
        }
    }
    println!("{:?}", tally.0);
    assert!(tally.of("both accept") > 50 && tally.of("both refuse") > 50, "the grid is one-sided: {:?}", tally.0);
}

/// dcap-qvl looks at the module that runs now where the one at launch is out of date, and not where it is not. We look at both:
/// a module that is older than the one that launched the TD is out of date whatever was there before.
#[test]
fn a_module_updated_under_a_running_td_gets_the_same_status_and_one_rolled_back_a_stricter_one() {
    const STRICTER: &str = "out of date now, by us alone";
    let judges = Judges::simulated();
    let mut tally = Tally::default();
    for launched in [2, 3, 4] {
        for current in [2, 3, 4] {
            let mut td = td(QuoteFormat::V5Td15);
            td.report.tee_tcb_svn[..2].copy_from_slice(&[launched, 1]);
            td.report.td15.as_mut().unwrap().tee_tcb_svn_2[..2].copy_from_slice(&[current, 1]);
            let (what, case) = (format!("launched {launched}, now {current}"), case(&td, &good()));
            if current == 2 && launched > 2 {
                let (ours, theirs) = judges.opinions(&case);
                assert_eq!((&*ours.unwrap().status, &*theirs.unwrap().status), ("OutOfDate", "UpToDate"), "{what}");
                tally.count(STRICTER);
            } else {
                tally.expect(&what, judges.compare(&what, &case), None);
            }
        }
    }
    println!("{:?}", tally.0);
    assert_eq!(tally.of(STRICTER), 2);
}

/// Attributes are a policy's to judge here, and dcap-qvl's own before any policy: what it refuses, our default does too.
#[test]
fn attributes_that_dcap_refuses_the_default_policy_refuses() {
    let judges = Judges::simulated();
    let default = TdxVerifier::trusting_simulator(TdxPolicy::pin([0xab; 48]), &SimulatedIntel::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut tally = Tally::default();
    for bit in 0..64 {
        for format in FORMATS {
            let mut td = td(format);
            td.report.td_attributes ^= 1 << bit;
            let (case, what) = (case(&td, &good()), format!("{format:?}, bit {bit} of TDATTRIBUTES"));
            let outcome = judges.compare(&what, &case);
            if let Outcome::OnlyWe(error) = &outcome {
                let report = Report::new(Platform::TDX, case.quote).with_collateral(case.collateral);
                let verdict = runtime.block_on(default.verify(&report, case.time));
                assert!(verdict.is_err(), "{what}: the default policy accepts; dcap-qvl says {error}");
            }
            tally.expect(&what, outcome, Some("refused by dcap-qvl, and by the default policy"));
        }
    }
    println!("{:?}", tally.0);
}

type Change = fn(&mut SimulatedTd);

/// What hardware could have signed, each for its own reason, and both refuse.
#[test]
fn another_enclave_and_another_module_are_refused_by_both() {
    let judges = Judges::simulated();
    let changes: [(&str, Change); 7] = [
        ("MRSIGNER of the QE", |td| td.qe_mr_signer[0] ^= 1),
        ("ATTRIBUTES of the QE: debug", |td| td.qe_attributes[0] ^= 2),
        ("MISCSELECT of the QE", |td| td.qe_misc_select[0] ^= 1),
        ("ISVPRODID of the QE", |td| td.qe_isv_prod_id ^= 1),
        ("a key that the QE does not vouch for", |td| td.qe_vouches = false),
        ("MRSIGNERSEAM", |td| td.report.mr_signer_seam[0] = 1),
        ("SEAMATTRIBUTES", |td| td.report.seam_attributes = 1),
    ];
    for (what, change) in changes {
        let mut td = td(QuoteFormat::V4);
        change(&mut td);
        let outcome = judges.compare(what, &case(&td, &good()));
        assert!(matches!(outcome, Outcome::BothRefuse), "{what}: {outcome:?}");
    }
}

/// Both signed as Intel never signs, and dcap-qvl does not ask.
#[test]
fn who_issued_the_certificate_and_the_pce_are_looked_at_by_us_alone() {
    let judges = Judges::simulated();
    let mut by_root = td(QuoteFormat::V4);
    by_root.platform.issued_by_root = true;
    let other_pce = good().edit_tcb_info(|info| info["pceId"] = "0001".into());
    for (what, case) in [
        ("a PCK certificate that the root issued", case(&by_root, &good())),
        ("TCB info for another PCE id", case(&td(QuoteFormat::V4), &other_pce)),
    ] {
        let outcome = judges.compare(what, &case);
        assert!(matches!(outcome, Outcome::OnlyDcap(_)), "{what}: {outcome:?}");
    }
}

#[test]
fn collateral_changed_anywhere_gets_the_same_verdict_or_a_stricter_one_for_a_known_reason() {
    let judges = Judges::simulated();
    let mut tally = Tally::default();
    let good = case(&td(QuoteFormat::V4), &good());
    changed_collateral(&judges, &good, "simulated", SIMULATED.collateral, &mut tally);
    println!("{:?}", tally.0);
}

fn changed_collateral(judges: &Judges, good: &Case, name: &str, stride: usize, tally: &mut Tally) {
    let members: Value = serde_json::from_slice(&good.collateral).unwrap();
    for (member, value) in members.as_object().unwrap() {
        let text = value.as_str().unwrap();
        for offset in (0..text.len()).step_by(stride) {
            let mut changed = text.as_bytes().to_vec();
            // Another hexadecimal digit, or another letter.
            changed[offset] = if changed[offset] == b'0' { b'1' } else { b'0' };
            let mut edited = members.clone();
            edited[member] = String::from_utf8(changed).unwrap().into();
            let case = Case { collateral: edited.to_string().into_bytes(), ..good.clone() };
            let what = format!("{name}: a change at {offset} of {member}");
            let reason = if member.ends_with("_chain") { changed_chain(text.as_bytes(), offset) } else { None };
            tally.expect(&what, judges.compare(&what, &case), reason);
        }
    }
}

#[test]
fn revocation_dates_and_other_collateral_get_the_same_verdict() {
    let judges = Judges::simulated();
    let mut tally = Tally::default();
    let td = td(QuoteFormat::V4);
    let issued = now() - Duration::from_secs(86_400);
    let day = Duration::from_secs(86_400);
    for time in [issued - day, issued, issued + 29 * day, issued + 31 * day] {
        let case = Case { time, ..case(&td, &good()) };
        tally.expect("dates", judges.compare("dates", &case), None);
    }
    for (what, spec) in [
        ("the PCK certificate is revoked", good().revoke_pck()),
        ("its CA is revoked", good().revoke_ca()),
        ("the root is revoked", good().revoke_root()),
        ("another FMSPC", good().edit_tcb_info(|info| info["fmspc"] = "00906ED50000".into())),
        ("SGX's TCB info", good().edit_tcb_info(|info| info["id"] = "SGX".into())),
        ("SGX's QE identity", good().edit_qe_identity(|identity| identity["id"] = "QE".into())),
        ("a revoked level", good().status(TcbStatus::Revoked, &[])),
    ] {
        let outcome = judges.compare(what, &case(&td, &spec));
        assert!(matches!(outcome, Outcome::BothRefuse), "{what}: {outcome:?}");
        tally.count("both refuse");
    }
    let foreign = Case { collateral: good().build_signed_by_pck().to_json(), ..case(&td, &good()) };
    tally.expect("a TCB info that a PCK certificate signed", judges.compare("foreign", &foreign), None);
    println!("{:?}", tally.0);
}
