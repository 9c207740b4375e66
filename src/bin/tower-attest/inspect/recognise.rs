//! What a file is, by its content alone.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde_json::Value;
use tower_attest::platform::snp::{CertTable, REPORT_LEN, VekCertificate};
use tower_attest::protocol::{Evidence, EvidenceError};
use tower_attest::{Platform, Report};

use super::der;
use crate::policy_file::PolicyFile;

/// What was recognised. Nothing in it is believed, and it may yet turn out to be malformed.
#[derive(Debug)]
pub(super) enum Artefact {
    /// An SNP report, a TDX quote or a mock report.
    Report(Report),
    Evidence(Encoded),
    /// The value of an `Attestation-Report` field.
    Header(String),
    CertTable(Bytes),
    /// A VCEK or VLEK certificate, DER.
    Vek(Bytes),
    /// Other certificates, DER.
    Certificates(Vec<Bytes>),
    /// Revocation lists, DER.
    Crls(Vec<Bytes>),
    /// A key document.
    Keys(Bytes),
    /// TDX collateral in its JSON form.
    Collateral(Bytes),
    /// A TCB info or QE identity, as Intel serves it.
    Signed(Statement),
    Policy(String),
    Foreign(Foreign),
}

#[derive(Debug)]
pub(super) enum Encoded {
    Cbor(Bytes),
    Json(Bytes),
}

/// What Intel signs about platforms and enclaves.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) kind: &'static str,
    pub(super) title: &'static str,
    pub(super) body: Value,
}

/// Something that this crate knows by name and does not judge.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) kind: &'static str,
    pub(super) title: &'static str,
    pub(super) why: &'static str,
}

impl Artefact {
    /// What it is, for programs and for people.
    pub(super) fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::Report(report) if *report.platform() == Platform::SNP => ("snp-report", "SEV-SNP report"),
            Self::Report(report) if *report.platform() == Platform::TDX => ("tdx-quote", "TDX quote"),
            Self::Report(_) => ("mock-report", "Mock report"),
            Self::Evidence(Encoded::Cbor(_)) => ("evidence", "Evidence in CBOR"),
            Self::Evidence(Encoded::Json(_)) => ("evidence", "Evidence in JSON"),
            Self::Header(_) => ("report-header", "Attestation-Report field"),
            Self::CertTable(_) => ("snp-cert-table", "Certificate table"),
            Self::Vek(_) => ("snp-vek", "VCEK or VLEK certificate"),
            Self::Certificates(_) => ("certificates", "X.509 certificates"),
            Self::Crls(_) => ("crls", "Revocation list"),
            Self::Keys(_) => ("key-document", "Key document"),
            Self::Collateral(_) => ("tdx-collateral", "TDX collateral"),
            Self::Signed(statement) => (statement.kind, statement.title),
            Self::Policy(_) => ("policy", "Policy"),
            Self::Foreign(foreign) => (foreign.kind, foreign.title),
        }
    }
}

impl Encoded {
    /// Parses it. The report may be of any platform that the protocol defines.
    pub(crate) fn parse(&self) -> Result<Evidence, EvidenceError> {
        match self {
            Self::Cbor(bytes) => Evidence::from_cbor(bytes, &Platform::KNOWN),
            Self::Json(bytes) => Evidence::from_json(bytes, &Platform::KNOWN),
        }
    }
}

/// What `bytes` are; `None` if they are nothing that is known.
pub(super) fn recognise(bytes: &Bytes) -> Option<Artefact> {
    binary(bytes).or_else(|| text(bytes))
}

fn binary(bytes: &Bytes) -> Option<Artefact> {
    let foreign = |kind, title, why| Some(Artefact::Foreign(Foreign { kind, title, why }));
    match &**bytes {
        [0x81, 0, 0, ..] if bytes.len() == 1024 => foreign(
            "tdreport",
            "TDREPORT",
            "a MAC protects it that only its own machine can check: have the quoting enclave turn it into a quote",
        ),
        [4 | 5, 0, _, 0, 0x81, 0, 0, 0, ..] => Some(Artefact::Report(Report::new(Platform::TDX, bytes.clone()))),
        [3..=5, 0, 2 | 3, 0, 0, 0, 0, 0, ..] => {
            foreign("sgx-quote", "SGX quote", "it is about an enclave, not about a confidential VM")
        }
        [_, 0, 0, 0, ..] if bytes.len() == REPORT_LEN => {
            Some(Artefact::Report(Report::new(Platform::SNP, bytes.clone())))
        }
        [b'M', b'O', b'C', b'K', b'T', b'E', b'E', b'1', ..] => {
            Some(Artefact::Report(Report::new(Platform::MOCK, bytes.clone())))
        }
        [b'H', b'C', b'L', b'A', ..] => {
            foreign("azure-hcl-report", "Azure HCL report", "evidence of Azure's vTPM is not judged by this crate yet")
        }
        [0xff, b'T', b'C', b'G', ..] => {
            foreign("tpm-quote", "TPM quote", "evidence of a vTPM is not judged by this crate yet")
        }
        [0x30, ..] => certificate(bytes),
        _ => table(bytes).or_else(|| cbor(bytes)),
    }
}

/// A map in CBOR that mentions the type of CMW collections.
fn cbor(bytes: &Bytes) -> Option<Artefact> {
    let is_map = matches!(**bytes, [0xa0..=0xbf, ..]);
    let label = b"__cmwc_t";
    (is_map && bytes.windows(label.len()).any(|window| window == label))
        .then(|| Artefact::Evidence(Encoded::Cbor(bytes.clone())))
}

fn certificate(der: &Bytes) -> Option<Artefact> {
    let shown = der::Certificate::parse(der);
    let names_vek =
        |shown: &der::Certificate| shown.subject.split(", ").any(|name| matches!(name, "CN=SEV-VCEK" | "CN=SEV-VLEK"));
    let is_vek = shown.as_ref().is_some_and(names_vek);
    if is_vek || VekCertificate::parse(der.clone()).is_ok() {
        Some(Artefact::Vek(der.clone()))
    } else if shown.is_some() {
        Some(Artefact::Certificates(vec![der.clone()]))
    } else if der::Crl::parse(der).is_some() {
        Some(Artefact::Crls(vec![der.clone()]))
    } else {
        None
    }
}

/// Anything may look like a certificate table with no entries: only one that has some counts.
fn table(bytes: &Bytes) -> Option<Artefact> {
    let table = CertTable::parse(bytes).ok()?;
    (!table.entries().is_empty()).then(|| Artefact::CertTable(bytes.clone()))
}

fn text(bytes: &Bytes) -> Option<Artefact> {
    let text = std::str::from_utf8(bytes).ok()?.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    json(text)
        .or_else(|| pem(text))
        .or_else(|| header(text))
        .or_else(|| PolicyFile::resembles(text).then(|| Artefact::Policy(text.to_owned())))
        .or_else(|| encoded(text))
}

fn json(text: &str) -> Option<Artefact> {
    let Value::Object(members) = serde_json::from_str(text).ok()? else { return None };
    let bytes = || Bytes::copy_from_slice(text.as_bytes());
    if members.contains_key("__cmwc_t") {
        return Some(Artefact::Evidence(Encoded::Json(bytes())));
    }
    if members.contains_key("tcb_info") && members.contains_key("qe_identity") {
        return Some(Artefact::Collateral(bytes()));
    }
    if ["v", "instance", "epoch", "sign"].iter().all(|member| members.contains_key(*member)) {
        return Some(Artefact::Keys(bytes()));
    }
    let known = [
        ("tcbInfo", "tcb-info", "Intel TCB info"),
        ("enclaveIdentity", "qe-identity", "Intel identity of the quoting enclave"),
    ];
    known.into_iter().find_map(|(member, kind, title)| {
        let body = members.get(member)?.clone();
        Some(Artefact::Signed(Statement { kind, title, body }))
    })
}

fn pem(text: &str) -> Option<Artefact> {
    if !text.contains("-----BEGIN ") {
        return None;
    }
    let (mut certificates, mut crls) = (Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        match section.ok()? {
            (SectionKind::Certificate, der) => certificates.push(Bytes::from(der)),
            (SectionKind::Crl, der) => crls.push(Bytes::from(der)),
            _ => return None,
        }
    }
    match (&*certificates, &*crls) {
        ([one], []) => certificate(one),
        ([_, ..], []) => Some(Artefact::Certificates(certificates)),
        ([], [_, ..]) => Some(Artefact::Crls(crls)),
        _ => None,
    }
}

/// A field line, the whole head of a response that has one, or the bare value.
fn header(text: &str) -> Option<Artefact> {
    let mut named = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("attestation-report").then(|| value.trim())
    });
    match (named.next(), named.next()) {
        (Some(value), None) => Some(Artefact::Header(value.to_owned())),
        (None, _) if text.contains("keys=:") && text.contains("sig=:") => Some(Artefact::Header(text.to_owned())),
        _ => None,
    }
}

/// Something else in hexadecimal or base64.
fn encoded(text: &str) -> Option<Artefact> {
    let packed: String = text.split_whitespace().collect();
    let digits = packed.strip_prefix("0x").unwrap_or(&packed);
    let bytes = hex::decode(digits).ok().or_else(|| {
        [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD].iter().find_map(|code| code.decode(&packed).ok())
    })?;
    let bytes = Bytes::from(bytes);
    binary(&bytes)
}
