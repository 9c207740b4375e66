//! Reads the host's certificate table.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::fields::SigningKey;
use crate::report::Hex;

const ENTRY_LEN: usize = 24;

/// The host's certificate table, checked for its form: where a guest finds the VCEK or VLEK certificate without asking
/// AMD.
///
/// The host fills it, and nothing in it is trustworthy: what is found is checked like a certificate from anywhere else.
///
/// ```
/// use tower_attest::platform::snp::{CertTable, SigningKey};
///
/// let mut blob = CertTable::VLEK.to_vec();
/// blob.extend(48_u32.to_le_bytes()); // offset
/// blob.extend(3_u32.to_le_bytes()); // length
/// blob.extend([0; 24]); // the end of the table
/// blob.extend([0x30, 1, 0]); // the certificate, DER
///
/// let table = CertTable::parse(&blob)?;
/// assert_eq!(table.vek(SigningKey::Vlek)?.as_deref(), Some(&[0x30, 1, 0][..]));
/// assert_eq!(table.vek(SigningKey::Vcek)?, None);
/// # Ok::<(), tower_attest::platform::snp::CertTableError>(())
/// ```
///
/// The form is that of the GHCB specification (AMD document 56421, "SNP Extended Guest Request"), as configfs-tsm hands it
/// out in `auxblob`: entries of 24 bytes (GUID as in RFC 4122, offset and length little-endian) up to one of zeros; the
/// certificates behind them; often zeros up to the end of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertTable<'a> {
    entries: Vec<CertTableEntry<'a>>,
}

/// One entry of a [`CertTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertTableEntry<'a> {
    /// What it is, such as [`CertTable::VCEK`].
    pub guid: [u8; 16],
    /// The certificate as the host stored it: DER or PEM. Never empty.
    pub bytes: &'a [u8],
}

/// Why a certificate table, or a certificate in it, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertTableError {
    /// Longer than [`CertTable::MAX_LEN`].
    #[error("certificate table: expected at most {max} bytes, found {0}", max = CertTable::MAX_LEN)]
    TooLong(usize),
    /// No entry of zeros before the end of the bytes.
    #[error("certificate table: expected an entry of zeros after the last entry, found the end of {0} bytes")]
    Unterminated(usize),
    /// An entry that looks like the end but has an offset or a length.
    #[error("certificate table: entry {0} has the GUID of the end, and an offset or a length that is not zero")]
    BadEnd(usize),
    /// An entry whose certificate is not wholly behind the table and within the bytes, or is empty.
    #[error(
        "certificate table: entry {index}: expected a certificate within bytes {from} to {to}, found offset {offset} and \
         length {length}"
    )]
    OutOfBounds {
        /// Which entry, from 0.
        index: usize,
        /// The first byte behind the table.
        from: usize,
        /// The length of the whole.
        to: usize,
        /// What the entry says.
        offset: u32,
        /// What the entry says.
        length: u32,
    },
    /// Two entries have the same GUID: which one counts would be a guess.
    #[error("certificate table: GUID {0} occurs twice")]
    Repeated(String),
    /// An entry is neither one DER certificate nor one PEM certificate.
    #[error("certificate table: {key} entry: expected one certificate in DER or PEM, found {found}")]
    NotACertificate {
        /// Whose entry it is.
        key: SigningKey,
        /// What was found.
        found: String,
    },
}

impl<'a> CertTable<'a> {
    /// The most bytes of a table: as much as the kernel hands out.
    pub const MAX_LEN: usize = 32 * 1024;
    /// GUID of the VCEK certificate, 63da758d-e664-4564-adc5-f4b93be8accd.
    pub const VCEK: [u8; 16] = 0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes();
    /// GUID of the VLEK certificate, a8074bc2-a25a-483e-aae6-39c045a0b8a1.
    pub const VLEK: [u8; 16] = 0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128.to_be_bytes();
    /// GUID of the ASK certificate, 4ab7b379-bbac-4fe4-a02f-05aef327c782.
    pub const ASK: [u8; 16] = 0x4ab7b379_bbac_4fe4_a02f_05aef327c782_u128.to_be_bytes();
    /// GUID of the ARK certificate, c0b406a4-a803-4952-9743-3fb6014cd0ae.
    pub const ARK: [u8; 16] = 0xc0b406a4_a803_4952_9743_3fb6014cd0ae_u128.to_be_bytes();

    /// Reads a table. No bytes at all are a table without entries: the host has none to give.
    ///
    /// Entries of unknown GUIDs are kept; their certificates may overlap, and what lies between and behind them is not
    /// looked at.
    ///
    /// # Errors
    ///
    /// Each [`CertTableError`] but [`NotACertificate`](CertTableError::NotACertificate).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CertTableError> {
        if bytes.len() > Self::MAX_LEN {
            return Err(CertTableError::TooLong(bytes.len()));
        }
        let mut raw = Vec::new();
        if !bytes.is_empty() {
            let mut rest = bytes;
            loop {
                let Some((entry, behind)) = RawEntry::split(rest) else {
                    return Err(CertTableError::Unterminated(bytes.len()));
                };
                rest = behind;
                if entry.guid == [0; 16] {
                    if entry.offset != 0 || entry.length != 0 {
                        return Err(CertTableError::BadEnd(raw.len()));
                    }
                    break;
                }
                if raw.iter().any(|other: &RawEntry| other.guid == entry.guid) {
                    return Err(CertTableError::Repeated(Hex(&entry.guid).to_string()));
                }
                raw.push(entry);
            }
        }
        let from = (raw.len() + 1) * ENTRY_LEN;
        let entries = raw.iter().enumerate().map(|(index, entry)| {
            entry.resolve(bytes, from).ok_or(CertTableError::OutOfBounds {
                index,
                from,
                to: bytes.len(),
                offset: entry.offset,
                length: entry.length,
            })
        });
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// The entries, in the table's order.
    pub fn entries(&self) -> &[CertTableEntry<'a>] {
        &self.entries
    }

    /// The certificate of the key that signed a report, as DER; `None` if the table has none, or if no key signed.
    ///
    /// # Errors
    ///
    /// [`NotACertificate`](CertTableError::NotACertificate) unless the entry is one DER SEQUENCE without anything behind
    /// it, or PEM text with exactly one certificate.
    pub fn vek(&self, key: SigningKey) -> Result<Option<Cow<'a, [u8]>>, CertTableError> {
        let guid = match key {
            SigningKey::Vcek => Self::VCEK,
            SigningKey::Vlek => Self::VLEK,
            SigningKey::None | SigningKey::Unknown(_) => return Ok(None),
        };
        match self.entries.iter().find(|entry| entry.guid == guid) {
            Some(entry) => {
                entry.der().map(Some).map_err(|found| CertTableError::NotACertificate { key, found: found.into() })
            }
            None => Ok(None),
        }
    }
}

impl<'a> CertTableEntry<'a> {
    fn der(&self) -> Result<Cow<'a, [u8]>, &'static str> {
        if self.bytes.first() == Some(&0x30) {
            return if is_one_der_sequence(self.bytes) {
                Ok(Cow::Borrowed(self.bytes))
            } else {
                Err("DER that is cut short or has bytes behind it")
            };
        }
        let mut certificates = CertificateDer::pem_slice_iter(self.bytes);
        match (certificates.next(), certificates.next()) {
            (Some(Ok(certificate)), None) if is_one_der_sequence(&certificate) => Ok(Cow::Owned(certificate.to_vec())),
            (None, _) => Err("neither"),
            (Some(Ok(_)), Some(Ok(_))) => Err("several certificates"),
            _ => Err("PEM that does not decode to a certificate"),
        }
    }
}

/// An entry as it stands in the table.
struct RawEntry {
    guid: [u8; 16],
    offset: u32,
    length: u32,
}

impl RawEntry {
    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (guid, rest) = bytes.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let entry = Self { guid: *guid, offset: u32::from_le_bytes(*offset), length: u32::from_le_bytes(*length) };
        Some((entry, rest))
    }

    /// The entry with its bytes, if they lie behind the table, which ends at `from`.
    fn resolve<'a>(&self, bytes: &'a [u8], from: usize) -> Option<CertTableEntry<'a>> {
        let start = usize::try_from(self.offset).ok().filter(|start| *start >= from)?;
        let end = start.checked_add(usize::try_from(self.length).ok()?)?;
        let bytes = bytes.get(start..end).filter(|bytes| !bytes.is_empty())?;
        Some(CertTableEntry { guid: self.guid, bytes })
    }
}

/// Whether `bytes` is one SEQUENCE in DER whose length says exactly where they end (X.690, 8.1.3 and 10.1).
fn is_one_der_sequence(bytes: &[u8]) -> bool {
    let content = match bytes {
        [0x30, length @ 0..=0x7f, content @ ..] => (usize::from(*length), content),
        [0x30, 0x81, length @ 0x80..=0xff, content @ ..] => (usize::from(*length), content),
        [0x30, 0x82, high @ 1..=0xff, low, content @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), content),
        _ => return false,
    };
    content.0 == content.1.len()
}
