//! No file brings the inspector down, whatever its bytes.

use proptest::prelude::*;
use tower_attest::platform::snp::Product;
use tower_attest::platform::snp::sim::{Authority, SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::platform::tdx::sim::{self as tdx_sim, SimulatedIntel, SimulatedTd};

use super::*;

/// Recognises, shows and judges; what comes of it does not matter.
fn survive(bytes: Vec<u8>) {
    let bytes = bytes.into();
    let judging = Judging {
        asked: true,
        vek: None,
        crls: Vec::new(),
        collateral: None,
        policy: None,
        nonce: None,
        event_log: None,
        at: std::time::SystemTime::UNIX_EPOCH,
        simulator: true,
    };
    if let Some(artefact) = recognise(&bytes) {
        let (kind, title) = artefact.kind();
        let mut page = Page::new(kind, title, "file");
        let _ = fill(&mut page, &artefact, &judging);
        let _ = fill(&mut page, &artefact, &Judging { asked: false, ..judging });
    }
}

/// Artefacts that are right, to be changed.
fn artefacts() -> Vec<Vec<u8>> {
    let now = std::time::SystemTime::UNIX_EPOCH;
    let snp = SimProvider::new(SimulatedGuest::new(Product::Genoa)).make(&[7; 64]);
    let collateral = SimulatedIntel::new().collateral();
    let tdx = tdx_sim::SimProvider::new(SimulatedTd::new([1; 48])).stapling(collateral).make(&[7; 64]);
    let amd = SimulatedAmd::new();
    vec![
        snp.bytes().to_vec(),
        snp.vek().map(|vek| vek.to_vec()).unwrap_or_default(),
        tdx.bytes().to_vec(),
        tdx.collateral().map(|json| json.to_vec()).unwrap_or_default(),
        amd.certificate(Product::Genoa, Authority::Ark),
        amd.crl(Product::Genoa, &[Authority::Ask], now, now),
        b"-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n".to_vec(),
        b"v=1, keys=:AAAA:, sig=:AAAA:, evidence=:AAAA:".to_vec(),
        b"[[snp.measurement]]\nvalue = \"00\"\n".to_vec(),
        br#"{"__cmwc_t":"urn:uuid:d4c66c14-a413-5a0d-bfcb-64bee0f55a6f"}"#.to_vec(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        survive(bytes);
    }

    #[test]
    fn changed_artefacts(which in 0_usize..10, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = artefacts().swap_remove(which);
        let position = at.index(bytes.len());
        bytes[position] = byte;
        survive(bytes.clone());
        bytes.truncate(cut.index(bytes.len()));
        survive(bytes);
    }
}
