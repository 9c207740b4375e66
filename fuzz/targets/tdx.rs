//! TDX: nothing that the simulator did not sign is genuine, and nothing of it is Intel's.

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::Value;
use tower_attest::platform::tdx::sim::{QuoteFormat, SimProvider, SimulatedIntel, SimulatedTd};
use tower_attest::platform::tdx::{
    Collateral, EventLog, Genuineness, MeasurementList, PcsResponses, Quote, TdReport, TdxPolicy, TdxVerifier,
};
use tower_attest::{Platform, PolicyFile, Report, ReportVerifier};

use super::edit::edit;
use super::protocol::says_why;

/// The TD of the policy seeds.
const PINNED: [u8; 48] = [0x42; 48];
/// A TD that no file can name by chance.
const NEVER_PINNED: [u8; 48] = *b"a measurement that no seed of the corpus holds!\n";

struct World {
    reports: Vec<Report>,
    never_pinned: Report,
    simulator: Genuineness,
    intel: Genuineness,
}

static WORLD: LazyLock<World> = LazyLock::new(|| World {
    reports: formats().map(|format| made_by(PINNED, format)).into(),
    never_pinned: made_by(NEVER_PINNED, QuoteFormat::V4),
    simulator: Genuineness::trusting_simulator(&SimulatedIntel::new()),
    intel: Genuineness::intel(),
});

/// Every format of quotes.
pub fn formats() -> [QuoteFormat; 3] {
    [QuoteFormat::V4, QuoteFormat::V5Td10, QuoteFormat::V5Td15]
}

fn made_by(mr_td: [u8; 48], format: QuoteFormat) -> Report {
    let td = SimulatedTd::new(mr_td).with_format(format);
    SimProvider::new(td).stapling(SimulatedIntel::new().collateral()).make(&[0x5a; 64])
}

/// The second of January 2026, a day after the simulator's collateral was issued.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 86_400)
}

/// The quote's parser: exact length, fields where the format has them.
pub fn tdx_quote(data: &[u8]) {
    let declared = Quote::declared_len(data);
    let quote = match Quote::parse(&Bytes::copy_from_slice(data)) {
        Ok(quote) => quote,
        Err(error) => return says_why(&error),
    };
    assert_eq!(declared, Some(data.len()));
    let (start, td15) = match quote.version() {
        4 => (48, false),
        5 => (54, data[48] == 3),
        version => panic!("version {version}"),
    };
    let report = quote.td_report();
    assert_eq!(report.td15.is_some(), td15);
    assert_eq!(report.mr_td, data[start + 136..start + 184]);
    assert_eq!(report.report_data, data[start + 520..start + 584]);
    assert!(quote.pck_chain().len() < data.len());
    assert!(!format!("{quote:?}").is_empty());
    assert!(WORLD.intel.check(&Report::new(Platform::TDX, data.to_vec()), now()).is_err(), "Intel signed it?");
}

/// Collateral as JSON: round trip. The same bytes as each response of a PCS never panic.
pub fn tdx_collateral(data: &[u8]) {
    match Collateral::from_json(data) {
        Ok(collateral) => {
            assert!(str::from_utf8(data).is_ok(), "JSON that is not UTF-8");
            let json = collateral.to_json();
            // Escapes of JSON have one spelling here, which may be the longer one.
            if json.len() <= 256 * 1024 {
                assert!(Collateral::from_json(&json).is_ok_and(|again| again == collateral));
            }
            let with_quote = WORLD.reports[0].clone().with_collateral(data.to_vec());
            if let Ok(details) = WORLD.simulator.check(&with_quote, now()) {
                assert_signed(&with_quote, &WORLD.reports[0], &details.td_report);
            }
        }
        Err(error) => says_why(&error),
    }
    let text = String::from_utf8_lossy(data);
    let responses = PcsResponses {
        tcb_info: data,
        tcb_info_issuer_chain: &text,
        qe_identity: data,
        qe_identity_issuer_chain: &text,
        pck_crl: data,
        pck_crl_issuer_chain: &text,
        root_ca_crl: data,
    };
    match Collateral::from_pcs(responses) {
        Ok(_) => assert!(str::from_utf8(data).is_ok(), "JSON that is not UTF-8"),
        Err(error) => says_why(&error),
    }
}

/// Good evidence with changes: the first byte says whose, the second what is changed (quote, collateral, both), the rest how.
/// Unchanged it is genuine; changed it is refused, unless all that changed is outside what is signed.
pub fn tdx_genuine(data: &[u8]) {
    let Some(([whose, what], script)) = data.split_first_chunk() else { return };
    let good = &WORLD.reports[usize::from(*whose) % WORLD.reports.len()];
    let json = good.collateral().expect("the simulator staples");
    let bytes = edit(good.bytes(), if what % 3 == 1 { &[] } else { script });
    let collateral = edit(json, if what % 3 == 0 { &[] } else { script });
    let unchanged = bytes == *good.bytes() && collateral == *json;
    let report = Report::new(Platform::TDX, bytes).with_collateral(collateral);
    match WORLD.simulator.check(&report, now()) {
        Ok(details) => assert_signed(&report, good, &details.td_report),
        Err(error) => {
            assert!(!unchanged, "good evidence is refused: {error}");
            says_why(&error);
        }
    }
    assert!(WORLD.intel.check(&report, now()).is_err(), "Intel signed it?");
}

/// Whether this collateral makes a good quote genuine: if so, it says what was signed.
pub(super) fn vouches(collateral: &Collateral) -> bool {
    let report = WORLD.reports[0].clone().with_collateral(collateral.to_json());
    match WORLD.simulator.check(&report, now()) {
        Ok(details) => assert_signed(&report, &WORLD.reports[0], &details.td_report),
        Err(error) => {
            says_why(&error);
            return false;
        }
    }
    true
}

/// A policy file: what is accepted never accepts a TD that it does not name.
pub fn tdx_policy(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let policy = match TdxPolicy::from_toml(text) {
        Ok(policy) => policy,
        Err(error) => return assert!(!format!("{error} {error:?}").is_empty()),
    };
    let verifier = TdxVerifier::trusting_simulator(policy, &SimulatedIntel::new());
    assert!(!accepts(&verifier, &WORLD.never_pinned), "a TD that the file does not name");
    accepts(&verifier, &WORLD.reports[0]);
}

/// A policy file for both platforms: by its own verifier nothing simulated is genuine, and its section `[tdx]` never accepts
/// a TD that it does not name.
pub fn policy_file(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let file = match PolicyFile::from_toml(text) {
        Ok(file) => file,
        Err(error) => return assert!(!format!("{error} {error:?}").is_empty()),
    };
    assert!(!file.platforms().is_empty());
    assert_eq!(file.verifier().platforms(), file.platforms());
    assert!(!accepts(&file.verifier(), &WORLD.reports[0]), "Intel signed it?");
    if let Some(policy) = file.tdx() {
        let verifier = TdxVerifier::trusting_simulator(policy.clone(), &SimulatedIntel::new());
        assert!(!accepts(&verifier, &WORLD.never_pinned), "a TD that the file does not name");
    }
}

/// A measurement list: what is accepted never accepts a TD that it does not name.
pub fn tdx_measurements(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match MeasurementList::from_json(text).and_then(|list| list.without_others().into_policy()) {
        Ok(policy) => {
            let verifier = TdxVerifier::trusting_simulator(policy, &SimulatedIntel::new());
            assert!(!accepts(&verifier, &WORLD.never_pinned), "a TD that the list does not name");
        }
        Err(error) => says_why(&error),
    }
}

/// An event log: what is accepted says the same with a filled buffer behind it, and its replay passes its own check and no
/// other.
pub fn tdx_event_log(data: &[u8]) {
    let log = match EventLog::parse(data.to_vec()) {
        Ok(log) => log,
        Err(error) => return says_why(&error),
    };
    for event in log.events() {
        assert!(!format!("{event} {event:?}").is_empty());
        assert!(event.rtmr().is_none_or(|register| register < 4) && event.data().len() < data.len());
    }
    let filled = [data, &[0xff; 64]].concat();
    // Unless it ends in the other filling, or in no room for more.
    if data.last() != Some(&0) && filled.len() <= tower_attest::platform::tdx::MAX_EVENT_LOG {
        assert_eq!(EventLog::parse(filled), Ok(log.clone()));
    }
    let mut report = SimulatedTd::new(PINNED).report;
    report.rtmr = log.replay();
    assert!(log.check(&report).is_ok());
    report.rtmr[0][0] ^= 1;
    assert!(log.check(&report).is_err());
}

/// Collateral is stapled: a verdict waits for nothing.
fn accepts(verifier: &dyn ReportVerifier, report: &Report) -> bool {
    match pin!(verifier.verify(report, now())).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => verdict.is_ok(),
        Poll::Pending => panic!("a verdict that waits"),
    }
}

/// What is accepted says, wherever something is signed, what was signed.
fn assert_signed(report: &Report, good: &Report, accepted: &TdReport) {
    let original = Quote::parse(good.bytes()).expect("the simulator's own");
    assert_eq!(accepted, original.td_report(), "a changed TD report is genuine");
    // Header and TD report are what the quote's signature covers; its length follows.
    let signed = match (original.version(), &original.td_report().td15) {
        (4, _) => 48 + 584,
        (_, None) => 54 + 584,
        (_, Some(_)) => 54 + 648,
    };
    assert_eq!(report.bytes()[..signed], good.bytes()[..signed], "a changed quote is genuine");
    let part = |report: &Report, name: &str| {
        let collateral = Collateral::from_json(report.collateral().expect("stapled")).expect("accepted");
        let json: Value = serde_json::from_slice(&collateral.to_json()).expect("own JSON");
        json[name].as_str().map(str::to_owned)
    };
    for name in ["tcb_info", "qe_identity"] {
        assert_eq!(part(report, name), part(good, name), "changed collateral is accepted");
    }
}
