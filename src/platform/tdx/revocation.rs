//! Revocation lists: each by who must have signed it, and the newest of each issuer remembered.
//!
//! A server chooses what it staples, and a list holds for a month: whoever is on the newest would staple the one before.
//! So what one list has revoked, an older one does not take back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls_pki_types::{CertificateDer, alg_id};
use webpki::{BorrowedCertRevocationList, CertRevocationList, EndEntityCert};

use super::chain::{CertifiedKey, refuse, refuse_with, within};
use super::memo::SignatureMemo;
use super::x509;
use crate::crypto::{self, EcdsaEncoding};
use crate::verifier::{VerifyError, VerifyErrorKind};

/// More than Intel has: the root, and two CAs with the keys that they ever had.
const MAX_ISSUERS: usize = 16;

/// The root's list and that of a PCK CA: signed by them, within their dates.
#[derive(Debug)]
pub(super) struct Crls<'a> {
    pub(super) lists: [CertRevocationList<'a>; 2],
    pub(super) next_update: SystemTime,
}

/// A list that is authenticated and holds now.
#[derive(Debug)]
pub(super) struct Crl<'a> {
    pub(super) list: BorrowedCertRevocationList<'a>,
    this_update: SystemTime,
    pub(super) next_update: SystemTime,
}

impl<'a> Crl<'a> {
    /// Reads the list that `issuer` must have signed.
    pub(super) fn check(
        der: &'a [u8],
        which: &str,
        issuer: &CertifiedKey,
        memo: &SignatureMemo,
        now: SystemTime,
    ) -> Result<Self, VerifyError> {
        let list = BorrowedCertRevocationList::from_der(der)
            .map_err(|error| refuse_with(format!("the {which} CRL does not parse"), error))?;
        let fields =
            x509::crl(der).ok_or_else(|| refuse(format!("the {which} CRL has no thisUpdate and nextUpdate")))?;
        within(&format!("{which} CRL"), fields.this_update, fields.next_update, now)?;
        if fields.algorithm != alg_id::ECDSA_SHA256.as_ref()
            || !memo.verify(&issuer.0, fields.signed, fields.signature, EcdsaEncoding::Der)
        {
            return Err(refuse(format!(
                "the {which} CRL: expected a signature by the {which} CA in the quote's own chain, found another"
            )));
        }
        Ok(Self { list, this_update: fields.this_update, next_update: fields.next_update })
    }
}

/// The newest list of each issuer, by the SHA-256 of its key.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    newest: Mutex<HashMap<[u8; 32], Arc<Newest>>>,
    /// How often a newer list has revoked what the one before had not.
    revision: AtomicU64,
}

#[derive(Debug)]
struct Newest {
    list: CertRevocationList<'static>,
    this_update: SystemTime,
}

impl Revocations {
    /// Remembers `crl` if it is the newest of `issuer`.
    pub(super) fn note(&self, issuer: &CertifiedKey, crl: &Crl<'_>) -> Result<(), VerifyError> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let key = crypto::sha256(&[&issuer.0]);
        let known = newest.get(&key);
        let is_newer = match known {
            Some(known) => known.this_update < crl.this_update,
            None => newest.len() < MAX_ISSUERS,
        };
        if is_newer {
            let malformed = |error| refuse_with("a CRL has a malformed entry", error);
            let list = crl.list.to_owned().map_err(malformed)?;
            let mut revokes_more = false;
            for revoked in known.iter().flat_map(|_| &crl.list) {
                let serial = revoked.map_err(malformed)?.serial_number;
                let before = known.map(|known| known.list.find_serial(serial)).transpose().map_err(malformed)?;
                revokes_more |= before.flatten().is_none();
            }
            if revokes_more {
                self.revision.fetch_add(1, Ordering::Release);
            }
            newest.insert(key, Arc::new(Newest { list: list.into(), this_update: crl.this_update }));
        }
        Ok(())
    }

    /// Changes whenever more has been revoked.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Whether `certificate` of `issuer` is on the newest list that is remembered, which may be newer than the one at hand.
    pub(super) fn check(
        &self,
        issuer: &CertifiedKey,
        certificate: &CertificateDer<'_>,
        what: &str,
    ) -> Result<(), VerifyError> {
        let key = crypto::sha256(&[&issuer.0]);
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let Some(newest) = newest else { return Ok(()) };
        let certificate = EndEntityCert::try_from(certificate)
            .map_err(|error| refuse_with(format!("{what} does not parse"), error))?;
        match newest.list.find_serial(certificate.serial()) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(VerifyError::new(
                VerifyErrorKind::Revoked,
                format!("{what} is on Intel's CRL, the newest that this verifier has seen"),
            )),
            Err(error) => Err(refuse_with("a CRL has a malformed entry", error)),
        }
    }
}
