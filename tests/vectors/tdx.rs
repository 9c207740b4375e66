//! TDX: quotes with their collateral, the kinds that are not quotes, and the negatives that follow from each valid quote.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::{Value, json};
use tower_attest::platform::tdx::{
    Collateral, Genuineness, PcsResponses, Quote, QuoteError, TdxDetails, TdxPolicy, TdxVerifier,
};
use tower_attest::{Platform, Report, ReportVerifier, VerifyError, VerifyErrorKind};

use crate::Agreed;
use crate::manifest::Entry;

const SEPT_VE_DISABLE: u64 = 1 << 28;
/// How many single bits of each valid quote are flipped, spread over its whole length.
const FLIPS: usize = 211;

/// A quote, judged by Intel's root and collateral alone, then by policies.
pub(crate) fn quote(entry: &Entry<'_>, entries: &[Entry<'_>]) -> Result<Agreed, String> {
    let quote = Bytes::from(entry.file("quote").ok_or("no quote")?);
    if let Ok(parsed) = Quote::parse(&quote) {
        fields_agree(&parsed, entry.get("/fields"))?;
    }
    let collateral = collateral(entry)?;
    let mut report = Report::new(Platform::TDX, quote);
    if let Some(collateral) = &collateral {
        report = report.with_collateral(collateral.to_json());
    }
    let verdict = Genuineness::intel().check(&report, entry.time());
    expect(entry, verdict.as_ref().map(|_| ()))?;
    let (Ok(details), Some(collateral)) = (verdict, collateral) else { return Ok(Agreed::default()) };
    details_agree(entry, &details)?;
    policies(entry, &report, &details)?;
    let bits = changed_bits(entry, &report)?;
    let edits = changed_collateral(entry, &report, &collateral)?;
    let others = other_collateral(entry, entries, &report)?;
    Ok(Agreed { derived: bits + edits + others })
}

/// A quote of an SGX enclave: refused by name, whatever its signatures.
pub(crate) fn sgx(entry: &Entry<'_>, _: &[Entry<'_>]) -> Result<Agreed, String> {
    refused_as(entry, "quote", &QuoteError::Sgx)
}

/// A TDREPORT: refused by name.
pub(crate) fn td_report(entry: &Entry<'_>, _: &[Entry<'_>]) -> Result<Agreed, String> {
    refused_as(entry, "tdreport", &QuoteError::TdReport)
}

/// Bytes as a guest hands them out: refused as they are; a provider cuts them to the quote.
pub(crate) fn container(entry: &Entry<'_>, _: &[Entry<'_>]) -> Result<Agreed, String> {
    let container = Bytes::from(entry.file("container").ok_or("no container")?);
    let quote = Bytes::from(entry.file("quote").ok_or("no quote")?);
    let count = usize::try_from(entry.get("/fields/trailing_bytes").as_u64().unwrap()).unwrap();
    agree("a container", Quote::parse(&container), Err(QuoteError::Trailing { part: "the quote", count }))?;
    agree("its declared length", Quote::declared_len(&container), Some(quote.len()))?;
    agree("the quote in it", container.get(..quote.len()), Some(&quote[..]))?;
    Quote::parse(&quote).map_err(|error| error.to_string())?;
    Ok(Agreed { derived: 1 })
}

fn refused_as(entry: &Entry<'_>, role: &str, expected: &QuoteError) -> Result<Agreed, String> {
    let bytes = Bytes::from(entry.file(role).ok_or("no file")?);
    agree("the refusal", Quote::parse(&bytes).as_ref(), Err(expected))?;
    let error = Genuineness::intel().check(&Report::new(Platform::TDX, bytes), entry.time()).unwrap_err();
    agree("its kind", error.kind(), VerifyErrorKind::Malformed)?;
    Ok(Agreed::default())
}

/// The verdict, and the kind and rules of refusal that the manifest's facts allow.
fn expect(entry: &Entry<'_>, verdict: Result<(), &VerifyError>) -> Result<(), String> {
    use VerifyErrorKind::{Endorsement, Malformed, Mismatch, Policy, Revoked, Signature};
    let error = match (entry.expected_valid(), verdict) {
        (true, Ok(())) => return Ok(()),
        (true, Err(error)) => return Err(format!("expected valid, found: {error}")),
        (false, Ok(())) => return Err(format!("expected a refusal: {}", entry.get("/expected/why"))),
        (false, Err(error)) => error,
    };
    let status = entry.get("/expected").get("tcb_status");
    let kinds: &[VerifyErrorKind] = match (entry.expected_crypto(), status) {
        ("valid", Some(Value::Null)) => &[Mismatch],
        ("valid", Some(Value::String(status))) if status == "Revoked" => &[Revoked],
        ("valid", Some(_)) => &[Policy],
        ("valid", None) => &[Mismatch, Endorsement, Revoked],
        ("invalid", _) => &[Malformed, Endorsement, Revoked, Mismatch, Signature],
        ("unverifiable", _) => &[VerifyErrorKind::EndorsementMissing],
        (other, _) => return Err(format!("unknown expected.crypto {other:?}")),
    };
    if !kinds.contains(&error.kind()) {
        return Err(format!("expected a refusal of kind {kinds:?}, found {:?}: {error}", error.kind()));
    }
    if error.kind() == Mismatch && status.is_some() && !error.to_string().contains("no TCB level") {
        return Err(format!("expected that no TCB level matches, found: {error}"));
    }
    if error.kind() == Policy {
        let outdated = status.and_then(Value::as_str) != Some("UpToDate");
        let expected = [("td-attributes", entry.has_flag("debug")), ("tcb-status", outdated)];
        let expected: Vec<&str> = expected.iter().filter(|(_, fails)| *fails).map(|(rule, _)| *rule).collect();
        agree("the failed rules", rules(error), expected)?;
    }
    Ok(())
}

/// Every field of the body that the manifest lists, as another parser read it.
fn fields_agree(quote: &Quote, fields: &Value) -> Result<(), String> {
    let body = quote.td_report();
    let mut read = json!({
        "version": quote.version(),
        "tee_tcb_svn": hex::encode(body.tee_tcb_svn),
        "mrseam": hex::encode(body.mr_seam),
        "mrsignerseam": hex::encode(body.mr_signer_seam),
        "seam_attributes": hex::encode(body.seam_attributes.to_le_bytes()),
        "td_attributes": hex::encode(body.td_attributes.to_le_bytes()),
        "xfam": hex::encode(body.xfam.to_le_bytes()),
        "mrtd": hex::encode(body.mr_td),
        "mrconfigid": hex::encode(body.mr_config_id),
        "mrowner": hex::encode(body.mr_owner),
        "mrownerconfig": hex::encode(body.mr_owner_config),
        "rtmr0": hex::encode(body.rtmr[0]),
        "rtmr1": hex::encode(body.rtmr[1]),
        "rtmr2": hex::encode(body.rtmr[2]),
        "rtmr3": hex::encode(body.rtmr[3]),
        "report_data": hex::encode(body.report_data),
        "debug": body.td_attributes & 1 == 1,
        "body_kind": if body.td15.is_some() { "tdx15" } else { "tdx10" },
    });
    if let Some(td15) = &body.td15 {
        read["tee_tcb_svn2"] = json!(hex::encode(td15.tee_tcb_svn_2));
        read["mrservicetd"] = json!(hex::encode(td15.mr_service_td));
    }
    for (name, value) in read.as_object().unwrap() {
        if let Some(expected) = fields.get(name) {
            agree(name, value, expected)?;
        }
    }
    Ok(())
}

fn details_agree(entry: &Entry<'_>, details: &TdxDetails) -> Result<(), String> {
    let platform = &details.platform;
    for (pointer, found) in [
        ("/expected/tcb_status", json!(details.tcb_status.as_str())),
        ("/expected/advisory_ids", json!(details.advisories)),
        ("/expected/platform_tcb_date", json!(details.tcb_date)),
        ("/tcb_evaluation_data_number", json!(details.tcb_evaluation_data_number)),
        ("/product", json!(hex::encode(platform.id.fmspc))),
        ("/fields/pck/ppid", json!(hex::encode(platform.ppid))),
        ("/fields/pck/cpusvn", json!(hex::encode(platform.cpu_svn))),
        ("/fields/pck/pcesvn", json!(platform.pce_svn)),
        ("/fields/pck/pceid", json!(hex::encode(platform.pce_id))),
        ("/fields/pck/platform_instance_id", json!(platform.instance_id.map(hex::encode))),
    ] {
        agree(pointer, &found, entry.get(pointer))?;
    }
    match window(entry) {
        Some((_, end)) => agree("the end of the collateral's window", details.valid_until, end),
        None => Ok(()),
    }
}

/// The strict default of a policy refuses what the flags say, by its rule; a policy that allows it does not.
fn policies(entry: &Entry<'_>, report: &Report, details: &TdxDetails) -> Result<(), String> {
    let pinned = || TdxPolicy::pin(details.td_report.mr_td);
    let judge = |policy| block_on(TdxVerifier::new(policy).verify(report, entry.time()));
    if entry.has_flag("sept_ve_disable_off") {
        agree("the default's failed rules", rules(&judge(pinned()).unwrap_err()), vec!["td-attributes"])?;
        judge(pinned().with_td_attributes(0, !SEPT_VE_DISABLE)).map_err(|error| error.to_string())?;
    } else {
        let claims = judge(pinned()).map_err(|error| error.to_string())?;
        agree("REPORTDATA", hex::encode(claims.report_data()), hex::encode(details.td_report.report_data))?;
        agree("the measurement", claims.measurement(), &details.td_report.mr_td[..])?;
        agree("the end of trust", claims.valid_until(), Some(details.valid_until))?;
    }
    let mut other = details.td_report.mr_td;
    other[47] ^= 1;
    let policy = TdxPolicy::pin(other)
        .with_td_attributes(0, 0)
        .with_min_tcb_evaluation_data_number(details.tcb_evaluation_data_number + 1);
    let expected = vec!["mrtd", "min-tcb-evaluation-data-number"];
    agree("another policy's failed rules", rules(&judge(policy).unwrap_err()), expected)
}

/// Bits of header, body, signature, attestation key, QE report, authentication data and certification data.
fn changed_bits(entry: &Entry<'_>, report: &Report) -> Result<usize, String> {
    let judge = Genuineness::intel();
    let bits = report.bytes().len() * 8;
    for flip in 0..FLIPS {
        let bit = flip * bits / FLIPS + flip % 8;
        let mut changed = report.bytes().to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let mut changed = Report::new(Platform::TDX, changed);
        if let Some(json) = report.collateral() {
            changed = changed.with_collateral(json.clone());
        }
        if judge.check(&changed, entry.time()).is_ok() {
            return Err(format!("accepted with bit {} of byte {} changed", bit % 8, bit / 8));
        }
    }
    Ok(FLIPS)
}

/// The same quote with collateral that was tampered with, or at a time when it is not valid.
fn changed_collateral(entry: &Entry<'_>, report: &Report, collateral: &Collateral) -> Result<usize, String> {
    let good: Value = serde_json::from_slice(&collateral.to_json()).unwrap();
    let text = |member: &str| good[member].as_str().unwrap().to_owned();
    let last_digit = |member: &str| {
        let mut hex = text(member);
        let last = hex.pop().unwrap();
        hex.push(if last == '0' { '1' } else { '0' });
        hex
    };
    let status = |member: &str| text(member).replacen("UpToDate", "UpTodate", 1);
    let wrong_name = "expected the name \"Intel SGX TCB Signing\"";
    let edits = [
        ("tcb_info", status("tcb_info"), "signature over the TCB info"),
        ("tcb_info", text("tcb_info") + " ", "signature over the TCB info"),
        ("tcb_info", text("qe_identity"), "signature over the TCB info"),
        ("tcb_info_signature", last_digit("tcb_info_signature"), "signature over the TCB info"),
        ("tcb_info_signature", String::new(), "signature over the TCB info"),
        ("tcb_info_issuer_chain", String::new(), "issuer chain of the TCB info"),
        ("tcb_info_issuer_chain", text("pck_crl_issuer_chain"), wrong_name),
        ("qe_identity", status("qe_identity"), "signature over the QE identity"),
        ("qe_identity_signature", last_digit("qe_identity_signature"), "signature over the QE identity"),
        ("qe_identity_issuer_chain", text("pck_crl_issuer_chain"), wrong_name),
        ("root_ca_crl", last_digit("root_ca_crl"), "the root CRL: expected a signature"),
        ("root_ca_crl", text("pck_crl"), "the root CRL: expected a signature"),
        ("root_ca_crl", String::new(), "root CRL does not parse"),
        ("pck_crl", last_digit("pck_crl"), "the PCK CRL: expected a signature"),
        ("pck_crl", text("root_ca_crl"), "the PCK CRL: expected a signature"),
        ("pck_crl", String::new(), "PCK CRL does not parse"),
    ];
    let judge = Genuineness::intel();
    let stapled =
        |collateral: &Value| Report::new(Platform::TDX, report.bytes().clone()).with_collateral(collateral.to_string());
    for (member, value, message) in &edits {
        let mut changed = good.clone();
        changed[member] = value.as_str().into();
        let error =
            judge.check(&stapled(&changed), entry.time()).err().ok_or(format!("accepted a changed {member}"))?;
        agree(member, error.kind(), VerifyErrorKind::Endorsement)?;
        if !error.to_string().contains(message) {
            return Err(format!("{member}: expected {message:?}, found {error}"));
        }
    }
    let bare = judge.check(&Report::new(Platform::TDX, report.bytes().clone()), entry.time());
    agree("no collateral", bare.map(|_| ()).map_err(|error| error.kind()), Err(VerifyErrorKind::EndorsementMissing))?;
    let Some((start, end)) = window(entry) else { return Ok(edits.len() + 1) };
    let second = Duration::from_secs(1);
    for (at, valid) in
        [(start - second, false), (start, true), (end - second, true), (end, false), (end + second, false)]
    {
        let expected = if valid { Ok(()) } else { Err(VerifyErrorKind::Endorsement) };
        let found = judge.check(report, at).map(|_| ()).map_err(|error| error.kind());
        agree("the verdict at the edge of the window", found, expected)?;
    }
    Ok(edits.len() + 4)
}

/// Collateral that Intel signed for other platforms.
fn other_collateral(entry: &Entry<'_>, entries: &[Entry<'_>], report: &Report) -> Result<usize, String> {
    let mut refused = 0;
    for other in entries.iter().filter(|other| other.get("/product") != entry.get("/product")) {
        let Some(collateral) = collateral(other)? else { continue };
        let swapped = Report::new(Platform::TDX, report.bytes().clone()).with_collateral(collateral.to_json());
        let error = Genuineness::intel()
            .check(&swapped, other.time())
            .err()
            .ok_or_else(|| format!("accepted with the collateral of {}", other.id()))?;
        if !matches!(error.kind(), VerifyErrorKind::Mismatch | VerifyErrorKind::Endorsement) {
            return Err(format!("with the collateral of {}: {error}", other.id()));
        }
        refused += 1;
    }
    Ok(refused)
}

fn collateral(entry: &Entry<'_>) -> Result<Option<Collateral>, String> {
    let Some(tcb_info) = entry.file("tcb_info") else { return Ok(None) };
    let file = |role: &str| entry.file(role).ok_or(format!("no {role}"));
    let text = |role: &str| file(role).map(|bytes| String::from_utf8(bytes).unwrap());
    let signing_chain = text("tcb_signing_chain")?;
    Collateral::from_pcs(PcsResponses {
        tcb_info: &tcb_info,
        tcb_info_issuer_chain: &signing_chain,
        qe_identity: &file("qe_identity")?,
        qe_identity_issuer_chain: &signing_chain,
        pck_crl: &file("pck_crl")?,
        pck_crl_issuer_chain: &text("pck_crl_issuer_chain")?,
        root_ca_crl: &file("root_ca_crl")?,
    })
    .map(Some)
    .map_err(|error| error.to_string())
}

/// When all parts of the collateral are valid.
fn window(entry: &Entry<'_>) -> Option<(SystemTime, SystemTime)> {
    let time = |pointer| entry.get(pointer).as_str().map(|time| humantime::parse_rfc3339(time).unwrap());
    Some((time("/collateral_window/0")?, time("/collateral_window/1")?))
}

fn rules(error: &VerifyError) -> Vec<&str> {
    error.failed_rules().iter().map(|rule| rule.rule.as_str()).collect()
}

fn agree<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
