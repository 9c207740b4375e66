//! The key that requests are sealed to: one key configuration of RFC 9458, section 3.1, without a list's length.

/// DHKEM(X25519, HKDF-SHA256), the one KEM that is known here (RFC 9180, section 7.1).
const X25519_HKDF_SHA256: u16 = 0x0020;
const PUBLIC_KEY: usize = 32;

/// A key configuration for X25519, the member `seal` of a [key document](super::KeyDocument).
///
/// ```
/// use tower_attest::protocol::{KeyConfig, Suite};
///
/// let config = KeyConfig { id: 1, public: [9; 32], suites: vec![Suite::AES_128_GCM, Suite::CHACHA20_POLY1305] };
/// assert_eq!(KeyConfig::parse(&config.encode())?, config);
/// # Ok::<(), tower_attest::protocol::KeyConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// Names the key within its server: the epoch, modulo 256.
    pub id: u8,
    /// The X25519 public key.
    pub public: [u8; 32],
    /// Pairs of KDF and AEAD that the server takes, best first: 1 to 16 383, unknown ones included.
    pub suites: Vec<Suite>,
}

/// A pair of KDF and AEAD, by their numbers in the HPKE registry (RFC 9180, sections 7.2 and 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Suite {
    /// The KDF's number.
    pub kdf: u16,
    /// The AEAD's number.
    pub aead: u16,
}

impl Suite {
    /// HKDF-SHA256 with AES-128-GCM.
    pub const AES_128_GCM: Self = Self { kdf: 0x0001, aead: 0x0001 };
    /// HKDF-SHA256 with ChaCha20-Poly1305.
    pub const CHACHA20_POLY1305: Self = Self { kdf: 0x0001, aead: 0x0003 };
}

impl KeyConfig {
    /// `id: u8 ‖ kem: u16 ‖ public key ‖ length: u16 ‖ (kdf: u16 ‖ aead: u16)…`. Suites past 16 383 are not written.
    pub fn encode(&self) -> Vec<u8> {
        let mut suites: Vec<u8> = Vec::with_capacity(self.suites.len().saturating_mul(4));
        for suite in self.suites.iter().take(usize::from(u16::MAX / 4)) {
            suites.extend(suite.kdf.to_be_bytes());
            suites.extend(suite.aead.to_be_bytes());
        }
        let length = u16::try_from(suites.len()).unwrap_or(u16::MAX);
        [&[self.id][..], &X25519_HKDF_SHA256.to_be_bytes(), &self.public, &length.to_be_bytes(), &suites].concat()
    }

    /// Parses one configuration that takes all of `bytes`.
    ///
    /// # Errors
    ///
    /// [`KeyConfigError::UnknownKem`] if it is for another KEM, whose key's length is not known here: RFC 9458 has readers
    /// pass such a configuration over. [`KeyConfigError::Malformed`] for everything else that is not exactly as above.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyConfigError> {
        let cut = |what| KeyConfigError::Malformed { expected: what, found: bytes.len() };
        let ([id], rest) = bytes.split_first_chunk::<1>().ok_or(cut("a key identifier of 1 byte"))?;
        let (kem, rest) = rest.split_first_chunk().ok_or(cut("a KEM identifier of 2 bytes"))?;
        match u16::from_be_bytes(*kem) {
            X25519_HKDF_SHA256 => {}
            other => return Err(KeyConfigError::UnknownKem(other)),
        }
        let (public, rest) = rest.split_first_chunk::<PUBLIC_KEY>().ok_or(cut("an X25519 public key of 32 bytes"))?;
        let (length, rest) = rest.split_first_chunk().ok_or(cut("a length of 2 bytes for the suites"))?;
        let (suites, odd) = rest.as_chunks::<4>();
        if usize::from(u16::from_be_bytes(*length)) != rest.len() || !odd.is_empty() || suites.is_empty() {
            return Err(cut("suites of 4 bytes each, at least one, to the end"));
        }
        let suite =
            |[a, b, c, d]: &[u8; 4]| Suite { kdf: u16::from_be_bytes([*a, *b]), aead: u16::from_be_bytes([*c, *d]) };
        Ok(Self { id: *id, public: *public, suites: suites.iter().map(suite).collect() })
    }
}

/// Why a key configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyConfigError {
    /// For another KEM. The other end may be newer than this one.
    #[error("expected the KEM 0x0020, found 0x{0:04x}")]
    UnknownKem(u16),
    /// Cut short, too long, or with lengths that do not fit.
    #[error("expected {expected}, found {found} bytes in all (RFC 9458, section 3.1)")]
    Malformed {
        /// What should stand there.
        expected: &'static str,
        /// The length of the whole.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KeyConfig {
        KeyConfig { id: 7, public: [5; 32], suites: vec![Suite::AES_128_GCM, Suite { kdf: 0x1234, aead: 0xffff }] }
    }

    #[test]
    fn it_is_written_as_rfc_9458_has_it() {
        let expected = [&[7, 0, 0x20][..], &[5; 32], &[0, 8, 0, 1, 0, 1, 0x12, 0x34, 0xff, 0xff]].concat();
        assert_eq!(config().encode(), expected);
        assert_eq!(KeyConfig::parse(&expected), Ok(config()), "suites that nobody here knows are kept");
    }

    #[test]
    fn what_is_cut_anywhere_is_refused() {
        let whole = config().encode();
        for length in 0..whole.len() {
            let parsed = KeyConfig::parse(&whole[..length]);
            assert!(matches!(parsed, Err(KeyConfigError::Malformed { found, .. }) if found == length), "{length}");
        }
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        for more in 1..=8 {
            let long = [config().encode(), vec![0; more]].concat();
            assert!(matches!(KeyConfig::parse(&long), Err(KeyConfigError::Malformed { .. })), "{more}");
        }
    }

    #[test]
    fn no_suite_and_part_of_a_suite_are_refused() {
        let none = KeyConfig { suites: vec![], ..config() }.encode();
        assert!(matches!(KeyConfig::parse(&none), Err(KeyConfigError::Malformed { .. })));
        let mut part = [config().encode(), vec![0, 1]].concat();
        part[36] = 10;
        assert!(matches!(KeyConfig::parse(&part), Err(KeyConfigError::Malformed { .. })));
    }

    #[test]
    fn another_kem_is_told_from_a_malformed_one() {
        let mut other = config().encode();
        other[2] = 0x10;
        assert_eq!(KeyConfig::parse(&other), Err(KeyConfigError::UnknownKem(0x0010)));
        assert_eq!(KeyConfig::parse(&[7, 0x64, 0x7a]), Err(KeyConfigError::UnknownKem(0x647a)));
    }
}
