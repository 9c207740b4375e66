//! Wherever tower-attest accepts, `sev` accepts; where only `sev` accepts, the reason stands here.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sev_oracle::Oracle;
use tower_attest::platform::snp::sim::{Authority, SimulatedAmd, SimulatedGuest};
use tower_attest::platform::snp::{Genuineness, GuestPolicy, Product, REPORT_LEN};
use tower_attest::{Platform, Report, VerifyErrorKind};

/// A report that both accept, and what both need to judge its kin.
struct Base {
    name: String,
    report: Vec<u8>,
    vek: Vec<u8>,
    turin: bool,
    time: SystemTime,
    ours: Genuineness,
    oracle: Oracle,
}

impl Base {
    fn ours(&self, report: &[u8]) -> Result<(), VerifyErrorKind> {
        let report = Report::new(Platform::SNP, report.to_vec()).with_vek(self.vek.clone());
        self.ours.check(&report, self.time).map(|_| ()).map_err(|error| error.kind())
    }

    /// Compares both on a report that differs from the base at `offset`; whether `sev` alone accepted.
    fn compare(&self, report: &[u8], offset: usize) -> bool {
        let (ours, theirs) = (self.ours(report), self.oracle.accepts(report));
        match (ours, theirs) {
            (Ok(()), false) => panic!("{}: only we accept a change at {offset:#x}", self.name),
            (Err(kind), true) => {
                let reason = self.only_sev_accepts(offset);
                assert!(reason.is_some(), "{}: only sev accepts a change at {offset:#x}; we say {kind:?}", self.name);
                true
            }
            _ => false,
        }
    }

    /// Why `sev` accepts a report changed at `offset`, and we do not. It parses the report, writes it out again and
    /// verifies the signature over what it wrote; we verify over the bytes as received.
    fn only_sev_accepts(&self, offset: usize) -> Option<&'static str> {
        let version = u32::from_le_bytes(*self.report.first_chunk()?);
        let in_tcb = [0x038, 0x180, 0x1e0, 0x1f0].iter().find_map(|tcb| offset.checked_sub(*tcb).filter(|at| *at < 8));
        let reserved = if self.turin { 4..7 } else { 2..6 };
        match offset {
            _ if in_tcb.is_some_and(|at| reserved.contains(&at)) => {
                Some("signed, reserved bytes of a TCB: parsed away, and written out as zero")
            }
            0x1f8..0x208 if version == 4 => Some("version 4 is read as 3, which has no mitigation vectors"),
            0x2d0..0x2e8 | 0x318..0x330 => Some("r and s are 48 bytes each: the rest of their 72 is not looked at"),
            0x330..REPORT_LEN => Some("behind the signature: not looked at"),
            _ => None,
        }
    }
}

fn simulated() -> Vec<Base> {
    let amd = SimulatedAmd::new();
    let mut bases = Vec::new();
    for product in [Product::Milan, Product::Genoa, Product::Turin] {
        for (version, csp) in [(2, None), (3, None), (5, None), (5, Some("cloud.example"))] {
            if version == 2 && product == Product::Turin {
                continue;
            }
            let mut guest = SimulatedGuest::new(product).with_measurement([0xab; 48]);
            guest.version = version;
            if let Some(csp) = csp {
                guest = guest.with_vlek(csp);
            }
            bases.push(base(&amd, &guest, format!("simulated {product:?} v{version} {csp:?}")));
        }
    }
    bases
}

fn base(amd: &SimulatedAmd, guest: &SimulatedGuest, name: String) -> Base {
    let vek = guest.vek();
    let signer = if guest.csp_id.is_some() { Authority::Asvk } else { Authority::Ask };
    let (ark, signer) = (amd.certificate(guest.product, Authority::Ark), amd.certificate(guest.product, signer));
    Base {
        report: guest.report(&[7; 64]).to_vec(),
        oracle: Oracle::new(&ark, &signer, &vek).unwrap_or_else(|| panic!("{name}: sev refuses the chain")),
        ours: Genuineness::trusting_simulator(amd),
        turin: guest.product == Product::Turin,
        time: SystemTime::now(),
        name,
        vek,
    }
}

/// Every real report that we accept, of the folder that `ATTEST_VECTORS` names.
fn real() -> Vec<Base> {
    let Some(root) = std::env::var_os("ATTEST_VECTORS").filter(|value| !value.is_empty()) else {
        println!("skipped: ATTEST_VECTORS is not set, so no real report was compared");
        return Vec::new();
    };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(root);
    let manifest: Value = serde_json::from_slice(&std::fs::read(root.join("manifest.json")).unwrap()).unwrap();
    let mut bases = Vec::new();
    for entry in manifest["entries"].as_array().unwrap() {
        let file =
            |role: &str| entry["files"][role]["path"].as_str().map(|path| std::fs::read(root.join(path)).unwrap());
        let (Some(report), vcek, vlek) = (file("report"), file("vcek"), file("vlek")) else { continue };
        let signer = if vlek.is_some() { "asvk.der" } else { "ask.der" };
        let (Some(vek), Some(time)) = (vcek.or(vlek), entry["verification_time"].as_str()) else { continue };
        let product = entry["product"].as_str().unwrap();
        let anchor = |name: &str| std::fs::read(root.join("amd").join(product).join(name)).unwrap();
        let Some(oracle) = Oracle::new(&anchor("ark.der"), &anchor(signer), &vek) else { continue };
        let base = Base {
            name: entry["id"].as_str().unwrap().to_owned(),
            turin: product == "turin",
            time: humantime::parse_rfc3339(time).unwrap(),
            ours: Genuineness::amd(),
            oracle,
            report,
            vek,
        };
        if base.ours(&base.report).is_ok() {
            bases.push(base);
        }
    }
    bases
}

/// Version 4 with mitigation vectors, which `sev` reads as version 3 and therefore writes out without them.
fn sev_drops_what_is_signed(report: &[u8]) -> bool {
    report[0] == 4 && report[0x1f8..0x208].iter().any(|byte| *byte != 0)
}

/// Each report is changed at every fourth offset, each from another start: together they are changed everywhere.
const STRIDE: usize = 4;

fn compare_changed(bases: &[Base]) {
    let (mut compared, mut only_sev) = (0, 0);
    for (number, base) in bases.iter().enumerate() {
        assert_eq!(base.ours(&base.report), Ok(()), "{}", base.name);
        if sev_drops_what_is_signed(&base.report) {
            assert!(!base.oracle.accepts(&base.report), "{}: sev has learnt version 4", base.name);
            continue;
        }
        assert!(base.oracle.accepts(&base.report), "{}: only we accept it", base.name);
        for offset in (number % STRIDE..base.report.len()).step_by(STRIDE) {
            let mut changed = base.report.clone();
            changed[offset] ^= 1 << (offset % 8);
            only_sev += usize::from(base.compare(&changed, offset));
            compared += 1;
        }
        for length in [0, 1, REPORT_LEN - 1] {
            assert!(base.ours(&base.report[..length]).is_err() && !base.oracle.accepts(&base.report[..length]));
        }
        let longer = [&base.report[..], &[0]].concat();
        assert!(base.ours(&longer).is_err() && !base.oracle.accepts(&longer));
    }
    println!(
        "{compared} changed reports of {} compared; {only_sev} accepted by sev alone, for known reasons",
        bases.len()
    );
}

#[test]
fn simulated_reports_changed_anywhere_get_the_same_verdict_or_a_stricter_one_for_a_known_reason() {
    compare_changed(&simulated());
}

#[test]
fn real_reports_changed_anywhere_get_the_same_verdict_or_a_stricter_one_for_a_known_reason() {
    compare_changed(&real());
}

type Change = fn(&mut [u8; REPORT_LEN]);

/// What the hardware could have signed, and only we refuse: `sev` leaves each of these to its caller.
const LEFT_TO_THE_CALLER: [(&str, Change, VerifyErrorKind); 6] = [
    ("a VMPL that means: asked for by the host", |r| r[0x30..0x34].fill(0xff), VerifyErrorKind::Malformed),
    ("another signature algorithm", |r| r[0x34] = 2, VerifyErrorKind::Malformed),
    ("a debuggable guest", |r| r[0x0a] |= 1 << (19 - 16), VerifyErrorKind::Policy),
    ("a TCB that is not the certificate's", |r| r[0x180] ^= 1, VerifyErrorKind::Mismatch),
    ("a chip that is not the certificate's", |r| r[0x1a0] ^= 1, VerifyErrorKind::Mismatch),
    ("a signing key that is not the certificate's", |r| r[0x48] |= 1 << 2, VerifyErrorKind::Endorsement),
];

#[test]
fn what_sev_leaves_to_its_caller_we_refuse() {
    assert_eq!(GuestPolicy::DEBUG, 1 << 19);
    let amd = SimulatedAmd::new();
    for product in [Product::Milan, Product::Genoa, Product::Turin] {
        let guest = SimulatedGuest::new(product);
        let base = base(&amd, &guest, format!("{product:?}"));
        for (what, change, kind) in LEFT_TO_THE_CALLER {
            let mut report = guest.report(&[7; 64]);
            change(&mut report);
            guest.sign(&mut report);
            assert!(base.oracle.accepts(&report), "{product:?}: {what}: sev refuses it too");
            assert_eq!(base.ours(&report), Err(kind), "{product:?}: {what}");
        }
    }
}

#[test]
fn sev_reads_no_dates_and_we_do() {
    let amd = SimulatedAmd::new();
    let mut base = base(&amd, &SimulatedGuest::new(Product::Genoa), "Genoa".into());
    assert_eq!(base.ours(&base.report), Ok(()));
    base.time = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    assert!(base.oracle.accepts(&base.report));
    assert_eq!(base.ours(&base.report), Err(VerifyErrorKind::Endorsement));
}
