//! `inspect` on simulated evidence: verdicts, exit codes, every form of a file, hostile files, and how it reads.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tower_attest::platform::snp::sim::{Authority, SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::platform::snp::{CertTable, GuestPolicy, Product};
use tower_attest::platform::tdx::sim::{self as tdx_sim, SimulatedIntel, SimulatedTd};
use tower_attest::protocol::{BatchTree, Evidence, EvidenceStatement, KeyDocument, KeyDocumentFields, ReportHeader};
use tower_attest::{Nonce, Platform, Report};

use crate::run::{Files, command, finish, run};

const MEASUREMENT: [u8; 48] = [0x4d; 48];
const NONCE: [u8; 32] = [7; 32];

fn snp() -> SimProvider {
    SimProvider::new(SimulatedGuest::new(Product::Genoa).with_measurement(MEASUREMENT))
}

fn snp_policy(measurement: [u8; 48]) -> String {
    format!("[[measurement]]\nname = \"prover 1.4\"\nvalue = \"{}\"\n", hex::encode(measurement))
}

/// A simulated report with its certificate, as files.
struct SnpFiles {
    files: Files,
    report: PathBuf,
    vek: PathBuf,
}

fn snp_files() -> SnpFiles {
    let files = Files::new();
    let report = snp().make(&[7; 64]);
    SnpFiles {
        report: files.write("report.bin", report.bytes()),
        vek: files.write("vcek.der", report.vek().unwrap()),
        files,
    }
}

fn arguments(parts: &[&dyn AsRef<std::ffi::OsStr>]) -> Vec<OsString> {
    parts.iter().map(|part| part.as_ref().to_owned()).collect()
}

/// Evidence for [`NONCE`], without a channel.
fn evidence(platform: &Platform, make: impl FnOnce(&[u8; 64]) -> Report) -> Evidence {
    let fields = KeyDocumentFields::new([1; 16], 3, vec!["prover.example".to_owned()], [2; 32]);
    let document = KeyDocument::build(fields).unwrap();
    let nonce = Nonce::from_bytes(NONCE);
    let leaf = EvidenceStatement { platform, nonce: &nonce, binding: None, keys: document.digest() }.leaf();
    let tree = BatchTree::new(vec![[0; 48], leaf]).unwrap();
    let report = make(tree.report_data(platform).as_bytes());
    Evidence { report, keys: document.bytes().clone(), batch: tree.proof(1).unwrap() }
}

#[test]
fn a_genuine_report_that_satisfies_the_policy_is_accepted() {
    let SnpFiles { files, report, vek } = snp_files();
    let policy = files.write("policy.toml", snp_policy(MEASUREMENT));
    let run = run(arguments(&[&"inspect", &report, &"--vek", &vek, &"--policy", &policy, &"--insecure-simulator"]));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("VERDICT  accepted: genuine, and satisfies the policy"), "{}", run.stdout);
    assert!(run.stdout.contains("the simulator (NOT hardware)"), "{}", run.stdout);
    assert!(run.stdout.contains("  pass  measurement"), "{}", run.stdout);
    assert!(run.stdout.contains("the measurement is \"prover 1.4\""), "{}", run.stdout);
}

#[test]
fn the_simulator_is_trusted_by_a_flag_alone() {
    let SnpFiles { files: _files, report, vek } = snp_files();
    let run = run(arguments(&[&"inspect", &report, &"--vek", &vek]));
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stdout.contains("  FAIL  chain to AMD's pinned root"), "{}", run.stdout);
    assert!(run.stdout.contains("  -     signature over the report as received (not reached)"), "{}", run.stdout);
    assert!(run.stdout.contains("VERDICT  REFUSED"), "{}", run.stdout);
}

#[test]
fn another_measurement_is_refused_with_both_values() {
    let SnpFiles { files, report, vek } = snp_files();
    let policy = files.write("policy.toml", snp_policy([0x11; 48]));
    let run = run(arguments(&[
        &"inspect",
        &"--json",
        &report,
        &"--vek",
        &vek,
        &"--policy",
        &policy,
        &"--insecure-simulator",
    ]));
    assert_eq!(run.code, 1);
    let page = &run.json()[0];
    assert_eq!(page["verdict"]["accepted"], false);
    let checks = page["sections"].as_array().unwrap().iter().flat_map(|section| section["checks"].as_array().unwrap());
    let failed: Vec<&Value> = checks.filter(|check| check["outcome"] == "fail").collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["check"], "measurement");
    assert!(failed[0]["expected"].as_str().unwrap().contains(&"11".repeat(48)));
    assert_eq!(failed[0]["found"], "4d".repeat(48));
}

#[test]
fn a_changed_report_is_refused_and_says_where() {
    let files = Files::new();
    let made = snp().make(&[7; 64]);
    let mut bytes = made.bytes().to_vec();
    bytes[0x90] ^= 1;
    let report = files.write("report.bin", bytes);
    let vek = files.write("vcek.der", made.vek().unwrap());
    let run = run(arguments(&[&"inspect", &report, &"--vek", &vek, &"--insecure-simulator"]));
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("  FAIL  signature over the report as received"), "{}", run.stdout);
}

#[test]
fn a_guest_that_its_host_debugs_is_refused_without_a_policy() {
    let files = Files::new();
    let mut guest = SimulatedGuest::new(Product::Genoa);
    guest.policy = GuestPolicy::from_bits(guest.policy.bits() | GuestPolicy::DEBUG);
    let made = SimProvider::new(guest).make(&[7; 64]);
    let report = files.write("report.bin", made.bytes());
    let vek = files.write("vcek.der", made.vek().unwrap());
    let run = run(arguments(&[&"inspect", &report, &"--vek", &vek, &"--insecure-simulator"]));
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("  FAIL  the host cannot debug the guest"), "{}", run.stdout);
}

#[test]
fn a_report_without_its_certificate_is_shown_and_cannot_be_accepted() {
    let SnpFiles { files: _files, report, .. } = snp_files();
    let shown = run(arguments(&[&"inspect", &report]));
    assert_eq!(shown.code, 0);
    assert!(!shown.stdout.contains("VERDICT"), "{}", shown.stdout);
    assert!(shown.stdout.contains("0x090  MEASUREMENT         4d4d"), "{}", shown.stdout);
    let judged = run(arguments(&[&"inspect", &"--report", &report, &"--insecure-simulator"]));
    assert_eq!(judged.code, 1, "--report asks for a verdict");
    assert!(judged.stdout.contains("endorsement missing"), "{}", judged.stdout);
}

#[test]
fn a_revoked_authority_is_refused_and_a_bad_list_is_unreadable() {
    let SnpFiles { files, report, vek } = snp_files();
    let now = SystemTime::now();
    let amd = SimulatedAmd::new();
    let day = std::time::Duration::from_secs(86_400);
    let list = |revoked: &[Authority]| amd.crl(Product::Genoa, revoked, now - day, now + day);
    let judged =
        |crl: &Path| run(arguments(&[&"inspect", &report, &"--vek", &vek, &"--crl", &crl, &"--insecure-simulator"]));
    let clean = judged(&files.write("clean.der", list(&[])));
    assert_eq!(clean.code, 0, "{}", clean.stdout);
    assert!(clean.stdout.contains("a CRL was consulted"), "{}", clean.stdout);
    let revoked = judged(&files.write("revoked.der", list(&[Authority::Ask])));
    assert_eq!(revoked.code, 1, "{}", revoked.stdout);
    let garbage = judged(&files.write("garbage.der", b"not a list"));
    assert_eq!(garbage.code, 2, "{}", garbage.stdout);
    assert!(garbage.stderr.contains("the CRL cannot be used"), "{}", garbage.stderr);
}

#[test]
fn what_cannot_be_read_is_exit_code_2() {
    let SnpFiles { files, report, vek } = snp_files();
    let garbage = files.write("garbage", b"\x01\x02 nothing that is known");
    let empty = files.write("empty", b"");
    let bad_policy = files.write("bad.toml", snp_policy(MEASUREMENT) + "unknown-key = 1\n");
    // A report in hexadecimal and white space: nothing but its length is wrong.
    let huge = files.write("huge", hex::encode(snp().make(&[7; 64]).bytes()) + &" ".repeat(1024 * 1024));
    let missing = Path::new("/nonexistent/report.bin");
    for file in [&garbage, &empty, &huge, &missing.to_owned()] {
        let run = run(arguments(&[&"inspect", file]));
        assert_eq!(run.code, 2, "{}: {}", file.display(), run.stdout);
        assert!(run.stderr.contains(&*file.to_string_lossy()), "{}", run.stderr);
    }
    assert!(run(arguments(&[&"inspect", &huge])).stderr.contains("at most 1 MiB"));
    let policy = run(arguments(&[&"inspect", &report, &"--vek", &vek, &"--policy", &bad_policy]));
    assert_eq!(policy.code, 2);
    assert!(policy.stderr.contains("unknown-key"), "{}", policy.stderr);
    assert_eq!(run(arguments(&[&"inspect", &report, &"--at", &"yesterday"])).code, 2);
    assert_eq!(run(["inspect"]).code, 2, "no file at all");
    // The worst of several files decides, and the others are shown all the same.
    let several = run(arguments(&[&"inspect", &report, &garbage, &report]));
    assert_eq!(several.code, 2);
    assert_eq!(several.stdout.matches("SEV-SNP report").count(), 2);
}

#[test]
fn a_policy_without_a_section_for_the_platform_cannot_be_applied() {
    let SnpFiles { files, report, vek } = snp_files();
    let policy = files.write("tdx.toml", format!("[[measurement]]\nmrtd = \"{}\"\n", "ab".repeat(48)));
    let run = run(arguments(&[&"inspect", &report, &"--vek", &vek, &"--policy", &policy, &"--insecure-simulator"]));
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("no section [snp]"), "{}", run.stderr);
}

#[test]
fn a_tdx_quote_is_judged_with_its_collateral() {
    let files = Files::new();
    let now = SystemTime::now();
    let intel = SimulatedIntel::new();
    let spec = intel.collateral().issued_at(now);
    let made = tdx_sim::SimProvider::new(SimulatedTd::new(MEASUREMENT)).stapling(spec).make(&[7; 64]);
    let padded = files.write("quote.bin", [&made.bytes()[..], &[0; 100]].concat());
    let collateral = files.write("collateral.json", made.collateral().unwrap());
    let policy = |mrtd: [u8; 48]| format!("[[measurement]]\nmrtd = \"{}\"\n", hex::encode(mrtd));
    let (right, wrong) = (files.write("right.toml", policy(MEASUREMENT)), files.write("wrong.toml", policy([0; 48])));
    let judged = |policy: &Path| {
        run(arguments(&[
            &"inspect",
            &padded,
            &"--collateral",
            &collateral,
            &"--policy",
            &policy,
            &"--insecure-simulator",
        ]))
    };
    let accepted = judged(&right);
    assert_eq!(accepted.code, 0, "{}{}", accepted.stdout, accepted.stderr);
    assert!(accepted.stdout.contains("100 zeros follow"), "{}", accepted.stdout);
    assert!(accepted.stdout.contains("  pass  td-attributes"), "rules that pass are shown too");
    let refused = judged(&wrong);
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(refused.stdout.contains("  FAIL  mrtd"), "{}", refused.stdout);

    let hardware = run(arguments(&[&"inspect", &padded, &"--collateral", &collateral]));
    assert_eq!(hardware.code, 1, "the simulator is trusted by a flag alone: {}", hardware.stdout);
    assert!(hardware.stdout.contains("  FAIL  PCK chain to Intel's pinned root"), "{}", hardware.stdout);
    let without = run(arguments(&[&"inspect", &"--quote", &padded, &"--insecure-simulator"]));
    assert_eq!(without.code, 1);
    assert!(without.stdout.contains("  FAIL  collateral"), "{}", without.stdout);
    let behind = files.write("behind.bin", [&made.bytes()[..], b"text"].concat());
    let behind = run(arguments(&[&"inspect", &behind, &"--collateral", &collateral, &"--insecure-simulator"]));
    assert_eq!(behind.code, 1, "anything but zeros behind a quote is refused");
    assert!(behind.stdout.contains("4 bytes follow the quote"), "{}", behind.stdout);
}

#[test]
fn evidence_is_judged_for_the_nonce_that_is_given() {
    let files = Files::new();
    let evidence = evidence(&Platform::SNP, |data| snp().make(data));
    for (name, bytes) in [("evidence.json", evidence.to_json()), ("evidence.cbor", evidence.to_cbor())] {
        let file = files.write(name, bytes);
        let judged = |nonce: &str| run(arguments(&[&"inspect", &file, &"--nonce", &nonce, &"--insecure-simulator"]));
        let right = judged(&hex::encode(NONCE));
        assert_eq!(right.code, 0, "{name}: {}{}", right.stdout, right.stderr);
        assert!(right.stdout.contains("names               prover.example"), "{}", right.stdout);
        assert_eq!(judged(&STANDARD.encode(NONCE)).code, 0, "base64 will do");
        let wrong = judged(&hex::encode([8; 32]));
        assert_eq!(wrong.code, 1, "{name}: {}", wrong.stdout);
        assert!(wrong.stdout.contains("another nonce, another channel or other"), "{}", wrong.stdout);
        assert_eq!(judged("0707").code, 2, "not a nonce");
    }
}

#[test]
fn a_response_head_shows_its_report_and_other_keys_are_refused() {
    let evidence = evidence(&Platform::SNP, |data| snp().make(data));
    let header = |keys| ReportHeader { keys, sig: [9; 64], evidence: Some(evidence.to_cbor().into()) };
    let value = |keys| header(keys).to_value().to_str().unwrap().to_owned();
    let keys = tower_attest::KeysDigest::of(&evidence.keys);
    let other = tower_attest::KeysDigest::from_bytes([0; 32]);
    let inspect = |input: &str, flags: &[&str]| {
        finish(&mut command(["inspect", "--json", "-"].iter().chain(flags)), input.as_bytes())
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nAttestation-Report: {}\r\n\r\n", value(keys));
    for text in [head.clone(), value(keys), format!("attestation-report: {}", value(keys))] {
        let run = inspect(&text, &[]);
        assert_eq!((run.code, &run.json()[0]["kind"]), (0, &Value::from("report-header")), "{}", run.stdout);
    }
    let flags = ["--insecure-simulator", "--nonce", &hex::encode(NONCE)];
    assert_eq!(inspect(&head, &flags).code, 0);
    assert_eq!(inspect(&value(other), &flags).code, 1, "evidence for keys that did not sign");
    let twice = format!("{head}{head}");
    assert_eq!(inspect(&twice, &[]).code, 2, "which of two fields counts would be a guess");
}

#[test]
fn a_file_is_recognised_in_every_form() {
    let made = snp().make(&[7; 64]);
    let vek = made.vek().unwrap();
    let pem =
        |der: &[u8]| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der));
    let ark = SimulatedAmd::new().certificate(Product::Genoa, Authority::Ark);
    let mut table = Vec::new();
    table.extend(CertTable::VCEK);
    table.extend(48_u32.to_le_bytes());
    table.extend(u32::try_from(vek.len()).unwrap().to_le_bytes());
    table.extend([0; 24]);
    table.extend_from_slice(vek);
    let keys = evidence(&Platform::SNP, |data| snp().make(data)).keys;
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("snp-report", made.bytes().to_vec()),
        ("snp-report", hex::encode(made.bytes()).into_bytes()),
        ("snp-report", format!("{}\n", STANDARD.encode(made.bytes())).into_bytes()),
        ("snp-vek", vek.to_vec()),
        ("snp-vek", pem(vek).into_bytes()),
        ("certificates", ark.clone()),
        ("certificates", (pem(vek) + &pem(&ark)).into_bytes()),
        ("snp-cert-table", [&table[..], &[0; 4096]].concat()),
        ("key-document", keys.to_vec()),
        ("policy", snp_policy(MEASUREMENT).into_bytes()),
        ("mock-report", [b"MOCKTEE1".as_slice(), &[0; 209]].concat()),
    ];
    for (kind, bytes) in forms {
        let run = finish(&mut command(["inspect", "--json", "-"]), &bytes);
        assert_eq!(run.code, 0, "{kind}: {}", run.stdout);
        assert_eq!(run.json()[0]["kind"], kind);
    }
}

#[test]
fn a_certificate_table_gives_the_report_its_certificate() {
    let SnpFiles { files, report, vek } = snp_files();
    let vek = std::fs::read(vek).unwrap();
    let length = u32::try_from(vek.len()).unwrap();
    let table = [&CertTable::VCEK[..], &48_u32.to_le_bytes(), &length.to_le_bytes(), &[0; 24], &vek].concat();
    let table = files.write("auxblob.bin", table);
    let run = run(arguments(&[&"inspect", &report, &"--vek", &table, &"--insecure-simulator"]));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}

#[test]
fn hostile_files_never_bring_it_down() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let dirs = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        dirs.flat_map(|dir| std::fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 200, "the corpora are there");
    for files in files.chunks(250) {
        let arguments = ["inspect", "--insecure-simulator", "--at", "2026-01-01T00:00:00Z", "--"];
        let run = run(arguments.iter().map(OsString::from).chain(files.iter().map(OsString::from)));
        assert!((0..=2).contains(&run.code));
        assert!(run.stdout.lines().all(|line| line.chars().count() <= 80), "80 columns");
        assert!(!run.stdout.contains(|c: char| c.is_control() && c != '\n'), "no file steers the terminal");
    }
}

#[test]
fn colour_is_for_those_who_want_it() {
    let SnpFiles { files: _files, report, .. } = snp_files();
    // At one moment: the time of the judgement is among the words.
    let arguments = arguments(&[&"inspect", &"--report", &report, &"--at", &"2026-01-01T00:00:00Z"]);
    let piped = run(&arguments);
    assert!(!piped.stdout.contains('\u{1b}'), "no colour into a pipe");
    let forced = finish(command(&arguments).env("CLICOLOR_FORCE", "1"), b"");
    assert!(forced.stdout.contains('\u{1b}'), "colour where it is asked for");
    let refused = finish(command(&arguments).env("NO_COLOR", "1"), b"");
    assert_eq!(refused.stdout, piped.stdout, "NO_COLOR is honoured");
    let plain = anstream::adapter::strip_str(&forced.stdout).to_string();
    assert_eq!(plain, piped.stdout, "colour changes no word");
    assert!(piped.stdout.lines().all(|line| line.chars().count() <= 80), "{}", piped.stdout);
}
