//! SEV-SNP: nothing that the simulator did not sign is genuine, and nothing of it is AMD's.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use tower_attest::snp::sim::{Authority, SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::snp::{
    CertTable, Genuineness, GuestPolicy, Product, ReportView, SIGNED_LEN, SigningKey, SnpDetails, SnpPolicy, VERSIONS,
    VekCertificate,
};
use tower_attest::{Platform, Report};

use super::edit::{edit, holds};
use super::protocol::says_why;

/// The programs of the policy seeds, whose debugged guest a policy accepts only by name.
const PINNED: [u8; 48] = [0x4d; 48];
/// A program that no file can name by chance.
const NEVER_PINNED: [u8; 48] = *b"a measurement that no seed of the corpus holds!\n";

/// Good evidence, and who judges it.
struct World {
    reports: Vec<Report>,
    simulator: Genuineness,
    amd: Genuineness,
    lists: Vec<Vec<u8>>,
    pinned_debug: SnpDetails,
    never_pinned: SnpDetails,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let simulator = Genuineness::trusting_simulator(&SimulatedAmd::new());
    let debugged = {
        let guest = SimulatedGuest::new(Product::Genoa).with_measurement(PINNED);
        SimulatedGuest { policy: GuestPolicy::from_bits(guest.policy.bits() | GuestPolicy::DEBUG), ..guest }
    };
    let never_pinned = SimulatedGuest::new(Product::Genoa).with_measurement(NEVER_PINNED);
    let details = |guest| simulator.authenticate(&made_by(guest), now()).expect("the simulator's own");
    World {
        pinned_debug: details(debugged),
        never_pinned: details(never_pinned),
        reports: guests().into_iter().map(made_by).collect(),
        amd: Genuineness::amd(),
        lists: Product::ALL.map(revocation_list).into(),
        simulator,
    }
});

/// One guest for each product and kind of key, and one whose report has no CPUID.
fn guests() -> Vec<SimulatedGuest> {
    let all = Product::ALL.map(|product| SimulatedGuest::new(product).with_measurement(PINNED));
    let old = SimulatedGuest { version: 2, ..all[0].clone() };
    let vleks = all.clone().map(|guest| guest.with_vlek("CN=cc-us-east-2.amazonaws.com"));
    all.into_iter().chain(vleks).chain([old]).collect()
}

/// A list that names the ASVK, one for each product.
pub fn revocation_list(product: Product) -> Vec<u8> {
    let month = Duration::from_secs(30 * 86_400);
    SimulatedAmd::new().crl(product, &[Authority::Asvk], now() - month, now() + month)
}

pub(super) fn made_by(guest: SimulatedGuest) -> Report {
    SimProvider::new(guest).make(&[0x5a; 64])
}

/// Within the dates of everything that the simulator issues.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

/// The report's parser, every accessor and both ways to print it.
pub fn snp_report(data: &[u8]) {
    let report = match ReportView::parse(data.to_vec()) {
        Ok(report) => report,
        Err(error) => return says_why(&error),
    };
    assert_eq!(report.bytes(), data);
    assert_eq!(report.signed_bytes(), &data[..SIGNED_LEN]);
    assert!(VERSIONS.contains(&report.version()));
    assert_eq!(report.report_data(), data[0x50..0x90]);
    assert_eq!(report.measurement(), data[0x90..0xc0]);
    assert_eq!(report.chip_id(), data[0x1a0..0x1e0]);
    assert_eq!(report.cpuid().is_some(), report.version() >= 3);
    assert_eq!(report.policy().debug(), report.policy().bits() >> 19 & 1 == 1);
    for tcb in [report.current_tcb(), report.reported_tcb(), report.committed_tcb(), report.launch_tcb()] {
        for product in Product::ALL {
            let decoded = tcb.decode(product);
            assert_eq!(decoded.encode(product).decode(product), decoded);
            assert!(decoded.meets(&decoded) && !decoded.to_string().is_empty());
        }
    }
    let ids = (report.family_id(), report.image_id(), report.host_data(), report.report_id(), report.report_id_ma());
    let keys = (report.id_key_digest(), report.author_key_digest(), report.key_info(), report.signing_key());
    let numbers = (report.guest_svn(), report.vmpl(), report.signature_algo(), report.product());
    let firmware = (report.current_version(), report.committed_version());
    let mitigations = (report.launch_mit_vector(), report.current_mit_vector());
    let shown = format!(
        "{report:?} {ids:?} {keys:?} {numbers:?} {mitigations:?} {} {} {} {} {}",
        report.policy(),
        report.platform_info(),
        report.signing_key(),
        firmware.0,
        firmware.1
    );
    assert!(shown.is_ascii() && shown.len() < 16 * 1024, "{shown}");
}

/// The host's certificate table: entries lie in the table, and a certificate found is one DER SEQUENCE.
pub fn snp_cert_table(data: &[u8]) {
    let table = match CertTable::parse(data) {
        Ok(table) => table,
        Err(error) => return says_why(&error),
    };
    for entry in table.entries() {
        assert!(data.as_ptr_range().contains(&entry.bytes.as_ptr()) && !entry.bytes.is_empty());
    }
    for key in [SigningKey::Vcek, SigningKey::Vlek] {
        match table.vek(key) {
            Ok(certificate) => assert!(certificate.is_none_or(|der| der.first() == Some(&0x30))),
            Err(error) => says_why(&error),
        }
    }
    assert_eq!(table.vek(SigningKey::None), Ok(None));
}

/// A VEK certificate: bytes kept; accepted under the simulator's roots only with a body that the simulator signed, and never
/// under AMD's.
pub fn snp_certificate(data: &[u8]) {
    match VekCertificate::parse(data.to_vec()) {
        Ok(vek) => {
            assert_eq!(vek.der(), data);
            assert_eq!(vek.hwid().is_some(), vek.csp_id().is_none());
            let levels = Product::ALL.map(|product| vek.tcb_bytes(product));
            let _ = format!("{vek:?} {} {:?} {:?} {levels:?}", vek.kind(), vek.product(), vek.product_name());
            let _ = (vek.not_before(), vek.not_after());
        }
        Err(error) => {
            says_why(&error);
            assert!(WORLD.simulator.check_certificate(data, now()).is_err(), "what does not parse is not accepted");
        }
    }
    if WORLD.simulator.check_certificate(data, now()).is_ok() {
        assert!(issued(data), "a certificate that nobody issued");
    }
    assert!(WORLD.amd.check_certificate(data, now()).is_err(), "AMD signed it?");
}

/// A revocation list: accepted only with a body that the simulator's ARK signed, and then it serves.
pub fn snp_crl(data: &[u8]) {
    match WORLD.simulator.with_crls([data]) {
        Ok(judge) => {
            assert!(WORLD.lists.iter().any(|list| holds(data, signed_part(list))), "a list that nobody issued");
            let listed = Product::ALL.iter().filter(|product| judge.has_crl(**product)).count();
            assert_eq!(listed, 1);
            for report in &WORLD.reports {
                let _ = judge.check(report, now());
            }
        }
        Err(error) => says_why(&error),
    }
    assert!(WORLD.amd.with_crls([data]).is_err(), "AMD signed it?");
}

/// Good evidence with changes: the first byte says whose, the second what is changed (report, certificate, both), the rest
/// how. Unchanged it is genuine; changed it is refused, unless all that changed is outside what is signed.
pub fn snp_genuine(data: &[u8]) {
    let Some(([whose, what], script)) = data.split_first_chunk() else { return };
    let good = &WORLD.reports[usize::from(*whose) % WORLD.reports.len()];
    let vek = good.vek().expect("the simulator staples");
    let bytes = edit(good.bytes(), if what % 3 == 1 { &[] } else { script });
    let certificate = edit(vek, if what % 3 == 0 { &[] } else { script });
    let unchanged = bytes == *good.bytes() && certificate == *vek;
    let report = Report::new(Platform::SNP, bytes.clone()).with_vek(certificate.clone());
    match WORLD.simulator.check(&report, now()) {
        Ok(details) => {
            assert_eq!(bytes[..SIGNED_LEN], good.bytes()[..SIGNED_LEN], "a changed report is genuine");
            assert!(issued(&certificate), "a changed certificate vouches");
            assert_eq!(details.report().bytes(), &bytes);
        }
        Err(error) => {
            assert!(!unchanged, "good evidence is refused: {error}");
            says_why(&error);
        }
    }
    assert!(WORLD.amd.check(&report, now()).is_err(), "AMD signed it?");
}

/// A policy file: what is accepted is valid, never accepts a program it does not name, and a debugged guest only where it
/// says so.
pub fn snp_policy(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let policy = match SnpPolicy::from_toml(text) {
        Ok(policy) => policy,
        Err(error) => return assert!(!format!("{error} {error:?}").is_empty()),
    };
    assert!(policy.validate().is_ok());
    assert!(text.parse::<SnpPolicy>().is_ok_and(|again| again == policy));
    let accepts = |details| policy.judge(details).is_ok_and(|judgement| judgement.accepted());
    assert!(!accepts(&WORLD.never_pinned), "a program that the file does not name");
    assert!(!accepts(&WORLD.pinned_debug) || text.contains("debug"), "a debugged guest");
}

/// The body of a certificate or list: what is signed of it.
fn signed_part(der: &[u8]) -> &[u8] {
    // SEQUENCE { SEQUENCE { body }, … }, both of 256 to 65 535 bytes: heads of four bytes.
    let length = usize::from(u16::from_be_bytes([der[6], der[7]]));
    &der[4..8 + length]
}

/// Whether it holds the body of a certificate that the simulator signed for one of the guests.
pub(super) fn issued(certificate: &[u8]) -> bool {
    let veks = WORLD.reports.iter().filter_map(Report::vek);
    veks.into_iter().any(|vek| holds(certificate, signed_part(vek)))
}
