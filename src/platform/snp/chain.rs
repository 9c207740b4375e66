//! From a VEK certificate to a pinned ARK: signatures, dates and revocation, judged at a given time and remembered.

use std::sync::Arc;
use std::time::SystemTime;

use quick_cache::sync::Cache;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, Error, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::cert::{VekCertificate, VekKind};
use super::crl::Crl;
use super::roots::{ProductRoots, Roots};
use super::tcb::Product;
use crate::crypto::sha256;
use crate::crypto::snp::{AMD_SIGNATURES, P384Key};
use crate::verifier::{VerifyError, VerifyErrorKind};

/// How many chain verdicts are remembered.
const CACHED_CHAINS: usize = 256;

/// A VEK certificate that chains to a pinned ARK.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) vek: VekCertificate,
    pub(super) product: Product,
    pub(super) kind: VekKind,
    pub(super) key: P384Key,
    /// The verdict holds from the latest start to the earliest end of all certificates and of the CRL.
    pub(super) valid_from: SystemTime,
    pub(super) valid_until: SystemTime,
    /// Whether a CRL was consulted.
    pub(super) revocation_checked: bool,
}

/// Roots, revocation lists, and the verdicts that follow from them.
#[derive(Debug)]
pub(super) struct Chains {
    roots: Arc<Roots>,
    crls: Vec<Arc<Crl>>,
    verdicts: Cache<[u8; 32], Arc<Chain>>,
}

impl Chains {
    pub(super) fn new(roots: Arc<Roots>) -> Self {
        Self { roots, crls: Vec::new(), verdicts: Cache::new(CACHED_CHAINS) }
    }

    /// The same roots with other lists, and no verdict remembered.
    ///
    /// # Errors
    ///
    /// A list is refused that no pinned ARK signed, and a second list of the same ARK.
    pub(super) fn with_crls<'a>(&self, crls: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, VerifyError> {
        let mut read: Vec<Arc<Crl>> = Vec::new();
        for crl in crls {
            let crl = Crl::parse(crl, &self.roots)?;
            if read.iter().any(|other| other.product == crl.product) {
                return Err(VerifyError::new(
                    VerifyErrorKind::Configuration,
                    format!("expected one CRL per product, found two of {}", crl.product),
                ));
            }
            read.push(Arc::new(crl));
        }
        Ok(Self { roots: Arc::clone(&self.roots), crls: read, verdicts: Cache::new(CACHED_CHAINS) })
    }

    /// The same roots with `crl` in place of the list of `product` before, and until when that list serves; no change
    /// where it is the very list that is at hand.
    ///
    /// # Errors
    ///
    /// The list is not signed by the pinned ARK of `product`, is older than the one at hand, or does not hold at `now`.
    pub(super) fn with_newer_crl(
        &self,
        product: Product,
        crl: &[u8],
        now: SystemTime,
    ) -> Result<(Option<Self>, SystemTime), VerifyError> {
        let crl = Crl::parse(crl, &self.roots)?;
        let next_update = crl.next_update;
        if crl.product != product {
            return Err(refused(format!("expected the CRL of ARK-{product}, found that of ARK-{}", crl.product)));
        }
        if now < crl.this_update || now >= next_update {
            return Err(refused(format!(
                "the CRL of ARK-{product} does not hold now: expected a time from {} to {}, found {} (seconds since 1970)",
                seconds(crl.this_update),
                seconds(next_update),
                seconds(now)
            )));
        }
        if let Some(before) = self.crls.iter().find(|before| before.product == product) {
            if before.digest == crl.digest {
                return Ok((None, next_update));
            }
            if crl.this_update < before.this_update {
                return Err(refused(format!(
                    "expected a CRL of ARK-{product} not older than {}, found one of {} (seconds since 1970)",
                    seconds(before.this_update),
                    seconds(crl.this_update)
                )));
            }
        }
        let others = self.crls.iter().filter(|other| other.product != product).cloned();
        let crls = others.chain([Arc::new(crl)]).collect();
        let next = Self { roots: Arc::clone(&self.roots), crls, verdicts: Cache::new(CACHED_CHAINS) };
        Ok((Some(next), next_update))
    }

    /// Whether a revocation list of `product` is at hand.
    pub(super) fn has_crl(&self, product: Product) -> bool {
        self.crls.iter().any(|crl| crl.product == product)
    }

    /// The chain of `vek` as a certificate of `kind` for `product`, at `now`.
    pub(super) fn verify(
        &self,
        vek: &[u8],
        product: Product,
        kind: VekKind,
        now: SystemTime,
    ) -> Result<Arc<Chain>, VerifyError> {
        let name = sha256(&[product.name().as_bytes(), kind.to_string().as_bytes(), vek]);
        if let Some(chain) = self.verdicts.get(&name)
            && (chain.valid_from..chain.valid_until).contains(&now)
        {
            return Ok(chain);
        }
        let chain = Arc::new(self.judge(vek, product, kind, now)?);
        self.verdicts.insert(name, Arc::clone(&chain));
        Ok(chain)
    }

    fn judge(&self, vek: &[u8], product: Product, kind: VekKind, now: SystemTime) -> Result<Chain, VerifyError> {
        let roots = self.roots.of(product).ok_or_else(|| refused(format!("no root is pinned for {product}")))?;
        let vek = VekCertificate::parse(vek.to_vec())?;
        let issuer = roots.issuer(kind);
        if vek.issuer() != issuer.subject {
            return Err(refused(format!(
                "expected a {kind} certificate issued by {}, found another issuer",
                issuer_name(product, kind)
            )));
        }
        let crl = self.crls.iter().map(Arc::as_ref).find(|crl| crl.product == product);
        let windows = [[vek.not_before(), vek.not_after()], issuer.validity, roots.ark_validity];
        let windows = windows.into_iter().chain(crl.map(|crl| [crl.this_update, crl.next_update]));
        let mut valid_from = SystemTime::UNIX_EPOCH;
        let mut valid_until = vek.not_after();
        for [from, until] in windows {
            valid_from = valid_from.max(from);
            valid_until = valid_until.min(until);
        }
        path(&vek, roots, kind, crl, now)?;
        if now < valid_from || now > valid_until {
            return Err(refused(format!(
                "the chain is not valid now: expected a time from {} to {}, found {} (seconds since 1970)",
                seconds(valid_from),
                seconds(valid_until),
                seconds(now)
            )));
        }
        let key = P384Key::parse(vek.public_key());
        let key = key.ok_or_else(|| refused("the VEK's key is not a point of P-384".to_owned()))?;
        Ok(Chain { vek, product, kind, key, valid_from, valid_until, revocation_checked: crl.is_some() })
    }
}

/// webpki's part: signatures up to the ARK, dates of VEK and intermediate, constraints, revocation.
fn path(
    vek: &VekCertificate,
    roots: &ProductRoots,
    kind: VekKind,
    crl: Option<&Crl>,
    now: SystemTime,
) -> Result<(), VerifyError> {
    let time = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let der = CertificateDer::from(vek.der().as_ref());
    let list = crl.map(|crl| &crl.list);
    let lists = list.as_slice();
    let revocation = RevocationOptionsBuilder::new(lists).ok().map(revocation_of_issuers);
    let explain = |error| refusal(&error, roots.product, kind);
    let leaf = EndEntityCert::try_from(&der).map_err(explain)?;
    let intermediates = std::slice::from_ref(&roots.issuer(kind).der);
    let anchors = std::slice::from_ref(&roots.anchor);
    leaf.verify_for_usage(AMD_SIGNATURES, anchors, intermediates, time, KeyUsage::server_auth(), revocation, None)
        .map(|_path| ())
        .map_err(explain)
}

/// AMD publishes one list per ARK. It covers ASK and ASVK; for VEKs there is none, so their status stays unknown.
fn revocation_of_issuers(builder: RevocationOptionsBuilder<'_>) -> RevocationOptions<'_> {
    builder
        .with_depth(RevocationCheckDepth::Chain)
        .with_status_policy(UnknownStatusPolicy::Allow)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build()
}

fn refusal(error: &Error, product: Product, kind: VekKind) -> VerifyError {
    let issuer = issuer_name(product, kind);
    match error {
        Error::CertRevoked => VerifyError::with_source(
            VerifyErrorKind::Revoked,
            format!("{issuer} is on the revocation list of ARK-{product}"),
            error.clone(),
        ),
        _ => VerifyError::with_source(
            VerifyErrorKind::Endorsement,
            format!("the {kind} certificate does not chain through {issuer} to the pinned ARK-{product}: {error}"),
            error.clone(),
        ),
    }
}

fn issuer_name(product: Product, kind: VekKind) -> String {
    match kind {
        VekKind::Vcek => format!("SEV-{product}"),
        VekKind::Vlek => format!("SEV-VLEK-{product}"),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn refused(message: String) -> VerifyError {
    VerifyError::new(VerifyErrorKind::Endorsement, message)
}
