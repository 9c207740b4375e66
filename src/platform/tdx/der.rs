//! Reads the few fields of certificates and CRLs that webpki does not show: names, dates, and Intel's SGX extension.
//!
//! Signatures, chains and revocation are webpki's work; a certificate gets here only as bytes that webpki accepts.

use std::time::SystemTime;

use super::encoding::asn1_time;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0] EXPLICIT`: a certificate's version.
const VERSION: u8 = 0xa0;
/// `[3] EXPLICIT`: a certificate's extensions.
const EXTENSIONS: u8 = 0xa3;

/// id-at-commonName, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// Intel's SGX extension, 1.2.840.113741.1.13.1.
pub(super) const SGX_EXTENSION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];

/// A certificate's fields.
#[derive(Debug)]
pub(super) struct CertificateFields<'a> {
    pub(super) issuer: &'a str,
    pub(super) subject: &'a str,
    pub(super) not_after: SystemTime,
    /// The contents of the key's AlgorithmIdentifier.
    pub(super) key_algorithm: &'a [u8],
    /// The key itself: for P-256, a point.
    pub(super) key: &'a [u8],
    /// The contents of Intel's SGX extension, if there is exactly one.
    pub(super) sgx: Option<&'a [u8]>,
}

/// Reads a certificate (RFC 5280 §4.1).
pub(super) fn certificate(der: &[u8]) -> Option<CertificateFields<'_>> {
    let mut tbs = Der(Der(Der(der).only(SEQUENCE)?).take(SEQUENCE)?);
    tbs.take(VERSION)?;
    tbs.take(INTEGER)?;
    tbs.take(SEQUENCE)?;
    let issuer = common_name(tbs.take(SEQUENCE)?)?;
    let mut validity = Der(tbs.take(SEQUENCE)?);
    validity.any()?;
    let (tag, not_after) = validity.any()?;
    let not_after = asn1_time(tag, not_after)?;
    let subject = common_name(tbs.take(SEQUENCE)?)?;
    let mut key = Der(tbs.take(SEQUENCE)?);
    let key_algorithm = key.take(SEQUENCE)?;
    // The first byte counts unused bits: none.
    let key = key.take(BIT_STRING)?.strip_prefix(&[0])?;
    let sgx = match tbs.take(EXTENSIONS) {
        Some(extensions) => sgx_extension(Der(extensions).only(SEQUENCE)?)?,
        None => None,
    };
    Some(CertificateFields { issuer, subject, not_after, key_algorithm, key, sgx })
}

/// When a CRL was made and when it must be replaced (RFC 5280 §5.1).
pub(super) fn crl_window(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let mut tbs = Der(Der(Der(der).only(SEQUENCE)?).take(SEQUENCE)?);
    tbs.take(INTEGER)?;
    tbs.take(SEQUENCE)?;
    tbs.take(SEQUENCE)?;
    let (tag, this_update) = tbs.any()?;
    let this_update = asn1_time(tag, this_update)?;
    let (tag, next_update) = tbs.any()?;
    Some((this_update, asn1_time(tag, next_update)?))
}

/// The value under `oid` in a sequence of `SEQUENCE { OID, value }`, with its tag.
pub(super) fn value_of<'a>(sequence: &'a [u8], oid: &[u8]) -> Option<(u8, &'a [u8])> {
    let mut entries = Der(sequence);
    let mut found = None;
    while !entries.0.is_empty() {
        let mut entry = Der(entries.take(SEQUENCE)?);
        let name = entry.take(OID)?;
        let value = entry.any()?;
        if name == oid && found.replace(value).is_some() {
            return None;
        }
    }
    found
}

/// The contents of the one SEQUENCE that `der` is.
pub(super) fn sequence(der: &[u8]) -> Option<&[u8]> {
    Der(der).only(SEQUENCE)
}

/// `None` if the extensions do not parse or name the SGX extension twice.
fn sgx_extension(extensions: &[u8]) -> Option<Option<&[u8]>> {
    let mut extensions = Der(extensions);
    let mut found = None;
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.take(SEQUENCE)?);
        let name = extension.take(OID)?;
        let (mut tag, mut value) = extension.any()?;
        if tag != OCTET_STRING {
            // A BOOLEAN, `critical`, stands before the value.
            (tag, value) = extension.any()?;
        }
        if name == SGX_EXTENSION && (tag != OCTET_STRING || found.replace(value).is_some()) {
            return None;
        }
    }
    Some(found)
}

fn common_name(name: &[u8]) -> Option<&str> {
    let mut name = Der(name);
    while !name.0.is_empty() {
        let mut attribute = Der(Der(name.take(SET)?).take(SEQUENCE)?);
        if attribute.take(OID)? == COMMON_NAME {
            return std::str::from_utf8(attribute.any()?.1).ok();
        }
    }
    None
}

/// What is left of a run of DER elements.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and contents.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81 => {
                let (&[length], rest) = rest.split_first_chunk()?;
                (usize::from(length), rest)
            }
            0x82 => {
                let (length, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            // A CRL may be longer than 64 KiB.
            0x83 => {
                let (&[high, middle, low], rest) = rest.split_first_chunk()?;
                (usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    /// The next element's contents, if it has this tag; else nothing is taken.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() != Some(&tag) {
            return None;
        }
        self.any().map(|(_, contents)| contents)
    }

    /// The contents of the one element that there is.
    fn only(mut self, tag: u8) -> Option<&'a [u8]> {
        let contents = self.take(tag)?;
        self.0.is_empty().then_some(contents)
    }
}
