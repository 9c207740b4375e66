//! HPKE, base mode (RFC 9180), for one suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, and either of two AEADs.

use std::fmt;

use zeroize::Zeroizing;

use super::error::SealError;
/// A recipient's key pair. Its private half cannot be read.
pub(crate) use crate::crypto::seal::X25519Key as KeyPair;
use crate::crypto::seal::{AeadAlgorithm, AeadKey, TAG, X25519Key, hmac_sha256};

/// DHKEM(X25519, HKDF-SHA256), RFC 9180 section 7.1.
pub(crate) const KEM_ID: u16 = 0x0020;
/// HKDF-SHA256, RFC 9180 section 7.2.
pub(crate) const KDF_ID: u16 = 0x0001;
/// Nenc and Npk: the length of an encapsulated key, and of a public key.
pub(crate) const ENC: usize = 32;
/// Nn: the length of a nonce of both AEADs.
pub(crate) const NONCE: usize = 12;
/// The most bytes, tags included, that are sealed under one key: 256 GiB.
///
/// With 2^34 blocks AES-GCM's confidentiality advantage stays below 2^-60, the margin that TLS 1.3 keeps (RFC 8446 section 5.5).
pub(crate) const MAX_BYTES: u64 = 1 << 38;

/// The AEAD of a suite by its number in RFC 9180 section 7.3.
pub(crate) fn aead_by_id(id: u16) -> Option<AeadAlgorithm> {
    match id {
        0x0001 => Some(AeadAlgorithm::Aes128Gcm),
        0x0003 => Some(AeadAlgorithm::ChaCha20Poly1305),
        _ => None,
    }
}

/// The number of an AEAD in RFC 9180 section 7.3.
pub(crate) fn aead_id(aead: AeadAlgorithm) -> u16 {
    match aead {
        AeadAlgorithm::Aes128Gcm => 0x0001,
        AeadAlgorithm::ChaCha20Poly1305 => 0x0003,
    }
}

/// `SetupBaseS`: the encapsulated key, the context's cipher and its exporter.
pub(crate) fn setup_sender(
    recipient: &[u8; ENC],
    aead: AeadAlgorithm,
    info: &[u8],
) -> Result<([u8; ENC], Cipher, Exporter), SealError> {
    setup_sender_with(&X25519Key::generate(), recipient, aead, info)
}

/// The same with a given ephemeral key, for test vectors.
pub(super) fn setup_sender_with(
    ephemeral: &X25519Key,
    recipient: &[u8; ENC],
    aead: AeadAlgorithm,
    info: &[u8],
) -> Result<([u8; ENC], Cipher, Exporter), SealError> {
    let enc = *ephemeral.public();
    let shared = ephemeral.agree(recipient).ok_or(SealError::WeakKey)?;
    let (cipher, exporter) = schedule(&kem_secret(&shared, &enc, recipient), aead, info)?;
    Ok((enc, cipher, exporter))
}

/// `SetupBaseR`: the context's cipher and its exporter.
pub(crate) fn setup_receiver(
    pair: &KeyPair,
    enc: &[u8; ENC],
    aead: AeadAlgorithm,
    info: &[u8],
) -> Result<(Cipher, Exporter), SealError> {
    let shared = pair.agree(enc).ok_or(SealError::WeakKey)?;
    schedule(&kem_secret(&shared, enc, pair.public()), aead, info)
}

/// A key, and a nonce that counts: what RFC 9180 section 5.2 calls a context, and RFC 9458 uses for responses too.
pub(crate) struct Cipher {
    key: AeadKey,
    base_nonce: [u8; NONCE],
    sequence: u64,
    bytes: u64,
}

impl Cipher {
    pub(crate) fn new(aead: AeadAlgorithm, key: &[u8], base_nonce: [u8; NONCE]) -> Result<Self, SealError> {
        let key = AeadKey::new(aead, key).ok_or(SealError::Algorithms)?;
        Ok(Self { key, base_nonce, sequence: 0, bytes: 0 })
    }

    /// Encrypts in place and returns the tag.
    pub(crate) fn seal(&mut self, aad: &[u8], in_out: &mut [u8]) -> Result<[u8; TAG], SealError> {
        let nonce = self.next_nonce(in_out.len().saturating_add(TAG))?;
        self.key.seal(nonce, aad, in_out).ok_or(SealError::Exhausted(MAX_BYTES))
    }

    /// Decrypts in place; returns the plaintext's length. A failure leaves the count where it was: nothing but the right
    /// next message ever opens.
    pub(crate) fn open(&mut self, aad: &[u8], in_out: &mut [u8]) -> Result<usize, SealError> {
        let (sequence, bytes) = (self.sequence, self.bytes);
        let nonce = self.next_nonce(in_out.len())?;
        self.key.open(nonce, aad, in_out).ok_or_else(|| {
            (self.sequence, self.bytes) = (sequence, bytes);
            SealError::Broken
        })
    }

    /// `ComputeNonce` and `IncrementSeq`.
    fn next_nonce(&mut self, bytes: usize) -> Result<[u8; NONCE], SealError> {
        let used = u64::try_from(bytes).ok().and_then(|bytes| self.bytes.checked_add(bytes));
        self.bytes = used.filter(|used| *used <= MAX_BYTES).ok_or(SealError::Exhausted(MAX_BYTES))?;
        let mut nonce = self.base_nonce;
        // Sequence numbers never use the first four bytes.
        for (byte, count) in nonce.iter_mut().skip(NONCE - 8).zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        // Each message takes a tag at least, so that the limit on bytes ends this long before.
        self.sequence = self.sequence.saturating_add(1);
        Ok(nonce)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(secret)")
    }
}

/// A context's exporter (RFC 9180 section 5.3).
pub(crate) struct Exporter {
    secret: Zeroizing<[u8; 32]>,
    suite: [u8; 10],
}

impl Exporter {
    /// `length` bytes, at most 32; what follows them in the array is zero.
    pub(crate) fn export(&self, label: &[u8], length: usize) -> Zeroizing<[u8; 32]> {
        labeled_expand(&self.suite, &*self.secret, b"sec", &[label], length)
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter(secret)")
    }
}

/// `HKDF-Extract` (RFC 5869) with SHA-256.
pub(crate) fn extract(salt: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    hmac_sha256(salt, parts)
}

/// `HKDF-Expand` (RFC 5869) with SHA-256 for at most one block, 32 bytes; what follows `length` in the array is zero.
pub(crate) fn expand(prk: &[u8], info: &[&[u8]], length: usize) -> Zeroizing<[u8; 32]> {
    let mut parts = info.to_vec();
    parts.push(&[1]);
    let mut block = hmac_sha256(prk, &parts);
    block.iter_mut().skip(length).for_each(|byte| *byte = 0);
    block
}

const VERSION: &[u8] = b"HPKE-v1";

fn labeled_extract(suite: &[u8], salt: &[u8], label: &[u8], ikm: &[u8]) -> Zeroizing<[u8; 32]> {
    extract(salt, &[VERSION, suite, label, ikm])
}

fn labeled_expand(suite: &[u8], prk: &[u8], label: &[u8], info: &[&[u8]], length: usize) -> Zeroizing<[u8; 32]> {
    let length_bytes = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let mut parts = vec![&length_bytes[..], VERSION, suite, label];
    parts.extend_from_slice(info);
    expand(prk, &parts, length)
}

/// `ExtractAndExpand` of DHKEM (RFC 9180 section 4.1).
fn kem_secret(shared: &[u8; 32], enc: &[u8; ENC], recipient: &[u8; ENC]) -> Zeroizing<[u8; 32]> {
    let [high, low] = KEM_ID.to_be_bytes();
    let suite = [b'K', b'E', b'M', high, low];
    let prk = labeled_extract(&suite, b"", b"eae_prk", shared);
    labeled_expand(&suite, &*prk, b"shared_secret", &[enc, recipient], 32)
}

/// `KeySchedule` in base mode: no PSK.
fn schedule(shared: &[u8; 32], aead: AeadAlgorithm, info: &[u8]) -> Result<(Cipher, Exporter), SealError> {
    let mut suite = *b"HPKE\0\0\0\0\0\0";
    let ids = [KEM_ID, KDF_ID, aead_id(aead)];
    for (byte, id) in suite.iter_mut().skip(4).zip(ids.iter().flat_map(|id| id.to_be_bytes())) {
        *byte = id;
    }
    let psk_id_hash = labeled_extract(&suite, b"", b"psk_id_hash", b"");
    let info_hash = labeled_extract(&suite, b"", b"info_hash", info);
    let context: [&[u8]; 3] = [&[0], &*psk_id_hash, &*info_hash];

    let secret = labeled_extract(&suite, shared, b"secret", b"");
    let key = labeled_expand(&suite, &*secret, b"key", &context, aead.key_len());
    let nonce = labeled_expand(&suite, &*secret, b"base_nonce", &context, NONCE);
    let exporter = labeled_expand(&suite, &*secret, b"exp", &context, 32);

    let cipher = Cipher::new(aead, head(&key, aead.key_len()), nonce_of(&nonce))?;
    Ok((cipher, Exporter { secret: exporter, suite }))
}

/// The first `length` bytes.
pub(crate) fn head(block: &[u8; 32], length: usize) -> &[u8] {
    block.get(..length).unwrap_or(block)
}

/// The first 12 bytes.
pub(crate) fn nonce_of(block: &[u8; 32]) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(head(block, NONCE));
    nonce
}

#[cfg(test)]
mod tests;
