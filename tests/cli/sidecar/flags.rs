//! What the sidecars refuse to start with, and what they say of themselves when they do.

use std::process::Stdio;

use serde_json::Value;

use super::support::{PATIENCE, Serve, certificate, client, eventually, get};
use super::upstream::Upstream;
use crate::run::{Files, command, run};

const SERVE: [&str; 7] = ["serve", "--host", "localhost", "--listen", "127.0.0.1:0", "--platform", "sim-snp"];

/// What a sidecar says that does not start. One that does is killed.
fn refused(arguments: &[&str]) -> String {
    let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() && started.elapsed() < PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{arguments:?}");
    error
}

#[test]
fn plaintext_does_not_leave_the_machine_unless_that_is_said() {
    for upstream in ["http://10.0.0.1:80", "http://example.com", "http://localhost.example:80"] {
        let error = refused(&[&SERVE[..], &["--insecure-no-hardware", "--upstream", upstream]].concat());
        assert!(error.contains("--insecure-upstream") && error.contains(upstream), "{error}");
    }
}

#[test]
fn simulated_hardware_is_refused_unless_that_is_said() {
    for platform in ["mock", "sim-snp", "sim-tdx"] {
        let arguments = ["serve", "--host", "a", "--upstream", "http://127.0.0.1:1", "--platform", platform];
        assert!(refused(&arguments).contains("--insecure-no-hardware"));
    }
}

#[test]
fn a_machine_without_hardware_is_told_what_is_missing() {
    let error = refused(&["serve", "--host", "a", "--upstream", "http://127.0.0.1:1"]);
    assert!(error.contains("snp: not available") && error.contains("tdx: not available"), "{error}");
    assert!(error.contains("--insecure-no-hardware"), "{error}");
    let policy = ["--insecure-no-hardware", "--simulated-policy", "/nonexistent"];
    let arguments =
        [&["serve", "--host", "a", "--upstream", "http://127.0.0.1:1", "--platform", "snp"][..], &policy].concat();
    assert!(refused(&arguments).contains("not simulated"));
}

#[test]
fn only_simulated_hardware_can_be_made_to_stall() {
    let stall = ["--simulated-stall-file", "/nonexistent"];
    let serve = ["serve", "--host", "a", "--upstream", "http://127.0.0.1:1", "--platform"];
    assert!(refused(&[&serve[..], &["sim-snp"], &stall].concat()).contains("--insecure-no-hardware"));
    for platform in ["auto", "snp", "tdx"] {
        let error = refused(&[&serve[..], &[platform, "--insecure-no-hardware"], &stall].concat());
        assert!(error.contains("--simulated-stall-file: this platform is not simulated"), "{platform}: {error}");
    }
}

#[test]
fn hardware_that_hangs_at_the_start_is_told_with_the_time_that_it_had() {
    let files = Files::new();
    let stall = files.write("stall", "");
    let more = ["--insecure-no-hardware", "--upstream", "http://127.0.0.1:1", "--report-timeout", "300ms"];
    let error = refused(&[&SERVE[..], &more, &["--simulated-stall-file", stall.to_str().unwrap()]].concat());
    assert!(error.contains("the hardware") && error.contains("300ms"), "{error}");
}

#[test]
fn times_of_nothing_are_refused_for_keys_and_reports() {
    for flag in ["--key-lifetime", "--report-timeout"] {
        let more = ["--insecure-no-hardware", "--upstream", "http://127.0.0.1:1", flag, "0s"];
        let error = refused(&[&SERVE[..], &more].concat());
        assert!(error.contains(flag) && error.contains("more than zero"), "{error}");
    }
}

#[test]
fn a_route_that_cannot_work_is_refused() {
    let serve = |more: &[&str]| {
        refused(&[&SERVE[..], &["--insecure-no-hardware", "--upstream", "http://127.0.0.1:1"], more].concat())
    };
    assert!(serve(&["--route", "tee-1"]).contains("--sealed"), "nothing else is routed by it");
    for route in ["", "zone 1", &"x".repeat(65)] {
        assert!(serve(&["--sealed", "--route", route]).contains("route"), "{route:?}");
    }
}

#[test]
fn certificates_that_cannot_serve_are_refused_at_the_start() {
    let files = Files::new();
    let (cert, key, other) = (files.write("cert", ""), files.write("key", ""), files.write("other", ""));
    certificate(&cert, &key);
    certificate(&files.write("unused", ""), &other);
    let serve = |more: &[&str]| {
        refused(
            &[&SERVE[..], &["--insecure-no-hardware", "--upstream", "http://127.0.0.1:1", "--tls", "pem"], more]
                .concat(),
        )
    };
    let [cert, key, other] = [&cert, &key, &other].map(|path| path.to_str().unwrap());
    assert!(serve(&["--cert", cert]).contains("--key"));
    assert!(serve(&["--key", key]).contains("--cert"));
    assert!(serve(&["--cert", cert, "--key", other]).contains("certificate and key"));
    assert!(serve(&["--cert", "/nonexistent", "--key", key]).contains("/nonexistent"));
}

#[test]
fn connect_does_not_listen_for_other_machines_unless_that_is_said() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let error = refused(&["connect", "--to", "https://a", "--policy", "/nonexistent", "--listen", listen]);
        assert!(error.contains("--insecure-listen"), "{error}");
    }
}

#[test]
fn connect_refuses_policies_and_flags_that_cannot_work() {
    let files = Files::new();
    let digest = "5e".repeat(32);
    let measurement = format!("[[snp.measurement]]\nvalue = \"{}\"\n", "4d".repeat(48));
    let policy = files.write("policy", format!("[server]\nname = \"a\"\nconfig = \"{digest}\"\n{measurement}"));
    let (policy, broken) = (policy.to_str().unwrap(), files.write("broken", "[snp]\nunknown = 1"));
    let connect = |more: &[&str]| refused(&[&["connect", "--listen", "127.0.0.1:0"], more].concat());
    let to = ["--to", "https://a"];
    assert!(connect(&to).contains("--policy"));
    assert!(connect(&[&to[..], &["--policy", "/nonexistent"]].concat()).contains("/nonexistent"));
    assert!(connect(&[&to[..], &["--policy", broken.to_str().unwrap()]].concat()).contains("unknown"));
    assert!(connect(&["--to", "http://a", "--policy", policy]).contains("https://HOST"));
    assert!(connect(&["--to", "https://a/path", "--policy", policy]).contains("https://HOST"));
    let with = |more: &[&str]| connect(&[&to[..], &["--policy", policy], more].concat());
    assert!(with(&["--name", "b"]).contains("the policy expects"));
    assert!(with(&["--config", &"6f".repeat(32)]).contains("the policy pins"));
    assert!(with(&["--config", "5e"]).contains("64 hexadecimal digits"));
    assert!(with(&["--roots-file", "/nonexistent"]).contains("/nonexistent"));
    assert!(with(&["--roots-file", policy]).contains("found none"));
    assert!(with(&["--roots", "native", "--dangerous-trust-attestation-alone"]).contains("cannot be used with"));
    assert!(with(&["--address", "10.0.0.1"]).contains("HOST:PORT"));
}

#[test]
fn the_effective_configuration_is_what_its_digest_says() {
    let shown = |more: &[&str]| {
        let run = run([&["serve", "--show-config", "--upstream", "http://127.0.0.1:8082"], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        let (text, digest) =
            run.stdout.split_once("# sha256 ").map(|(a, b)| (a.to_owned(), b.trim().to_owned())).unwrap();
        let found = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        assert_eq!(hex::encode(found), digest);
        (text, digest)
    };
    let (text, digest) = shown(&["--host", "b", "--host", "A"]);
    let expected = "tower-attest serve 1\nnames=a,b\nupstream=http://127.0.0.1:8082\nupstream-protocol=auto\ntls=self-signed\nsealed=off\n";
    assert_eq!(text, expected);
    assert_eq!(shown(&["--host", "a", "--host", "b", "--max-streams", "9"]).1, digest, "limits send nothing elsewhere");
    for other in [
        &["--host", "a"][..],
        &["--host", "a", "--host", "b", "--upstream-protocol", "h1"],
        &["--host", "a", "--host", "b", "--sealed"],
    ] {
        assert_ne!(shown(other).1, digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_says_what_it_is_and_connect_who_it_found() {
    let upstream = Upstream::start().await;
    for (platform, name) in [("sim-snp", "snp"), ("sim-tdx", "tdx"), ("mock", "mock")] {
        let serve = Serve::start(&upstream.url(), &["--platform", platform]);
        let connect = serve.connect(&[]);
        let measurement = hex::encode("tower-attest simulated measurement, not hardware");
        for banner in [&serve.sidecar.banner, &connect.banner] {
            let flat: String = banner.split_whitespace().collect();
            assert!(flat.contains(&measurement), "{banner}");
            assert!(banner.lines().all(|line| line.chars().count() <= 80), "{banner}");
            assert!(!banner.contains('\x1b'), "no colour where nobody looks: {banner}");
        }
        assert!(serve.sidecar.banner.contains(&format!("{name} (simulated)")));
        eventually("it warns", || serve.sidecar.log().contains("proves nothing")).await;
        let response = get(&client(), connect.addr(), "/version").await;
        assert_eq!(response.status(), 200, "{platform}: {response:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_can_be_json() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--log", "debug", "--log-format", "json"]);
    get(&client(), serve.connect(&[]).addr(), "/version").await;
    eventually("a whole line", || serve.sidecar.log().lines().count() > 2).await;
    let log = serve.sidecar.log();
    let line = log.lines().find(|line| line.starts_with('{')).expect("a line of JSON");
    let line: Value = serde_json::from_str(line).unwrap();
    assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
}
