//! The one seam to cryptography: aws-lc-rs now, another backend for wasm later. Nothing outside this room names it.

#[cfg(feature = "seal")]
pub(crate) mod seal;
#[cfg(feature = "snp")]
pub(crate) mod snp;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_lc_rs::{digest, rand};

/// SHA-256 over the parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    hash(&digest::SHA256, parts)
}

/// SHA-384 over the parts, one after the other.
pub(crate) fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    hash(&digest::SHA384, parts)
}

fn hash<const N: usize>(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> [u8; N] {
    let mut context = digest::Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    let mut output = [0; N];
    output.copy_from_slice(context.finish().as_ref());
    output
}

/// Bytes from the operating system's generator.
///
/// # Panics
///
/// Never returns weak bytes: where the generator fails, nothing can be kept secret and the process must not go on.
#[expect(clippy::expect_used, reason = "without randomness there is no safe way to go on")]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system's random generator failed");
    bytes
}

/// An Ed25519 private key. AWS-LC overwrites key memory when it frees it.
pub(crate) struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new key made in this process.
    #[expect(clippy::expect_used, reason = "fails only where the random generator does")]
    pub(crate) fn generate() -> Self {
        Self(Ed25519KeyPair::generate().expect("Ed25519 key generation failed"))
    }

    /// The key of a 32-byte seed, for test vectors and the mock.
    #[cfg(any(test, feature = "mock"))]
    #[expect(clippy::expect_used, reason = "every 32-byte seed is a key")]
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("a 32-byte seed"))
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        key
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(secret)")
    }
}

/// Whether `signature` is one by `key` over `message`, Ed25519 as in RFC 8032.
#[must_use]
pub(crate) fn verify_ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

/// How an ECDSA signature is written down.
#[cfg(feature = "tdx")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EcdsaEncoding {
    /// r ‖ s, 32 bytes each, big-endian.
    Fixed,
    /// `Ecdsa-Sig-Value` of RFC 3279, DER.
    Der,
}

/// Whether `signature` is one by `key`, an uncompressed P-256 point of 65 bytes, over the SHA-256 of `message`.
#[cfg(feature = "tdx")]
#[must_use]
pub(crate) fn verify_p256(key: &[u8], message: &[u8], signature: &[u8], encoding: EcdsaEncoding) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED};
    let algorithm = match encoding {
        EcdsaEncoding::Fixed => &ECDSA_P256_SHA256_FIXED,
        EcdsaEncoding::Der => &ECDSA_P256_SHA256_ASN1,
    };
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
}

/// A P-256 key of the TDX simulator, which everybody knows.
#[cfg(all(feature = "tdx", feature = "sim"))]
pub(crate) struct SimulatedP256(aws_lc_rs::signature::EcdsaKeyPair);

#[cfg(all(feature = "tdx", feature = "sim"))]
#[expect(clippy::expect_used, reason = "the simulator's own constants; no input gets here")]
impl SimulatedP256 {
    /// The key in PKCS #8, DER.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Self {
        let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        Self(aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(algorithm, der).expect("a P-256 key"))
    }

    /// The point without its leading 4: x ‖ y.
    pub(crate) fn public_key(&self) -> [u8; 64] {
        let point = self.0.public_key().as_ref();
        point.last_chunk().copied().expect("an uncompressed point of 65 bytes")
    }

    /// r ‖ s over the SHA-256 of `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.0.sign(&rand::SystemRandom::new(), message).expect("the random generator works");
        signature.as_ref().try_into().expect("a fixed signature has 64 bytes")
    }

    /// The same as `Ecdsa-Sig-Value`, DER.
    pub(crate) fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        let integer = |half: &[u8]| {
            let start = half.iter().position(|byte| *byte != 0).unwrap_or(half.len());
            let significant: Vec<u8> = half.iter().skip(start).copied().collect();
            let sign: &[u8] = if significant.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
            let length = u8::try_from(sign.len() + significant.len()).unwrap_or(u8::MAX);
            [&[0x02, length], sign, &significant].concat()
        };
        let signature = self.sign(message);
        let (r, s) = signature.split_at(32);
        let contents = [integer(r), integer(s)].concat();
        [&[0x30, u8::try_from(contents.len()).unwrap_or(u8::MAX)][..], &contents].concat()
    }
}
