//! Shows a SEV-SNP report to a security reviewer: every field, every rule, and the verdict.
//!
//! ```sh
//! cargo run --features snp --example inspect -- --report FILE --vek FILE [--crl FILE] [--at RFC3339] [--policy FILE]
//! ```
//!
//! `--report` is the raw report (1 184 bytes), `--vek` the VCEK or VLEK certificate and `--crl` the revocation list, both
//! DER, `--at` the time to judge at (now, unless given), `--policy` a TOML file. Without a policy the report is judged by
//! genuineness alone: signatures, chain, revocation, certificate against report, debug.
//!
//! With the feature `tdx`, a TDX quote and the directory with its collateral (the six files of `Collateral::from_dir`):
//!
//! ```sh
//! cargo run --features snp,tdx --example inspect -- --quote FILE --collateral DIR [--at RFC3339] [--policy FILE]
//! ```
//!
//! Exit code: 0 accepted, 1 refused, 2 unreadable (arguments, files, or a policy or CRL that cannot be used).

#[cfg(feature = "tdx")]
#[path = "support/inspect_tdx.rs"]
mod tdx;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::SystemTime;

use tower_attest::platform::snp::{
    Genuineness, Product, RawTcb, ReportView, SigningKey, SnpDetails, SnpPolicy, VekCertificate,
};
use tower_attest::{Platform, Report, VerifyError, VerifyErrorKind};

const USAGE: &str = "usage: inspect --report FILE --vek FILE [--crl FILE] [--at RFC3339] [--policy FILE]";

fn main() -> ExitCode {
    #[cfg(feature = "tdx")]
    let outcome = match std::env::args().any(|argument| matches!(&*argument, "--quote" | "--collateral")) {
        true => tdx::inspect(std::env::args().skip(1)),
        false => inspect(),
    };
    #[cfg(not(feature = "tdx"))]
    let outcome = inspect();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}

/// Everything that the command line names.
struct Input {
    report: Vec<u8>,
    vek: Option<Vec<u8>>,
    crl: Option<Vec<u8>>,
    at: SystemTime,
    policy: Option<SnpPolicy>,
}

/// Whether the report is accepted; an error is something that cannot be read.
fn inspect() -> Result<bool, String> {
    let input = Input::from_arguments(std::env::args().skip(1))?;
    println!("judged at         {}", humantime::format_rfc3339_seconds(input.at));
    let amd = Genuineness::amd();
    let judge = match &input.crl {
        Some(crl) => amd.with_crls([crl]).map_err(|error| format!("the CRL cannot be used: {error}"))?,
        None => amd,
    };
    let report = Report::new(Platform::SNP, input.report);
    let vek = input.vek.as_ref().map(|der| VekCertificate::parse(der.clone()));
    let named = vek.as_ref().and_then(|vek| vek.as_ref().ok()?.product());
    match ReportView::parse(report.bytes().clone()) {
        Ok(view) => show_report(&view, view.product().or(named)),
        Err(error) => println!("\nREPORT\n  cannot be read: {error}"),
    }
    match &vek {
        Some(Ok(vek)) => show_vek(vek),
        Some(Err(error)) => println!("\nCERTIFICATE\n  cannot be read: {error}"),
        None => println!("\nCERTIFICATE\n  none given"),
    }
    let report = match input.vek {
        Some(vek) => report.with_vek(vek),
        None => report,
    };
    let verdict = judge.authenticate(&report, input.at);
    println!("\nGENUINENESS");
    show_steps(&report, &verdict);
    let accepted = match (&verdict, &input.policy) {
        (Ok(details), Some(policy)) => show_policy(details, policy)?,
        (Ok(_), None) => show_debug(judge.check(&report, input.at)),
        (Err(_), Some(_)) => {
            println!("\nPOLICY\n  not applied: rules mean nothing for a report that is not genuine");
            false
        }
        (Err(_), None) => false,
    };
    let scope = if input.policy.is_some() { "genuine, and satisfies the policy" } else { "genuine (no policy given)" };
    println!("\nVERDICT  {}", if accepted { format!("accepted: {scope}") } else { "REFUSED".to_owned() });
    if let (true, Ok(details)) = (accepted, &verdict) {
        println!("  holds until {}", humantime::format_rfc3339_seconds(details.valid_until()));
    }
    Ok(accepted)
}

impl Input {
    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let [mut report, mut vek, mut crl, mut at, mut policy] = [const { None }; 5];
        while let Some(name) = arguments.next() {
            let slot = match name.as_str() {
                "--report" => &mut report,
                "--vek" => &mut vek,
                "--crl" => &mut crl,
                "--at" => &mut at,
                "--policy" => &mut policy,
                _ => return Err(format!("unknown argument {name:?}\n{USAGE}")),
            };
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
            if slot.replace(value).is_some() {
                return Err(format!("{name} is given twice\n{USAGE}"));
            }
        }
        let at = match at {
            Some(text) => humantime::parse_rfc3339(&text).map_err(|error| format!("--at {text}: {error}"))?,
            None => SystemTime::now(),
        };
        let policy = policy.map(|path| {
            let text = String::from_utf8(read(&path)?).map_err(|error| format!("{path}: {error}"))?;
            SnpPolicy::from_toml(&text).map_err(|error| format!("{path}: {error}"))
        });
        Ok(Self {
            report: read(&report.ok_or_else(|| format!("--report is missing\n{USAGE}"))?)?,
            vek: vek.map(|path| read(&path)).transpose()?,
            crl: crl.map(|path| read(&path)).transpose()?,
            at,
            policy: policy.transpose()?,
        })
    }
}

/// A file of at most 1 MiB, which is more than any of these may have.
fn read(path: &str) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(path).map_err(|error| format!("{path}: {error}"))?.len();
    if length > 1024 * 1024 {
        return Err(format!("{path}: expected at most 1 MiB, found {length} bytes"));
    }
    std::fs::read(path).map_err(|error| format!("{path}: {error}"))
}

fn field(offset: &str, name: &str, value: impl Display) {
    println!("  {offset:<6} {name:<19} {value}");
}

fn show_report(view: &ReportView, product: Option<Product>) {
    println!("\nREPORT (as signed; offsets of AMD 56860)");
    field("0x000", "VERSION", view.version());
    field("0x004", "GUEST_SVN", view.guest_svn());
    field("0x008", "POLICY", view.policy());
    field("0x010", "FAMILY_ID", hex::encode(view.family_id()));
    field("0x020", "IMAGE_ID", hex::encode(view.image_id()));
    field("0x030", "VMPL", view.vmpl());
    field("0x034", "SIGNATURE_ALGO", format_args!("{} (ECDSA P-384 SHA-384)", view.signature_algo()));
    let tcb = |raw: RawTcb| match product {
        Some(product) => raw.decode(product).to_string(),
        None => format!("{} (of an unknown product)", hex::encode(raw.as_bytes())),
    };
    field("0x038", "CURRENT_TCB", tcb(view.current_tcb()));
    field("0x040", "PLATFORM_INFO", view.platform_info());
    let keys = view.key_info();
    let (author, mask) = (keys.author_key_en(), keys.mask_chip_key());
    field("0x048", "KEY_INFO", format_args!("signed by {}, author key {author}, masked {mask}", view.signing_key()));
    field("0x050", "REPORT_DATA", hex::encode(view.report_data()));
    field("0x090", "MEASUREMENT", hex::encode(view.measurement()));
    field("0x0c0", "HOST_DATA", hex::encode(view.host_data()));
    field("0x0e0", "ID_KEY_DIGEST", hex::encode(view.id_key_digest()));
    field("0x110", "AUTHOR_KEY_DIGEST", hex::encode(view.author_key_digest()));
    field("0x140", "REPORT_ID", hex::encode(view.report_id()));
    field("0x160", "REPORT_ID_MA", hex::encode(view.report_id_ma()));
    field("0x180", "REPORTED_TCB", tcb(view.reported_tcb()));
    match (view.cpuid(), view.product()) {
        (Some([family, model, stepping]), product) => {
            let product = product.map_or("unknown", |product| product.name());
            field("0x188", "CPUID", format_args!("{family:#04x} {model:#04x} {stepping:#04x} ({product})"));
        }
        (None, _) => field("0x188", "CPUID", "absent in this version"),
    }
    field("0x1a0", "CHIP_ID", hex::encode(view.chip_id()));
    field("0x1e0", "COMMITTED_TCB", tcb(view.committed_tcb()));
    field("0x1e8", "CURRENT version", view.current_version());
    field("0x1ec", "COMMITTED version", view.committed_version());
    field("0x1f0", "LAUNCH_TCB", tcb(view.launch_tcb()));
    let vector = |bits: Option<u64>| bits.map_or("absent in this version".to_owned(), |bits| format!("{bits:#x}"));
    field("0x1f8", "LAUNCH_MIT_VECTOR", vector(view.launch_mit_vector()));
    field("0x200", "CURRENT_MIT_VECTOR", vector(view.current_mit_vector()));
}

fn show_vek(vek: &VekCertificate) {
    println!("\nCERTIFICATE (as it says; believed only if the chain below passes)");
    field("", "kind", vek.kind());
    field("", "productName", vek.product_name());
    if let Some(tcb) = vek.product().and_then(|product| Some(RawTcb::new(vek.tcb_bytes(product)?).decode(product))) {
        field("", "TCB", tcb);
    }
    if let Some(hwid) = vek.hwid() {
        field("", "hwID", hex::encode(hwid));
    }
    if let Some(csp_id) = vek.csp_id() {
        field("", "cspID", csp_id);
    }
    field("", "not before", humantime::format_rfc3339_seconds(vek.not_before()));
    field("", "not after", humantime::format_rfc3339_seconds(vek.not_after()));
}

/// The steps in their order.
const STEPS: [&str; 5] = [
    "form of the report",
    "signed by a VCEK or VLEK, by its own words",
    "chain to AMD's pinned root, dates, revocation",
    "certificate against report",
    "signature over the report as received",
];

fn show_steps(report: &Report, verdict: &Result<SnpDetails, VerifyError>) {
    let error = match verdict {
        Ok(details) => {
            STEPS.iter().for_each(|step| println!("  pass  {step}"));
            let revocation = if details.revocation_checked() { "a CRL was consulted" } else { "no CRL was given" };
            return println!(
                "        product {}, signed by its {}; {revocation}",
                details.product(),
                details.vek_kind()
            );
        }
        Err(error) => error,
    };
    let signed = ReportView::parse(report.bytes().clone()).is_ok_and(|view| {
        !view.key_info().mask_chip_key() && matches!(view.signing_key(), SigningKey::Vcek | SigningKey::Vlek)
    });
    let failed = match error.kind() {
        VerifyErrorKind::Malformed | VerifyErrorKind::UnsupportedPlatform => 0,
        VerifyErrorKind::Signature if !signed => 1,
        VerifyErrorKind::Mismatch => 3,
        VerifyErrorKind::Signature => 4,
        _ => 2,
    };
    for (position, step) in STEPS.iter().enumerate() {
        match position.cmp(&failed) {
            std::cmp::Ordering::Less => println!("  pass  {step}"),
            std::cmp::Ordering::Equal => println!("  FAIL  {step}\n        {error}"),
            std::cmp::Ordering::Greater => println!("  -     {step} (not reached)"),
        }
    }
}

/// Without a policy, the one thing that is refused in a report that AMD hardware signed.
fn show_debug(verdict: Result<SnpDetails, VerifyError>) -> bool {
    match &verdict {
        Ok(_) => println!("  pass  the host cannot debug the guest"),
        Err(error) => println!("  FAIL  the host cannot debug the guest\n        {error}"),
    }
    println!("\nPOLICY\n  none given; a policy could further refuse by");
    for (rule, about) in SnpPolicy::RULES {
        println!("  {rule:<21} {about}");
    }
    verdict.is_ok()
}

fn show_policy(details: &SnpDetails, policy: &SnpPolicy) -> Result<bool, String> {
    println!("\nPOLICY");
    let judgement = policy.judge(details).map_err(|error| format!("the policy cannot be applied: {error}"))?;
    for rule in judgement.rules() {
        println!("  {}  {}", if rule.passed { "pass" } else { "FAIL" }, rule.rule);
        println!("        expected {}\n        found    {}", rule.expected, rule.found);
    }
    if let Some(name) = judgement.measurement_name() {
        println!("  the measurement is {name:?}");
    }
    Ok(judgement.accepted())
}
