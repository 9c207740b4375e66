//! The TDX half of `inspect`: a quote, its collateral, and the verdict.

use std::fmt::Display;
use std::time::SystemTime;

use tower_attest::platform::tdx::{Collateral, Genuineness, Quote, TdxDetails, TdxPolicy, TdxVerifier};
use tower_attest::{Platform, Report, ReportVerifier as _, VerifyError};

pub(crate) const USAGE: &str = "usage: inspect --quote FILE --collateral DIR [--at RFC3339] [--policy FILE]";

/// What the command line names.
struct Input {
    quote: Vec<u8>,
    collateral: Option<Collateral>,
    at: SystemTime,
    policy: Option<TdxPolicy>,
}

/// Whether the quote is accepted; an error is something that cannot be read.
pub(crate) fn inspect(arguments: impl Iterator<Item = String>) -> Result<bool, String> {
    let input = Input::from_arguments(arguments)?;
    println!("judged at         {}", humantime::format_rfc3339_seconds(input.at));
    let mut report = Report::new(Platform::TDX, input.quote);
    match Quote::parse(report.bytes()) {
        Ok(quote) => show_quote(&quote),
        Err(error) => println!("\nQUOTE\n  cannot be read: {error}"),
    }
    if let Some(collateral) = &input.collateral {
        report = report.with_collateral(collateral.to_json());
    }
    let genuineness = Genuineness::intel();
    let authentic = genuineness.authenticate(&report, input.at);
    println!("\nGENUINENESS");
    match &authentic {
        Ok(details) => show_details(details),
        Err(error) => println!("  FAIL  {error}"),
    }
    let (scope, verdict) = match input.policy {
        _ if authentic.is_err() => ("", authentic),
        Some(policy) => ("genuine, and satisfies the policy", judge(policy, &report, input.at)),
        None => ("genuine, up to date and not under debug (no policy given)", genuineness.check(&report, input.at)),
    };
    match &verdict {
        Ok(details) => {
            println!("\nVERDICT  accepted: {scope}");
            println!("  holds until {}", humantime::format_rfc3339_seconds(details.valid_until));
        }
        Err(error) => {
            println!("\nVERDICT  REFUSED");
            error.failed_rules().iter().for_each(|rule| println!("  FAIL  {rule}"));
        }
    }
    Ok(verdict.is_ok())
}

fn judge(policy: TdxPolicy, report: &Report, at: SystemTime) -> Result<TdxDetails, VerifyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let claims = runtime.block_on(TdxVerifier::new(policy).verify(report, at))?;
    Ok(claims.details::<TdxDetails>().expect("the TDX verifier's own details").clone())
}

impl Input {
    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let [mut quote, mut collateral, mut at, mut policy] = [const { None }; 4];
        while let Some(name) = arguments.next() {
            let slot = match name.as_str() {
                "--quote" => &mut quote,
                "--collateral" => &mut collateral,
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
        let policy = policy.map(|path: String| {
            let text = String::from_utf8(super::read(&path)?).map_err(|error| format!("{path}: {error}"))?;
            TdxPolicy::from_toml(&text).map_err(|error| format!("{path}: {error}"))
        });
        let collateral =
            collateral.map(|dir: String| Collateral::from_dir(&dir).map_err(|error| format!("{dir}: {error}")));
        Ok(Self {
            quote: super::read(&quote.ok_or_else(|| format!("--quote is missing\n{USAGE}"))?)?,
            collateral: collateral.transpose()?,
            at,
            policy: policy.transpose()?,
        })
    }
}

fn field(name: &str, value: impl Display) {
    println!("  {name:<19} {value}");
}

fn show_quote(quote: &Quote) {
    let body = quote.td_report();
    println!("\nQUOTE (as signed)");
    field("version", quote.version());
    field("TEE_TCB_SVN", hex::encode(body.tee_tcb_svn));
    field("MRSEAM", hex::encode(body.mr_seam));
    field("MRSIGNERSEAM", hex::encode(body.mr_signer_seam));
    field("SEAMATTRIBUTES", format_args!("{:#018x}", body.seam_attributes));
    field("TDATTRIBUTES", format_args!("{:#018x}", body.td_attributes));
    field("XFAM", format_args!("{:#018x}", body.xfam));
    field("MRTD", hex::encode(body.mr_td));
    field("MRCONFIGID", hex::encode(body.mr_config_id));
    field("MROWNER", hex::encode(body.mr_owner));
    field("MROWNERCONFIG", hex::encode(body.mr_owner_config));
    for (name, value) in ["RTMR0", "RTMR1", "RTMR2", "RTMR3"].iter().zip(body.rtmr) {
        field(name, hex::encode(value));
    }
    field("REPORTDATA", hex::encode(body.report_data));
    if let Some(td15) = &body.td15 {
        field("TEE_TCB_SVN_2", hex::encode(td15.tee_tcb_svn_2));
        field("MRSERVICETD", hex::encode(td15.mr_service_td));
    }
}

fn show_details(details: &TdxDetails) {
    let platform = &details.platform;
    println!("  pass  form, PCK chain, quoting enclave, signature, collateral, revocation");
    field("TCB status", details.tcb_status);
    field("advisories", if details.advisories.is_empty() { "none".to_owned() } else { details.advisories.join(", ") });
    field("TCB date", &details.tcb_date);
    field("evaluation number", details.tcb_evaluation_data_number);
    field("FMSPC", hex::encode(platform.id.fmspc));
    field("PCK CA", platform.id.ca.as_str());
    field("PPID", hex::encode(platform.ppid));
    if let Some(id) = platform.instance_id {
        field("platform instance", hex::encode(id));
    }
    for (name, flag) in [
        ("dynamic platform", platform.dynamic_platform),
        ("cached keys", platform.cached_keys),
        ("SMT", platform.smt_enabled),
    ] {
        if let Some(flag) = flag {
            field(name, flag);
        }
    }
}
