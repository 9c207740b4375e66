//! Chunked Oblivious HTTP (RFC 9458 and draft-ietf-ohai-chunked-ohttp), sans-IO: plaintext chunks to bytes and back.
//!
//! ```text
//! request  = header ‖ chunk* ‖ final     header = key id u8 ‖ KEM u16 ‖ KDF u16 ‖ AEAD u16 ‖ encapsulated key (32)
//! response = nonce  ‖ chunk* ‖ final     nonce  = max(Nk, Nn) random bytes: 16 or 32
//! chunk    = varint length (not 0) ‖ sealed with AAD ""
//! final    = varint 0 ‖ sealed with AAD "final", to the end of the body
//! ```
//!
//! A stream that ends before its final chunk is [`Truncated`](SealError::Truncated), never an end.

mod open;
mod seal;
#[cfg(test)]
mod tests;

use zeroize::Zeroizing;

pub(crate) use self::open::Opener;
pub(crate) use self::seal::{Plaintext, Sealer};
use super::error::SealError;
use super::hpke::{self, Cipher, ENC, Exporter, KDF_ID, KEM_ID, NONCE, aead_by_id, aead_id};
use crate::crypto::seal::{AeadAlgorithm, TAG};

/// The most plaintext in a chunk that is read: 16 KiB, which every receiver must accept (section 3 of the draft). Written
/// are some bytes less.
pub(crate) const MAX_CHUNK: usize = 16 * 1024;
/// The most bytes of a sealed chunk. Longer ones are refused before they are read.
pub(crate) const MAX_SEALED_CHUNK: usize = MAX_CHUNK + TAG;

const AAD: &[u8] = b"";
const FINAL_AAD: &[u8] = b"final";
const REQUEST_LABEL: &[u8] = b"message/bhttp chunked request";
const RESPONSE_LABEL: &[u8] = b"message/bhttp chunked response";

/// What a sealed request begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestHeader {
    pub(crate) key_id: u8,
    pub(crate) aead: AeadAlgorithm,
    /// The encapsulated key: fresh for each request, so that it names one.
    pub(crate) enc: [u8; ENC],
}

impl RequestHeader {
    /// The length in bytes.
    pub(crate) const LEN: usize = 7 + ENC;

    /// Reads a header; algorithms that this crate does not know are an error.
    pub(crate) fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, SealError> {
        let [key_id, kem0, kem1, kdf0, kdf1, aead0, aead1, enc @ ..] = *bytes;
        let known = u16::from_be_bytes([kem0, kem1]) == KEM_ID && u16::from_be_bytes([kdf0, kdf1]) == KDF_ID;
        let aead = aead_by_id(u16::from_be_bytes([aead0, aead1])).filter(|_| known).ok_or(SealError::Algorithms)?;
        Ok(Self { key_id, aead, enc })
    }

    fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (prefix, enc) = bytes.split_at_mut(7);
        prefix.copy_from_slice(&prefix_of(self.key_id, self.aead));
        enc.copy_from_slice(&self.enc);
        bytes
    }
}

fn prefix_of(key_id: u8, aead: AeadAlgorithm) -> [u8; 7] {
    let ([kem0, kem1], [kdf0, kdf1]) = (KEM_ID.to_be_bytes(), KDF_ID.to_be_bytes());
    let [aead0, aead1] = aead_id(aead).to_be_bytes();
    [key_id, kem0, kem1, kdf0, kdf1, aead0, aead1]
}

/// HPKE's `info` for a request.
fn info(key_id: u8, aead: AeadAlgorithm) -> Vec<u8> {
    [REQUEST_LABEL, &[0], &prefix_of(key_id, aead)].concat()
}

/// The secret that both ends of one request share, from which its response's key is made.
#[derive(Debug)]
pub(crate) struct ResponseKey {
    secret: Secret,
    enc: [u8; ENC],
    aead: AeadAlgorithm,
}

struct Secret(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl ResponseKey {
    fn new(exporter: &Exporter, enc: [u8; ENC], aead: AeadAlgorithm) -> Self {
        let secret = Secret(exporter.export(RESPONSE_LABEL, nonce_len(aead)));
        Self { secret, enc, aead }
    }

    /// RFC 9458 section 4.4.
    fn cipher(&self, nonce: &[u8]) -> Result<Cipher, SealError> {
        let salt = [&self.enc[..], nonce].concat();
        let prk = hpke::extract(&salt, &[hpke::head(&self.secret.0, nonce_len(self.aead))]);
        let key = hpke::expand(&*prk, &[b"key"], self.aead.key_len());
        let base_nonce = hpke::expand(&*prk, &[b"nonce"], NONCE);
        Cipher::new(self.aead, hpke::head(&key, self.aead.key_len()), hpke::nonce_of(&base_nonce))
    }
}

/// max(Nk, Nn): the length of a response's nonce, and of the secret behind its key.
fn nonce_len(aead: AeadAlgorithm) -> usize {
    aead.key_len().max(NONCE)
}
