//! Certificate chains and revocation lists: everything that must lead to the pinned root.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quick_cache::sync::Cache;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, alg_id};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    anchor_from_trusted_cert,
};

use super::collateral::PckCa;
use super::encoding::show_time;
use super::memo::SignatureMemo;
use super::pck::{self, PckPlatform};
use super::revocation::{Crl, Crls, Revocations};
use super::tcb::{QeIdentity, TcbInfo};
use super::{pem, x509};
use crate::crypto;
use crate::report::excerpt;
use crate::verifier::{VerifyError, VerifyErrorKind};

/// Intel SGX Root CA, DER. SHA-256: 44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3.
pub(super) const INTEL_ROOT: &[u8] = include_bytes!("intel_sgx_root_ca.der");

/// The name of the certificate that signs TCB infos and QE identities.
pub(super) const TCB_SIGNER: &str = "Intel SGX TCB Signing";
/// The name of a PCK certificate.
pub(super) const PCK: &str = "Intel SGX PCK Certificate";
pub(super) const PROCESSOR_CA: &str = "Intel SGX PCK Processor CA";
pub(super) const PLATFORM_CA: &str = "Intel SGX PCK Platform CA";

/// How many PCK chains, and how many bodies of each kind, are remembered.
const CAPACITY: usize = 256;

/// The root that everything must lead to, with the memory of what was found to: signatures, PCK chains, bodies,
/// revocation lists.
pub(super) struct Root {
    pub(super) der: CertificateDer<'static>,
    pub(super) memo: SignatureMemo,
    /// Chains that led here, under the SHA-256 of their PEM, for as long as their certificates are valid.
    chains: Cache<[u8; 32], Arc<PckChain>>,
    /// What was read from bodies whose signatures verified, under the memo's digest of body, key and signature.
    pub(super) tcb_infos: Cache<[u8; 32], Arc<TcbInfo>>,
    pub(super) qe_identities: Cache<[u8; 32], Arc<QeIdentity>>,
    pub(super) revocations: Revocations,
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("memo", &self.memo).finish_non_exhaustive()
    }
}

/// A P-256 key from a certificate, an uncompressed point.
#[derive(Debug, Clone)]
pub(super) struct CertifiedKey(pub(super) Vec<u8>);

/// The PCK certificate and its CA, as the quote carries them.
#[derive(Debug)]
pub(super) struct PckChain {
    leaf: CertificateDer<'static>,
    ca_certificate: [CertificateDer<'static>; 1],
    ca_key: CertifiedKey,
    pub(super) key: CertifiedKey,
    /// What the certificate says about the platform.
    pub(super) platform: PckPlatform,
    not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Root {
    pub(super) fn new(der: Vec<u8>) -> Self {
        Self {
            der: CertificateDer::from(der),
            memo: SignatureMemo::new(),
            chains: Cache::new(CAPACITY),
            tcb_infos: Cache::new(CAPACITY),
            qe_identities: Cache::new(CAPACITY),
            revocations: Revocations::default(),
        }
    }

    /// Reads the PCK chain of a quote and checks it up to the root, without revocation, which needs collateral.
    pub(super) fn pck_chain(&self, pem: &[u8], now: SystemTime) -> Result<Arc<PckChain>, VerifyError> {
        let digest = crypto::sha256(&[pem]);
        if let Some(chain) = self.chains.get(&digest).filter(|chain| chain.not_before <= now && now <= chain.not_after)
        {
            return Ok(chain);
        }
        let chain = Arc::new(self.read_pck_chain(pem, now)?);
        self.chains.insert(digest, Arc::clone(&chain));
        Ok(chain)
    }

    fn read_pck_chain(&self, pem: &[u8], now: SystemTime) -> Result<PckChain, VerifyError> {
        let Some([leaf, ca_certificate, root]) = pem::chain::<3>(pem) else {
            return Err(refuse("the PCK chain in the quote is not exactly a certificate, its CA and a root, in PEM"));
        };
        self.pinned(&root, "the PCK chain in the quote")?;
        let fields = x509::certificate(&leaf).ok_or_else(|| refuse("the PCK certificate does not parse"))?;
        let ca = match fields.issuer {
            PROCESSOR_CA => PckCa::Processor,
            PLATFORM_CA => PckCa::Platform,
            other => {
                return Err(refuse(format!(
                    "PCK issuer: expected {PROCESSOR_CA} or {PLATFORM_CA}, found {:?}",
                    excerpt(other)
                )));
            }
        };
        named("PCK certificate", PCK, fields.subject)?;
        let ca_fields = x509::certificate(&ca_certificate).ok_or_else(|| refuse("the PCK CA does not parse"))?;
        let extension =
            fields.sgx.ok_or_else(|| refuse("the PCK certificate has no SGX extension (or more than one)"))?;
        let platform = pck::platform(extension, ca)
            .ok_or_else(|| refuse("the SGX extension of the PCK certificate does not parse"))?;
        let chain = PckChain {
            key: key(&fields, "PCK certificate")?,
            ca_key: key(&ca_fields, "PCK CA")?,
            platform,
            not_before: fields.not_before.max(ca_fields.not_before),
            not_after: fields.not_after.min(ca_fields.not_after),
            leaf: leaf.clone(),
            ca_certificate: [ca_certificate],
        };
        self.path(&chain.leaf, &chain.ca_certificate, now, None, "PCK certificate")?;
        Ok(chain)
    }

    /// Checks the PCK chain and its revocation.
    pub(super) fn check_pck(&self, chain: &PckChain, crls: &Crls<'_>, now: SystemTime) -> Result<(), VerifyError> {
        self.path(&chain.leaf, &chain.ca_certificate, now, Some(crls), "PCK certificate")?;
        let [ca] = &chain.ca_certificate;
        self.revocations.check(&self.key()?, ca, "the PCK CA")?;
        self.revocations.check(&chain.ca_key, &chain.leaf, "PCK certificate")
    }

    /// Checks the chain of a TCB info or QE identity: a signer that the root itself issued.
    pub(super) fn tcb_signer(
        &self,
        pem: &str,
        crls: &Crls<'_>,
        now: SystemTime,
        of: &'static str,
    ) -> Result<(CertifiedKey, SystemTime), VerifyError> {
        let Some([leaf, root]) = pem::chain::<2>(pem.as_bytes()) else {
            return Err(refuse(format!("the issuer chain of {of} is not exactly a signer and a root, in PEM")));
        };
        self.pinned(&root, of)?;
        let fields = x509::certificate(&leaf).ok_or_else(|| refuse(format!("the signer of {of} does not parse")))?;
        named("TCB signer", TCB_SIGNER, fields.subject)?;
        let key = key(&fields, "TCB signer")?;
        self.path(&leaf, &[], now, Some(crls), "TCB signer")?;
        self.revocations.check(&self.key()?, &leaf, "TCB signer")?;
        Ok((key, fields.not_after))
    }

    /// Reads the root's CRL and that of the CA in `chain`, and checks their signatures and dates.
    pub(super) fn crls<'a>(
        &self,
        root: &'a [u8],
        pck: &'a [u8],
        chain: &PckChain,
        now: SystemTime,
    ) -> Result<Crls<'a>, VerifyError> {
        let list = |der: &'a [u8], which, issuer: &CertifiedKey| {
            let crl = Crl::check(der, which, issuer, &self.memo, now)?;
            self.revocations.note(issuer, &crl)?;
            Ok::<_, VerifyError>((CertRevocationList::Borrowed(crl.list), crl.next_update))
        };
        let (root, root_next) = list(root, "root", &self.key()?)?;
        let (pck, pck_next) = list(pck, "PCK", &chain.ca_key)?;
        Ok(Crls { lists: [root, pck], next_update: root_next.min(pck_next) })
    }

    /// Whether the root has revoked itself.
    pub(super) fn check_root(&self, crls: &Crls<'_>) -> Result<(), VerifyError> {
        let root =
            EndEntityCert::try_from(&self.der).map_err(|error| refuse_with("the pinned root does not parse", error))?;
        let [list, _] = &crls.lists;
        match list.find_serial(root.serial()) {
            Ok(None) => self.revocations.check(&self.key()?, &self.der, "the pinned root"),
            Ok(Some(_)) => Err(VerifyError::new(VerifyErrorKind::Revoked, "the pinned root is on its own CRL")),
            Err(error) => Err(refuse_with("the root CRL has a malformed entry", error)),
        }
    }

    /// The root's own key.
    fn key(&self) -> Result<CertifiedKey, VerifyError> {
        let fields = x509::certificate(&self.der).ok_or_else(|| refuse("the pinned root does not parse"))?;
        key(&fields, "pinned root")
    }

    fn pinned(&self, found: &CertificateDer<'_>, of: &str) -> Result<(), VerifyError> {
        if found.as_ref() == self.der.as_ref() {
            return Ok(());
        }
        let fingerprint = |der: &[u8]| crate::report::Hex(&crate::crypto::sha256(&[der])).to_string();
        Err(refuse(format!(
            "{of} ends in another root: expected the pinned one, SHA-256 {}, found {}",
            fingerprint(&self.der),
            fingerprint(found)
        )))
    }

    /// Checks that `leaf` leads to the root through `intermediates`. The names that callers require leave one path only.
    fn path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: SystemTime,
        crls: Option<&Crls<'_>>,
        what: &str,
    ) -> Result<(), VerifyError> {
        let anchors: [TrustAnchor<'_>; 1] = [anchor_from_trusted_cert(&self.der)
            .map_err(|error| refuse_with("the pinned root is not a certificate", error))?];
        let leaf =
            EndEntityCert::try_from(leaf).map_err(|error| refuse_with(format!("{what} does not parse"), error))?;
        let lists: Vec<&CertRevocationList<'_>> = crls.iter().flat_map(|crls| &crls.lists).collect();
        // The defaults of the builder deny what no CRL speaks about; depth and expiry are spelt out.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
            builder.with_depth(RevocationCheckDepth::Chain).with_expiration_policy(ExpirationPolicy::Enforce).build()
        });
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        leaf.verify_for_usage(
            &[&self.memo],
            &anchors,
            intermediates,
            UnixTime::since_unix_epoch(since_epoch),
            KeyUsage::server_auth(),
            revocation,
            None,
        )
        .map_err(|error| path_error(what, error))?;
        Ok(())
    }
}

fn path_error(what: &str, error: webpki::Error) -> VerifyError {
    if error == webpki::Error::CertRevoked {
        return VerifyError::with_source(
            VerifyErrorKind::Revoked,
            format!("{what} or its CA is on Intel's CRL"),
            error,
        );
    }
    refuse_with(format!("{what} does not chain to the pinned root"), error)
}

fn named(what: &str, expected: &str, found: &str) -> Result<(), VerifyError> {
    if expected == found {
        Ok(())
    } else {
        Err(refuse(format!("{what}: expected the name {expected:?}, found {:?}", excerpt(found))))
    }
}

fn key(fields: &x509::CertificateFields<'_>, what: &str) -> Result<CertifiedKey, VerifyError> {
    if fields.key_algorithm == alg_id::ECDSA_P256.as_ref() {
        Ok(CertifiedKey(fields.key.to_vec()))
    } else {
        Err(refuse(format!("{what}: expected a P-256 key, found another")))
    }
}

/// Checks `from <= now < until`.
pub(super) fn within(what: &str, from: SystemTime, until: SystemTime, now: SystemTime) -> Result<(), VerifyError> {
    if from <= now && now < until {
        return Ok(());
    }
    Err(refuse(format!(
        "{what}: valid from {} until {}, judged at {}; fetch collateral anew, or correct the clock",
        show_time(from),
        show_time(until),
        show_time(now)
    )))
}

pub(super) fn refuse(message: impl Into<String>) -> VerifyError {
    VerifyError::new(VerifyErrorKind::Endorsement, message)
}

pub(super) fn refuse_with(message: impl Into<String>, error: webpki::Error) -> VerifyError {
    VerifyError::with_source(VerifyErrorKind::Endorsement, message, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_does_not_hold_at_its_end() {
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        for (now, holds) in [(9, false), (10, true), (19, true), (20, false), (21, false)] {
            assert_eq!(within("a list", at(10), at(20), at(now)).is_ok(), holds, "{now}");
        }
    }

    #[test]
    fn the_pinned_root_is_intels() {
        let digest = crate::crypto::sha256(&[INTEL_ROOT]);
        let expected = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3";
        assert_eq!(crate::report::Hex(&digest).to_string(), expected);
    }
}
