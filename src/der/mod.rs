//! Just enough DER to read what webpki does not show: names, keys, dates, a vendor's extensions and the parts of a CRL.
//!
//! Nothing read here is trusted before webpki has verified the same bytes.

#[cfg(feature = "sim")]
pub(crate) mod write;

use std::time::SystemTime;

use crate::calendar::Asn1Time;

#[cfg(any(feature = "snp", feature = "tdx"))]
pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
#[cfg(any(feature = "snp", feature = "tdx"))]
pub(crate) const BIT_STRING: u8 = 0x03;
#[cfg(any(feature = "snp", feature = "tdx"))]
pub(crate) const OCTET_STRING: u8 = 0x04;
#[cfg(any(feature = "snp", feature = "tdx"))]
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;

/// Reads elements one after the other. Every method is `None` for what is not DER; nothing panics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    #[cfg(any(feature = "snp", feature = "tdx"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element: its tag and its contents. Lengths are definite, minimal and below 16 MiB.
    pub(crate) fn element(&mut self) -> Option<(u8, &'a [u8])> {
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
    pub(crate) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element().and_then(|(found, contents)| (found == tag).then_some(contents))
    }

    /// The next element with its header, which must have this tag.
    #[cfg(any(feature = "snp", feature = "tdx"))]
    pub(crate) fn expect_whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let before = self.0;
        self.expect(tag)?;
        before.get(..before.len() - self.0.len())
    }

    /// The contents of the next element if it has this tag; otherwise nothing is read.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.expect(tag) } else { None }
    }

    /// The next element, a UTCTime or GeneralizedTime in the form that RFC 5280 section 4.1.2.5 allows.
    pub(crate) fn time(&mut self) -> Option<SystemTime> {
        match self.element()? {
            (UTC_TIME, contents) => Asn1Time::Utc(contents).read(),
            (GENERALIZED_TIME, contents) => Asn1Time::Generalized(contents).read(),
            _ => None,
        }
    }

    /// The contents of the one element that is left, which must have this tag.
    #[cfg(feature = "tdx")]
    pub(crate) fn only(mut self, tag: u8) -> Option<&'a [u8]> {
        self.expect(tag).filter(|_| self.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_of_two_types() {
        let element = |tag: u8, text: &str| [&[tag, text.len() as u8], text.as_bytes()].concat();
        let time = |tag, text| Reader::new(&element(tag, text)).time();
        let expected = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_680_549_823);
        assert_eq!(time(UTC_TIME, "230403192343Z"), Some(expected));
        assert_eq!(time(GENERALIZED_TIME, "20230403192343Z"), Some(expected));
        for (tag, text) in
            [(GENERALIZED_TIME, "230403192343Z"), (UTC_TIME, "20230403192343Z"), (INTEGER, "230403192343Z")]
        {
            assert_eq!(time(tag, text), None, "{tag:#x} {text}");
        }
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
}
