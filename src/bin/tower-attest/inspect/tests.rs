//! No file brings the inspector down, steers the terminal or is accepted for what it is not, whatever its bytes.

use std::sync::LazyLock;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use tower_attest::mock::MockTee;
use tower_attest::platform::snp::sim::{Authority, SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::platform::snp::{CertTable, Product};
use tower_attest::platform::tdx::sim::{self as tdx_sim, SimulatedIntel, SimulatedTd};
use tower_attest::protocol::{BatchTree, Evidence, KeyConfig, KeyDocument, KeyDocumentFields, ReportHeader, Suite};

use super::*;

/// Recognises, shows and judges, before anything that the simulators issue is valid. Returns what it took the file for.
fn survive(bytes: &[u8]) -> Option<&'static str> {
    let judging = Judging {
        asked: true,
        vek: None,
        crls: Vec::new(),
        collateral: None,
        policy: None,
        nonce: None,
        event_log: None,
        at: SystemTime::UNIX_EPOCH,
        simulator: true,
    };
    let artefact = recognise(&bytes.to_vec().into())?;
    let (kind, title) = artefact.kind();
    for judging in [&judging, &Judging { asked: false, ..judging.clone() }] {
        let mut page = Page::new(kind, title, "file");
        if let Err(message) = fill(&mut page, &artefact, judging) {
            assert!(!message.is_empty());
        }
        assert_ne!(page.accepted(), Some(true), "accepted in 1970");
        let text = page.plain(Format::Text);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let json: serde_json::Value = serde_json::from_str(&page.plain(Format::Json)).unwrap();
        assert_eq!(json["kind"], kind);
    }
    Some(kind)
}

/// Artefacts that are right, and what they are.
static ARTEFACTS: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let now = SystemTime::UNIX_EPOCH;
    let guest = SimulatedGuest::new(Product::Genoa);
    let snp = SimProvider::new(guest.clone()).make(&[7; 64]);
    let tdx = tdx_sim::SimProvider::new(SimulatedTd::new([1; 48])).stapling(SimulatedIntel::new().collateral());
    let tdx = tdx.make(&[7; 64]);
    let amd = SimulatedAmd::new();
    let (certificate, crl) =
        (amd.certificate(Product::Genoa, Authority::Ark), amd.crl(Product::Genoa, &[Authority::Ask], now, now));
    let collateral = tdx.collateral().unwrap().to_vec();
    let set: serde_json::Value = serde_json::from_slice(&collateral).unwrap();
    let tcb_info = format!("{{\"tcbInfo\":{}}}", set["tcb_info"].as_str().unwrap());
    let document = keys();
    let evidence = |report: &Report| {
        let batch = BatchTree::new(vec![[3; 48]]).unwrap().proof(0).unwrap();
        Evidence { report: report.clone(), keys: document.bytes().clone(), batch }
    };
    let cbor = evidence(&snp).to_cbor();
    let field = ReportHeader { keys: *document.digest(), sig: [1; 64], evidence: Some(cbor.clone().into()) }.to_value();
    let response = [b"HTTP/1.1 200 OK\r\nattestation-report: ", field.as_bytes(), b"\r\nserver: a\r\n"].concat();
    let mock = MockTee::from_seed([7; 32]).sign([7; 64]).bytes().to_vec();
    vec![
        ("snp-report", snp.bytes().to_vec()),
        ("snp-vek", guest.vek()),
        ("snp-cert-table", table(&guest.vek())),
        ("tdx-quote", tdx.bytes().to_vec()),
        ("mock-report", mock),
        ("certificates", certificate.clone()),
        ("crls", crl.clone()),
        ("evidence", cbor),
        ("evidence", evidence(&tdx).to_json()),
        ("tdx-collateral", collateral),
        ("tcb-info", tcb_info.into_bytes()),
        ("key-document", document.bytes().to_vec()),
        ("report-header", field.as_bytes().to_vec()),
        ("report-header", response),
        ("certificates", [pem("CERTIFICATE", &certificate), pem("CERTIFICATE", &certificate)].concat()),
        ("crls", pem("X509 CRL", &crl)),
        ("policy", include_bytes!("../../../../examples/policy.toml").to_vec()),
        ("certificates", steering()),
        ("tcb-info", br#"{"tcbInfo":{"id":"\u001b[2J\u202e"}}"#.to_vec()),
        ("sgx-quote", [&[3, 0, 2, 0, 0, 0, 0, 0][..], &[0; 500]].concat()),
    ]
});

fn keys() -> KeyDocument {
    let mut fields = KeyDocumentFields::new([1; 16], 1, vec!["prover.example".to_owned()], [2; 32]);
    fields.config = Some([3; 32]);
    fields.seal = Some(KeyConfig { id: 1, public: [4; 32], suites: vec![Suite::AES_128_GCM] });
    fields.route = Some("tee-1".to_owned());
    KeyDocument::build(fields).unwrap()
}

/// One entry, the empty one, the certificate.
fn table(vek: &[u8]) -> Vec<u8> {
    let numbers = [48, u32::try_from(vek.len()).unwrap()].map(u32::to_le_bytes).concat();
    [&CertTable::VCEK[..], &numbers, &[0; 24], vek].concat()
}

/// Issued by, and to, what a terminal would obey.
fn steering() -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "\u{1b}[2J\u{7}\r\u{9b}31m");
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)).into_bytes()
}

/// What a file may be wrapped in. The binary artefacts stand first.
fn wrapped(bytes: &[u8], how: usize) -> Vec<u8> {
    match how {
        0 => bytes.to_vec(),
        1 => hex::encode(bytes).into_bytes(),
        2 => STANDARD.encode(bytes).into_bytes(),
        3 => URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
        _ => pem("CERTIFICATE", bytes),
    }
}

#[test]
fn what_is_right_is_recognised_and_in_hexadecimal_and_base64_alike() {
    for (kind, bytes) in ARTEFACTS.iter() {
        assert_eq!(survive(bytes), Some(*kind));
    }
    for (kind, bytes) in &ARTEFACTS[..8] {
        for how in 1..4 {
            assert_eq!(survive(&wrapped(bytes, how)), Some(*kind), "{how}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2048), how in 0_usize..5) {
        survive(&wrapped(&bytes, how));
    }

    /// Each change replaces up to as many bytes as it brings.
    #[test]
    fn changed_artefacts(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..4, proptest::collection::vec(any::<u8>(), 0..4)),
            1..6,
        ),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        how in 0_usize..5,
    ) {
        let mut bytes = which.get(&ARTEFACTS).1.clone();
        for (at, length, with) in changes {
            let start = at.index(bytes.len() + 1);
            let end = bytes.len().min(start + length);
            bytes.splice(start..end, with);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        survive(&wrapped(&bytes, how));
    }
}
