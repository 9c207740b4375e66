//! The key configuration of RFC 9458 section 3.1: what a key document's member `seal` holds.
//!
//! `key_id u8 ‖ kem u16 ‖ public key, 32 bytes ‖ length u16 ‖ (kdf u16 ‖ aead u16)*`, without the list length of
//! `application/ohttp-keys`.

use super::error::SealError;
use super::hpke::{ENC, KDF_ID, KEM_ID, aead_by_id, aead_id};
use crate::crypto::seal::AeadAlgorithm;

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

impl KeyConfig {
    /// The configuration that this crate's servers offer.
    pub(crate) fn new(id: u8, public: [u8; ENC]) -> Self {
        let suites = [AeadAlgorithm::Aes128Gcm, AeadAlgorithm::ChaCha20Poly1305].map(|aead| Suite { aead });
        Self { id, public, suites: suites.to_vec() }
    }

    /// Reads exactly one configuration. Unknown algorithms are skipped, as long as a known pair is left.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        let short =
            SealError::Config("expected a key id, a KEM, a public key of 32 bytes and algorithms, found fewer bytes");
        let (&[id], rest) = bytes.split_first_chunk().ok_or(short)?;
        let (&kem, rest) = rest.split_first_chunk().ok_or(short)?;
        if u16::from_be_bytes(kem) != KEM_ID {
            return Err(SealError::Config("expected the KEM 0x0020, DHKEM(X25519, HKDF-SHA256)"));
        }
        let (&public, rest) = rest.split_first_chunk().ok_or(short)?;
        let (&length, rest) = rest.split_first_chunk().ok_or(short)?;
        if usize::from(u16::from_be_bytes(length)) != rest.len() || rest.len() % 4 != 0 {
            return Err(SealError::Config("expected algorithms of 4 bytes each up to the end"));
        }
        let suites: Vec<_> = rest.chunks_exact(4).filter_map(Suite::parse).collect();
        if suites.is_empty() {
            return Err(SealError::Config("expected HKDF-SHA256 with AES-128-GCM or ChaCha20-Poly1305, found neither"));
        }
        Ok(Self { id, public, suites })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.id];
        bytes.extend_from_slice(&KEM_ID.to_be_bytes());
        bytes.extend_from_slice(&self.public);
        let length = u16::try_from(self.suites.len() * 4).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        for suite in &self.suites {
            bytes.extend_from_slice(&KDF_ID.to_be_bytes());
            bytes.extend_from_slice(&aead_id(suite.aead).to_be_bytes());
        }
        bytes
    }
}

impl Suite {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&kdf, rest) = bytes.split_first_chunk()?;
        let (&aead, _) = rest.split_first_chunk()?;
        if u16::from_be_bytes(kdf) != KDF_ID {
            return None;
        }
        aead_by_id(u16::from_be_bytes(aead)).map(|aead| Self { aead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::hpke::KeyPair;

    /// RFC 9458 appendix A.
    const PRIVATE: &str = "3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a";
    const ENCODED: &str = "01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003";

    fn encoded() -> Vec<u8> {
        hex::decode(ENCODED).unwrap()
    }

    #[test]
    fn the_example_of_rfc_9458_reads_and_writes() {
        let pair = KeyPair::from_bytes(&hex::decode(PRIVATE).unwrap().try_into().unwrap());
        let config = KeyConfig::new(1, *pair.public());
        assert_eq!(hex::encode(config.encode()), ENCODED);
        assert_eq!(KeyConfig::parse(&encoded()), Ok(config));
    }

    #[test]
    fn unknown_algorithms_are_skipped_and_their_order_is_kept() {
        let mut bytes = encoded();
        bytes.truncate(37);
        bytes[36] = 16;
        bytes.extend_from_slice(&[0, 1, 0, 2, 0, 2, 0, 1, 0, 1, 0, 3, 0, 1, 0, 1]);
        let suites = KeyConfig::parse(&bytes).unwrap().suites;
        let aeads: Vec<_> = suites.iter().map(|suite| suite.aead).collect();
        assert_eq!(aeads, [AeadAlgorithm::ChaCha20Poly1305, AeadAlgorithm::Aes128Gcm]);
    }

    #[test]
    fn every_prefix_is_refused() {
        for length in 0..encoded().len() {
            assert!(KeyConfig::parse(&encoded()[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let bytes = [encoded(), vec![0]].concat();
        assert!(KeyConfig::parse(&bytes).is_err());
        let bytes = [encoded(), vec![0, 1, 0, 1]].concat();
        assert!(KeyConfig::parse(&bytes).is_err());
    }

    #[test]
    fn half_an_algorithm_is_refused() {
        let mut bytes = encoded();
        bytes.truncate(43);
        bytes[36] = 6;
        assert!(KeyConfig::parse(&bytes).is_err());
    }

    #[test]
    fn another_kem_is_refused() {
        let mut bytes = encoded();
        bytes[2] = 0x10;
        assert!(KeyConfig::parse(&bytes).is_err());
    }

    #[test]
    fn no_known_algorithm_is_refused() {
        let mut none = encoded();
        none.truncate(37);
        none[36] = 0;
        assert!(KeyConfig::parse(&none).is_err());
        let mut unknown = encoded();
        (unknown[40], unknown[44]) = (2, 0xff);
        assert!(KeyConfig::parse(&unknown).is_err());
    }
}
