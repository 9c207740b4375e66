//! The certificate that a listener serves: replaced by its owner, read by whoever watches its dates.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::super::binding::provider;
use super::tls::TlsConfigError;
use crate::der::{INTEGER, Reader, SEQUENCE};

/// A certificate chain and its key that their owner replaces while a listener serves them, as an ACME client does.
///
/// Handshakes that begin after [`replace`](Self::replace) get the new chain; connections that stand are not touched. Evidence
/// is bound to a connection's exporter, not to its certificate, so that attested clients notice nothing. Clones share
/// one certificate.
///
/// ```
/// use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
/// use tower_attest::tls::{CertificateSlot, Tls};
///
/// # fn issue() -> (rustls::pki_types::CertificateDer<'static>, PrivateKeyDer<'static>) {
/// #     let made = rcgen::generate_simple_self_signed(["prover.example".to_owned()]).unwrap();
/// #     let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
/// #     (made.cert.der().clone(), key.into())
/// # }
/// let (certificate, key) = issue();
/// let slot = CertificateSlot::new(vec![certificate], key)?;
/// let tls = Tls::replaceable(&slot); // for TlsListener::bind
/// let served = tls.served_certificate();
///
/// let (renewed, key) = issue();
/// slot.replace(vec![renewed], key)?;
/// assert_eq!(served.not_after(), slot.served().not_after());
/// # Ok::<(), tower_attest::tls::TlsConfigError>(())
/// ```
#[derive(Clone)]
pub struct CertificateSlot {
    current: Arc<ArcSwap<CertifiedKey>>,
}

impl CertificateSlot {
    /// A slot that holds this chain, the server's own certificate first, and its key.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError::Certificate`] if rustls refuses them, or they do not belong together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsConfigError> {
        Ok(Self::holding(certified_key(chain, key)?))
    }

    /// Serves this chain and its key from the next handshake on.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); what was served before then goes on being served.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsConfigError> {
        self.put(certified_key(chain, key)?);
        Ok(())
    }

    /// What it holds, for whoever may look and not replace.
    pub fn served(&self) -> ServedCertificate {
        ServedCertificate { slot: Some(self.clone()) }
    }

    pub(super) fn holding(key: CertifiedKey) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(key)) }
    }

    pub(super) fn put(&self, key: CertifiedKey) {
        self.current.store(Arc::new(key));
    }

    pub(super) fn current(&self) -> Arc<CertifiedKey> {
        self.current.load_full()
    }
}

impl ResolvesServerCert for CertificateSlot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for CertificateSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateSlot").field("not_after", &self.served().not_after()).finish_non_exhaustive()
    }
}

/// Reads the dates of the certificate that a listener serves at the moment, for a metric or a readiness check.
///
/// Of [`Tls::served_certificate`](super::Tls::served_certificate). It follows each renewal, that of PEM files included
/// once a handshake has made the listener look at them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServedCertificate {
    slot: Option<CertificateSlot>,
}

impl ServedCertificate {
    /// Of a resolver of the user's own, of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self { slot: None }
    }

    /// From when it is valid (RFC 5280, section 4.1.2.5). `None` for a [`resolver`](super::Tls::resolver) of one's own,
    /// and for a certificate whose dates cannot be read.
    pub fn not_before(&self) -> Option<SystemTime> {
        Some(self.validity()?.0)
    }

    /// The last second in which it is valid. `None` as for [`not_before`](Self::not_before).
    pub fn not_after(&self) -> Option<SystemTime> {
        Some(self.validity()?.1)
    }

    fn validity(&self) -> Option<(SystemTime, SystemTime)> {
        validity(self.slot.as_ref()?.current().end_entity_cert().ok()?)
    }
}

/// A chain and its key, checked to belong together.
pub(super) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsConfigError> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(TlsConfigError::Certificate)
}

/// `notBefore` and `notAfter` of a certificate (RFC 5280, section 4.1): behind version, serial, algorithm and issuer.
fn validity(certificate: &[u8]) -> Option<(SystemTime, SystemTime)> {
    const VERSION: u8 = 0xa0;
    let mut tbs = Reader::new(Reader::new(Reader::new(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    tbs.optional(VERSION);
    tbs.expect(INTEGER)?;
    tbs.expect(SEQUENCE)?;
    tbs.expect(SEQUENCE)?;
    let mut validity = Reader::new(tbs.expect(SEQUENCE)?);
    Some((validity.time()?, validity.time()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls_pki_types::PrivatePkcs8KeyDer;

    use super::*;

    /// A certificate of these seconds since 1970.
    fn issue(from: u64, to: u64) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_before = (SystemTime::UNIX_EPOCH + Duration::from_secs(from)).into();
        params.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(to)).into();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        (vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    fn dates(served: &ServedCertificate) -> Option<(u64, u64)> {
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        Some((seconds(served.not_before()?), seconds(served.not_after()?)))
    }

    #[test]
    fn the_dates_are_those_of_what_is_served_now() {
        let (chain, key) = issue(1_000_000_000, 2_000_000_000);
        let slot = CertificateSlot::new(chain, key).unwrap();
        let served = slot.served();
        assert_eq!(dates(&served), Some((1_000_000_000, 2_000_000_000)));
        // Past 2049 the dates are of another type.
        let (chain, key) = issue(1_000_000_001, 4_000_000_000);
        slot.replace(chain, key).unwrap();
        assert_eq!(dates(&served), Some((1_000_000_001, 4_000_000_000)));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_and_the_last_good_pair_stays() {
        let (chain, key) = issue(1, 2);
        let slot = CertificateSlot::new(chain.clone(), key).unwrap();
        let (_, other) = issue(1, 2);
        assert!(matches!(slot.replace(chain.clone(), other.clone_key()), Err(TlsConfigError::Certificate(_))));
        assert!(matches!(CertificateSlot::new(chain.clone(), other), Err(TlsConfigError::Certificate(_))));
        assert_eq!(slot.current().cert, chain);
    }

    #[test]
    fn of_a_resolver_of_ones_own_nothing_is_known() {
        assert_eq!(dates(&ServedCertificate::unknown()), None);
    }

    #[test]
    fn what_is_cut_short_has_no_dates() {
        let (chain, _) = issue(1, 2);
        assert!(validity(&chain[0]).is_some());
        assert!((0..chain[0].len()).all(|length| validity(&chain[0][..length]).is_none()));
    }

    #[test]
    fn debug_shows_dates_and_no_key() {
        let (chain, key) = issue(1, 2);
        let shown = format!("{:?}", CertificateSlot::new(chain, key).unwrap());
        assert!(shown.starts_with("CertificateSlot { not_after: Some(") && shown.len() < 120, "{shown}");
    }
}
