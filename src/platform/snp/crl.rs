//! AMD's certificate revocation lists: one per product, signed by its ARK, naming revoked ASKs and ASVKs.

use std::time::SystemTime;

use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::roots::Roots;
use super::tcb::Product;
use crate::crypto::sha256;
use crate::crypto::snp::verify_amd_signature;
use crate::der::{self, Reader};
use crate::verifier::{VerifyError, VerifyErrorKind};

/// Most bytes of a revocation list that are looked at; AMD's have about 900.
pub const MAX_CRL: usize = 1024 * 1024;

/// A list whose signature by a pinned ARK has been verified. Its dates are judged each time it is used.
#[derive(Debug)]
pub(super) struct Crl {
    pub(super) product: Product,
    pub(super) list: CertRevocationList<'static>,
    pub(super) this_update: SystemTime,
    pub(super) next_update: SystemTime,
    /// SHA-256 of the whole list.
    pub(super) digest: [u8; 32],
}

impl Crl {
    /// Reads a list and verifies that the ARK of one of `roots` signed it.
    pub(super) fn parse(crl: &[u8], roots: &Roots) -> Result<Self, VerifyError> {
        if crl.len() > MAX_CRL {
            return Err(refused(format!("expected a CRL of at most {MAX_CRL} bytes, found {}", crl.len())));
        }
        let list = OwnedCertRevocationList::from_der(crl)
            .map_err(|e| VerifyError::with_source(VerifyErrorKind::Endorsement, "the CRL does not parse", e))?;
        let list = CertRevocationList::from(list);
        let parts = Parts::read(crl).ok_or_else(|| refused("the CRL does not parse".to_owned()))?;
        let Some(issuer) = roots.by_ark(list.issuer()) else {
            return Err(refused("expected a CRL issued by a pinned ARK, found another issuer".to_owned()));
        };
        let signed = issuer
            .ark_key()
            .is_some_and(|key| verify_amd_signature(parts.algorithm, key, parts.signed, parts.signature));
        if !signed {
            return Err(refused(format!("the signature of the CRL is not one by ARK-{}", issuer.product)));
        }
        let Parts { this_update, next_update, .. } = parts;
        Ok(Self { product: issuer.product, list, this_update, next_update, digest: sha256(&[crl]) })
    }
}

/// CertificateList of RFC 5280 section 5.1, as far as needed.
struct Parts<'a> {
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    this_update: SystemTime,
    next_update: SystemTime,
}

impl<'a> Parts<'a> {
    fn read(crl: &'a [u8]) -> Option<Self> {
        let mut list = Reader::new(Reader::new(crl).expect(der::SEQUENCE)?);
        let signed = list.expect_whole(der::SEQUENCE)?;
        let algorithm = list.expect(der::SEQUENCE)?;
        let signature = list.expect(der::BIT_STRING)?.strip_prefix(&[0])?;
        let mut tbs = Reader::new(Reader::new(signed).expect(der::SEQUENCE)?);
        tbs.expect(der::INTEGER)?;
        tbs.expect(der::SEQUENCE)?;
        tbs.expect(der::SEQUENCE)?;
        let (this_update, next_update) = (tbs.time()?, tbs.time()?);
        Some(Self { signed, algorithm, signature, this_update, next_update })
    }
}

fn refused(message: String) -> VerifyError {
    VerifyError::new(VerifyErrorKind::Endorsement, message)
}
