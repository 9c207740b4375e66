//! What a balancer refuses to start with, and what its effective configuration says.

use crate::run::{Files, run};

const SERVE: [&str; 5] = ["serve", "--show-config", "--host", "a", "--listen=127.0.0.1:0"];
const MEASUREMENT: &str =
    "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d";

fn refused(flags: &[&str]) -> String {
    let run = run([&SERVE[..], flags].concat());
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{flags:?}: {}", run.stderr);
    run.stderr
}

fn shown(flags: &[&str]) -> String {
    let run = run([&SERVE[..], flags].concat());
    assert_eq!(run.code, 0, "{flags:?}: {}", run.stderr);
    run.stdout
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let files = Files::new();
    let policy =
        files.write("policy", format!("[server]\nname = \"w\"\n[[snp.measurement]]\nvalue = \"{MEASUREMENT}\"\n"));
    let (policy, broken) = (policy.to_str().unwrap(), files.write("broken", "[snp]\nunknown = 1"));
    let (https, http) = (["--upstream", "https://a"], ["--upstream", "http://127.0.0.1:1"]);
    let with = ["--upstream-policy", policy];
    assert!(refused(&https).contains("--upstream-policy"));
    assert!(refused(&[&https[..], &http, &with].concat()).contains("plaintext among them"));
    assert!(refused(&[&http[..], &["--upstream", "unix:/a"]].concat()).contains("plaintext among them"));
    assert!(refused(&[&http[..], &with].concat()).contains("--upstream-policy: only https"));
    for flag in ["--upstream-offline", "--insecure-upstream-simulator", "--dangerous-upstream-trust-attestation-alone"]
    {
        assert!(refused(&[&http[..], &[flag]].concat()).contains(&format!("{flag}: only https")), "{flag}");
    }
    for flag in ["--upstream-name", "--upstream-roots-file", "--upstream-endorsements", "--upstream-collateral"] {
        assert!(refused(&[&http[..], &[flag, "a"]].concat()).contains(&format!("{flag}: only https")), "{flag}");
    }
    assert!(refused(&[&https[..], &["--upstream", "https://A:443/"], &with].concat()).contains("found it twice"));
    assert!(refused(&[&https[..], &with, &["--upstream-protocol", "h1"]].concat()).contains("TLS settles"));
    assert!(refused(&[&https[..], &["--upstream-policy", "/nonexistent"]].concat()).contains("/nonexistent"));
    assert!(refused(&[&https[..], &["--upstream-policy", broken.to_str().unwrap()]].concat()).contains("unknown"));
    assert!(refused(&[&https[..], &with, &["--upstream-name", "v"]].concat()).contains("the policy expects"));
    assert!(refused(&[&https[..], &with, &["--upstream-roots-file", policy]].concat()).contains("found none"));
    for flag in ["--upstream-endorsements", "--upstream-collateral"] {
        assert!(refused(&[&https[..], &with, &[flag, policy]].concat()).contains("expected a directory"), "{flag}");
    }
    let both = ["--upstream-roots", "native", "--dangerous-upstream-trust-attestation-alone"];
    assert!(refused(&[&https[..], &with, &both].concat()).contains("cannot be used with"));
}

#[test]
fn the_effective_configuration_covers_what_workers_must_prove() {
    let files = Files::new();
    let text = format!("[[snp.measurement]]\nvalue = \"{MEASUREMENT}\"\n");
    let (policy, other) = (files.write("policy", &text), files.write("other", format!("# other bytes\n{text}")));
    let (cert, key) = (files.write("cert", ""), files.write("key", ""));
    crate::sidecar::support::certificate(&cert, &key);
    let [policy, other, cert] = [&policy, &other, &cert].map(|path| path.to_str().unwrap());
    let sha256 =
        |path: &str| hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &std::fs::read(path).unwrap()));
    let workers = ["--upstream", "https://B.example", "--upstream", "https://a.example:8443"];
    let base = shown(&[&workers[..], &["--upstream-policy", policy]].concat());
    let expected = format!(
        "tower-attest serve 1\nnames=a\nupstream=https://a.example:8443\nupstream=https://b.example:443\n\
         upstream-protocol=auto\ntls=self-signed\nsealed=off\nupstream-policy={}\nupstream-name=\n\
         upstream-certificates=webpki\nupstream-max-evidence-age=10m\nupstream-simulator=refused\n# sha256 ",
        sha256(policy)
    );
    assert!(base.starts_with(&expected), "{base}");
    let digest = base.trim_start_matches(&expected).trim();
    let found =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, expected.trim_end_matches("# sha256 ").as_bytes());
    assert_eq!(digest, hex::encode(found));

    let swapped = [&workers[2..], &workers[..2], &["--upstream-policy", policy]].concat();
    assert_eq!(shown(&swapped), base, "the order says nothing");
    let limits = ["--upstream-check-interval", "5s", "--upstream-connections", "3", "--upstream-offline"];
    assert_eq!(shown(&[&workers[..], &["--upstream-policy", policy], &limits].concat()), base);
    for different in [
        [&workers[..], &["--upstream-policy", other]].concat(),
        [&workers[..2], &["--upstream-policy", policy]].concat(),
        [&workers[..], &["--upstream-policy", policy, "--upstream-name", "c"]].concat(),
        [&workers[..], &["--upstream-policy", policy, "--upstream-roots", "native"]].concat(),
        [&workers[..], &["--upstream-policy", policy, "--upstream-roots-file", cert]].concat(),
        [&workers[..], &["--upstream-policy", policy, "--dangerous-upstream-trust-attestation-alone"]].concat(),
        [&workers[..], &["--upstream-policy", policy, "--insecure-upstream-simulator"]].concat(),
        [&workers[..], &["--upstream-policy", policy, "--upstream-max-evidence-age", "1h"]].concat(),
    ] {
        assert_ne!(shown(&different), base, "{different:?}");
    }
    let with_roots = shown(&[&workers[..], &["--upstream-policy", policy, "--upstream-roots-file", cert]].concat());
    assert!(with_roots.contains(&format!("upstream-certificates=file {}\n", sha256(cert))), "{with_roots}");
}

#[test]
fn the_file_for_deployment_is_a_balancers() {
    let files = Files::new();
    let policy = files.write("policy", format!("[[snp.measurement]]\nvalue = \"{MEASUREMENT}\"\n"));
    let (cert, key) = (files.write("cert", ""), files.write("key", ""));
    crate::sidecar::support::certificate(&cert, &key);
    let deployed = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy/balancer.toml");
    let [policy, cert] = [&policy, &cert].map(|path| path.to_str().unwrap());
    let flags = ["--config-file", deployed, "--upstream-policy", policy, "--upstream-roots-file", cert];
    let run = run([&["serve", "--show-config"][..], &flags].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout.matches("upstream=https://worker-").count(), 3, "{}", run.stdout);
}
