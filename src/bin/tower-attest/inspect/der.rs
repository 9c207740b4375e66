//! Just enough X.509 to show who issued what, until when. Nothing is believed by it.

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

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

impl Certificate {
    /// RFC 5280, section 4.1.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let mut tbs = signed(der)?;
        tbs.take(VERSION);
        let serial = hex::encode(tbs.take(INTEGER)?.0);
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
        let mut entries = tbs.take(SEQUENCE).unwrap_or(Reader(&[]));
        let mut revoked = Vec::new();
        while !entries.0.is_empty() {
            revoked.push(hex::encode(entries.take(SEQUENCE)?.take(INTEGER)?.0));
        }
        Some(Self { issuer, this_update, next_update, revoked })
    }
}

/// The contents of the signed part: of a SEQUENCE of it, an algorithm and a signature, with nothing behind.
fn signed(der: &[u8]) -> Option<Reader<'_>> {
    let mut outer = Reader(der);
    let mut parts = outer.take(SEQUENCE)?;
    outer.0.is_empty().then(|| parts.take(SEQUENCE))?
}

/// `CN=…, O=…`: the attributes that these certificates have.
fn name(mut sets: Reader<'_>) -> Option<String> {
    let mut parts = Vec::new();
    while !sets.0.is_empty() {
        let mut set = sets.take(SET)?;
        while !set.0.is_empty() {
            let mut attribute = set.take(SEQUENCE)?;
            let key = match attribute.take(OID)?.0 {
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

#[derive(Debug, Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element's tag and contents.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let [tag, length, rest @ ..] = self.0 else { return None };
        let (length, rest) = match *length {
            short @ 0..=0x7f => (usize::from(short), rest),
            0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
            0x82 => rest.split_first_chunk().map(|(bytes, rest)| (usize::from(u16::from_be_bytes(*bytes)), rest))?,
            0x83 => {
                let ([high, middle, low], rest) = rest.split_first_chunk()?;
                (usize::try_from(u32::from_be_bytes([0, *high, *middle, *low])).ok()?, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, contents))
    }

    fn take(&mut self, tag: u8) -> Option<Self> {
        let before = self.0;
        match self.next() {
            Some((found, contents)) if found == tag => Some(Self(contents)),
            _ => {
                self.0 = before;
                None
            }
        }
    }

    /// A time as RFC 3339 writes it.
    fn time(&mut self) -> Option<String> {
        let text = self.take(UTC_TIME).map(|time| (time, 2)).or_else(|| Some((self.take(GENERALIZED_TIME)?, 4)));
        let (time, year_len) = text?;
        let text = std::str::from_utf8(time.0).ok()?.strip_suffix('Z')?;
        if text.len() != year_len + 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (year, rest) = text.split_at_checked(year_len)?;
        let century = match year_len {
            2 if year >= "50" => "19",
            2 => "20",
            _ => "",
        };
        let pair = |index: usize| rest.get(index * 2..index * 2 + 2);
        let (month, day, hour, minute, second) = (pair(0)?, pair(1)?, pair(2)?, pair(3)?, pair(4)?);
        Some(format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
    }
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
