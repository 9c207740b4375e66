//! Settings from flags, the environment and a file, checked and used; help and completions.

use std::path::Path;
use std::process::Stdio;

use super::sidecar::support::{Sidecar, certificate, client, get};
use crate::run::{Files, command, finish, run};

const DEPLOYED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy/tower-attest.toml");

fn policy(files: &Files) -> String {
    let text = format!("[[snp.measurement]]\nvalue = \"{}\"\n", "4d".repeat(48));
    files.write("policy.toml", text).to_str().unwrap().to_owned()
}

#[test]
fn the_file_in_examples_passes_its_check_for_both_sidecars() {
    let files = Files::new();
    let served = run(["serve", "--config-file", DEPLOYED, "--check"]);
    assert_eq!((served.code, served.stderr.as_str()), (0, ""));
    assert!(served.stdout.starts_with("ok: ") && served.stdout.contains("tower-attest.toml"), "{}", served.stdout);
    let connected = run(["connect", "--config-file", DEPLOYED, "--check", "--policy", &policy(&files)]);
    assert_eq!((connected.code, connected.stderr.as_str()), (0, ""));
    let text = std::fs::read_to_string(DEPLOYED).unwrap();
    assert!(text.contains("\n[serve]\n") && text.contains("\n[connect]\n"));
}

#[test]
fn a_check_reads_every_file_and_opens_no_port() {
    let files = Files::new();
    // Neither the port nor the hardware is free to have.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let (cert, key, other) = (files.write("cert", ""), files.write("key", ""), files.write("other", ""));
    certificate(&cert, &key);
    certificate(&files.write("unused", ""), &other);
    let [cert, key, other] = [&cert, &key, &other].map(|path| path.to_str().unwrap());
    let serve = |more: &[&str]| {
        let common = ["serve", "--check", "--host", "a", "--upstream", "http://127.0.0.1:1", "--listen", &listen];
        run([&common[..], more].concat())
    };
    assert_eq!(serve(&["--platform", "snp", "--tls", "pem", "--cert", cert, "--key", key]).code, 0);
    for (more, said) in [
        (&["--tls", "pem", "--cert", cert, "--key", other][..], "certificate and key"),
        (&["--tls", "pem", "--cert", "/nonexistent", "--key", key], "/nonexistent"),
        (&["--collateral", "/nonexistent"], "/nonexistent"),
        (&["--collateral", "intel", "--platform", "snp"], "only TDX"),
        (&["--platform", "sim-snp"], "--insecure-no-hardware"),
    ] {
        let refused = serve(more);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{more:?}");
        assert!(refused.stderr.contains(said), "{more:?}: {}", refused.stderr);
    }
    let good = policy(&files);
    let connect = |policy: &str, more: &[&str]| {
        let common = ["connect", "--check", "--to", "https://a", "--listen", &listen, "--policy", policy];
        run([&common[..], more].concat())
    };
    assert_eq!(connect(&good, &[]).code, 0);
    let broken = files.write("broken", "[snp]\nunknown = 1");
    for (policy, more, said) in [
        (broken.to_str().unwrap(), &[][..], "unknown"),
        ("/nonexistent", &[], "/nonexistent"),
        (&good, &["--roots-file", key], "found none"),
        (&good, &["--endorsements", "/nonexistent"], "--endorsements /nonexistent: expected a directory"),
        (&good, &["--collateral", key], "expected a directory"),
        (&good, &["--listen=0.0.0.0:1"], "cannot be used multiple times"),
        (&good, &["--to=https://a"], "cannot be used multiple times"),
    ] {
        let refused = connect(policy, more);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{more:?}");
        assert!(refused.stderr.contains(said), "{more:?}: {}", refused.stderr);
    }
    let exposed = run(["connect", "--check", "--to", "https://a", "--policy", &good, "--listen", "0.0.0.0:1"]);
    assert!(exposed.code == 2 && exposed.stderr.contains("--insecure-listen"), "{}", exposed.stderr);
    let unnamed = run(["connect", "--check", "--to", "https://a_b", "--policy", &good, "--sealed"]);
    assert_eq!(unnamed.code, 0, "an underscore is fine in a name: {}", unnamed.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_runs_on_a_file_and_the_environment_alone() {
    let files = Files::new();
    let upstream = super::sidecar::upstream::Upstream::start().await;
    let policy = files.write("policy", "");
    let file = files.write(
        "tower-attest.toml",
        format!(
            "log = \"error\"\n[serve]\nhost = [\"localhost\"]\nupstream = \"{}\"\nplatform = \"sim-snp\"\n\
             insecure-no-hardware = true\nsimulated-policy = {policy:?}\nlisten = \"127.0.0.1:0\"\n\
             [connect]\nlisten = \"0.0.0.0:0\"\npolicy = {policy:?}\ninsecure-simulator = true\n\
             dangerous-trust-attestation-alone = true\n",
            upstream.url()
        ),
    );
    let serve = Sidecar::start_with(command(["serve"]).env("TOWER_ATTEST_CONFIG_FILE", &file));
    let to = format!("https://localhost:{}", serve.addr().port());
    let connect = Sidecar::start_with(
        command(["connect"])
            .env("TOWER_ATTEST_CONFIG_FILE", &file)
            .env("TOWER_ATTEST_TO", &to)
            .env("TOWER_ATTEST_LISTEN", "127.0.0.1:0"),
    );
    assert_eq!(get(&client(), connect.addr(), "/").await.status(), 200);
}

#[test]
fn mistakes_in_file_and_environment_are_exit_code_2_and_say_where_they_are() {
    let files = Files::new();
    let file = files.write("c.toml", "[serve]\nhost = \"a\"\nupstream = \"unix:/u\"\nmax-streams = \"many\"\n");
    let refused = finish(command(["serve"]).env("TOWER_ATTEST_CONFIG_FILE", &file), b"");
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    let note = format!("note: --max-streams is set by {}:4", file.display());
    assert!(refused.stderr.contains(&note), "{}", refused.stderr);
    let warned = finish(
        command(["serve", "--check", "--host", "a", "--upstream", "unix:/u"]).env("TOWER_ATTEST_SEALD", "true"),
        b"",
    );
    assert_eq!(warned.code, 0);
    assert!(warned.stderr.contains("warning: TOWER_ATTEST_SEALD is no setting; is TOWER_ATTEST_SEALED meant?"));
}

#[test]
fn help_fits_80_columns() {
    for words in [
        &["--help"][..],
        &["serve", "--help"],
        &["connect", "--help"],
        &["verify", "--help"],
        &["inspect", "--help"],
        &["policy", "new", "--help"],
        &["policy", "check", "--help"],
        &["report", "--help"],
        &["doctor", "--help"],
        &["completions", "--help"],
        &["serve", "-h"],
        &["connect", "-h"],
    ] {
        let help = run(words);
        assert_eq!(help.code, 0, "{words:?}");
        let long: Vec<_> = help.stdout.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{words:?}: {long:?}");
    }
}

#[test]
fn completions_know_every_command_and_flag() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(["completions", shell]);
        assert_eq!(script.code, 0);
        for word in ["serve", "connect", "completions", "upstream-protocol", "simulated-policy", "max-evidence-age"] {
            assert!(script.stdout.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(run(["completions", "csh"]).code, 2);
    if Path::new("/bin/bash").exists() {
        let script = run(["completions", "bash"]).stdout;
        let asks = "\nCOMP_WORDS=(tower-attest serve --upstream-p)\nCOMP_CWORD=2\n\
                    $(complete -p tower-attest | sed 's/.*-F \\([^ ]*\\).*/\\1/') tower-attest --upstream-p serve\n\
                    echo \"${COMPREPLY[@]}\"\n";
        let mut bash = std::process::Command::new("/bin/bash");
        let answer = finish(bash.args(["--norc", "-s"]).stderr(Stdio::null()), format!("{script}{asks}").as_bytes());
        assert_eq!(answer.stdout.trim(), "--upstream-protocol --upstream-policy");
    }
}
