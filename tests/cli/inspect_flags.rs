//! `inspect` by its two documented command lines, with every flag of each: exit code 0 accepted, 1 refused, 2 unreadable.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tower_attest::platform::snp::Product;
use tower_attest::platform::snp::sim::{SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::platform::tdx::sim::{SimProvider as TdxProvider, SimulatedIntel, SimulatedTd};

use crate::run::{Files, Run, run};

const MEASUREMENT: [u8; 48] = [0x4d; 48];
const DAY: Duration = Duration::from_secs(86_400);

/// `inspect` with these flags, of which each may be replaced or taken away.
#[derive(Clone)]
struct Line(Vec<(&'static str, OsString)>);

impl Line {
    fn with(&self, flag: &'static str, value: impl Into<OsString>) -> Self {
        let mut line = self.without(flag);
        line.0.push((flag, value.into()));
        line
    }

    fn without(&self, flag: &str) -> Self {
        Self(self.0.iter().filter(|(other, _)| *other != flag).cloned().collect())
    }

    fn run(&self) -> Run {
        let flags = self.0.iter().flat_map(|(flag, value)| [OsString::from(flag), value.clone()]);
        run([OsString::from("inspect"), OsString::from("--insecure-simulator")].into_iter().chain(flags))
    }

    #[track_caller]
    fn exits(&self, code: i32) {
        let run = self.run();
        assert_eq!(run.code, code, "{:?}\n{}{}", self.0, run.stdout, run.stderr);
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn snp_line(files: &Files) -> Line {
    let provider = SimProvider::new(SimulatedGuest::new(Product::Genoa).with_measurement(MEASUREMENT));
    let report = provider.make(&[7; 64]);
    let now = SystemTime::now();
    let crl = SimulatedAmd::new().crl(Product::Genoa, &[], now - DAY, now + DAY);
    let policy = format!("[[measurement]]\nname = \"prover\"\nvalue = \"{}\"\n", hex::encode(MEASUREMENT));
    Line(vec![
        ("--report", files.write("report.bin", report.bytes()).into()),
        ("--vek", files.write("vcek.der", report.vek().unwrap()).into()),
        ("--crl", files.write("crl.der", crl).into()),
        ("--at", time(now).into()),
        ("--policy", files.write("policy.toml", policy).into()),
    ])
}

#[test]
fn a_report_by_its_flags() {
    let files = Files::new();
    let line = snp_line(&files);
    line.exits(0);
    for optional in ["--crl", "--at", "--policy"] {
        line.without(optional).exits(0);
    }
    let other = format!("[[measurement]]\nname = \"other\"\nvalue = \"{}\"\n", "00".repeat(48));
    line.with("--policy", files.write("other.toml", other)).exits(1);
    line.without("--vek").exits(1);
    line.with("--at", time(SystemTime::now() + 2 * DAY)).exits(1);
    let mut changed = std::fs::read(&line.0[0].1).unwrap();
    changed[0x90] ^= 1;
    line.with("--report", files.write("changed.bin", changed)).exits(1);

    let garbage = files.write("garbage", "garbage");
    // What is no report at all is a report that is refused; what it is to be judged by must be readable.
    line.with("--report", &garbage).exits(1);
    for flag in ["--crl", "--policy"] {
        line.with(flag, &garbage).exits(2);
    }
    line.with("--at", "the day before yesterday").exits(2);
    line.with("--report", "/nonexistent").exits(2);
}

/// The six files of a collateral directory.
fn collateral_dir(files: &Files, issued: SystemTime) -> PathBuf {
    let json: serde_json::Value =
        serde_json::from_slice(&SimulatedIntel::new().collateral().issued_at(issued).build().to_json()).unwrap();
    let text = |member: &str| json[member].as_str().unwrap().to_owned();
    let signed = |name: &str, body: &str, signature: &str| {
        format!("{{\"{name}\":{},\"signature\":\"{}\"}}", text(body), text(signature)).into_bytes()
    };
    let parts = [
        ("tcb_info.json", signed("tcbInfo", "tcb_info", "tcb_info_signature")),
        ("qe_identity.json", signed("enclaveIdentity", "qe_identity", "qe_identity_signature")),
        ("tcb_signing_chain.pem", text("tcb_info_issuer_chain").into_bytes()),
        ("pck_crl.der", hex::decode(text("pck_crl")).unwrap()),
        ("pck_crl_issuer_chain.pem", text("pck_crl_issuer_chain").into_bytes()),
        ("root_ca_crl.der", hex::decode(text("root_ca_crl")).unwrap()),
    ];
    let paths: Vec<PathBuf> = parts.into_iter().map(|(name, contents)| files.write(name, contents)).collect();
    paths[0].parent().unwrap().to_owned()
}

#[test]
fn a_quote_by_its_flags() {
    let (files, collateral) = (Files::new(), Files::new());
    let now = SystemTime::now();
    let dir = collateral_dir(&collateral, now - DAY);
    let quote = TdxProvider::new(SimulatedTd::new(MEASUREMENT)).make(&[7; 64]);
    let policy = |mrtd: [u8; 48]| format!("[[measurement]]\nmrtd = \"{}\"\n", hex::encode(mrtd));
    let line = Line(vec![
        ("--quote", files.write("quote.bin", quote.bytes()).into()),
        ("--collateral", dir.clone().into()),
        ("--at", time(now).into()),
        ("--policy", files.write("policy.toml", policy(MEASUREMENT)).into()),
    ]);
    line.exits(0);
    for optional in ["--at", "--policy"] {
        line.without(optional).exits(0);
    }
    line.with("--policy", files.write("other.toml", policy([0; 48]))).exits(1);
    line.without("--collateral").exits(1);
    line.with("--at", time(now + 40 * DAY)).exits(1);
    let mut changed = quote.bytes().to_vec();
    changed[200] ^= 1;
    line.with("--quote", files.write("changed.bin", changed)).exits(1);

    let garbage = files.write("garbage", "garbage");
    line.with("--quote", &garbage).exits(1);
    line.with("--policy", &garbage).exits(2);
    line.with("--at", "the day before yesterday").exits(2);
    line.with("--quote", "/nonexistent").exits(2);
    collateral.write("tcb_info.json", "{}");
    line.exits(2);
    std::fs::remove_file(dir.join("tcb_info.json")).unwrap();
    line.exits(2);
}
