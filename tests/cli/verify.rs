//! `verify`, and policies that `policy new` makes of servers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tower_attest::mock::{Behaviour, MockTee};
use tower_attest::platform::snp::Product;
use tower_attest::platform::snp::sim::SimulatedGuest;
use tower_attest::platform::tdx::sim::{SimProvider, SimulatedIntel, SimulatedTd};
use tower_attest::tls::Tls;

use crate::run::{Files, Run, run};
use crate::server::{Ends, Server, provider};

const MEASUREMENT: [u8; 48] = [0x4d; 48];

fn guest() -> SimulatedGuest {
    SimulatedGuest::new(Product::Genoa).with_measurement(MEASUREMENT)
}

fn tls() -> Ends {
    Ends::Tls(Tls::self_signed("localhost").unwrap())
}

fn policy(measurement: [u8; 48]) -> String {
    format!("[[snp.measurement]]\nname = \"prover 1.4\"\nvalue = \"{}\"\n", hex::encode(measurement))
}

/// `verify URL --policy …` with what simulated hardware and self-signed certificates need.
fn verify(url: &str, policy: &str, more: &[&str]) -> Run {
    let files = Files::new();
    let policy = files.write("policy.toml", policy);
    let simulated = ["--insecure-simulator", "--offline", "--dangerous-trust-attestation-alone"];
    let channel = !more.contains(&"--presence") && !more.contains(&"--sealed");
    let flags = if !channel { &simulated[..2] } else { &simulated[..] };
    run(["verify", url, "--policy", policy.to_str().unwrap()].iter().chain(flags).chain(more))
}

#[test]
fn a_server_that_meets_the_policy_is_verified_and_described() {
    let server = Server::attested(provider(guest()), tls());
    let run = verify(&server.url("https"), &policy(MEASUREMENT), &[]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    for said in [
        "VERDICT  accepted: verified: \"prover 1.4\"",
        "names               localhost, 127.0.0.1",
        "config              5e5e5e",
        "called              prover 1.4",
        "tcb                 bl 10, tee 0, snp 27, ucode 222",
        "strength            Channel",
        "request secret      yes",
        "response intact     yes",
        "age                 0 s",
    ] {
        assert!(run.stdout.contains(said), "{said}: {}", run.stdout);
    }
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 80), "{}", run.stdout);
    let json = verify(&server.url("https"), &policy(MEASUREMENT), &["--json"]);
    let page = &json.json()[0];
    assert_eq!(page["verdict"]["accepted"], true);
    let tee = page["sections"].as_array().unwrap().iter().find(|section| section["section"] == "tee").unwrap();
    assert_eq!(tee["fields"]["measurement"], "4d".repeat(48));
}

#[test]
fn every_rule_that_fails_is_named() {
    let server = Server::attested(provider(guest()), tls());
    let strict = policy([0x11; 48])
        + "[[snp.tcb-floor]]\nproduct = \"genoa\"\nreported = { bl = 99, tee = 0, snp = 0, ucode = 0 }\n";
    let refused = verify(&server.url("https"), &strict, &[]);
    assert_eq!(refused.code, 1, "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stdout.contains("VERDICT  REFUSED"), "{}", refused.stdout);
    for rule in ["  FAIL  measurement", "  FAIL  tcb-floor.reported", "at least bl 99"] {
        assert!(refused.stdout.contains(rule), "{rule}: {}", refused.stdout);
    }
    let json = verify(&server.url("https"), &strict, &["--json"]);
    assert_eq!(json.code, 1);
    let checks = json.json()[0]["sections"][0]["checks"].clone();
    let failed: Vec<&Value> = checks.as_array().unwrap().iter().map(|check| &check["check"]).collect();
    assert_eq!(failed, ["measurement", "tcb-floor.reported"]);
}

#[test]
fn another_name_or_configuration_is_refused() {
    let (server, plain) =
        (Server::attested(provider(guest()), tls()), Server::attested(provider(guest()), Ends::Plain));
    for (more, said) in [
        (["--name", "other.example"], "other.example"),
        (["--config", "6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e"], "another configuration"),
    ] {
        let run = verify(&server.url("https"), &policy(MEASUREMENT), &more);
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains(said), "{}", run.stdout);
        let run = verify(&plain.url("http"), &policy(MEASUREMENT), &["--presence", more[0], more[1]]);
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains(said), "{}", run.stdout);
    }
    let pinned = format!("{}[server]\nconfig = \"{}\"\n", policy(MEASUREMENT), "5e".repeat(32));
    assert_eq!(verify(&server.url("https"), &pinned, &[]).code, 0, "the policy's own pin");
}

#[test]
fn simulated_hardware_and_unknown_certificates_need_their_flags() {
    let server = Server::attested(provider(guest()), tls());
    let files = Files::new();
    let policy = files.write("policy.toml", policy(MEASUREMENT));
    let verify =
        |flag: &str| run(["verify", &server.url("https"), "--offline", "--policy", policy.to_str().unwrap(), flag]);
    let hardware = verify("--dangerous-trust-attestation-alone");
    assert_eq!(hardware.code, 1, "{}{}", hardware.stdout, hardware.stderr);
    let certificate = verify("--insecure-simulator");
    assert_eq!(certificate.code, 1, "{}{}", certificate.stdout, certificate.stderr);
    assert!(certificate.stdout.contains("certificate was refused"), "{}", certificate.stdout);
}

#[test]
fn a_certificate_of_an_own_authority_is_believed_by_its_file() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let pem =
        |label: &str, der: &[u8]| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    let certificate = pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
    let files = Files::new();
    let (certificate, key) =
        (files.write("cert.pem", certificate), files.write("key.pem", pem("PRIVATE KEY", &key.serialize_der())));
    let server = Server::attested(provider(guest()), Ends::Tls(Tls::pem(&certificate, key).unwrap()));
    let policy = files.write("policy.toml", policy(MEASUREMENT));
    let flags = ["--insecure-simulator", "--offline", "--policy", policy.to_str().unwrap()];
    let roots = ["--roots-file", certificate.to_str().unwrap()];
    for more in [&[][..], &["--presence"]] {
        let url = server.url("https");
        let verified = run(["verify", &url].iter().chain(&flags).chain(&roots).chain(more));
        assert_eq!(verified.code, 0, "{}{}", verified.stdout, verified.stderr);
    }
    let any = ["--presence", "--dangerous-trust-attestation-alone"];
    let any = run(["verify", &server.url("https")].iter().chain(&flags).chain(&any));
    assert_eq!(any.code, 2, "nothing would tie the evidence to the connection: {}", any.stdout);
    assert!(any.stderr.contains("give --roots-file"), "{}", any.stderr);
    let unknown = run(["verify", &server.url("https"), "--presence"].iter().chain(&flags));
    assert_eq!(unknown.code, 2, "no TLS, no exchange: {}{}", unknown.stdout, unknown.stderr);
}

#[test]
fn a_server_that_attests_nothing_is_refused() {
    let server = Server::unattested(tls());
    let run = verify(&server.url("https"), &policy(MEASUREMENT), &[]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("no attestation report (status 404)"), "{}", run.stdout);
    let plain = Server::unattested(Ends::Plain);
    let run = verify(&plain.url("http"), &policy(MEASUREMENT), &["--presence"]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
}

#[test]
fn where_tls_ends_before_the_server_presence_is_all_there_is() {
    let server = Server::attested(provider(guest()), Ends::Terminated(Tls::self_signed("localhost").unwrap()));
    let channel = verify(&server.url("https"), &policy(MEASUREMENT), &[]);
    assert_eq!(channel.code, 2, "{}{}", channel.stdout, channel.stderr);
    assert!(channel.stderr.contains("--presence"), "{}", channel.stderr);

    let server = Server::attested(provider(guest()), Ends::Plain);
    let present = verify(&server.url("http"), &policy(MEASUREMENT), &["--presence"]);
    assert_eq!(present.code, 0, "{}{}", present.stdout, present.stderr);
    for said in ["strength            Presence", "request secret      no", "response intact     no"] {
        assert!(present.stdout.contains(said), "{said}: {}", present.stdout);
    }
    let refused = verify(&server.url("http"), &policy([0; 48]), &["--presence"]);
    assert_eq!(refused.code, 1, "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stdout.contains("  FAIL  measurement"), "{}", refused.stdout);
    let asked = verify(&server.url("http"), &policy(MEASUREMENT), &[]);
    assert_eq!(asked.code, 2, "plain http is for --presence alone");
    assert!(asked.stderr.contains("with --presence"), "{}", asked.stderr);
}

#[test]
fn a_sealed_exchange_goes_through_whatever_ends_tls() {
    let server = Server::sealing(provider(guest()), Ends::Plain);
    let sealed = verify(&server.url("http"), &policy(MEASUREMENT), &["--sealed"]);
    assert_eq!(sealed.code, 0, "{}{}", sealed.stdout, sealed.stderr);
    for said in ["strength            Sealed", "request secret      yes", "response intact     yes"] {
        assert!(sealed.stdout.contains(said), "{said}: {}", sealed.stdout);
    }
    let refused = verify(&server.url("http"), &policy([0; 48]), &["--sealed"]);
    assert_eq!(refused.code, 1, "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stdout.contains("  FAIL  measurement"), "{}", refused.stdout);
    let unsealing = Server::attested(provider(guest()), Ends::Plain);
    let cannot = verify(&unsealing.url("http"), &policy(MEASUREMENT), &["--sealed"]);
    assert!(cannot.code != 0, "a server without a key to seal to: {}{}", cannot.stdout, cannot.stderr);
}

#[test]
fn what_cannot_be_told_is_exit_code_2() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", closed.local_addr().unwrap().port());
    drop(closed);
    let nobody = verify(&url, &policy(MEASUREMENT), &[]);
    assert_eq!(nobody.code, 2, "{}{}", nobody.stdout, nobody.stderr);
    let json = verify(&url, &policy(MEASUREMENT), &["--json"]);
    assert_eq!(json.code, 2);
    assert!(json.json()[0]["error"].is_string(), "{}", json.stdout);

    let tee = MockTee::new();
    let busy = tee.provider();
    let server = Server::attested(busy.clone(), tls());
    busy.set_behaviour(Behaviour::Busy);
    let waiting = verify(&server.url("https"), &policy(MEASUREMENT), &[]);
    assert_eq!(waiting.code, 2, "{}{}", waiting.stdout, waiting.stderr);

    let bad_policy = verify(&server.url("https"), "[snp]\n", &[]);
    assert_eq!(bad_policy.code, 2, "{}{}", bad_policy.stdout, bad_policy.stderr);
    assert_eq!(verify("https://localhost/path", &policy(MEASUREMENT), &[]).code, 2);
}

#[test]
fn a_tdx_server_is_verified_by_its_section() {
    let collateral = SimulatedIntel::new().collateral().issued_at(std::time::SystemTime::now());
    let provider = || SimProvider::new(SimulatedTd::new(MEASUREMENT)).stapling(collateral.clone());
    let server = Server::attested(provider(), tls());
    let both = format!(
        "{}[[tdx.measurement]]\nname = \"prover 1.4 (TDX)\"\nmrtd = \"{}\"\n",
        policy(MEASUREMENT),
        hex::encode(MEASUREMENT)
    );
    let verified = verify(&server.url("https"), &both, &[]);
    assert_eq!(verified.code, 0, "{}{}", verified.stdout, verified.stderr);
    assert!(verified.stdout.contains("prover 1.4 (TDX)"), "{}", verified.stdout);
    let snp_only = verify(&server.url("https"), &policy(MEASUREMENT), &[]);
    assert_eq!(snp_only.code, 1, "a platform without a section: {}{}", snp_only.stdout, snp_only.stderr);
}

fn new_policy(url: &str, more: &[&str]) -> Run {
    let simulated = ["--insecure-simulator", "--offline", "--dangerous-trust-attestation-alone"];
    run(["policy", "new", "--from", url].iter().chain(&simulated).chain(more))
}

#[test]
fn a_policy_made_of_a_server_verifies_it_and_no_other() {
    let server = Server::attested(provider(guest()), tls());
    let written = new_policy(&server.url("https"), &["--measurement-name", "seen"]);
    assert_eq!(written.code, 0, "{}", written.stderr);
    for line in ["name = \"localhost\"", "config = \"5e5e5e", "# TRUST ON FIRST USE", "value = \"4d4d4d"] {
        assert!(written.stdout.contains(line), "{line}: {}", written.stdout);
    }
    let verified = verify(&server.url("https"), &written.stdout, &[]);
    assert_eq!(verified.code, 0, "{}{}", verified.stdout, verified.stderr);
    let other = Server::attested(provider(guest().with_measurement([1; 48])), tls());
    assert_eq!(verify(&other.url("https"), &written.stdout, &[]).code, 1);

    let collateral = SimulatedIntel::new().collateral().issued_at(std::time::SystemTime::now());
    let tdx = Server::attested(SimProvider::new(SimulatedTd::new(MEASUREMENT)).stapling(collateral), tls());
    let written = new_policy(&tdx.url("https"), &[]);
    assert_eq!(written.code, 0, "{}", written.stderr);
    assert_eq!(verify(&tdx.url("https"), &written.stdout, &[]).code, 0);
    assert_eq!(verify(&server.url("https"), &written.stdout, &[]).code, 1, "another platform");
}

#[test]
fn no_policy_is_made_of_a_server_that_is_not_genuine_or_not_there() {
    let server = Server::attested(provider(guest()), tls());
    let by = ["--offline", "--dangerous-trust-attestation-alone"];
    let hardware = run(["policy", "new", "--from", &server.url("https")].iter().chain(&by));
    assert_eq!((hardware.code, hardware.stdout.as_str()), (1, ""), "{}", hardware.stderr);
    let unattested = Server::unattested(tls());
    let nothing = new_policy(&unattested.url("https"), &[]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (1, ""), "{}", nothing.stderr);
    let terminated = Server::attested(provider(guest()), Ends::Terminated(Tls::self_signed("localhost").unwrap()));
    let relayed = new_policy(&terminated.url("https"), &[]);
    assert_eq!((relayed.code, relayed.stdout.as_str()), (2, ""), "{}", relayed.stderr);
    let plain = new_policy(&server.url("http"), &[]);
    assert_eq!((plain.code, plain.stdout.as_str()), (2, ""), "{}", plain.stderr);
    assert!(plain.stderr.contains("may be anybody's"), "{}", plain.stderr);
    let mock = Server::attested(MockTee::new().provider(), tls());
    assert_eq!(new_policy(&mock.url("https"), &[]).code, 1, "a mock is nothing to pin");
}
