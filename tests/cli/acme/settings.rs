//! What `--tls acme` and `--redirect` refuse to start with, and what the effective configuration says of them.

use std::os::unix::fs::PermissionsExt;

use crate::run::{Files, run};

const SERVE: [&str; 12] = [
    "serve",
    "--upstream",
    "http://127.0.0.1:1",
    "--listen",
    "127.0.0.1:0",
    "--platform",
    "sim-snp",
    "--insecure-no-hardware",
    "--tls",
    "acme",
    "--acme-directory",
    "https://127.0.0.1:1/dir",
];

fn refused(more: &[&str]) -> String {
    let run = run([&SERVE[..], more].concat());
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{more:?}: {}", run.stderr);
    run.stderr
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let files = Files::new();
    let key = files.write("key", "not base64url!");
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (key, state) = (key.to_str().unwrap(), state.to_str().unwrap());
    let host = ["--host", "prover.example"];
    assert!(refused(&[&host[..], &["--acme-accept-terms"]].concat()).contains("--state-dir"));
    let with = |more: &[&str]| refused(&[&host[..], &["--state-dir", state], more].concat());
    let error = with(&[]);
    assert!(error.contains("--acme-accept-terms") && error.contains("https://127.0.0.1:1/dir"), "{error}");
    let with = |more: &[&str]| with(&[&["--acme-accept-terms"], more].concat());
    assert!(with(&["--acme-challenge", "http-01"]).contains("--redirect"));
    assert!(with(&["--acme-challenge", "dns-01"]).contains("tls-alpn-01"));
    assert!(with(&["--acme-roots-file", "/nonexistent"]).contains("/nonexistent"));
    assert!(with(&["--acme-eab-id", "a"]).contains("--acme-eab-key-file"));
    assert!(with(&["--acme-eab-key-file", key]).contains("--acme-eab-id"));
    assert!(with(&["--acme-eab-id", "a", "--acme-eab-key-file", key]).contains("base64url"));
    assert!(with(&["--acme-eab-id", "a", "--acme-eab-key-file", "/nonexistent"]).contains("/nonexistent"));
    assert!(with(&["--redirect", "192.0.2.1:80"]).contains("--redirect 192.0.2.1:80"));
    assert!(with(&["--redirect", "127.0.0.1:0", "--redirect-port", "0"]).contains("--redirect-port"));
    let wildcard = ["--host", "*.prover.example", "--state-dir", state, "--acme-accept-terms"];
    assert!(refused(&wildcard).contains("*.prover.example"));
    let plain =
        ["serve", "--upstream", "http://127.0.0.1:1", "--host", "a", "--acme-directory", "http://ca.example/dir"];
    assert!(run(plain).stderr.contains("https URL"));
}

#[test]
fn a_state_directory_that_cannot_be_kept_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let flags = |state: &str| refused(&["--host", "prover.example", "--acme-accept-terms", "--state-dir", state]);
    assert!(flags("/proc/nothing").contains("/proc/nothing"));
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = flags(dir.path().to_str().unwrap());
    assert!(error.contains("mode 777") && error.contains(dir.path().to_str().unwrap()), "{error}");
}

#[test]
fn a_check_reads_what_is_there_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let checked = |more: &[&str]| {
        let flags = ["--host", "prover.example", "--acme-accept-terms", "--check", "--state-dir"];
        run([&SERVE[..], &flags, &[state.to_str().unwrap()], more].concat())
    };
    assert_eq!(checked(&[]).code, 0);
    assert!(!state.exists());
    assert_eq!(checked(&["--acme-roots-file", "/nonexistent"]).code, 2);
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    let run = checked(&[]);
    assert!(run.code == 2 && run.stderr.contains("mode 777"), "{}", run.stderr);
}

#[test]
fn the_effective_configuration_names_acme_and_neither_the_ca_nor_port_80() {
    let shown = |more: &[&str]| {
        let run = run([&SERVE[..], &["--host", "a", "--state-dir", "/nonexistent", "--show-config"], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    };
    let text = shown(&[]);
    assert!(text.contains("\ntls=acme\n"), "{text}");
    let other = ["--redirect", "127.0.0.1:80", "--acme-challenge", "http-01", "--acme-profile", "shortlived"];
    assert_eq!(shown(&other), text);
}
