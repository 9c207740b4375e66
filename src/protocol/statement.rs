//! What is hashed into evidence and what is signed for each response.

use std::fmt;

use http::{Method, Uri};

use super::keys::KeysDigest;
use super::tlv::Tlv;
use crate::crypto;
use crate::report::{Hex, Platform, ReportData};

/// The label under which both ends read the TLS exporter: TLS 1.3, no context, 32 bytes.
pub const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL-tower-attest-1";

const LABEL: u8 = 1;
const ROLE: u8 = 2;
const PLATFORM: u8 = 3;
const NONCE: u8 = 4;
const BINDING: u8 = 5;
const KEYS: u8 = 6;
const SIZE: u8 = 7;
const ROOT: u8 = 8;
const METHOD: u8 = 9;
const TARGET: u8 = 10;
const STATUS: u8 = 11;

const ROLE_SERVER: &[u8] = &[1];

/// A hash in the batch tree, SHA-384.
pub type Leaf = [u8; 48];

/// The 32 random bytes that make a report fresh. Drawn anew for each attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// A nonce of these bytes. A client draws them at random.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Nonces stay out of logs.
impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// What ties a statement to one TLS connection: its exporter, read from one's own TLS stack.
///
/// A transport puts it into each request's extensions (server) or each response's (client).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChannelBinding([u8; 32]);

impl ChannelBinding {
    /// The 32 bytes that the TLS 1.3 stack exports under [`EXPORTER_LABEL`] without context, after the handshake is
    /// complete. Never take them from the peer or from a header.
    pub fn from_tls_exporter(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The exporter's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The exporter depends on the connection's secrets: it stays out of logs.
impl fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelBinding(..)")
    }
}

fn binding_value(binding: Option<&ChannelBinding>) -> Vec<u8> {
    match binding {
        None => vec![0],
        Some(ChannelBinding(exporter)) => [&[1][..], exporter].concat(),
    }
}

/// What one leaf of a batch commits to: a nonce, a channel and the keys that the hardware vouches for.
#[derive(Debug, Clone, Copy)]
pub struct EvidenceStatement<'a> {
    /// The platform that makes the report.
    pub platform: &'a Platform,
    /// The client's nonce.
    pub nonce: &'a Nonce,
    /// The connection, if the client asked for it.
    pub binding: Option<&'a ChannelBinding>,
    /// The digest of the key document.
    pub keys: &'a KeysDigest,
}

impl EvidenceStatement<'_> {
    /// The statement's bytes.
    pub fn encode(&self) -> Vec<u8> {
        Tlv::default()
            .field(LABEL, b"tower-attest/1 evidence")
            .field(ROLE, ROLE_SERVER)
            .field(PLATFORM, self.platform.name().as_bytes())
            .field(NONCE, self.nonce.as_bytes())
            .field(BINDING, &binding_value(self.binding))
            .field(KEYS, self.keys.as_bytes())
            .finish()
    }

    /// The leaf: SHA-384 of `00 ‖ statement`.
    pub fn leaf(&self) -> Leaf {
        crypto::sha384(&[&[0], &self.encode()])
    }
}

/// The batch statement's bytes.
pub(super) fn batch_statement(platform: &Platform, size: u32, root: &Leaf) -> Vec<u8> {
    Tlv::default()
        .field(LABEL, b"tower-attest/1 batch")
        .field(ROLE, ROLE_SERVER)
        .field(PLATFORM, platform.name().as_bytes())
        .field(SIZE, &size.to_be_bytes())
        .field(ROOT, root)
        .finish()
}

/// REPORTDATA for a batch: `"tower-attest/1"` zero-padded to 16 bytes, then SHA-384 of the batch statement.
pub fn report_data(platform: &Platform, size: u32, root: &Leaf) -> ReportData {
    let mut bytes = [0; 64];
    let (prefix, hash) = bytes.split_at_mut(16);
    prefix.copy_from_slice(b"tower-attest/1\0\0");
    hash.copy_from_slice(&crypto::sha384(&[&batch_statement(platform, size, root)]));
    ReportData::new(bytes)
}

/// What a response signature covers. Fields, body and trailers of the response are not among it.
#[derive(Debug, Clone, Copy)]
pub struct ResponseStatement<'a> {
    /// The request's nonce.
    pub nonce: &'a Nonce,
    /// The connection, if the client asked for it.
    pub binding: Option<&'a ChannelBinding>,
    /// The digest of the key document whose `sign` key signs.
    pub keys: &'a KeysDigest,
    /// The request's method, as on the wire.
    pub method: &'a Method,
    /// The request's target.
    pub target: &'a Target,
    /// The final status code.
    pub status: http::StatusCode,
}

impl ResponseStatement<'_> {
    /// The statement's bytes, over which the signature is made.
    pub fn encode(&self) -> Vec<u8> {
        Tlv::default()
            .field(LABEL, b"tower-attest/1 response")
            .field(ROLE, ROLE_SERVER)
            .field(NONCE, self.nonce.as_bytes())
            .field(BINDING, &binding_value(self.binding))
            .field(KEYS, self.keys.as_bytes())
            .field(METHOD, self.method.as_str().as_bytes())
            .field(TARGET, self.target.as_str().as_bytes())
            .field(STATUS, &self.status.as_u16().to_be_bytes())
            .finish()
    }
}

/// A request target as statements hold it: path and query, bytes as on the wire, at most 65 535 of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(TargetRepr);

#[derive(Clone, PartialEq, Eq)]
enum TargetRepr {
    PathAndQuery(http::uri::PathAndQuery),
    Slash,
}

impl Target {
    /// The target of a request with this method and URI. Nothing is decoded or normalised; an empty path is `/`.
    ///
    /// # Errors
    ///
    /// [`TargetError::Connect`] for a plain `CONNECT`, which has no path; [`TargetError::TooLong`] past 65 535 bytes.
    pub fn of(method: &Method, uri: &Uri) -> Result<Self, TargetError> {
        let target = match uri.path_and_query() {
            None if method == Method::CONNECT => return Err(TargetError::Connect),
            None => Self(TargetRepr::Slash),
            Some(path_and_query) => Self(TargetRepr::PathAndQuery(path_and_query.clone())),
        };
        let length = target.as_str().len();
        if u16::try_from(length).is_ok() { Ok(target) } else { Err(TargetError::TooLong(length)) }
    }

    /// The target's bytes.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            TargetRepr::PathAndQuery(path_and_query) => path_and_query.as_str(),
            TargetRepr::Slash => "/",
        }
    }
}

/// A target can hold a secret in its query: it stays out of logs.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Target(..)")
    }
}

/// Why a request target cannot stand in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// A plain `CONNECT` has no target and is never attested.
    #[error("a plain CONNECT has no path and is never attested: expected a request with a path")]
    Connect,
    /// The target is longer than a statement can hold.
    #[error("the request target is too long: expected at most 65535 bytes, found {0}")]
    TooLong(usize),
}

/// Shows a digest in logs and errors.
impl fmt::Debug for KeysDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeysDigest({})", Hex(self.as_bytes()))
    }
}
