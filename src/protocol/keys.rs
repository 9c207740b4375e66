//! The key document: the keys that the hardware vouches for.

use bytes::Bytes;

use crate::crypto;

/// The most bytes that a key document may have, 4 KiB.
pub const MAX_KEY_DOCUMENT: usize = 4096;

/// SHA-256 of a key document, exactly as received.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeysDigest([u8; 32]);

impl KeysDigest {
    /// The digest of a document's bytes.
    pub fn of(document: &[u8]) -> Self {
        Self(crypto::sha256(&[document]))
    }

    /// A digest received as such.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
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

/// What a key document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDocumentFields {
    /// 16 random bytes per start of the server.
    pub instance: [u8; 16],
    /// Counts the server's keys within one start, from 1.
    pub epoch: u64,
    /// The host names that the server answers for. Compared without regard to ASCII case.
    pub names: Vec<String>,
    /// The Ed25519 public key of response signatures.
    pub sign: [u8; 32],
    /// SHA-256 of the server's effective configuration.
    pub config: Option<[u8; 32]>,
}

impl KeyDocument {
    /// Writes a new document: members in the order of `docs/PROTOCOL.md`, no white space.
    ///
    /// # Errors
    ///
    /// [`KeyDocumentError`] if it would not parse again (too large, a name that is none).
    pub fn build(fields: KeyDocumentFields) -> Result<Self, KeyDocumentError> {
        todo!("{fields:?}")
    }

    /// Parses a received document and keeps its bytes.
    ///
    /// # Errors
    ///
    /// Refuses more than 4 KiB, what is not I-JSON, repeated members (at any depth), missing members, wrong types,
    /// wrong versions, another algorithm than Ed25519, padded base64url, and byte strings of another length.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, KeyDocumentError> {
        todo!("{:?}", bytes.into())
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

    /// Whether the server answers for `name`.
    pub fn has_name(&self, name: &str) -> bool {
        self.fields.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// Why a key document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyDocumentError {
    /// More than 4 KiB.
    #[error("key document: expected at most 4096 bytes, found {0}")]
    TooLarge(usize),
    // helper: add the others
}
