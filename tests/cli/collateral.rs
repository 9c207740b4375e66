//! `serve --collateral`: clients without a route to Intel.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tower_attest::platform::tdx::sim::{SimulatedIntel, SimulatedTd};

use crate::run::{Run, run};
use crate::sidecar::support::Serve;

/// Writes the simulator's collateral as `CollateralDirectory` wants it.
fn write(dir: &Path) {
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let json = SimulatedIntel::new().collateral().issued_at(yesterday).build().to_json();
    let json: Value = serde_json::from_slice(&json).unwrap();
    let text = |member: &str| json[member].as_str().unwrap();
    let signed = |name: &str, member: &str| {
        format!(r#"{{"{name}":{},"signature":"{}"}}"#, text(member), text(&format!("{member}_signature"))).into_bytes()
    };
    let dir = dir.join(format!("{}-platform", hex::encode(SimulatedTd::new([0; 48]).platform.pck.id.fmspc)));
    std::fs::create_dir(&dir).unwrap();
    for (file, bytes) in [
        ("tcb_info.json", signed("tcbInfo", "tcb_info")),
        ("qe_identity.json", signed("enclaveIdentity", "qe_identity")),
        ("tcb_signing_chain.pem", text("tcb_info_issuer_chain").into()),
        ("pck_crl.der", hex::decode(text("pck_crl")).unwrap()),
        ("pck_crl_issuer_chain.pem", text("pck_crl_issuer_chain").into()),
        ("root_ca_crl.der", hex::decode(text("root_ca_crl")).unwrap()),
    ] {
        std::fs::write(dir.join(file), bytes).unwrap();
    }
}

fn serve(collateral: &Path) -> Serve {
    Serve::start("http://127.0.0.1:9", &["--platform", "sim-tdx", "--collateral", collateral.to_str().unwrap()])
}

/// A client that has nothing of Intel's.
fn verify(serve: &Serve) -> Run {
    let (policy, roots) = (serve.file("policy.toml"), serve.file("cert.pem"));
    let url = format!("https://localhost:{}", serve.addr().port());
    let flags = ["--offline", "--insecure-simulator", "--roots-file", roots.to_str().unwrap()];
    run(["verify", &url, "--policy", policy.to_str().unwrap()].iter().chain(&flags))
}

#[test]
fn collateral_from_a_directory_is_enough_for_a_client_that_is_offline() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let serve = serve(dir.path());
    // The first quote goes out without, and the server's own was that one.
    let verified = (0..50).map(|_| verify(&serve)).find(|run| run.code == 0);
    let verified = verified.unwrap_or_else(|| panic!("{}", serve.sidecar.log()));
    assert!(verified.stdout.contains("collateral"), "{}", verified.stdout);
}

#[test]
fn without_collateral_such_a_client_refuses_and_the_server_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let serve = serve(dir.path());
    let refused = verify(&serve);
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert!(format!("{}{}", refused.stdout, refused.stderr).contains("no collateral"), "{}", refused.stderr);
    let says = || serve.sidecar.log().contains("tdx.collateral.not_stapled");
    while !says() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn only_tdx_has_collateral_and_a_source_must_be_one() {
    let start = |more: &[&str]| {
        let common = ["serve", "--host", "localhost", "--upstream", "http://127.0.0.1:9", "--insecure-no-hardware"];
        run(common.iter().chain(more))
    };
    let other = start(&["--platform", "sim-snp", "--collateral", "intel"]);
    assert!(other.code != 0 && other.stderr.contains("only TDX"), "{}", other.stderr);
    let nowhere = start(&["--platform", "sim-tdx", "--collateral", "/nonexistent"]);
    assert!(nowhere.code != 0 && nowhere.stderr.contains("a directory, found none"), "{}", nowhere.stderr);
}
