//! Evidence: a CMW collection (RFC 9999) in JSON or CBOR.

mod cbor;
mod json;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::batch::{BatchError, BatchProof};
use super::excerpt;
use crate::report::{Platform, Report};

/// Media type of evidence in JSON.
pub const CMW_JSON: &str = "application/cmw+json";
/// Media type of evidence in CBOR.
pub const CMW_CBOR: &str = "application/cmw+cbor";
/// The most bytes that evidence may have, 256 KiB, in either encoding.
pub const MAX_EVIDENCE: usize = 256 * 1024;

const COLLECTION: &str = "the collection";
const TYPE_LABEL: &str = "__cmwc_t";
const TYPE: &str = "urn:uuid:d4c66c14-a413-5a0d-bfcb-64bee0f55a6f";

/// A report, the key document it vouches for, and the proof that ties them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The hardware's report with its endorsements.
    pub report: Report,
    /// The key document, exactly as received, not yet parsed.
    pub keys: Bytes,
    /// The way from the nonce's leaf to the report.
    pub batch: BatchProof,
}

impl Evidence {
    /// Deterministic CBOR (RFC 8949, section 4.2.1).
    pub fn to_cbor(&self) -> Vec<u8> {
        cbor::encode(&self.records())
    }

    /// JSON with base64url, no white space.
    pub fn to_json(&self) -> Vec<u8> {
        json::encode(&self.records())
    }

    /// Parses CBOR. The report's media type must be one of `platforms`, and decides which.
    ///
    /// Any well-formed encoding is taken, indefinite lengths included: evidence is not hashed, so that another encoding
    /// changes nothing. Values that are ignored may nest 64 levels.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`] names the label and what was found.
    pub fn from_cbor(bytes: &[u8], platforms: &[Platform]) -> Result<Self, EvidenceError> {
        check_length(bytes)?;
        Self::from_collection(cbor::decode(bytes)?, platforms)
    }

    /// Parses JSON. The report's media type must be one of `platforms`, and decides which.
    ///
    /// # Errors
    ///
    /// As [`from_cbor`](Self::from_cbor).
    pub fn from_json(bytes: &[u8], platforms: &[Platform]) -> Result<Self, EvidenceError> {
        check_length(bytes)?;
        Self::from_collection(json::decode(bytes)?, platforms)
    }

    fn from_collection(mut collection: Collection, platforms: &[Platform]) -> Result<Self, EvidenceError> {
        match collection.kind.as_deref() {
            Some(TYPE) => {}
            Some(other) => return Err(EvidenceError::CollectionType(excerpt(other))),
            None => return Err(EvidenceError::Missing(TYPE_LABEL)),
        }
        let Record { media_type, bytes } = collection.required(Label::Report)?;
        let platform = platforms.iter().find(|platform| platform.media_type() == media_type).ok_or_else(|| {
            let accepted = platforms.iter().map(|platform| platform.media_type().to_owned()).collect();
            EvidenceError::Platform { accepted, found: excerpt(&media_type) }
        })?;
        let mut report = Report::new(platform.clone(), bytes);
        if let Some(vek) = collection.optional_bytes(Label::Vek)? {
            report = report.with_vek(vek);
        }
        if let Some(collateral) = collection.optional_bytes(Label::Collateral)? {
            report = report.with_collateral(collateral);
        }
        let keys = collection.required_bytes(Label::Keys)?.into();
        let batch = BatchProof::decode(&collection.required_bytes(Label::Batch)?)?;
        Ok(Self { report, keys, batch })
    }

    fn records(&self) -> Collection {
        let record = |label: Label, bytes: &[u8]| (label, Record::new(label, bytes));
        let report =
            Record { media_type: self.report.platform().media_type().to_owned(), bytes: self.report.bytes().to_vec() };
        let records = [(Label::Report, report), record(Label::Keys, &self.keys)]
            .into_iter()
            .chain([record(Label::Batch, &self.batch.encode())])
            .chain(self.report.vek().map(|vek| record(Label::Vek, vek)))
            .chain(self.report.collateral().map(|collateral| record(Label::Collateral, collateral)));
        Collection { kind: Some(TYPE.to_owned()), records: records.collect() }
    }
}

/// Why evidence is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// More than 256 KiB.
    #[error("evidence: expected at most 262144 bytes, found {0}")]
    TooLarge(usize),
    /// Not JSON or CBOR: what is wrong, and where.
    #[error("evidence: expected {encoding}, found {problem}")]
    Syntax {
        /// JSON or CBOR.
        encoding: &'static str,
        /// What is wrong, and where. Holds nothing of the evidence.
        problem: String,
    },
    /// Bytes after the end of the collection.
    #[error("evidence: expected nothing after the collection, found {0} bytes")]
    TrailingBytes(usize),
    /// A label occurs twice.
    #[error("evidence: expected each label once, found {0} again")]
    Repeated(String),
    /// A required label is absent.
    #[error("evidence: expected the label {0:?}, found none")]
    Missing(&'static str),
    /// A label's value, or the collection itself, has another type.
    #[error("evidence: {label}: expected {expected}, found {found}")]
    WrongType {
        /// The label.
        label: &'static str,
        /// What is expected.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// The collection is of another type than evidence of this protocol.
    #[error("evidence: __cmwc_t: expected \"urn:uuid:d4c66c14-a413-5a0d-bfcb-64bee0f55a6f\", found {0:?}")]
    CollectionType(String),
    /// A record has another media type than its label says.
    #[error("evidence: {label}: expected the media type {expected:?}, found {found:?}")]
    MediaType {
        /// The label.
        label: &'static str,
        /// The media type that is expected.
        expected: &'static str,
        /// The media type that was found.
        found: String,
    },
    /// Bytes in JSON are not base64url without padding, or its unused last bits are not zero.
    #[error("evidence: {0}: expected base64url without padding (RFC 4648, section 5)")]
    Base64(&'static str),
    /// The batch proof is malformed.
    #[error("evidence: {0}")]
    Batch(#[from] BatchError),
    /// The report's media type belongs to no platform that is accepted here.
    #[error("report: expected the media type of one of {accepted:?}, found {found:?}")]
    Platform {
        /// What is accepted.
        accepted: Vec<String>,
        /// What was found.
        found: String,
    },
}

fn check_length(bytes: &[u8]) -> Result<(), EvidenceError> {
    if bytes.len() > MAX_EVIDENCE { Err(EvidenceError::TooLarge(bytes.len())) } else { Ok(()) }
}

/// The labels that mean something here, in the order in which JSON is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Report,
    Keys,
    Batch,
    Vek,
    Collateral,
}

impl Label {
    const ALL: [Self; 5] = [Self::Report, Self::Keys, Self::Batch, Self::Vek, Self::Collateral];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Keys => "keys",
            Self::Batch => "batch",
            Self::Vek => "vek",
            Self::Collateral => "collateral",
        }
    }

    /// The one media type of this label's records. A report's depends on its platform.
    fn media_type(self) -> &'static str {
        match self {
            Self::Report => "",
            Self::Keys => "application/vnd.tower-attest.keys+json",
            Self::Batch => "application/vnd.tower-attest.batch-proof",
            Self::Vek => "application/pkix-cert",
            Self::Collateral => "application/vnd.tower-attest.tdx-collateral+json",
        }
    }
}

/// A media type and bytes of that type. What RFC 9999 allows as a third element means nothing here.
#[derive(Debug)]
struct Record {
    media_type: String,
    bytes: Vec<u8>,
}

impl Record {
    const EXPECTED: &'static str = "an array of a media type, bytes and at most one more element";

    fn new(label: Label, bytes: &[u8]) -> Self {
        Self { media_type: label.media_type().to_owned(), bytes: bytes.to_vec() }
    }
}

/// The known labels of a collection.
#[derive(Debug, Default)]
struct Collection {
    kind: Option<String>,
    records: BTreeMap<Label, Record>,
}

impl Collection {
    fn required(&mut self, label: Label) -> Result<Record, EvidenceError> {
        self.records.remove(&label).ok_or(EvidenceError::Missing(label.name()))
    }

    fn required_bytes(&mut self, label: Label) -> Result<Vec<u8>, EvidenceError> {
        checked_bytes(label, self.required(label)?)
    }

    fn optional_bytes(&mut self, label: Label) -> Result<Option<Vec<u8>>, EvidenceError> {
        self.records.remove(&label).map(|record| checked_bytes(label, record)).transpose()
    }
}

fn checked_bytes(label: Label, record: Record) -> Result<Vec<u8>, EvidenceError> {
    if record.media_type == label.media_type() {
        Ok(record.bytes)
    } else {
        let (label, expected) = (label.name(), label.media_type());
        Err(EvidenceError::MediaType { label, expected, found: excerpt(&record.media_type) })
    }
}
