//! Evidence: a CMW collection (RFC 9999) in JSON or CBOR.

use bytes::Bytes;

use super::batch::BatchProof;
use crate::report::{Platform, Report};

/// Media type of evidence in JSON.
pub const CMW_JSON: &str = "application/cmw+json";
/// Media type of evidence in CBOR.
pub const CMW_CBOR: &str = "application/cmw+cbor";
/// The most bytes that evidence may have, 256 KiB.
pub const MAX_EVIDENCE: usize = 256 * 1024;

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
        todo!()
    }

    /// JSON with base64url.
    pub fn to_json(&self) -> Vec<u8> {
        todo!()
    }

    /// Parses CBOR. The report's media type must be one of `platforms`.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`] names the label and what was found.
    pub fn from_cbor(bytes: &[u8], platforms: &[Platform]) -> Result<Self, EvidenceError> {
        todo!("{bytes:?} {platforms:?}")
    }

    /// Parses JSON. The report's media type must be one of `platforms`.
    ///
    /// # Errors
    ///
    /// As [`from_cbor`](Self::from_cbor).
    pub fn from_json(bytes: &[u8], platforms: &[Platform]) -> Result<Self, EvidenceError> {
        todo!("{bytes:?} {platforms:?}")
    }
}

/// Why evidence is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// More than 256 KiB.
    #[error("evidence: expected at most 262144 bytes, found {0}")]
    TooLarge(usize),
    /// The report's media type belongs to no platform that is accepted here.
    #[error("report: expected the media type of one of {accepted:?}, found {found:?}")]
    Platform {
        /// What is accepted.
        accepted: Vec<String>,
        /// What was found.
        found: String,
    },
    // helper: add the others
}
