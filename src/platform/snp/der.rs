//! Just enough DER to read what webpki does not show: AMD's extensions, keys, dates and the parts of a CRL.
//!
//! Nothing read here is trusted before webpki has verified the same bytes.

use std::time::{Duration, SystemTime};

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// Reads elements one after the other. Every method is `None` for what is not DER; nothing panics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element: its tag and its contents. Lengths are definite, minimal and below 16 MiB.
    pub(super) fn element(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let len = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x83 => {
                let (length, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                let len = length.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
                let least = if length.len() == 1 { 0x80 } else { 1 << (8 * (length.len() - 1)) };
                (len >= least).then_some(len)?
            }
            _ => return None,
        };
        let (contents, after) = rest.split_at_checked(len)?;
        self.0 = after;
        Some((tag, contents))
    }

    /// The contents of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element().and_then(|(found, contents)| (found == tag).then_some(contents))
    }

    /// The next element with its header, which must have this tag.
    pub(super) fn expect_whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let before = self.0;
        self.expect(tag)?;
        before.get(..before.len() - self.0.len())
    }

    /// The contents of the next element if it has this tag; otherwise nothing is read.
    pub(super) fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.expect(tag) } else { None }
    }

    /// The next element, a UTCTime or GeneralizedTime in the form that RFC 5280 section 4.1.2.5 allows.
    pub(super) fn time(&mut self) -> Option<SystemTime> {
        let (tag, contents) = self.element()?;
        let (year, rest) = match (tag, contents.len()) {
            (UTC_TIME, 13) => {
                let (year, rest) = contents.split_at_checked(2)?;
                let year = number(year)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            (GENERALIZED_TIME, 15) => {
                let (year, rest) = contents.split_at_checked(4)?;
                (number(year)?, rest)
            }
            _ => return None,
        };
        let (digits, [b'Z']) = rest.split_last_chunk()? else { return None };
        let mut parts = digits.chunks(2).map(number);
        let [month, day, hour, minute, second] = std::array::from_fn(|_| parts.next().flatten());
        let (month, day, hour, minute, second) = (month?, day?, hour?, minute?, second?);
        let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
        let seconds = days_since_1970(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
        valid.then(|| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))?
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |n, digit| digit.is_ascii_digit().then(|| n * 10 + u64::from(digit - b'0')))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `None` before 1970. Years are counted from March, so that
/// the leap day is the last of its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    days.checked_sub(719_469)
}

/// A non-negative INTEGER of at most one byte.
pub(super) fn small_integer(contents: &[u8]) -> Option<u8> {
    match *contents {
        [value @ 0..=0x7f] | [0, value @ 0x80..=0xff] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Option<u64> {
        let mut bytes = vec![tag, text.len() as u8];
        bytes.extend_from_slice(text.as_bytes());
        let time = Reader::new(&bytes).time()?;
        Some(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn times_are_read_to_the_second() {
        assert_eq!(time(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, "000229235959Z"), Some(951_868_799));
        assert_eq!(time(UTC_TIME, "230403192343Z"), Some(1_680_549_823));
        assert_eq!(time(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(time(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(time(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "Z",
            "230403192343",
            "2304031923Z",
            "23040319234aZ",
            "231303192343Z",
            "230003192343Z",
            "230400192343Z",
            "230432192343Z",
            "230403242343Z",
            "230403196043Z",
            "230403192360Z",
            "230403192343+",
            "690101000000Z",
        ] {
            assert_eq!(time(UTC_TIME, text), None, "{text:?}");
        }
        assert_eq!(time(GENERALIZED_TIME, "230403192343Z"), None);
        assert_eq!(time(INTEGER, "230403192343Z"), None);
    }

    #[test]
    fn lengths_are_minimal_and_within_bounds() {
        assert_eq!(Reader::new(&[4, 2, 8, 9, 7]).element(), Some((4, &[8, 9][..])));
        for bytes in [
            &[][..],
            &[4],
            &[4, 2, 8],
            &[4, 0x80, 0, 0],
            &[4, 0x81, 1, 8],
            &[4, 0x82, 0, 1, 8],
            &[4, 0x84, 0, 0, 0, 1, 8],
            &[4, 0x82, 1],
            &[4, 0x83, 0, 1, 0],
        ] {
            assert_eq!(Reader::new(bytes).element(), None, "{bytes:02x?}");
        }
        let mut long = vec![4, 0x81, 0x80];
        long.resize(3 + 0x80, 1);
        assert_eq!(Reader::new(&long).expect(OCTET_STRING).map(<[u8]>::len), Some(0x80));
    }

    #[test]
    fn small_integers_have_one_encoding() {
        assert_eq!(small_integer(&[0]), Some(0));
        assert_eq!(small_integer(&[0x7f]), Some(0x7f));
        assert_eq!(small_integer(&[0, 0x80]), Some(0x80));
        for contents in [&[][..], &[0x80], &[0, 0x7f], &[1, 0], &[0, 0, 0x80]] {
            assert_eq!(small_integer(contents), None, "{contents:02x?}");
        }
    }
}
