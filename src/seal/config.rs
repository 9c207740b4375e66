//! What of a key configuration (RFC 9458 section 3.1, a key document's member `seal`) this crate can seal to.

use super::error::SealError;
use super::hpke::{ENC, KDF_ID, aead_by_id};
use crate::crypto::seal::AeadAlgorithm;
use crate::protocol;

/// What a client needs to seal to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyConfig {
    /// The epoch's number modulo 256.
    pub(crate) id: u8,
    /// The X25519 public key.
    pub(crate) public: [u8; ENC],
    /// What the server offers and this crate knows, in the server's order; never empty.
    pub(crate) suites: Vec<Suite>,
}

/// HKDF-SHA256 and one AEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suite {
    pub(crate) aead: AeadAlgorithm,
}

#[cfg(test)]
impl KeyConfig {
    /// What this crate's servers offer.
    pub(crate) fn new(id: u8, public: [u8; ENC]) -> Self {
        let suites = [AeadAlgorithm::Aes128Gcm, AeadAlgorithm::ChaCha20Poly1305].map(|aead| Suite { aead });
        Self { id, public, suites: suites.to_vec() }
    }
}

impl TryFrom<&protocol::KeyConfig> for KeyConfig {
    type Error = SealError;

    /// Unknown algorithms are skipped, as long as a known pair is left.
    fn try_from(config: &protocol::KeyConfig) -> Result<Self, SealError> {
        let known = config.suites.iter().filter(|suite| suite.kdf == KDF_ID);
        let suites: Vec<_> = known.filter_map(|suite| aead_by_id(suite.aead)).map(|aead| Suite { aead }).collect();
        if suites.is_empty() {
            return Err(SealError::Config("expected HKDF-SHA256 with AES-128-GCM or ChaCha20-Poly1305, found neither"));
        }
        Ok(Self { id: config.id, public: config.public, suites })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::hpke::KeyPair;

    /// RFC 9458 appendix A.
    const PRIVATE: &str = "3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a";
    const ENCODED: &str = "01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003";

    fn example() -> protocol::KeyConfig {
        protocol::KeyConfig::parse(&hex::decode(ENCODED).unwrap()).unwrap()
    }

    fn offering(suites: &[(u16, u16)]) -> Result<KeyConfig, SealError> {
        let suites = suites.iter().map(|(kdf, aead)| protocol::Suite { kdf: *kdf, aead: *aead }).collect();
        KeyConfig::try_from(&protocol::KeyConfig { suites, ..example() })
    }

    #[test]
    fn the_example_of_rfc_9458_reads_and_writes() {
        let pair = KeyPair::from_bytes(&hex::decode(PRIVATE).unwrap().try_into().unwrap());
        assert_eq!(hex::encode(example().encode()), ENCODED);
        let config = KeyConfig::try_from(&example()).unwrap();
        assert_eq!((config.id, &config.public), (1, pair.public()));
        let aeads: Vec<_> = config.suites.iter().map(|suite| suite.aead).collect();
        assert_eq!(aeads, [AeadAlgorithm::Aes128Gcm, AeadAlgorithm::ChaCha20Poly1305]);
    }

    #[test]
    fn unknown_algorithms_are_skipped_and_their_order_is_kept() {
        let config = offering(&[(1, 2), (2, 1), (1, 3), (1, 1)]).unwrap();
        let aeads: Vec<_> = config.suites.iter().map(|suite| suite.aead).collect();
        assert_eq!(aeads, [AeadAlgorithm::ChaCha20Poly1305, AeadAlgorithm::Aes128Gcm]);
    }

    #[test]
    fn no_known_algorithm_is_refused() {
        for suites in [&[][..], &[(1, 2)], &[(2, 1), (3, 3)], &[(1, 0xffff)]] {
            assert!(matches!(offering(suites), Err(SealError::Config(_))), "{suites:?}");
        }
    }
}
