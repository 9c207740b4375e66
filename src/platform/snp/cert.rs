//! The certificate of the key that signs reports: VCEK or VLEK.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;

use super::tcb::Product;
use crate::der::{self, Reader};
use crate::report::Hex;
use crate::verifier::{VerifyError, VerifyErrorKind};

/// Most bytes of a certificate that are looked at; AMD's have about 1 400.
pub const MAX_CERTIFICATE: usize = 16 * 1024;

/// Object identifier 1.3.6.1.4.1.3704.1, under which AMD's extensions stand (AMD 57230, table "VCEK certificate").
const AMD_ARC: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01];

/// The type of AMD's strings.
const IA5_STRING: u8 = 0x16;

/// Which of AMD's two keys signs a guest's reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VekKind {
    /// Versioned chip endorsement key: one per chip and TCB; issued by the ASK (`SEV-Milan`).
    Vcek,
    /// Versioned loaded endorsement key: one per cloud provider and TCB; issued by the ASVK (`SEV-VLEK-Milan`).
    Vlek,
}

impl fmt::Display for VekKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        })
    }
}

/// A VCEK or VLEK certificate, read and not yet believed: [`Genuineness`](super::Genuineness) chains it to a root.
#[derive(Clone, PartialEq, Eq)]
pub struct VekCertificate {
    der: Bytes,
    issuer: Bytes,
    not_before: SystemTime,
    not_after: SystemTime,
    public_key: [u8; 97],
    extensions: Extensions,
}

/// AMD's extensions, by the last numbers of their identifiers.
#[derive(Clone, PartialEq, Eq, Default)]
struct Extensions {
    /// `.2`, for example `Milan-B0`.
    product_name: Option<String>,
    /// `.3.1` to `.3.9`.
    spl: [Option<u8>; 9],
    /// `.4`: the chip; 64 bytes, 8 on Turin.
    hwid: Option<Bytes>,
    /// `.5`: the cloud provider, for example `CN=cc-us-east-2.amazonaws.com`.
    csp_id: Option<String>,
}

impl VekCertificate {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// [`VerifyErrorKind::Endorsement`] unless it is DER of at most [`MAX_CERTIFICATE`] bytes with a P-384 key, a
    /// product name, and either a chip id (VCEK) or a provider id (VLEK), each of AMD's extensions at most once.
    pub fn parse(der: impl Into<Bytes>) -> Result<Self, VerifyError> {
        let der = der.into();
        if der.len() > MAX_CERTIFICATE {
            return Err(refused(format!(
                "expected a VEK certificate of at most {MAX_CERTIFICATE} bytes, found {}",
                der.len()
            )));
        }
        Self::read(&der).map_err(|what| refused(format!("the VEK certificate does not parse: {what}")))
    }

    fn read(der: &Bytes) -> Result<Self, &'static str> {
        let mut outer = Reader::new(der);
        let certificate = outer.expect(der::SEQUENCE).filter(|_| outer.is_empty()).ok_or("not one DER SEQUENCE")?;
        let tbs = Reader::new(certificate).expect(der::SEQUENCE).ok_or("no tbsCertificate")?;
        let mut tbs = Reader::new(tbs);
        tbs.expect(0xa0).ok_or("no version")?;
        tbs.expect(der::INTEGER).ok_or("no serialNumber")?;
        tbs.expect(der::SEQUENCE).ok_or("no signature algorithm")?;
        let issuer = tbs.expect(der::SEQUENCE).ok_or("no issuer")?;
        let mut validity = Reader::new(tbs.expect(der::SEQUENCE).ok_or("no validity")?);
        let not_before = validity.time().ok_or("notBefore is not a time")?;
        let not_after = validity.time().ok_or("notAfter is not a time")?;
        tbs.expect(der::SEQUENCE).ok_or("no subject")?;
        let key = tbs.expect(der::SEQUENCE).ok_or("no subjectPublicKeyInfo")?;
        let public_key = p384_point(key).ok_or("expected a P-384 key of 97 bytes")?;
        let extensions = tbs.expect(0xa3).and_then(|list| Reader::new(list).expect(der::SEQUENCE));
        let extensions = Extensions::read(der, extensions.ok_or("no extensions")?)?;
        let issuer = der.slice_ref(issuer);
        Ok(Self { der: der.clone(), issuer, not_before, not_after, public_key, extensions })
    }

    /// The certificate, DER.
    pub fn der(&self) -> &Bytes {
        &self.der
    }

    /// VLEK where it names a provider, VCEK where it names a chip.
    pub fn kind(&self) -> VekKind {
        if self.extensions.csp_id.is_some() { VekKind::Vlek } else { VekKind::Vcek }
    }

    /// The product name as the certificate spells it, for example `Milan-B0` or `Genoa`.
    pub fn product_name(&self) -> &str {
        self.extensions.product_name.as_deref().unwrap_or_default()
    }

    /// The product that the name belongs to, if this crate pins its root.
    pub fn product(&self) -> Option<Product> {
        Product::from_certificate_name(self.product_name())
    }

    /// The chip that a VCEK belongs to: 64 bytes, 8 on Turin.
    pub fn hwid(&self) -> Option<&[u8]> {
        self.extensions.hwid.as_deref()
    }

    /// The cloud provider that a VLEK belongs to.
    pub fn csp_id(&self) -> Option<&str> {
        self.extensions.csp_id.as_deref()
    }

    /// The security patch levels in the layout of `product`, `None` if one that the product needs is absent or the FMC's
    /// is present where the product has none. Levels of reserved components count as zero where absent.
    pub fn tcb_bytes(&self, product: Product) -> Option<[u8; 8]> {
        let [bl, tee, snp, spl4, spl5, spl6, spl7, ucode, fmc] = self.extensions.spl;
        let [r4, r5, r6, r7] = [spl4, spl5, spl6, spl7].map(Option::unwrap_or_default);
        match product {
            Product::Milan | Product::Genoa if fmc.is_none() => Some([bl?, tee?, r4, r5, r6, r7, snp?, ucode?]),
            Product::Turin if spl4.is_none() => Some([fmc?, bl?, tee?, snp?, r5, r6, r7, ucode?]),
            _ => None,
        }
    }

    /// Start of validity.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// End of validity, inclusive.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Contents of the issuer's name.
    pub(super) fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// The uncompressed point: 0x04, x and y.
    pub(super) fn public_key(&self) -> &[u8; 97] {
        &self.public_key
    }
}

impl fmt::Debug for VekCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VekCertificate")
            .field("kind", &self.kind())
            .field("product_name", &self.product_name())
            .field("hwid", &self.hwid().map(|id| Hex(id).to_string()))
            .field("csp_id", &self.csp_id())
            .finish_non_exhaustive()
    }
}

impl Extensions {
    fn read(der: &Bytes, list: &[u8]) -> Result<Self, &'static str> {
        let mut found = Self::default();
        let mut list = Reader::new(list);
        while !list.is_empty() {
            let mut extension = Reader::new(list.expect(der::SEQUENCE).ok_or("an extension is not a SEQUENCE")?);
            let oid = extension.expect(der::OID).ok_or("an extension without identifier")?;
            extension.optional(der::BOOLEAN);
            let value = extension.expect(der::OCTET_STRING).ok_or("an extension without value")?;
            let repeated = match oid.strip_prefix(AMD_ARC) {
                Some([2]) => {
                    found.product_name.replace(text(value).ok_or("productName is not an IA5String")?).is_some()
                }
                Some([3, component @ 1..=9]) => {
                    let level = integer(value).ok_or("an SPL is not an INTEGER of one byte")?;
                    let slot = found.spl.get_mut(usize::from(component - 1));
                    slot.is_none_or(|slot| slot.replace(level).is_some())
                }
                Some([4]) => {
                    if value.len() != 64 && value.len() != 8 {
                        return Err("expected a hwID of 64 or 8 bytes");
                    }
                    found.hwid.replace(der.slice_ref(value)).is_some()
                }
                Some([5]) => found.csp_id.replace(text(value).ok_or("cspID is not an IA5String")?).is_some(),
                _ => false,
            };
            if repeated {
                return Err("one of AMD's extensions stands twice");
            }
        }
        match &found {
            Self { product_name: None, .. } => Err("no productName extension"),
            Self { hwid: None, csp_id: None, .. } => {
                Err("neither a hwID extension (VCEK) nor a cspID extension (VLEK)")
            }
            Self { hwid: Some(_), csp_id: Some(_), .. } => {
                Err("both a hwID extension (VCEK) and a cspID extension (VLEK)")
            }
            _ => Ok(found),
        }
    }
}

fn p384_point(key: &[u8]) -> Option<[u8; 97]> {
    let mut key = Reader::new(key);
    let algorithm = key.expect(der::SEQUENCE)?;
    let [0, point @ ..] = key.expect(der::BIT_STRING)? else { return None };
    (algorithm == rustls_pki_types::alg_id::ECDSA_P384.as_ref()).then(|| point.try_into().ok())?
}

fn text(value: &[u8]) -> Option<String> {
    let mut reader = Reader::new(value);
    let text = reader.expect(IA5_STRING).filter(|text| reader.is_empty() && text.iter().all(u8::is_ascii_graphic));
    text.and_then(|text| String::from_utf8(text.to_vec()).ok())
}

fn integer(value: &[u8]) -> Option<u8> {
    let mut reader = Reader::new(value);
    reader.expect(der::INTEGER).filter(|_| reader.is_empty()).and_then(small_integer)
}

/// A non-negative INTEGER of at most one byte.
fn small_integer(contents: &[u8]) -> Option<u8> {
    match *contents {
        [value @ 0..=0x7f] | [0, value @ 0x80..=0xff] => Some(value),
        _ => None,
    }
}

fn refused(message: String) -> VerifyError {
    VerifyError::new(VerifyErrorKind::Endorsement, message)
}

#[cfg(all(test, feature = "sim"))]
mod tests;
