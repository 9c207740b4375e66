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
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
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
    pub const fn from_tls_exporter(bytes: [u8; 32]) -> Self {
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

/// `00` for none, `01` and the exporter otherwise, in the caller's buffer.
fn binding_value<'a>(binding: Option<&ChannelBinding>, buffer: &'a mut [u8; 33]) -> &'a [u8] {
    match binding {
        None => {
            let [tag, ..] = buffer;
            *tag = 0;
            std::slice::from_ref(tag)
        }
        Some(ChannelBinding(exporter)) => {
            let [tag, rest @ ..] = buffer;
            *tag = 1;
            *rest = *exporter;
            buffer
        }
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
        Tlv::with_room_for(0)
            .field(LABEL, b"tower-attest/1 evidence")
            .field(ROLE, ROLE_SERVER)
            .field(PLATFORM, self.platform.name().as_bytes())
            .field(NONCE, self.nonce.as_bytes())
            .field(BINDING, binding_value(self.binding, &mut [0; 33]))
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
    Tlv::with_room_for(0)
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
    /// The request's method, as on the wire; the one that [`Target::of`] took.
    pub method: &'a Method,
    /// The request's target.
    pub target: &'a Target,
    /// The final status code.
    pub status: http::StatusCode,
}

impl ResponseStatement<'_> {
    /// The statement's bytes, over which the signature is made.
    pub fn encode(&self) -> Vec<u8> {
        Tlv::with_room_for(self.method.as_str().len() + self.target.as_str().len())
            .field(LABEL, b"tower-attest/1 response")
            .field(ROLE, ROLE_SERVER)
            .field(NONCE, self.nonce.as_bytes())
            .field(BINDING, binding_value(self.binding, &mut [0; 33]))
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
    /// `Uri` keeps an empty path empty where a query follows, as in `http://a?q`. The wire has the slash.
    EmptyPath(String),
}

impl Target {
    /// The target of a request with this method and URI. Nothing is decoded or normalised; an empty path is `/`.
    ///
    /// # Errors
    ///
    /// [`TargetError::Connect`] for a plain `CONNECT`, which has no path; [`TargetError::TooLong`] if the method or the
    /// target is past 65 535 bytes.
    pub fn of(method: &Method, uri: &Uri) -> Result<Self, TargetError> {
        let target = match uri.path_and_query() {
            None if method == Method::CONNECT => return Err(TargetError::Connect),
            None => TargetRepr::EmptyPath("/".to_owned()),
            Some(query) if query.as_str().starts_with('?') => TargetRepr::EmptyPath(format!("/{}", query.as_str())),
            Some(path_and_query) => TargetRepr::PathAndQuery(path_and_query.clone()),
        };
        let target = Self(target);
        let longest = target.as_str().len().max(method.as_str().len());
        if u16::try_from(longest).is_ok() { Ok(target) } else { Err(TargetError::TooLong(longest)) }
    }

    /// The target's bytes.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            TargetRepr::PathAndQuery(path_and_query) => path_and_query.as_str(),
            TargetRepr::EmptyPath(target) => target,
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
    /// The target, or the method, is longer than a statement can hold. A server answers 414.
    #[error("the request target or method is too long: expected at most 65535 bytes, found {0}")]
    TooLong(usize),
}

/// Shows a digest in logs and errors.
impl fmt::Debug for KeysDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeysDigest({})", Hex(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = Nonce([0x11; 32]);
    const EXPORTER: ChannelBinding = ChannelBinding([0x22; 32]);

    fn target(method: Method, uri: &str) -> Result<String, TargetError> {
        Target::of(&method, &uri.parse().unwrap()).map(|target| target.as_str().to_owned())
    }

    fn of_path(path: String) -> Result<Target, TargetError> {
        Target::of(&Method::GET, &Uri::builder().path_and_query(path).build().unwrap())
    }

    #[test]
    fn an_evidence_statement_is_its_fields_in_order() {
        let statement = |binding| {
            let keys = &KeysDigest::from_bytes([0x33; 32]);
            EvidenceStatement { platform: &Platform::TDX, nonce: &NONCE, binding, keys }.encode()
        };
        let start =
            [b"\x01\x00\x17tower-attest/1 evidence\x02\x00\x01\x01\x03\x00\x03tdx\x04\x00\x20".as_slice(), &[0x11; 32]];
        let end = [b"\x06\x00\x20".as_slice(), &[0x33; 32]].concat();
        assert_eq!(statement(None), [&start.concat(), b"\x05\x00\x01\x00".as_slice(), &end].concat());
        let bound = [b"\x05\x00\x21\x01".as_slice(), &[0x22; 32]].concat();
        assert_eq!(statement(Some(&EXPORTER)), [start.concat(), bound, end].concat());
    }

    #[test]
    fn a_leaf_is_set_apart_from_inner_nodes() {
        let keys = &KeysDigest::from_bytes([0x33; 32]);
        let statement = EvidenceStatement { platform: &Platform::SNP, nonce: &NONCE, binding: None, keys };
        assert_eq!(statement.leaf(), crypto::sha384(&[b"\0", &statement.encode()]));
    }

    #[test]
    fn a_response_statement_changes_with_each_of_its_fields() {
        let (keys, target) = (KeysDigest::from_bytes([0x33; 32]), of_path("/a".into()).unwrap());
        let base = ResponseStatement {
            nonce: &NONCE,
            binding: None,
            keys: &keys,
            method: &Method::GET,
            target: &target,
            status: http::StatusCode::OK,
        };
        let (other_keys, other_target) = (KeysDigest::from_bytes([0x34; 32]), of_path("/b".into()).unwrap());
        let (other_nonce, other_method) = (Nonce([0x12; 32]), "get".parse().unwrap());
        let all = [
            base,
            ResponseStatement { nonce: &other_nonce, ..base },
            ResponseStatement { binding: Some(&EXPORTER), ..base },
            ResponseStatement { keys: &other_keys, ..base },
            ResponseStatement { method: &other_method, ..base },
            ResponseStatement { target: &other_target, ..base },
            ResponseStatement { status: http::StatusCode::CREATED, ..base },
        ];
        let distinct: std::collections::HashSet<_> = all.iter().map(ResponseStatement::encode).collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_binding_is_the_exporters_bytes() {
        assert_eq!(ChannelBinding::from_tls_exporter([0x22; 32]).as_bytes(), &[0x22; 32]);
    }

    #[test]
    fn targets_are_the_bytes_on_the_wire() {
        for (uri, expected) in [
            ("/", "/"),
            ("/a//b/../%2e%2E/", "/a//b/../%2e%2E/"),
            ("/a?", "/a?"),
            ("/?x=1&x=2?y", "/?x=1&x=2?y"),
            ("*", "*"),
            ("https://a", "/"),
            ("https://a/", "/"),
            ("https://a?", "/?"),
            ("https://a?x=1", "/?x=1"),
            ("https://user@a:8443//b?c#d", "//b?c"),
            ("a:443", "/"),
        ] {
            assert_eq!(target(Method::OPTIONS, uri).as_deref(), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn a_plain_connect_has_no_target_and_an_extended_one_has() {
        assert_eq!(target(Method::CONNECT, "a:443"), Err(TargetError::Connect));
        assert_eq!(target(Method::CONNECT, "https://a/chat").as_deref(), Ok("/chat"));
    }

    #[test]
    fn methods_past_65_535_bytes_are_refused_and_such_targets_cannot_be_made() {
        // `Uri` itself refuses a longer one, so that only the added slash comes near the limit.
        let longest = of_path(format!("?{}", "a".repeat(65_533))).unwrap();
        assert_eq!(longest.as_str().len(), 65_535);
        let with_method = |length: usize| Target::of(&"A".repeat(length).parse().unwrap(), &Uri::from_static("/"));
        assert!(with_method(65_535).is_ok());
        assert_eq!(with_method(65_536), Err(TargetError::TooLong(65_536)));
    }

    #[test]
    fn report_data_names_the_protocol_and_its_version() {
        let data = report_data(&Platform::SNP, 1, &[0; 48]);
        assert_eq!(data.as_bytes()[..16], *b"tower-attest/1\0\0");
        let others = [
            report_data(&Platform::TDX, 1, &[0; 48]),
            report_data(&Platform::SNP, 2, &[0; 48]),
            report_data(&Platform::SNP, 1, &[1; 48]),
        ];
        assert!(others.iter().all(|other| *other != data));
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys = KeysDigest::from_bytes([0x33; 32]);
        let target = of_path("/?token=secret".into()).unwrap();
        let statement = ResponseStatement {
            nonce: &NONCE,
            binding: Some(&EXPORTER),
            keys: &keys,
            method: &Method::GET,
            target: &target,
            status: http::StatusCode::OK,
        };
        let shown = format!("{statement:?}");
        assert!(!shown.contains("secret") && !shown.contains("17") && !shown.contains("34"), "{shown}");
        for part in ["Nonce(..)", "ChannelBinding(..)", "Target(..)", "KeysDigest(3333"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
