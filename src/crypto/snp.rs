//! The signatures of AMD's world: RSASSA-PSS with SHA-384 over certificates, ECDSA P-384 with SHA-384 over reports.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};

/// The signature algorithms of AMD's certificates and revocation lists.
///
/// Certificates issued up to 2024 spell out the default `trailerField`, later ones leave it out as DER wants; webpki
/// compares the encoding, so each needs an entry.
pub(crate) const AMD_SIGNATURES: &[&dyn SignatureVerificationAlgorithm] =
    &[&PssSha384(PSS_SHA384), &PssSha384(PSS_SHA384_EXPLICIT_TRAILER)];

/// RSASSA-PSS, SHA-384, MGF1 with SHA-384, salt of 48 bytes: the contents of the AlgorithmIdentifier, as DER wants it.
pub(crate) const PSS_SHA384: AlgorithmIdentifier = alg_id::RSA_PSS_SHA384;

/// The same with the default trailerField spelled out: `[3] INTEGER 1`.
pub(crate) const PSS_SHA384_EXPLICIT_TRAILER: AlgorithmIdentifier = AlgorithmIdentifier::from_slice(&[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x39, 0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09,
    0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86,
    0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
    0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30, 0xa3, 0x03, 0x02, 0x01, 0x01,
]);

#[derive(Debug)]
struct PssSha384(AlgorithmIdentifier);

impl SignatureVerificationAlgorithm for PssSha384 {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0
    }

    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key)
            .verify(message, signature)
            .map_err(|_unspecified| InvalidSignature)
    }
}

/// Whether `signature` is one by the RSA key `key` (DER of RSAPublicKey) over `message`, under either encoding of
/// `algorithm` that AMD uses.
pub(crate) fn verify_amd_signature(algorithm: &[u8], key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    AMD_SIGNATURES.iter().any(|known| {
        known.signature_alg_id().as_ref() == algorithm && known.verify_signature(key, message, signature).is_ok()
    })
}

/// A P-384 public key, checked to be a point of the curve.
pub(crate) struct P384Key(ParsedPublicKey);

impl P384Key {
    /// From the uncompressed point: 0x04, x and y. `None` for what is not one of the curve.
    pub(crate) fn parse(point: &[u8; 97]) -> Option<Self> {
        ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).ok().map(Self)
    }

    /// Whether (r, s), big-endian, is a signature over `message`. Both must lie between 1 and the order.
    /// Any such s is taken: about half of what AMD's hardware makes is in the upper half.
    pub(crate) fn verify(&self, message: &[u8], r: &[u8; 48], s: &[u8; 48]) -> bool {
        let mut signature = [0; 96];
        let (left, right) = signature.split_at_mut(48);
        left.copy_from_slice(r);
        right.copy_from_slice(s);
        self.0.verify_sig(message, &signature).is_ok()
    }
}

impl std::fmt::Debug for P384Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("P384Key")
    }
}

/// Keys of the simulator, which signs as AMD does.
#[cfg(feature = "sim")]
pub(crate) mod sign {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PSS_SHA384};

    /// An RSA key that signs with PSS and SHA-384.
    pub(crate) struct RsaKey(RsaKeyPair);

    impl RsaKey {
        /// From a committed test key, PKCS#8 DER.
        #[expect(clippy::expect_used, reason = "the simulator's own keys, which its tests read")]
        pub(crate) fn from_pkcs8(der: &[u8]) -> Self {
            Self(RsaKeyPair::from_pkcs8(der).expect("a committed test key"))
        }

        /// DER of RSAPublicKey.
        pub(crate) fn public_key(&self) -> &[u8] {
            self.0.public_key().as_ref()
        }

        /// A signature over `message`.
        #[expect(clippy::expect_used, reason = "fails only where the random generator does")]
        pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
            let mut signature = vec![0; self.0.public_modulus_len()];
            self.0.sign(&RSA_PSS_SHA384, &SystemRandom::new(), message, &mut signature).expect("an RSA signature");
            signature
        }
    }

    impl std::fmt::Debug for RsaKey {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("RsaKey(secret)")
        }
    }

    /// A P-384 key that signs with SHA-384.
    pub(crate) struct EcKey(EcdsaKeyPair);

    impl EcKey {
        /// The key of a private scalar. Its first byte is cleared, so that it is below the order; it must not be zero.
        #[expect(clippy::expect_used, reason = "every such scalar is a key")]
        pub(crate) fn from_scalar(mut scalar: [u8; 48]) -> Self {
            let [first, ..] = &mut scalar;
            *first = 0;
            // ECPrivateKey of RFC 5915: version 1, the scalar, parameters [0] secp384r1.
            let mut der = vec![0x30, 0x3e, 0x02, 0x01, 0x01, 0x04, 0x30];
            der.extend_from_slice(&scalar);
            der.extend_from_slice(&[0xa0, 0x07, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22]);
            let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, &der);
            Self(pair.expect("a scalar below the order"))
        }

        /// The uncompressed point: 0x04, x and y.
        pub(crate) fn public_key(&self) -> &[u8] {
            self.0.public_key().as_ref()
        }

        /// A signature over `message`: r and s, big-endian, 48 bytes each.
        #[expect(clippy::expect_used, reason = "fails only where the random generator does")]
        pub(crate) fn sign(&self, message: &[u8]) -> [u8; 96] {
            let signature = self.0.sign(&SystemRandom::new(), message).expect("an ECDSA signature");
            signature.as_ref().try_into().expect("96 bytes of r and s")
        }
    }

    impl std::fmt::Debug for EcKey {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("EcKey(secret)")
        }
    }
}
