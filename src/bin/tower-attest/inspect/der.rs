//! Just enough X.509 to show who issued what, until when. Nothing is believed by it.

use crate::der::{INTEGER, OID, Reader, SEQUENCE};

/// What a certificate says of itself.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) serial: String,
    pub(super) not_before: String,
    pub(super) not_after: String,
}

/// What a revocation list says of itself.
#[derive(Debug)]
pub(super) struct Crl {
    pub(super) issuer: String,
    pub(super) this_update: String,
    pub(super) next_update: Option<String>,
    pub(super) revoked: Vec<String>,
}

const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

impl Certificate {
    /// RFC 5280, section 4.1.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let mut tbs = signed(der)?;
        tbs.take(VERSION);
        let serial = hex::encode(tbs.take(INTEGER)?.rest());
        tbs.take(SEQUENCE)?;
        let issuer = name(tbs.take(SEQUENCE)?)?;
        let mut validity = tbs.take(SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = name(tbs.take(SEQUENCE)?)?;
        tbs.take(SEQUENCE)?;
        Some(Self { subject, issuer, serial, not_before, not_after })
    }
}

impl Crl {
    /// RFC 5280, section 5.1.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let mut tbs = signed(der)?;
        tbs.take(INTEGER);
        tbs.take(SEQUENCE)?;
        let issuer = name(tbs.take(SEQUENCE)?)?;
        let this_update = tbs.time()?;
        let next_update = tbs.time();
        let mut entries = tbs.take(SEQUENCE).unwrap_or(Reader::new(&[]));
        let mut revoked = Vec::new();
        while !entries.rest().is_empty() {
            revoked.push(hex::encode(entries.take(SEQUENCE)?.take(INTEGER)?.rest()));
        }
        Some(Self { issuer, this_update, next_update, revoked })
    }
}

/// The contents of the signed part: of a SEQUENCE of it, an algorithm and a signature, with nothing behind.
fn signed(der: &[u8]) -> Option<Reader<'_>> {
    let mut outer = Reader::new(der);
    let mut parts = outer.take(SEQUENCE)?;
    outer.rest().is_empty().then(|| parts.take(SEQUENCE))?
}

/// `CN=…, O=…`: the attributes that these certificates have.
fn name(mut sets: Reader<'_>) -> Option<String> {
    let mut parts = Vec::new();
    while !sets.rest().is_empty() {
        let mut set = sets.take(SET)?;
        while !set.rest().is_empty() {
            let mut attribute = set.take(SEQUENCE)?;
            let key = match attribute.take(OID)?.rest() {
                [0x55, 4, 3] => "CN",
                [0x55, 4, 6] => "C",
                [0x55, 4, 7] => "L",
                [0x55, 4, 8] => "ST",
                [0x55, 4, 10] => "O",
                [0x55, 4, 11] => "OU",
                _ => continue,
            };
            let (_, value) = attribute.next()?;
            parts.push(format!("{key}={}", String::from_utf8_lossy(value)));
        }
    }
    Some(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_is_no_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["prover.example".to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let whole = Certificate::parse(&der).unwrap();
        assert_eq!(whole.subject, "CN=rcgen self signed cert");
        assert_eq!(whole.not_before, "1975-01-01T00:00:00Z");
        assert!((0..der.len()).all(|length| Certificate::parse(&der[..length]).is_none()));
        assert!(Certificate::parse(&[&der[..], &[0]].concat()).is_none(), "bytes behind the end");
        assert!(Crl::parse(&der).is_none());
    }
}
