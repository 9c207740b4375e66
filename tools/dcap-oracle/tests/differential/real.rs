use std::path::{Path, PathBuf};

use dcap_oracle::Oracle;
use serde_json::Value;
use tower_attest::platform::tdx::{Collateral, Genuineness, PcsResponses};

use crate::judges::{Case, Judges, Outcome, Tally};
use crate::{REAL, changed_anywhere, changed_collateral};

/// Every real quote with collateral of the folder that `ATTEST_VECTORS` names, and the same changed.
#[test]
fn real_quotes_get_the_same_verdict_or_one_for_a_known_reason() {
    let Some(root) = std::env::var_os("ATTEST_VECTORS").filter(|value| !value.is_empty()) else {
        println!("skipped: ATTEST_VECTORS is not set, so no real quote was compared");
        return;
    };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(root);
    let manifest: Value = serde_json::from_slice(&std::fs::read(root.join("manifest.json")).unwrap()).unwrap();
    let oracle_root =
        std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../src/platform/tdx/intel_sgx_root_ca.der"))
            .unwrap();
    let judges = Judges { ours: Genuineness::intel(), oracle: Oracle::new(&oracle_root) };
    let mut tally = Tally::default();
    for (number, entry) in manifest["entries"].as_array().unwrap().iter().enumerate() {
        let name = entry["id"].as_str().unwrap();
        let Some(good) = real(&root, entry) else { continue };
        let outcome = judges.compare(name, &good);
        let accepted = matches!(outcome, Outcome::BothAccept);
        let reason = match &outcome {
            Outcome::OnlyWe(error) if error.contains("SEPT_VE_DISABLE") => {
                Some("SEPT_VE_DISABLE is off, which dcap-qvl refuses before any policy")
            }
            Outcome::OnlyDcap(error) if error.to_string().contains("SGX enclave") => {
                Some("a quote of an SGX enclave: ours judges TDs alone")
            }
            _ => None,
        };
        tally.expect(name, outcome, reason);
        if accepted {
            let mut rest = Tally::default();
            changed_anywhere(&judges, &good, name, number % REAL.quote, REAL.quote, &mut rest);
            changed_collateral(&judges, &good, name, REAL.collateral, &mut rest);
            for (what, count) in rest.0 {
                *tally.0.entry(what).or_default() += count;
            }
        }
    }
    println!("{:?}", tally.0);
}

fn real(root: &Path, entry: &Value) -> Option<Case> {
    let file = |role: &str| entry["files"][role]["path"].as_str().map(|path| std::fs::read(root.join(path)).unwrap());
    let text = |role: &str| file(role).map(|bytes| String::from_utf8(bytes).unwrap());
    let collateral = Collateral::from_pcs(PcsResponses {
        tcb_info: &file("tcb_info")?,
        tcb_info_issuer_chain: &text("tcb_signing_chain")?,
        qe_identity: &file("qe_identity")?,
        qe_identity_issuer_chain: &text("tcb_signing_chain")?,
        pck_crl: &file("pck_crl")?,
        pck_crl_issuer_chain: &text("pck_crl_issuer_chain")?,
        root_ca_crl: &file("root_ca_crl")?,
    })
    .ok()?;
    let time = humantime::parse_rfc3339(entry["verification_time"].as_str()?).unwrap();
    Some(Case { quote: file("quote")?, collateral: collateral.to_json(), time })
}
