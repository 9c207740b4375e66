//! The two fields: `Attestation-Nonce` on requests, `Attestation-Report` on responses (RFC 9651).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::keys::KeysDigest;
use super::statement::Nonce;

/// The request field.
pub const ATTESTATION_NONCE: HeaderName = HeaderName::from_static("attestation-nonce");
/// The response field.
pub const ATTESTATION_REPORT: HeaderName = HeaderName::from_static("attestation-report");
/// The most key digests that `have` may list.
pub const MAX_HAVE: usize = 8;

/// `Attestation-Nonce`: what a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonceHeader {
    /// The client's nonce.
    pub nonce: Nonce,
    /// Digests of key documents that the client trusts, most recently used first, at most [`MAX_HAVE`].
    pub have: Vec<KeysDigest>,
    /// Whether statements must be bound to the TLS connection.
    pub bind: bool,
}

impl NonceHeader {
    /// A bare nonce, as a preflight carries it.
    pub fn new(nonce: Nonce) -> Self {
        Self { nonce, have: Vec::new(), bind: false }
    }

    /// The field value. Only the first [`MAX_HAVE`] digests are written.
    pub fn to_value(&self) -> HeaderValue {
        todo!()
    }

    /// Parses a field value.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] unless it is exactly what the protocol says; unknown parameters are ignored.
    pub fn parse(value: &[u8]) -> Result<Self, HeaderError> {
        todo!("{value:?}")
    }

    /// Reads the field from a request: `None` if it is absent.
    ///
    /// # Errors
    ///
    /// A field on two lines, or one that does not parse, is an error and never "absent".
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, HeaderError> {
        todo!("{headers:?}")
    }
}

/// `Attestation-Report`: a signature over the response, by which keys, and evidence for them where it fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportHeader {
    /// Which key document's `sign` key signed.
    pub keys: KeysDigest,
    /// Ed25519 over the response statement.
    pub sig: [u8; 64],
    /// Evidence in CBOR.
    pub evidence: Option<Bytes>,
}

impl ReportHeader {
    /// The field value, marked sensitive so that it does not empty HPACK's table when it holds evidence.
    pub fn to_value(&self) -> HeaderValue {
        todo!()
    }

    /// Parses a field value.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] unless it is exactly what the protocol says; unknown keys are ignored.
    pub fn parse(value: &[u8]) -> Result<Self, HeaderError> {
        todo!("{value:?}")
    }

    /// Reads the field from a response: `None` if it is absent.
    ///
    /// # Errors
    ///
    /// A field on two lines, or one that does not parse, is an error and never "absent".
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, HeaderError> {
        todo!("{headers:?}")
    }
}

/// Why a field is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The field occurs on more than one line.
    #[error("{field}: expected one field line, found {found}")]
    Repeated {
        /// The field's name.
        field: &'static str,
        /// How many lines.
        found: usize,
    },
    // helper: add the others
}
