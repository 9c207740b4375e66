//! Writes DER: the little that simulated certificates and revocation lists need.

use std::time::SystemTime;

use crate::calendar::date_and_clock;

/// An element with this tag around the parts.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match len.to_be_bytes() {
        [.., short] if len < 0x80 => out.push(short),
        [.., byte] if len < 0x100 => out.extend([0x81, byte]),
        [.., high, low] if len < 0x1_0000 => out.extend([0x82, high, low]),
        [.., high, mid, low] => out.extend([0x83, high, mid, low]),
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, parts)
}

/// A non-negative INTEGER.
pub(crate) fn integer(value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
    let significant: Vec<u8> = bytes.into_iter().skip(start).collect();
    let sign: &[u8] = if significant.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
    element(0x02, &[sign, &significant])
}

pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], bytes])
}

pub(crate) fn ia5(text: &str) -> Vec<u8> {
    element(0x16, &[text.as_bytes()])
}

/// An Extension: identifier (contents of the OID), criticality, and the DER inside its OCTET STRING.
pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    sequence(&[&element(0x06, &[oid]), critical, &element(0x04, &[value])])
}

/// UTCTime before 2050, GeneralizedTime from then on (RFC 5280 section 4.1.2.5). Times before 1970 become 1970.
pub(crate) fn time(time: SystemTime) -> Vec<u8> {
    let ([year, month, day], [hour, minute, second]) = date_and_clock(time);
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if year < 2050 {
        element(0x17, &[format!("{:02}{rest}", year % 100).as_bytes()])
    } else {
        element(0x18, &[format!("{year:04}{rest}").as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::super::{INTEGER, Reader};
    use super::*;

    #[test]
    fn times_and_integers_read_back() {
        for seconds in [0, 86_399, 951_868_799, 1_709_251_199, 2_524_607_999, 2_524_608_000, 4_107_542_400] {
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            assert_eq!(Reader::new(&time(at)).time(), Some(at), "{seconds}");
        }
        for (value, expected) in [(0, &[0][..]), (0x7f, &[0x7f]), (0x80, &[0, 0x80]), (0x0100, &[1, 0])] {
            assert_eq!(Reader::new(&integer(value)).expect(INTEGER), Some(expected));
        }
        assert_eq!(integer(0x01_0000), [2, 3, 1, 0, 0]);
    }

    #[test]
    fn lengths_read_back() {
        for len in [0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let der = element(4, &[&vec![0; len]]);
            assert_eq!(Reader::new(&der).element().map(|(_, contents)| contents.len()), Some(len));
        }
    }
}
