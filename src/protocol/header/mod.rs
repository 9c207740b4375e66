//! The fields: `Attestation-Nonce` on requests, `Attestation-Report` on responses, and `Attestation-Keys` on sealed
//! requests (RFC 9651).
//!
//! RFC 9651 lets the last of several equal keys win. Two readers of one field could then disagree, so that here a
//! repeated key or parameter is an error, wherever it stands.

mod keys;
mod members;
#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::BareItemFromInput;

pub use self::keys::{ATTESTATION_KEYS, ATTESTATION_ROUTE, KeysHeader, MAX_KEYS_VALUE};
use self::members::{dictionary, item};
use super::excerpt;
use super::keys::KeysDigest;
use super::statement::Nonce;

/// The request field.
pub const ATTESTATION_NONCE: HeaderName = HeaderName::from_static("attestation-nonce");
/// The response field.
pub const ATTESTATION_REPORT: HeaderName = HeaderName::from_static("attestation-report");
/// The most key digests that `have` may list.
pub const MAX_HAVE: usize = 8;
/// The most bytes that a value of [`ATTESTATION_NONCE`] may have: 2 KiB, four times what this version ever writes.
pub const MAX_NONCE_VALUE: usize = 2048;
/// The most bytes that a value of [`ATTESTATION_REPORT`] may have: 64 KiB.
///
/// Servers keep within 4 000 bytes by default, but may be told otherwise: TDX evidence takes about 14 000.
pub const MAX_REPORT_VALUE: usize = 64 * 1024;

const NONCE: &str = "Attestation-Nonce";
const REPORT: &str = "Attestation-Report";
const TLS_EXPORTER: &str = "tls-exporter";
const VERSION: i64 = 1;

// What stands between the byte sequences that are written.
const BIND_TLS_EXPORTER: &str = ";bind=tls-exporter";
const HAVE: &str = ";have=";
const KEYS: &str = "v=1, keys=";
const SIG: &str = ", sig=";
const EVIDENCE: &str = ", evidence=";

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

    /// The field value, marked sensitive: it is new on every request, and not for logs. Only the first [`MAX_HAVE`]
    /// digests are written.
    pub fn to_value(&self) -> HeaderValue {
        let mut digests = [0; 32 * MAX_HAVE];
        let (slots, _) = digests.as_chunks_mut::<32>();
        slots.iter_mut().zip(&self.have).for_each(|(slot, keys)| *slot = *keys.as_bytes());
        let digests = digests.get(..32 * self.have.len()).unwrap_or(&digests);
        let bind = if self.bind { BIND_TLS_EXPORTER } else { "" };
        let have = if digests.is_empty() { 0 } else { HAVE.len() + byte_sequence_len(digests.len()) };
        let mut value = String::with_capacity(byte_sequence_len(32) + bind.len() + have);
        push_byte_sequence(&mut value, self.nonce.as_bytes());
        value.push_str(bind);
        if !digests.is_empty() {
            value.push_str(HAVE);
            push_byte_sequence(&mut value, digests);
        }
        sensitive(value)
    }

    /// Parses a field value: an Item, a Byte Sequence of 32 bytes, with the parameters `have` (a Byte Sequence of 1 to
    /// 8 digests of 32 bytes each) and `bind` (the Token `tls-exporter`), both optional, in any order.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] unless it is exactly what the protocol says; unknown parameters are ignored.
    pub fn parse(value: &[u8]) -> Result<Self, HeaderError> {
        check_length(NONCE, value, MAX_NONCE_VALUE)?;
        let (nonce, parameters) = item(NONCE, value)?;
        let nonce = fixed_bytes(NONCE, "the nonce", Some(&nonce))?;
        let have = match parameters.get("have") {
            None => Vec::new(),
            Some(have) => digests(have.as_ref())?,
        };
        let bind = match parameters.get("bind") {
            None => false,
            Some(Some(BareItemFromInput::Token(token))) if token.as_str() == TLS_EXPORTER => true,
            Some(Some(BareItemFromInput::Token(token))) => {
                return Err(HeaderError::UnknownBinding { found: excerpt(token.as_str()) });
            }
            Some(other) => return Err(wrong_type(NONCE, "bind", "a Token", other.as_ref())),
        };
        Ok(Self { nonce: Nonce::from_bytes(nonce), have, bind })
    }

    /// Reads the field from a request: `None` if it is absent.
    ///
    /// # Errors
    ///
    /// A field on two lines, or one that does not parse, is an error and never "absent".
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, HeaderError> {
        only_line(NONCE, headers, &ATTESTATION_NONCE)?.map(|value| Self::parse(value.as_bytes())).transpose()
    }
}

/// `Attestation-Report`: a signature over the response, by which keys, and evidence for them where it fits.
#[derive(Clone, PartialEq, Eq)]
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
        let evidence = self.evidence.as_ref().map_or(0, |bytes| EVIDENCE.len() + byte_sequence_len(bytes.len()));
        let length = KEYS.len() + byte_sequence_len(32) + SIG.len() + byte_sequence_len(64) + evidence;
        let mut value = String::with_capacity(length);
        value.push_str(KEYS);
        push_byte_sequence(&mut value, self.keys.as_bytes());
        value.push_str(SIG);
        push_byte_sequence(&mut value, &self.sig);
        if let Some(evidence) = &self.evidence {
            value.push_str(EVIDENCE);
            push_byte_sequence(&mut value, evidence);
        }
        sensitive(value)
    }

    /// Parses a field value: a Dictionary with `v` (the Integer 1), `keys` (a Byte Sequence of 32 bytes), `sig` (of 64
    /// bytes) and, optionally, `evidence` (of any length), in any order.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] unless it is exactly what the protocol says; unknown keys are ignored.
    pub fn parse(value: &[u8]) -> Result<Self, HeaderError> {
        check_length(REPORT, value, MAX_REPORT_VALUE)?;
        let members = dictionary(REPORT, value)?;
        let member = |key: &'static str| members.get(key).ok_or(HeaderError::Missing { field: REPORT, key });
        match member("v")? {
            Some(BareItemFromInput::Integer(version)) if i64::from(*version) == VERSION => {}
            Some(BareItemFromInput::Integer(version)) => {
                return Err(HeaderError::UnsupportedVersion { found: i64::from(*version) });
            }
            other => return Err(wrong_type(REPORT, "v", "an Integer", other.as_ref())),
        }
        let keys = KeysDigest::from_bytes(fixed_bytes(REPORT, "keys", member("keys")?.as_ref())?);
        let sig = fixed_bytes(REPORT, "sig", member("sig")?.as_ref())?;
        let evidence = match members.get("evidence") {
            None => None,
            Some(evidence) => Some(Bytes::copy_from_slice(any_bytes(REPORT, "evidence", evidence.as_ref())?)),
        };
        Ok(Self { keys, sig, evidence })
    }

    /// Reads the field from a response: `None` if it is absent.
    ///
    /// # Errors
    ///
    /// A field on two lines, or one that does not parse, is an error and never "absent".
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, HeaderError> {
        only_line(REPORT, headers, &ATTESTATION_REPORT)?.map(|value| Self::parse(value.as_bytes())).transpose()
    }
}

impl fmt::Debug for ReportHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportHeader")
            .field("keys", &self.keys)
            .field("evidence", &self.evidence.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
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
    /// The value is longer than is ever parsed.
    #[error("{field}: expected at most {limit} bytes, found {found}")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// The most bytes.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// Not an Item or Dictionary of RFC 9651.
    #[error("{field}: expected a structured field of RFC 9651, found {problem}")]
    Syntax {
        /// The field's name.
        field: &'static str,
        /// What is wrong, and at which byte. Holds nothing of the value.
        problem: String,
    },
    /// A key or a parameter occurs twice.
    #[error("{field}: expected each key and parameter once, found {key:?} again")]
    RepeatedKey {
        /// The field's name.
        field: &'static str,
        /// The first that occurs again.
        key: String,
    },
    /// A required key is absent.
    #[error("{field}: expected {key:?}, found none")]
    Missing {
        /// The field's name.
        field: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A value has another type than the protocol says.
    #[error("{field}: {key}: expected {expected}, found {found}")]
    WrongType {
        /// The field's name.
        field: &'static str,
        /// The key or parameter.
        key: &'static str,
        /// The type of RFC 9651 that is expected.
        expected: &'static str,
        /// The type that was found.
        found: &'static str,
    },
    /// A byte sequence has another length than the protocol says.
    #[error("{field}: {key}: expected {expected} bytes, found {found}")]
    Length {
        /// The field's name.
        field: &'static str,
        /// The key or parameter.
        key: &'static str,
        /// How many bytes are expected.
        expected: &'static str,
        /// How many there are.
        found: usize,
    },
    /// `bind` names a binding that this version does not know. A server answers 400.
    #[error("Attestation-Nonce: bind: expected tls-exporter, found {found}")]
    UnknownBinding {
        /// The token.
        found: String,
    },
    /// `v` is another version of the protocol. The other end may be newer than this one.
    #[error("Attestation-Report: v: expected version 1, found {found}")]
    UnsupportedVersion {
        /// The version.
        found: i64,
    },
}

fn byte_sequence(bytes: &[u8]) -> String {
    let mut value = String::with_capacity(byte_sequence_len(bytes.len()));
    push_byte_sequence(&mut value, bytes);
    value
}

fn push_byte_sequence(value: &mut String, bytes: &[u8]) {
    value.push(':');
    STANDARD.encode_string(bytes, value);
    value.push(':');
}

/// How long a Byte Sequence of so many bytes is: a string of exactly that capacity becomes a field value without a copy.
fn byte_sequence_len(bytes: usize) -> usize {
    2 + 4 * bytes.div_ceil(3)
}

#[expect(clippy::expect_used, reason = "the callers write base64 and ASCII literals only, which every field may hold")]
fn sensitive(value: String) -> HeaderValue {
    let mut value = HeaderValue::try_from(value).expect("visible ASCII");
    value.set_sensitive(true);
    value
}

fn only_line<'a>(
    field: &'static str,
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, HeaderError> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next();
    match lines.count() {
        0 => Ok(first),
        more => Err(HeaderError::Repeated { field, found: more.saturating_add(1) }),
    }
}

fn check_length(field: &'static str, value: &[u8], limit: usize) -> Result<(), HeaderError> {
    if value.len() > limit { Err(HeaderError::TooLong { field, limit, found: value.len() }) } else { Ok(()) }
}

fn digests(have: Option<&BareItemFromInput<'_>>) -> Result<Vec<KeysDigest>, HeaderError> {
    let bytes = any_bytes(NONCE, "have", have)?;
    let (digests, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || digests.is_empty() || digests.len() > MAX_HAVE {
        let expected = "1 to 8 times 32";
        return Err(HeaderError::Length { field: NONCE, key: "have", expected, found: bytes.len() });
    }
    Ok(digests.iter().map(|digest| KeysDigest::from_bytes(*digest)).collect())
}

fn fixed_bytes<const N: usize>(
    field: &'static str,
    key: &'static str,
    item: Option<&BareItemFromInput<'_>>,
) -> Result<[u8; N], HeaderError> {
    let bytes = any_bytes(field, key, item)?;
    let expected = if N == 32 { "32" } else { "64" };
    bytes.try_into().map_err(|_| HeaderError::Length { field, key, expected, found: bytes.len() })
}

fn any_bytes<'a>(
    field: &'static str,
    key: &'static str,
    item: Option<&'a BareItemFromInput<'_>>,
) -> Result<&'a [u8], HeaderError> {
    match item {
        Some(BareItemFromInput::ByteSequence(bytes)) => Ok(bytes),
        other => Err(wrong_type(field, key, "a Byte Sequence", other)),
    }
}

fn wrong_type(
    field: &'static str,
    key: &'static str,
    expected: &'static str,
    found: Option<&BareItemFromInput<'_>>,
) -> HeaderError {
    let found = match found {
        None => "an Inner List",
        Some(BareItemFromInput::Integer(_)) => "an Integer",
        Some(BareItemFromInput::Decimal(_)) => "a Decimal",
        Some(BareItemFromInput::String(_)) => "a String",
        Some(BareItemFromInput::Token(_)) => "a Token",
        Some(BareItemFromInput::ByteSequence(_)) => "a Byte Sequence",
        Some(BareItemFromInput::Boolean(_)) => "a Boolean",
        Some(BareItemFromInput::Date(_)) => "a Date",
        Some(BareItemFromInput::DisplayString(_)) => "a Display String",
    };
    HeaderError::WrongType { field, key, expected, found }
}
