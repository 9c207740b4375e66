//! Evidence and the response field: the report inside, the keys it vouches for, and whether they belong together.

use tower_attest::protocol::{Evidence, EvidenceStatement, KeyDocument, ReportHeader};
use tower_attest::{KeysDigest, Platform};

use super::input::Judging;
use super::recognise::Encoded;
use super::{other, snp, tdx};
use crate::show::{Page, Section, Verdict};

pub(super) fn evidence(page: &mut Page, encoded: &Encoded, judging: &Judging) -> Result<(), String> {
    let evidence = encoded.parse().map_err(|error| error.to_string())?;
    show_and_judge(page, &evidence, judging)
}

pub(super) fn header(page: &mut Page, value: &str, judging: &Judging) -> Result<(), String> {
    let header = ReportHeader::parse(value.as_bytes()).map_err(|error| error.to_string())?;
    let mut section = Section::new("Field");
    section.field("keys", hex::encode(header.keys.as_bytes()));
    section.field("sig", hex::encode(header.sig));
    match &header.evidence {
        Some(evidence) => section.field("evidence", format_args!("{} bytes", evidence.len())),
        None => section.field("evidence", "none: the client said that it has these keys, or it did not fit"),
    }
    section.note("The signature is over the request as its client saw it, and cannot be judged here.");
    page.push(section);
    let Some(cbor) = header.evidence else {
        return if judging.asked { Err("there is no evidence to judge".to_owned()) } else { Ok(()) };
    };
    let evidence = Encoded::Cbor(cbor).parse().map_err(|error| error.to_string())?;
    show_and_judge(page, &evidence, judging)?;
    let found = KeysDigest::of(&evidence.keys);
    if judging.asked && found != header.keys {
        page.set_verdict(Verdict::refused("the evidence vouches for other keys than those that signed"));
    }
    Ok(())
}

fn show_and_judge(page: &mut Page, evidence: &Evidence, judging: &Judging) -> Result<(), String> {
    let report = &evidence.report;
    match report.platform() {
        platform if *platform == Platform::SNP => snp::report(page, report, judging)?,
        platform if *platform == Platform::TDX => tdx::show_and_judge(page, report, judging)?,
        _ => other::mock(page, report, judging),
    }
    let document = KeyDocument::parse(evidence.keys.clone()).map_err(|error| error.to_string());
    match &document {
        Ok(document) => page.push(other::keys_section(document)),
        Err(error) if judging.asked => page.set_verdict(Verdict::refused(error.clone())),
        Err(error) => return Err(error.clone()),
    }
    let mut section = Section::new("Batch");
    section.field("nonces", evidence.batch.size());
    section.field("this one", evidence.batch.index());
    page.push(section);
    if judging.asked {
        freshness(page, evidence, judging);
    }
    Ok(())
}

/// Whether the report is for the nonce and the keys. Only evidence that is not bound to a channel can be judged later.
fn freshness(page: &mut Page, evidence: &Evidence, judging: &Judging) {
    let mut section = Section::new("Freshness");
    let Some(nonce) = &judging.nonce else {
        section.note(
            "REPORTDATA commits to a nonce, perhaps a channel, and these keys. Without --nonce that is not judged: \
             the verdict is on the report alone, which may be a replay or vouch for other keys.",
        );
        page.push(section);
        return;
    };
    let platform = evidence.report.platform();
    let keys = KeysDigest::of(&evidence.keys);
    let leaf = EvidenceStatement { platform, nonce: &nonce.0, binding: None, keys: &keys }.leaf();
    let expected = evidence.batch.report_data(platform, &leaf);
    let found = other::report_data(&evidence.report);
    let fresh = found.as_deref() == Some(&expected.as_bytes()[..]);
    section.rule(
        fresh,
        "REPORTDATA commits to the nonce, to these keys and to no channel",
        &hex::encode(expected.as_bytes()),
        &found.map_or("nothing that can be read".to_owned(), hex::encode),
    );
    page.push(section);
    if !fresh {
        page.set_verdict(Verdict::refused("the report is for another nonce, another channel or other keys"));
    }
}
