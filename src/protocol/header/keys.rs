//! `Attestation-Keys`: which keys a request is sealed to.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::members::item;
use super::{HeaderError, byte_sequence, check_length, fixed_bytes, only_line};
use crate::protocol::KeysDigest;

/// The field of sealed requests that names the key document, so that a server need not try its keys.
pub const ATTESTATION_KEYS: HeaderName = HeaderName::from_static("attestation-keys");
/// The field of sealed requests that repeats the key document's `route`, as it is, for balancers. Servers ignore it.
pub const ATTESTATION_ROUTE: HeaderName = HeaderName::from_static("attestation-route");
/// The most bytes that a value of [`ATTESTATION_KEYS`] may have. This version writes 46.
pub const MAX_KEYS_VALUE: usize = 512;

const KEYS: &str = "Attestation-Keys";

/// `Attestation-Keys`: the digest of the key document whose key a request is sealed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysHeader {
    /// SHA-256 of the key document.
    pub keys: KeysDigest,
}

impl KeysHeader {
    /// The field value. It is the same for all requests to these keys, and no secret.
    #[expect(clippy::expect_used, reason = "base64 between colons may stand in every field")]
    pub fn to_value(&self) -> HeaderValue {
        HeaderValue::try_from(byte_sequence(self.keys.as_bytes())).expect("visible ASCII")
    }

    /// Parses a field value: an Item, a Byte Sequence of 32 bytes.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] unless it is exactly that; unknown parameters are ignored.
    pub fn parse(value: &[u8]) -> Result<Self, HeaderError> {
        check_length(KEYS, value, MAX_KEYS_VALUE)?;
        let (keys, _) = item(KEYS, value)?;
        Ok(Self { keys: KeysDigest::from_bytes(fixed_bytes(KEYS, "the digest", Some(&keys))?) })
    }

    /// Reads the field from a request: `None` if it is absent.
    ///
    /// # Errors
    ///
    /// A field on two lines, or one that does not parse, is an error and never "absent".
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, HeaderError> {
        only_line(KEYS, headers, &ATTESTATION_KEYS)?.map(|value| Self::parse(value.as_bytes())).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> KeysHeader {
        KeysHeader { keys: KeysDigest::from_bytes([0xab; 32]) }
    }

    #[test]
    fn keys_round_trip_and_unknown_parameters_are_ignored() {
        let value = header().to_value();
        assert_eq!((value.len(), KeysHeader::parse(value.as_bytes())), (46, Ok(header())));
        let more = format!("{};later=1;x", value.to_str().unwrap());
        assert_eq!(KeysHeader::parse(more.as_bytes()), Ok(header()));
    }

    #[test]
    fn keys_of_another_type_or_length_are_refused() {
        for value in ["1", "?1", "AAAA", "\"AAAA\"", "@1"] {
            let parsed = KeysHeader::parse(value.as_bytes());
            assert!(matches!(parsed, Err(HeaderError::WrongType { key: "the digest", .. })), "{value}: {parsed:?}");
        }
        for length in [0, 31, 33, 64] {
            let parsed = KeysHeader::parse(byte_sequence(&vec![1; length]).as_bytes());
            let refused = HeaderError::Length { field: KEYS, key: "the digest", expected: "32", found: length };
            assert_eq!(parsed, Err(refused));
        }
        for value in ["", ":AAAA", "(:AAAA:)", "a=:AAAA:"] {
            assert!(KeysHeader::parse(value.as_bytes()).is_err(), "{value}");
        }
    }

    #[test]
    fn keys_on_two_lines_repeated_parameters_and_long_values_are_refused() {
        let mut headers = HeaderMap::new();
        assert_eq!(KeysHeader::from_headers(&headers), Ok(None));
        headers.append(ATTESTATION_KEYS, header().to_value());
        assert_eq!(KeysHeader::from_headers(&headers), Ok(Some(header())));
        headers.append(ATTESTATION_KEYS, header().to_value());
        assert_eq!(KeysHeader::from_headers(&headers), Err(HeaderError::Repeated { field: KEYS, found: 2 }));

        let digest = byte_sequence(&[0xab; 32]);
        let repeated = KeysHeader::parse(format!("{digest};x;x").as_bytes());
        assert_eq!(repeated, Err(HeaderError::RepeatedKey { field: KEYS, key: "x".into() }));
        let padded = |length: usize| format!("{digest};a=\"{}\"", "x".repeat(length - digest.len() - 5));
        assert_eq!(KeysHeader::parse(padded(MAX_KEYS_VALUE).as_bytes()), Ok(header()));
        let refused = HeaderError::TooLong { field: KEYS, limit: MAX_KEYS_VALUE, found: MAX_KEYS_VALUE + 1 };
        assert_eq!(KeysHeader::parse(padded(MAX_KEYS_VALUE + 1).as_bytes()), Err(refused));
    }
}
