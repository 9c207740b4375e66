//! Intel TDX: quotes, and the verdict on them.

use std::fmt::Display;

use bytes::Bytes;
use tower_attest::platform::tdx::sim::SimulatedIntel;
use tower_attest::platform::tdx::{Genuineness, Quote, QuoteError, TdxDetails, TdxPolicy};
use tower_attest::{Platform, Report, VerifyError, VerifyErrorKind};

use super::input::Judging;
use super::{event_log, judged_at, other};
use crate::show::{Page, Section, Verdict};

/// The steps of genuineness in their order.
const STEPS: [&str; 4] = [
    "form of the quote",
    "PCK chain to Intel's pinned root, quoting enclave, attestation key, signature over the quote as received",
    "collateral: signatures, dates, revocation, about this platform",
    "TCB level of the platform, the TDX module and the quoting enclave",
];

/// A file with a quote, which may be padded with zeros.
pub(super) fn quote(page: &mut Page, report: &Report, judging: &Judging) -> Result<(), String> {
    let (quote, zeros) = without_padding(report);
    if zeros > 0 {
        let mut section = Section::new("File");
        section.note(format!("{zeros} zeros follow, as the kernel pads quotes; a provider strips them"));
        page.push(section);
    }
    show_and_judge(page, &quote, judging)
}

/// The quote without the zeros behind it, and how many they are. Anything else that follows stays, and is refused.
pub(super) fn without_padding(report: &Report) -> (Report, usize) {
    let (quote, behind) = split(report.bytes());
    if behind.is_empty() || behind.iter().any(|byte| *byte != 0) {
        return (report.clone(), 0);
    }
    let cut = Report::new(Platform::TDX, quote);
    let cut = match report.collateral() {
        Some(collateral) => cut.with_collateral(collateral.clone()),
        None => cut,
    };
    (cut, behind.len())
}

pub(super) fn genuineness(judging: &Judging) -> Genuineness {
    if judging.simulator { Genuineness::trusting_simulator(&SimulatedIntel::new()) } else { Genuineness::intel() }
}

/// What a quote says is its end, and what follows.
fn split(bytes: &Bytes) -> (Bytes, Bytes) {
    let length = Quote::declared_len(bytes).unwrap_or(bytes.len()).min(bytes.len());
    (bytes.slice(..length), bytes.slice(length..))
}

/// The sections of a quote, and the verdict where one is asked for.
pub(super) fn show_and_judge(page: &mut Page, report: &Report, judging: &Judging) -> Result<(), String> {
    let report = judging.endorse(report, None)?;
    let quote = Quote::parse(report.bytes());
    let (shown, behind) = split(report.bytes());
    match Quote::parse(&shown) {
        Ok(quote) => page.push(quote_section(&quote)),
        Err(error) if judging.asked => page.push(unreadable(&error)),
        Err(error) => return Err(error.to_string()),
    }
    if let Err(error) = &quote
        && !behind.is_empty()
    {
        page.push(unreadable(error));
    }
    if judging.asked {
        judge(page, &report, judging)?;
    }
    if let (Some(log), Ok(quote)) = (&judging.event_log, &quote) {
        event_log::judge(page, log, quote.td_report());
    }
    Ok(())
}

fn unreadable(error: &QuoteError) -> Section {
    let mut section = Section::new("File");
    section.note(format!("refused as a quote: {error}"));
    section
}

fn judge(page: &mut Page, report: &Report, judging: &Judging) -> Result<(), String> {
    page.push(judged_at(judging));
    let by = genuineness(judging);
    let authentic = by.authenticate(report, judging.at);
    let mut section = Section::new("Genuineness");
    let failed = authentic.as_ref().err().map(|error| (failed_step(&by, report, error, judging), shown(error)));
    section.steps(&STEPS, failed);
    let policy = match &judging.policy {
        Some(file) => Some(file.tdx().ok_or("the policy has no section [tdx], and this is a TDX quote")?),
        None => None,
    };
    match &authentic {
        Err(_) => {
            page.push(section);
            if policy.is_some() {
                page.push(other::not_applied());
            }
            page.set_verdict(Verdict::refused("not a genuine quote"));
        }
        Ok(details) => {
            page.push(section);
            page.push(platform_section(details));
            match policy {
                Some(policy) => by_policy(page, details, policy, judging)?,
                None => by_default(page, details, by.check(report, judging.at)),
            }
        }
    }
    Ok(())
}

fn shown(error: &VerifyError) -> &dyn Display {
    error
}

/// Which of [`STEPS`] refused. Endorsements are refused in two of them: the quote's own chain is judged before
/// collateral is looked at, so that without collateral only what comes before is refused.
fn failed_step(by: &Genuineness, report: &Report, error: &VerifyError, judging: &Judging) -> usize {
    let alone = by.authenticate(&report.clone().without_collateral(), judging.at);
    let reached_collateral = alone.is_err_and(|error| error.kind() == VerifyErrorKind::EndorsementMissing);
    match error.kind() {
        VerifyErrorKind::Malformed | VerifyErrorKind::UnsupportedPlatform => 0,
        _ if !reached_collateral => 1,
        VerifyErrorKind::Revoked if error.to_string().contains("TCB") => 3,
        _ => 2,
    }
}

fn by_policy(page: &mut Page, details: &TdxDetails, policy: &TdxPolicy, judging: &Judging) -> Result<(), String> {
    let judgement = policy.judge(details, judging.at).map_err(|error| error.to_string())?;
    let mut section = Section::new("Policy");
    for rule in judgement.rules() {
        section.rule(rule.passed, rule.rule, &rule.expected, &rule.found);
    }
    if let Some(name) = judgement.measurement_name() {
        section.note(format!("the measurement is {name:?}"));
    }
    page.push(section);
    page.set_verdict(if judgement.accepted() {
        Verdict::accepted("genuine, and satisfies the policy", Some(details.valid_until))
    } else {
        Verdict::refused("genuine, and does not satisfy the policy")
    });
    Ok(())
}

/// Without a policy: up to date, and not under debug.
fn by_default(page: &mut Page, details: &TdxDetails, verdict: Result<TdxDetails, VerifyError>) {
    let mut section = Section::new("Default rules");
    let failed = |rule: &str| {
        verdict.as_ref().err().and_then(|error| error.failed_rules().iter().find(|failed| failed.rule == rule))
    };
    let (status, debug) = ("the TCB status is UpToDate", "the host cannot debug the TD");
    match failed("tcb-status") {
        None => section.pass(status),
        Some(rule) => section.fail(status, format!("found {}", rule.found)),
    }
    match failed("td-attributes") {
        None => section.pass(debug),
        Some(rule) => section.fail(debug, format!("found TDATTRIBUTES {}", rule.found)),
    }
    page.push(section);
    page.push(other::further_rules(TdxPolicy::RULES));
    page.set_verdict(match verdict {
        Ok(_) => {
            Verdict::accepted("genuine, up to date and not under debug (no policy given)", Some(details.valid_until))
        }
        Err(_) => Verdict::refused("genuine, but out of date or under debug"),
    });
}

fn quote_section(quote: &Quote) -> Section {
    let body = quote.td_report();
    let mut s = Section::new("Quote");
    s.note("As the TDX module reports it. Believed only if the quote's signatures verify.");
    s.field("version", quote.version());
    s.field("TEE_TCB_SVN", hex::encode(body.tee_tcb_svn));
    s.field("MRSEAM", hex::encode(body.mr_seam));
    s.field("MRSIGNERSEAM", hex::encode(body.mr_signer_seam));
    s.field("SEAMATTRIBUTES", format_args!("{:#018x}", body.seam_attributes));
    s.field("TDATTRIBUTES", format_args!("{:#018x}", body.td_attributes));
    s.field("XFAM", format_args!("{:#018x}", body.xfam));
    s.field("MRTD", hex::encode(body.mr_td));
    s.field("MRCONFIGID", hex::encode(body.mr_config_id));
    s.field("MROWNER", hex::encode(body.mr_owner));
    s.field("MROWNERCONFIG", hex::encode(body.mr_owner_config));
    for (name, value) in ["RTMR0", "RTMR1", "RTMR2", "RTMR3"].into_iter().zip(body.rtmr) {
        s.field(name, hex::encode(value));
    }
    s.field("REPORTDATA", hex::encode(body.report_data));
    if let Some(td15) = &body.td15 {
        s.field("TEE_TCB_SVN_2", hex::encode(td15.tee_tcb_svn_2));
        s.field("MRSERVICETD", hex::encode(td15.mr_service_td));
    }
    s
}

fn platform_section(details: &TdxDetails) -> Section {
    let platform = &details.platform;
    let mut s = Section::new("Platform");
    s.field("TCB status", details.tcb_status);
    let advisories = if details.advisories.is_empty() { "none".to_owned() } else { details.advisories.join(", ") };
    s.field("advisories", advisories);
    s.field("TCB date", &details.tcb_date);
    s.field("evaluation number", details.tcb_evaluation_data_number);
    s.field("FMSPC", hex::encode(platform.id.fmspc));
    s.field("PCK CA", platform.id.ca.as_str());
    s.field("PPID", hex::encode(platform.ppid));
    if let Some(id) = platform.instance_id {
        s.field("platform instance", hex::encode(id));
    }
    let flags = [
        ("dynamic platform", platform.dynamic_platform),
        ("cached keys", platform.cached_keys),
        ("SMT", platform.smt_enabled),
    ];
    for (name, flag) in flags {
        if let Some(flag) = flag {
            s.field(name, flag);
        }
    }
    s
}
