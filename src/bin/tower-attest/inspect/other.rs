//! What is shown and not judged: certificates, revocation lists, collateral, key documents, policies, and what is known by
//! name alone.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde_json::Value;
use tower_attest::platform::snp::ReportView;
use tower_attest::platform::tdx::{Collateral, Quote};
use tower_attest::protocol::KeyDocument;
use tower_attest::{Platform, Report};

use super::der;
use super::input::Judging;
use super::recognise::{Foreign, Statement};
use crate::show::{Page, Section, Verdict, time};

const MOCK_REPORT_DATA: std::ops::Range<usize> = 8..72;
const MOCK_MEASUREMENT: std::ops::Range<usize> = 72..120;

pub(super) fn certificates(page: &mut Page, list: &[Bytes]) -> Result<(), String> {
    for certificate in list {
        let shown = der::Certificate::parse(certificate).ok_or("one of the certificates cannot be read")?;
        let mut section = Section::new("Certificate");
        section.field("subject", shown.subject);
        section.field("issuer", shown.issuer);
        section.field("serial", shown.serial);
        section.field("not before", shown.not_before);
        section.field("not after", shown.not_after);
        section.field("SHA-256", hex::encode(digest(&SHA256, certificate)));
        page.push(section);
    }
    Ok(())
}

pub(super) fn crls(page: &mut Page, list: &[Bytes]) -> Result<(), String> {
    for crl in list {
        let shown = der::Crl::parse(crl).ok_or("one of the revocation lists cannot be read")?;
        let mut section = Section::new("Revocation list");
        section.field("issuer", shown.issuer);
        section.field("this update", shown.this_update);
        section.field("next update", shown.next_update.as_deref().unwrap_or("not given"));
        section.field("revoked", format_args!("{} certificates {}", shown.revoked.len(), shown.revoked.join(" ")));
        page.push(section);
    }
    Ok(())
}

pub(super) fn collateral(page: &mut Page, json: &Bytes) -> Result<(), String> {
    let collateral = Collateral::from_json(json).map_err(|error| error.to_string())?;
    let mut section = Section::new("Collateral");
    match collateral.next_update() {
        Some(end) => section.field("next update", time(end)),
        None => section.field("next update", "a part of it does not say"),
    }
    section.note("Intel's word on a platform: judge a quote of that platform by it with --collateral.");
    page.push(section);
    Ok(())
}

pub(super) fn signed(statement: &Statement) -> Section {
    let mut section = Section::new("Statement");
    let fields = [
        ("id", "id"),
        ("version", "version"),
        ("issueDate", "issued"),
        ("nextUpdate", "next update"),
        ("fmspc", "FMSPC"),
        ("tcbEvaluationDataNumber", "evaluation number"),
    ];
    for (member, shown) in fields {
        match statement.body.get(member) {
            Some(Value::String(text)) => section.field(shown, text),
            Some(Value::Number(number)) => section.field(shown, number),
            _ => {}
        }
    }
    let levels = statement.body.get("tcbLevels").and_then(Value::as_array).into_iter().flatten();
    for level in levels {
        let text = |member: &str| level.get(member).and_then(Value::as_str).unwrap_or("not given");
        section.field("level", format_args!("{} since {}", text("tcbStatus"), text("tcbDate")));
    }
    section
}

pub(super) fn keys(page: &mut Page, bytes: &Bytes) -> Result<(), String> {
    let document = KeyDocument::parse(bytes.clone()).map_err(|error| error.to_string())?;
    page.push(keys_section(&document));
    Ok(())
}

pub(super) fn keys_section(document: &KeyDocument) -> Section {
    let fields = document.fields();
    let mut section = Section::new("Keys");
    section.field("digest", hex::encode(document.digest().as_bytes()));
    section.field("names", fields.names.join(", "));
    section.field("instance", hex::encode(fields.instance));
    section.field("epoch", fields.epoch);
    section.field("sign (Ed25519)", hex::encode(fields.sign));
    section.field("config", fields.config.map_or("not stated".to_owned(), hex::encode));
    section.field(
        "requests",
        if fields.seal.is_some() { "may be sealed to a key of its own" } else { "cannot be sealed" },
    );
    if let Some(route) = &fields.route {
        section.field("route", route);
    }
    section
}

pub(super) fn foreign(page: &mut Page, foreign: &Foreign, judging: &Judging) {
    let mut section = Section::new("Kind");
    section.note(foreign.why);
    page.push(section);
    if judging.asked {
        page.set_verdict(Verdict::refused(foreign.why));
    }
}

/// A mock report. It is never accepted: no hardware stands behind it.
pub(super) fn mock(page: &mut Page, report: &Report, judging: &Judging) {
    let mut section = Section::new("Report");
    for (name, range) in [("REPORTDATA", MOCK_REPORT_DATA), ("measurement", MOCK_MEASUREMENT)] {
        match report.bytes().get(range) {
            Some(value) => section.field(name, hex::encode(value)),
            None => section.field(name, "cut short"),
        }
    }
    section.note("A software TEE for tests made it.");
    page.push(section);
    if judging.asked {
        page.set_verdict(Verdict::refused("a mock report proves nothing"));
    }
}

/// REPORTDATA as the report has it, believed or not.
pub(super) fn report_data(report: &Report) -> Option<Vec<u8>> {
    let bytes = report.bytes();
    match report.platform() {
        platform if *platform == Platform::SNP => {
            ReportView::parse(bytes.clone()).ok().map(|view| view.report_data().to_vec())
        }
        platform if *platform == Platform::TDX => {
            Quote::parse(bytes).ok().map(|quote| quote.td_report().report_data.to_vec())
        }
        _ => bytes.get(MOCK_REPORT_DATA).map(<[u8]>::to_vec),
    }
}

/// The section of a policy that was given in vain.
pub(super) fn not_applied() -> Section {
    let mut section = Section::new("Policy");
    section.note("not applied: rules mean nothing for a report that is not genuine");
    section
}

/// What a policy could further refuse by.
pub(super) fn further_rules(rules: &[(&'static str, &'static str)]) -> Section {
    let mut section = Section::new("Policy");
    section.note("none given; a policy could further refuse by");
    for (rule, about) in rules {
        section.field(rule, about);
    }
    section
}
