//! What sealing asks of cryptography: X25519, HMAC-SHA256 and two AEADs.

use aws_lc_rs::aead::{AES_128_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// The length of an authentication tag of both AEADs.
pub(crate) const TAG: usize = 16;

/// HMAC-SHA256 over the parts, one after the other. Keys of any length.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut output = Zeroizing::new([0; 32]);
    output.copy_from_slice(context.sign().as_ref());
    output
}

/// An X25519 private key (RFC 7748). AWS-LC overwrites key memory when it frees it.
pub(crate) struct X25519Key {
    private: PrivateKey,
    public: [u8; 32],
}

impl X25519Key {
    /// A new key made in this process.
    #[expect(clippy::expect_used, reason = "fails only where the random generator does")]
    pub(crate) fn generate() -> Self {
        Self::new(PrivateKey::generate(&X25519).expect("X25519 key generation failed"))
    }

    /// The key with these bytes, for test vectors.
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self::new(PrivateKey::from_private_key(&X25519, bytes).unwrap())
    }

    #[expect(clippy::expect_used, reason = "every X25519 private key has a public key")]
    fn new(private: PrivateKey) -> Self {
        let mut public = [0; 32];
        public.copy_from_slice(private.compute_public_key().expect("a public key").as_ref());
        Self { private, public }
    }

    pub(crate) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The shared secret with `peer`. `None` where it would be all zeros (RFC 7748 section 6.1): a point of small order,
    /// which would make the secret known to everybody.
    pub(crate) fn agree(&self, peer: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let mut shared = Zeroizing::new([0; 32]);
        agreement::agree(&self.private, UnparsedPublicKey::new(&X25519, peer), (), |secret| {
            shared.copy_from_slice(secret);
            Ok(())
        })
        .ok()?;
        Some(shared)
    }
}

impl std::fmt::Debug for X25519Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("X25519Key(secret)")
    }
}

/// The AEADs that this crate seals with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AeadAlgorithm {
    Aes128Gcm,
    ChaCha20Poly1305,
}

impl AeadAlgorithm {
    /// Nk of RFC 9180: the length of a key.
    pub(crate) fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::ChaCha20Poly1305 => 32,
        }
    }
}

/// An AEAD key. Whoever holds it counts the nonces.
pub(crate) struct AeadKey(LessSafeKey);

impl AeadKey {
    /// `None` if `key` has another length than the algorithm's.
    pub(crate) fn new(algorithm: AeadAlgorithm, key: &[u8]) -> Option<Self> {
        let algorithm = match algorithm {
            AeadAlgorithm::Aes128Gcm => &AES_128_GCM,
            AeadAlgorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        UnboundKey::new(algorithm, key).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Encrypts in place and returns the tag. `None` only where the input exceeds the AEAD's own limit.
    pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> Option<[u8; TAG]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), in_out).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts in place; the plaintext is what stands before the tag. `None` if it does not authenticate.
    pub(crate) fn open(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> Option<usize> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place(nonce, Aad::from(aad), in_out).ok().map(|plaintext| plaintext.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_of_small_order_is_no_peer() {
        let key = X25519Key::generate();
        let mut one = [0; 32];
        one[0] = 1;
        assert!(key.agree(&[0; 32]).is_none());
        assert!(key.agree(&one).is_none());
        assert!(key.agree(X25519Key::generate().public()).is_some());
    }

    #[test]
    fn a_key_of_another_length_is_no_key() {
        assert!(AeadKey::new(AeadAlgorithm::Aes128Gcm, &[0; 32]).is_none());
        assert!(AeadKey::new(AeadAlgorithm::ChaCha20Poly1305, &[0; 16]).is_none());
    }
}
