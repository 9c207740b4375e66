//! P-256 signature checks that remember which ones succeeded.
//!
//! Of the nine signatures behind a quote, seven belong to collateral and certificates that hundreds of quotes share,
//! and one to the quoting enclave's boot. Remembering those leaves one check per quote, while dates, revocation and TCB
//! levels are judged anew every time. Only successes are remembered, under a digest of everything that went in.

use std::fmt;

use quick_cache::sync::Cache;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};

use crate::crypto::{self, EcdsaEncoding};

/// How many successful checks are remembered: seven or eight per platform and collateral set.
const CAPACITY: usize = 1024;

pub(super) struct SignatureMemo {
    verified: Cache<[u8; 32], ()>,
}

impl SignatureMemo {
    pub(super) fn new() -> Self {
        Self { verified: Cache::new(CAPACITY) }
    }

    /// Whether `signature` is one by `key` over `message`, as [`crypto::verify_p256`] says or said.
    #[must_use]
    pub(super) fn verify(&self, key: &[u8], message: &[u8], signature: &[u8], encoding: EcdsaEncoding) -> bool {
        self.verified(key, message, signature, encoding).is_some()
    }

    /// If it is, the digest of all that went in: what was read from `message` may be remembered under it.
    pub(super) fn verified(
        &self,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
        encoding: EcdsaEncoding,
    ) -> Option<[u8; 32]> {
        let digest = digest(key, message, signature, encoding);
        if self.verified.get(&digest).is_none() {
            if !crypto::verify_p256(key, message, signature, encoding) {
                return None;
            }
            self.verified.insert(digest, ());
        }
        Some(digest)
    }
}

/// SHA-256 of the encoding and, each after its length, the key, the message and the signature.
fn digest(key: &[u8], message: &[u8], signature: &[u8], encoding: EcdsaEncoding) -> [u8; 32] {
    let tag: &[u8] = match encoding {
        EcdsaEncoding::Fixed => b"fixed",
        EcdsaEncoding::Der => b"der",
    };
    let length = |part: &[u8]| u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes();
    crypto::sha256(&[tag, &length(key), key, &length(message), message, &length(signature), signature])
}

impl fmt::Debug for SignatureMemo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignatureMemo").field("verified", &self.verified.len()).finish()
    }
}

/// ECDSA with P-256 and SHA-256, the one algorithm of Intel's PKI, for webpki.
impl SignatureVerificationAlgorithm for SignatureMemo {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        if self.verify(key, message, signature, EcdsaEncoding::Der) { Ok(()) } else { Err(InvalidSignature) }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    };

    use super::*;

    fn signed(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let signature = key.sign(&SystemRandom::new(), message).unwrap();
        (key.public_key().as_ref().to_vec(), signature.as_ref().to_vec())
    }

    #[test]
    fn only_successes_are_remembered() {
        let memo = SignatureMemo::new();
        let (key, signature) = signed(b"message");
        assert!(!memo.verify(&key, b"massage", &signature, EcdsaEncoding::Fixed));
        assert_eq!(memo.verified.len(), 0);
        assert!(memo.verify(&key, b"message", &signature, EcdsaEncoding::Fixed));
        assert!(memo.verify(&key, b"message", &signature, EcdsaEncoding::Fixed));
        assert_eq!(memo.verified.len(), 1);
    }

    #[test]
    fn a_remembered_success_vouches_for_exactly_its_key_message_and_signature() {
        let memo = SignatureMemo::new();
        let (key, signature) = signed(b"message");
        assert!(memo.verify(&key, b"message", &signature, EcdsaEncoding::Fixed));
        let (other, _) = signed(b"message");
        let mut bad = signature.clone();
        bad[63] ^= 1;
        assert!(!memo.verify(&other, b"message", &signature, EcdsaEncoding::Fixed));
        assert!(!memo.verify(&key, b"messag", &signature, EcdsaEncoding::Fixed));
        assert!(!memo.verify(&key, b"message", &bad, EcdsaEncoding::Fixed));
        assert!(!memo.verify(&key, b"message", &signature, EcdsaEncoding::Der));
        let (shifted, rest) = key.split_at(64);
        assert!(!memo.verify(shifted, &[rest, b"message".as_slice()].concat(), &signature, EcdsaEncoding::Fixed));
    }

    #[test]
    fn webpki_is_told_what_is_not_signed() {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let signature = key.sign(&SystemRandom::new(), b"message").unwrap();
        let memo = SignatureMemo::new();
        let verify = |message: &[u8]| memo.verify_signature(key.public_key().as_ref(), message, signature.as_ref());
        assert!(verify(b"message").is_ok() && verify(b"massage").is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let memo = SignatureMemo::new();
        for round in 0..2 * CAPACITY {
            memo.verified.insert(crypto::sha256(&[&round.to_be_bytes()]), ());
        }
        assert!(memo.verified.len() <= CAPACITY);
    }
}
