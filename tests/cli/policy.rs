//! `policy new` and `policy check`.

use std::path::{Path, PathBuf};

use tower_attest::platform::snp::sim::{SimProvider, SimulatedGuest};
use tower_attest::platform::snp::{GuestPolicy, PlatformInfo, Product};
use tower_attest::platform::tdx::TcbStatus;
use tower_attest::platform::tdx::sim::{self as tdx_sim, SimulatedIntel, SimulatedTd};

use crate::run::{Files, Run, run};

fn snp(files: &Files, name: &str, guest: SimulatedGuest) -> (PathBuf, PathBuf) {
    let made = SimProvider::new(guest).make(&[7; 64]);
    let report = files.write(&format!("{name}.bin"), made.bytes());
    (report, files.write(&format!("{name}.vek"), made.vek().unwrap()))
}

fn new(report: &Path, vek: &Path, more: &[&str]) -> Run {
    let (report, vek) = (report.to_str().unwrap(), vek.to_str().unwrap());
    let arguments = ["policy", "new", "--insecure-simulator", "--from", report, "--vek", vek];
    run(arguments.iter().chain(more))
}

fn judge(report: &Path, vek: &Path, policy: &Path) -> Run {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    run([
        "inspect".to_owned(),
        "--insecure-simulator".to_owned(),
        path(report),
        "--vek".to_owned(),
        path(vek),
        "--policy".to_owned(),
        path(policy),
    ])
}

#[test]
fn a_policy_accepts_what_it_was_made_from_and_nothing_else() {
    let files = Files::new();
    let guest = || SimulatedGuest::new(Product::Genoa).with_measurement([1; 48]);
    let (report, vek) = snp(&files, "seen", guest());
    let written = new(&report, &vek, &["--measurement-name", "prover 1.4"]);
    assert_eq!(written.code, 0, "{}", written.stderr);
    assert!(written.stdout.contains("# TRUST ON FIRST USE"), "{}", written.stdout);
    assert!(written.stderr.contains("trust on first use"), "{}", written.stderr);
    let policy = files.write("policy.toml", &written.stdout);
    let accepted = judge(&report, &vek, &policy);
    assert_eq!(accepted.code, 0, "{}{}", accepted.stdout, accepted.stderr);
    assert!(accepted.stdout.contains("the measurement is \"prover 1.4\""), "{}", accepted.stdout);

    let mut older = guest();
    older.reported_tcb.snp -= 1;
    let mut other_level = guest();
    other_level.vmpl = 1;
    let others = [
        ("measurement", guest().with_measurement([2; 48])),
        ("found none for Turin", SimulatedGuest::new(Product::Turin).with_measurement([1; 48])),
        ("tcb-floor.reported", older),
        ("vmpls", other_level),
        ("signing-keys", guest().with_vlek("CN=cc-example")),
    ];
    for (rule, guest) in others {
        let (report, vek) = snp(&files, "other", guest);
        let refused = judge(&report, &vek, &policy);
        assert!(refused.code != 0, "{rule}: {}", refused.stdout);
        let said = refused.stdout + &refused.stderr;
        assert!(said.contains(rule), "{rule}: {said}");
    }
}

#[test]
fn what_the_default_refuses_and_was_seen_is_permitted_and_marked() {
    let files = Files::new();
    let mut guest = SimulatedGuest::new(Product::Milan).with_measurement([1; 48]);
    guest.policy = GuestPolicy::from_bits(guest.policy.bits() | GuestPolicy::CXL_ALLOW | 1 << 40);
    guest.platform_info = PlatformInfo::from_bits(PlatformInfo::SMT_EN);
    guest.host_data = [9; 32];
    guest.current_tcb.snp += 1;
    let (report, vek) = snp(&files, "seen", guest);
    let written = new(&report, &vek, &[]);
    assert_eq!(written.code, 0, "{}", written.stderr);
    for line in [
        "permit = [\"cxl\", \"bit 40\"]",
        "permit = [\"alias-check-complete\"]",
        "permit-provisional-firmware = true",
        "products = [\"milan\"]",
        "stepping = 1",
        "host-data = [\"0909",
    ] {
        assert!(written.stdout.contains(line), "{line}: {}", written.stdout);
    }
    assert_eq!(written.stdout.matches("LOOSER THAN THE DEFAULT").count(), 3, "{}", written.stdout);
    let policy = files.write("policy.toml", &written.stdout);
    assert_eq!(judge(&report, &vek, &policy).code, 0);
}

#[test]
fn a_provider_key_is_pinned_to_its_provider() {
    let files = Files::new();
    let guest = SimulatedGuest::new(Product::Genoa).with_measurement([1; 48]).with_vlek("CN=cc-us-east-2.example");
    let (report, vek) = snp(&files, "seen", guest);
    let written = new(&report, &vek, &[]);
    assert!(written.stdout.contains("csp-ids = [\"CN=cc-us-east-2.example\"]"), "{}{}", written.stdout, written.stderr);
    let policy = files.write("policy.toml", &written.stdout);
    assert_eq!(judge(&report, &vek, &policy).code, 0);
}

#[test]
fn nothing_is_written_of_a_guest_under_debug_or_that_is_not_genuine() {
    let files = Files::new();
    let mut guest = SimulatedGuest::new(Product::Genoa);
    guest.policy = GuestPolicy::from_bits(guest.policy.bits() | GuestPolicy::DEBUG);
    let (report, vek) = snp(&files, "debug", guest);
    let debug = new(&report, &vek, &[]);
    assert_eq!((debug.code, debug.stdout.as_str()), (1, ""), "{}", debug.stderr);
    assert!(debug.stderr.contains("debug"), "{}", debug.stderr);

    let (report, vek) = snp(&files, "simulated", SimulatedGuest::new(Product::Genoa));
    let (report, vek) = (report.to_str().unwrap(), vek.to_str().unwrap());
    let simulated = run(["policy", "new", "--from", report, "--vek", vek]);
    assert_eq!((simulated.code, simulated.stdout.as_str()), (1, ""), "{}", simulated.stderr);
    let alone = run(["policy", "new", "--from", report]);
    assert_eq!((alone.code, alone.stdout.as_str()), (1, ""), "without its certificate: {}", alone.stderr);
    let missing = run(["policy", "new", "--from", "/nonexistent"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (2, ""), "{}", missing.stderr);
}

#[test]
fn a_tdx_policy_accepts_its_quote_and_ends_where_the_platform_is_out_of_date() {
    let files = Files::new();
    let now = std::time::SystemTime::now();
    let spec = || SimulatedIntel::new().collateral().issued_at(now);
    for (name, spec, marks) in [
        ("current", spec(), 0),
        ("outdated", spec().status(TcbStatus::OutOfDate, &["INTEL-SA-00960"]), 1),
        ("hardening", spec().status(TcbStatus::SwHardeningNeeded, &["INTEL-SA-1", "INTEL-SA-2"]), 1),
    ] {
        let made = tdx_sim::SimProvider::new(SimulatedTd::new([3; 48])).stapling(spec).make(&[7; 64]);
        let quote = files.write(name, made.bytes());
        let collateral = files.write("collateral.json", made.collateral().unwrap());
        let (quote, collateral) = (quote.to_str().unwrap(), collateral.to_str().unwrap());
        let by = ["--insecure-simulator", "--collateral", collateral];
        let written = run(["policy", "new", "--from", quote].iter().chain(&by));
        assert_eq!(written.code, 0, "{name}: {}", written.stderr);
        assert_eq!(written.stdout.matches("LOOSER THAN THE DEFAULT").count(), marks, "{}", written.stdout);
        assert_eq!(written.stdout.contains("until = "), name == "outdated", "{}", written.stdout);
        let policy = files.write("policy.toml", &written.stdout);
        let judged = run(["inspect", quote, "--policy", policy.to_str().unwrap()].iter().chain(&by));
        assert_eq!(judged.code, 0, "{name}: {}{}", judged.stdout, judged.stderr);
    }
}

#[test]
fn no_name_becomes_a_rule() {
    let files = Files::new();
    let (report, vek) = snp(&files, "seen\nproducts = [\"milan\"]\n#", SimulatedGuest::new(Product::Genoa));
    let written = new(&report, &vek, &["--measurement-name", "a\"\n[snp.guest-policy]\nrequire = [\"debug\"]\n#"]);
    assert_eq!(written.code, 0, "{}", written.stderr);
    let table: toml::Table = written.stdout.parse().unwrap();
    assert_eq!(table["snp"]["products"].as_array().unwrap().len(), 1);
    assert_eq!(table["snp"]["products"][0].as_str(), Some("genoa"));
    assert!(table["snp"].get("guest-policy").is_none(), "{}", written.stdout);
}

#[test]
fn a_file_that_is_there_is_not_written_over() {
    let files = Files::new();
    let (report, vek) = snp(&files, "seen", SimulatedGuest::new(Product::Genoa));
    let there = files.write("policy.toml", "compared by hand");
    let refused = new(&report, &vek, &["--output", there.to_str().unwrap()]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "compared by hand");
    let fresh = there.with_file_name("fresh.toml");
    assert_eq!(new(&report, &vek, &["--output", fresh.to_str().unwrap()]).code, 0);
    assert_eq!(run(["policy", "check", fresh.to_str().unwrap()]).code, 0);
}

#[test]
fn check_says_what_is_accepted_and_what_is_left_open() {
    let files = Files::new();
    let text = format!("[[snp.measurement]]\nname = \"prover 1.4\"\nvalue = \"{}\"\n", "4d".repeat(48));
    let policy = files.write("policy.toml", &text);
    let good = run(["policy", "check", policy.to_str().unwrap()]);
    assert_eq!(good.code, 0, "{}", good.stderr);
    for said in ["prover 1.4", "open: tcb-floor", "open: require-crl", "open: chip-ids", "any, unless"] {
        assert!(good.stdout.contains(said), "{said}: {}", good.stdout);
    }
    assert!(good.stdout.lines().all(|line| line.chars().count() <= 80), "{}", good.stdout);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policy.toml");
    assert_eq!(run(["policy", "check", example.to_str().unwrap()]).code, 0);
    for (name, bad, said) in [
        ("unknown", format!("{text}\n[snp.unknown]\n"), "unknown"),
        ("none", "[server]\nname = \"a\"\n".to_owned(), "[snp] or [tdx]"),
        ("empty", "[snp]\nmeasurement = []\n".to_owned(), "measurement"),
        ("not TOML", "= 1".to_owned(), "TOML"),
    ] {
        let bad = files.write("bad.toml", bad);
        let run = run(["policy", "check", bad.to_str().unwrap()]);
        assert_eq!(run.code, 2, "{name}: {}", run.stdout);
        assert!(run.stderr.contains(said), "{name}: {}", run.stderr);
    }
}
