//! Reads the few fields of certificates and CRLs that webpki does not show: names, dates, and Intel's SGX extension.
//!
//! Signatures, chains and revocation are webpki's work; a certificate gets here only as bytes that webpki accepts.

use std::time::SystemTime;

use crate::der::{BIT_STRING, BOOLEAN, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE};

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
    pub(super) not_before: SystemTime,
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
    let mut tbs = to_be_signed(der)?;
    tbs.expect(VERSION)?;
    tbs.expect(INTEGER)?;
    tbs.expect(SEQUENCE)?;
    let issuer = common_name(tbs.expect(SEQUENCE)?)?;
    let mut validity = Reader::new(tbs.expect(SEQUENCE)?);
    let (not_before, not_after) = (validity.time()?, validity.time()?);
    let subject = common_name(tbs.expect(SEQUENCE)?)?;
    let mut key = Reader::new(tbs.expect(SEQUENCE)?);
    let key_algorithm = key.expect(SEQUENCE)?;
    // The first byte counts unused bits: none.
    let key = key.expect(BIT_STRING)?.strip_prefix(&[0])?;
    let sgx = match tbs.optional(EXTENSIONS) {
        Some(extensions) => sgx_extension(sequence(extensions)?)?,
        None => None,
    };
    Some(CertificateFields { issuer, subject, not_before, not_after, key_algorithm, key, sgx })
}

/// A CRL's fields.
#[derive(Debug)]
pub(super) struct CrlFields<'a> {
    /// What is signed, with its header.
    pub(super) signed: &'a [u8],
    /// The contents of the signature's AlgorithmIdentifier.
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
    /// When it was made.
    pub(super) this_update: SystemTime,
    /// When it must be replaced.
    pub(super) next_update: SystemTime,
}

/// Reads a CRL (RFC 5280 §5.1), up to its dates.
pub(super) fn crl(der: &[u8]) -> Option<CrlFields<'_>> {
    let mut list = Reader::new(sequence(der)?);
    let signed = list.expect_whole(SEQUENCE)?;
    let algorithm = list.expect(SEQUENCE)?;
    let signature = list.expect(BIT_STRING)?.strip_prefix(&[0])?;
    let mut tbs = to_be_signed(der)?;
    tbs.expect(INTEGER)?;
    tbs.expect(SEQUENCE)?;
    tbs.expect(SEQUENCE)?;
    let (this_update, next_update) = (tbs.time()?, tbs.time()?);
    Some(CrlFields { signed, algorithm, signature, this_update, next_update })
}

/// The value under `oid` in a sequence of `SEQUENCE { OID, value }`, with its tag.
pub(super) fn value_of<'a>(sequence: &'a [u8], oid: &[u8]) -> Option<(u8, &'a [u8])> {
    let mut entries = Reader::new(sequence);
    let mut found = None;
    while !entries.is_empty() {
        let mut entry = Reader::new(entries.expect(SEQUENCE)?);
        let name = entry.expect(OID)?;
        let value = entry.element()?;
        if name == oid && found.replace(value).is_some() {
            return None;
        }
    }
    found
}

/// The contents of the one SEQUENCE that `der` is.
pub(super) fn sequence(der: &[u8]) -> Option<&[u8]> {
    Reader::new(der).only(SEQUENCE)
}

/// What is signed in a certificate or CRL.
fn to_be_signed(der: &[u8]) -> Option<Reader<'_>> {
    Reader::new(sequence(der)?).expect(SEQUENCE).map(Reader::new)
}

/// `None` if the extensions do not parse or name the SGX extension twice.
fn sgx_extension(extensions: &[u8]) -> Option<Option<&[u8]>> {
    let mut extensions = Reader::new(extensions);
    let mut found = None;
    while !extensions.is_empty() {
        let mut extension = Reader::new(extensions.expect(SEQUENCE)?);
        let name = extension.expect(OID)?;
        // `critical`
        extension.optional(BOOLEAN);
        let value = extension.expect(OCTET_STRING)?;
        if name == SGX_EXTENSION && found.replace(value).is_some() {
            return None;
        }
    }
    Some(found)
}

fn common_name(name: &[u8]) -> Option<&str> {
    let mut name = Reader::new(name);
    while !name.is_empty() {
        let mut attribute = Reader::new(Reader::new(name.expect(SET)?).expect(SEQUENCE)?);
        if attribute.expect(OID)? == COMMON_NAME {
            return std::str::from_utf8(attribute.element()?.1).ok();
        }
    }
    None
}
