//! The key document: the keys that the hardware vouches for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::Serialize;

use super::excerpt;
use super::json::{self, Json, JsonError};
use super::key_config::{KeyConfig, KeyConfigError};
use crate::crypto;

/// The most bytes that a key document may have, 4 KiB.
pub const MAX_KEY_DOCUMENT: usize = 4096;

/// The greatest integer that every JSON reader keeps exactly, 2^53 − 1 (RFC 7493, section 2.2).
const MAX_INTEGER: u64 = (1 << 53) - 1;
const ED25519: &str = "Ed25519";

/// SHA-256 of a key document, exactly as received.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeysDigest([u8; 32]);

impl KeysDigest {
    /// The digest of a document's bytes.
    pub fn of(document: &[u8]) -> Self {
        Self(crypto::sha256(&[document]))
    }

    /// A digest received as such.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A parsed key document together with the exact bytes that are hashed.
#[derive(Debug, Clone)]
pub struct KeyDocument {
    bytes: Bytes,
    digest: KeysDigest,
    fields: KeyDocumentFields,
}

/// What a key document says. Later versions of this crate know more members.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyDocumentFields {
    /// 16 random bytes per start of the server.
    pub instance: [u8; 16],
    /// Counts the server's keys within one start, from 1. At most 2^53 − 1.
    pub epoch: u64,
    /// The hosts that the server answers for, without port: names in ASCII (1 to 253 bytes, labels of 1 to 63 of
    /// `a-z`, `A-Z`, `0-9`, `-`, `_`, no `-` at a label's ends, no dot at the end, the last label not of digits alone),
    /// IPv4 addresses, IPv6 addresses with or without brackets.
    pub names: Vec<String>,
    /// The Ed25519 public key of response signatures.
    pub sign: [u8; 32],
    /// SHA-256 of the server's effective configuration.
    pub config: Option<[u8; 32]>,
    /// The key that requests are sealed to. `None` if the server has none, or one of a kind that is not known here:
    /// for another KEM, or not a string at all, as a later version may have it.
    pub seal: Option<KeyConfig>,
    /// What balancers route sealed requests by: 1 to 64 of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-`.
    pub route: Option<String>,
}

impl KeyDocumentFields {
    /// The members that every key document has; the others are `None`, and can be set.
    ///
    /// ```
    /// use tower_attest::protocol::{KeyDocument, KeyDocumentFields};
    ///
    /// let mut fields = KeyDocumentFields::new([1; 16], 1, vec!["prover.example".to_owned()], [2; 32]);
    /// fields.route = Some("tee-1".to_owned());
    /// assert_eq!(KeyDocument::build(fields.clone())?.fields(), &fields);
    /// # Ok::<(), tower_attest::protocol::KeyDocumentError>(())
    /// ```
    pub fn new(instance: [u8; 16], epoch: u64, names: Vec<String>, sign: [u8; 32]) -> Self {
        Self { instance, epoch, names, sign, config: None, seal: None, route: None }
    }
}

impl KeyDocument {
    /// Writes a new document: members in the order of `docs/PROTOCOL.md`, no white space.
    ///
    /// # Errors
    ///
    /// [`KeyDocumentError`] if it would not parse again (too large, a name or a route that is none, an epoch past
    /// 2^53 − 1, a key to seal to without a suite).
    pub fn build(fields: KeyDocumentFields) -> Result<Self, KeyDocumentError> {
        let document = Document {
            v: 1,
            instance: URL_SAFE_NO_PAD.encode(fields.instance),
            epoch: fields.epoch,
            names: &fields.names,
            sign: Sign { alg: ED25519, key: URL_SAFE_NO_PAD.encode(fields.sign) },
            config: fields.config.map(|config| URL_SAFE_NO_PAD.encode(config)),
            seal: fields.seal.map(|seal| URL_SAFE_NO_PAD.encode(seal.encode())),
            route: fields.route.as_deref(),
        };
        let bytes = serde_json::to_vec(&document).map_err(|error| KeyDocumentError::NotJson(error.to_string()))?;
        Self::parse(bytes)
    }

    /// Parses a received document and keeps its bytes.
    ///
    /// # Errors
    ///
    /// Refuses more than 4 KiB, what is not I-JSON, repeated members (at any depth), missing members, wrong types,
    /// wrong versions, another algorithm than Ed25519, padded base64url, byte strings of another length, names and routes
    /// that are none, and a malformed key to seal to. Unknown members are ignored.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, KeyDocumentError> {
        let bytes = bytes.into();
        if bytes.len() > MAX_KEY_DOCUMENT {
            return Err(KeyDocumentError::TooLarge(bytes.len()));
        }
        let document = json::parse(&bytes)?;
        let document = Members::of("the document", &document)?;
        match document.unsigned("v")? {
            1 => {}
            found => return Err(KeyDocumentError::Version(found)),
        }
        let epoch = document.unsigned("epoch")?;
        if epoch > MAX_INTEGER {
            return Err(KeyDocumentError::Epoch(epoch));
        }
        let sign = Members::of("sign", document.get("sign")?)?;
        match sign.string("alg")? {
            ED25519 => {}
            found => return Err(KeyDocumentError::Algorithm(excerpt(found))),
        }
        let fields = KeyDocumentFields {
            instance: document.bytes("instance")?,
            epoch,
            names: document.names()?,
            sign: sign.bytes("key")?,
            config: if document.0.contains_key("config") { Some(document.bytes("config")?) } else { None },
            seal: document.seal()?,
            route: document.route()?,
        };
        Ok(Self { digest: KeysDigest::of(&bytes), bytes, fields })
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256 of the bytes.
    pub fn digest(&self) -> &KeysDigest {
        &self.digest
    }

    /// What it says.
    pub fn fields(&self) -> &KeyDocumentFields {
        &self.fields
    }

    /// Whether the server answers for `name`: a host name, compared without regard to ASCII case, or an IP address,
    /// compared as such.
    pub fn has_name(&self, name: &str) -> bool {
        let address = ip_address(name);
        self.fields.names.iter().any(|own| match address {
            Some(address) => ip_address(own) == Some(address),
            None => own.eq_ignore_ascii_case(name),
        })
    }
}

/// Why a key document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyDocumentError {
    /// More than 4 KiB.
    #[error("key document: expected at most 4096 bytes, found {0}")]
    TooLarge(usize),
    /// Not I-JSON: what is wrong, and where.
    #[error("key document: expected I-JSON (RFC 7493), found {0}")]
    NotJson(String),
    /// A member occurs twice in its object.
    #[error("key document: expected each member once, found {0:?} again")]
    Repeated(String),
    /// A required member is absent.
    #[error("key document: expected the member {0:?}, found none")]
    Missing(&'static str),
    /// A member has another type.
    #[error("key document: {member}: expected {expected}, found {found}")]
    WrongType {
        /// The member.
        member: &'static str,
        /// The type that is expected.
        expected: &'static str,
        /// The type that was found.
        found: &'static str,
    },
    /// `v` is another version. The other end may be newer than this one.
    #[error("key document: expected version 1, found {0}")]
    Version(u64),
    /// `epoch` is past what every JSON reader keeps exactly.
    #[error("key document: epoch: expected at most 9007199254740991, found {0}")]
    Epoch(u64),
    /// `sign` is for another algorithm.
    #[error("key document: sign: expected the algorithm \"Ed25519\", found {0:?}")]
    Algorithm(String),
    /// A byte string is not base64url without padding, or its unused last bits are not zero.
    #[error("key document: {0}: expected base64url without padding (RFC 4648, section 5)")]
    Base64(&'static str),
    /// A byte string has another length.
    #[error("key document: {member}: expected {expected} bytes, found {found}")]
    Length {
        /// The member.
        member: &'static str,
        /// How many bytes are expected.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A name is neither a host name nor an IP address, or has a port.
    #[error("key document: names: expected host names in ASCII and IP addresses without port, found {0:?}")]
    Name(String),
    /// The key to seal to is malformed.
    #[error("key document: seal: {0}")]
    Seal(KeyConfigError),
    /// The route could not stand in a field as it is.
    #[error("key document: route: expected 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', found {0:?}")]
    Route(String),
}

impl From<JsonError> for KeyDocumentError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Syntax(problem) => Self::NotJson(problem),
            JsonError::Repeated(member) => Self::Repeated(member),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    v: u8,
    instance: String,
    epoch: u64,
    names: &'a [String],
    sign: Sign,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
}

#[derive(Serialize)]
struct Sign {
    alg: &'static str,
    key: String,
}

struct Members<'a>(&'a BTreeMap<String, Json>);

impl<'a> Members<'a> {
    fn of(member: &'static str, value: &'a Json) -> Result<Self, KeyDocumentError> {
        match value {
            Json::Object(members) => Ok(Self(members)),
            other => Err(wrong_type(member, "an object", other)),
        }
    }

    fn get(&self, member: &'static str) -> Result<&'a Json, KeyDocumentError> {
        self.0.get(member).ok_or(KeyDocumentError::Missing(member))
    }

    fn unsigned(&self, member: &'static str) -> Result<u64, KeyDocumentError> {
        match self.get(member)? {
            Json::Unsigned(number) => Ok(*number),
            other => Err(wrong_type(member, "an unsigned integer", other)),
        }
    }

    fn string(&self, member: &'static str) -> Result<&'a str, KeyDocumentError> {
        match self.get(member)? {
            Json::String(text) => Ok(text),
            other => Err(wrong_type(member, "a string", other)),
        }
    }

    fn bytes<const N: usize>(&self, member: &'static str) -> Result<[u8; N], KeyDocumentError> {
        let bytes = decode(member, self.string(member)?)?;
        let found = bytes.len();
        bytes.try_into().map_err(|_| KeyDocumentError::Length { member, expected: N, found })
    }

    /// What cannot be understood counts as absent, since nothing can be sealed to it; what is malformed does not.
    fn seal(&self) -> Result<Option<KeyConfig>, KeyDocumentError> {
        let Some(Json::String(seal)) = self.0.get("seal") else { return Ok(None) };
        match KeyConfig::parse(&decode("seal", seal)?) {
            Ok(config) => Ok(Some(config)),
            Err(KeyConfigError::UnknownKem(_)) => Ok(None),
            Err(error) => Err(KeyDocumentError::Seal(error)),
        }
    }

    fn route(&self) -> Result<Option<String>, KeyDocumentError> {
        if !self.0.contains_key("route") {
            return Ok(None);
        }
        match self.string("route")? {
            route if is_route(route) => Ok(Some(route.to_owned())),
            other => Err(KeyDocumentError::Route(excerpt(other))),
        }
    }

    fn names(&self) -> Result<Vec<String>, KeyDocumentError> {
        let names = match self.get("names")? {
            Json::Array(names) => names,
            other => return Err(wrong_type("names", "an array of strings", other)),
        };
        let name = |name: &Json| match name {
            Json::String(name) if is_host(name) => Ok(name.clone()),
            Json::String(name) => Err(KeyDocumentError::Name(excerpt(name))),
            other => Err(wrong_type("names", "an array of strings", other)),
        };
        names.iter().map(name).collect()
    }
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, KeyDocumentError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyDocumentError::Base64(member))
}

fn wrong_type(member: &'static str, expected: &'static str, found: &Json) -> KeyDocumentError {
    KeyDocumentError::WrongType { member, expected, found: found.type_name() }
}

/// An IP address; IPv6 as in a URI, in brackets, or bare.
fn ip_address(host: &str) -> Option<IpAddr> {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

/// Safe in a field value, in a balancer's map and in a log.
fn is_route(route: &str) -> bool {
    (1..=64).contains(&route.len())
        && route.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_host(name: &str) -> bool {
    ip_address(name).is_some() || is_host_name(name)
}

/// RFC 1123, section 2.1, with the underscore that container networks use. What ends in a number would be an address.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let ends_in_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !ends_in_number
}

#[cfg(test)]
mod tests;
