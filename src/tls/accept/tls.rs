//! Where a listener's certificate comes from, and which clients it takes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::binding::{VERSIONS, provider};
use super::pem::PemFiles;
use super::slot::{CertificateSlot, ServedCertificate};
use crate::error::BoxError;

/// The protocol of a TLS-ALPN-01 validation (RFC 8737, section 6.2).
pub(super) const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

/// A listener's TLS settings. TLS 1.3 only; no early data, no session tickets, no resumption: each connection makes
/// a full handshake of its own, so that no exporter rests on another connection's secrets.
///
/// ```
/// use tower_attest::tls::Tls;
///
/// let tls = Tls::self_signed("prover.example")?.alpn(["h2"]);
/// assert!(tls.certificate().is_some());
/// # Ok::<(), tower_attest::tls::TlsConfigError>(())
/// ```
#[derive(Clone)]
pub struct Tls {
    resolver: Arc<dyn ResolvesServerCert>,
    served: ServedCertificate,
    files: Option<Arc<PemFiles>>,
    challenges: Option<Arc<dyn ResolvesServerCert>>,
    certificate: Option<CertificateDer<'static>>,
    client_auth: Arc<dyn ClientCertVerifier>,
    alpn: Vec<Vec<u8>>,
}

impl Tls {
    /// A certificate for one name with an ECDSA P-256 key that is made in this process and never leaves it.
    ///
    /// Clients must use `dangerous_trust_attestation_alone()`, or trust [`certificate`](Self::certificate) as a root.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError::SelfSigned`] if `name` is not a DNS name or an IP address.
    pub fn self_signed(name: impl Into<String>) -> Result<Self, TlsConfigError> {
        Self::self_signed_names([name])
    }

    /// The same for several names.
    ///
    /// # Errors
    ///
    /// As [`self_signed`](Self::self_signed).
    pub fn self_signed_names<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Result<Self, TlsConfigError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let made =
            rcgen::generate_simple_self_signed(names).map_err(|error| TlsConfigError::SelfSigned(error.into()))?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let slot = CertificateSlot::new(vec![certificate.clone()], key)?;
        Ok(Self { certificate: Some(certificate), ..Self::replaceable(&slot) })
    }

    /// A certificate chain and its private key from PEM files.
    ///
    /// The files are looked at before each handshake and read again when they have changed. While they cannot be read,
    /// or do not belong together, the last good pair serves and a warning is logged (`tls certificate not reloaded`).
    ///
    /// # Errors
    ///
    /// [`TlsConfigError::Pem`] if a file cannot be read or holds no certificate or key, [`TlsConfigError::Certificate`]
    /// if they do not belong together.
    pub fn pem(certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsConfigError> {
        let files = PemFiles::open(certificates.into(), key.into())?;
        let tls = Self::replaceable(files.slot());
        Ok(Self { files: Some(Arc::new(files)), ..tls })
    }

    /// The certificate in a slot, which its owner replaces when it has been renewed.
    pub fn replaceable(slot: &CertificateSlot) -> Self {
        Self { served: slot.served(), ..Self::resolver(Arc::new(slot.clone())) }
    }

    /// Reads the files of [`pem`](Self::pem) again now, whether or not they look changed, for this and all its clones,
    /// those of listeners included. Blocks on the file system. Other kinds have nothing to read.
    ///
    /// # Errors
    ///
    /// As [`pem`](Self::pem); the last good pair then serves on.
    pub fn reload(&self) -> Result<(), TlsConfigError> {
        self.files.as_ref().map_or(Ok(()), |files| files.reload())
    }

    /// A certificate resolver of one's own, for a server that chooses among several by the client's hello.
    pub fn resolver(resolver: Arc<dyn ResolvesServerCert>) -> Self {
        Self {
            resolver,
            served: ServedCertificate::unknown(),
            files: None,
            challenges: None,
            certificate: None,
            client_auth: Arc::new(NoClientAuth),
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }

    /// Refuses clients without a certificate that chains to one of `roots`.
    ///
    /// The client's certificate reaches this server encrypted, but before the client has verified any evidence.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError::Roots`] if `roots` is empty.
    pub fn require_client_certificate(self, roots: RootCertStore) -> Result<Self, TlsConfigError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        self.client_auth(verifier.build())
    }

    /// Asks for a client certificate and takes clients without one. One that does not chain to `roots` is refused.
    ///
    /// # Errors
    ///
    /// As [`require_client_certificate`](Self::require_client_certificate).
    pub fn accept_client_certificate(self, roots: RootCertStore) -> Result<Self, TlsConfigError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        self.client_auth(verifier.allow_unauthenticated().build())
    }

    fn client_auth(
        self,
        verifier: Result<Arc<dyn ClientCertVerifier>, impl Into<BoxError>>,
    ) -> Result<Self, TlsConfigError> {
        let client_auth = verifier.map_err(|error| TlsConfigError::Roots(error.into()))?;
        Ok(Self { client_auth, ..self })
    }

    /// Answers TLS-ALPN-01 challenges (RFC 8737): a handshake whose one protocol is `acme-tls/1` gets a certificate of
    /// `challenges`, which knows the name from the hello, and fails if there is none.
    ///
    /// Such a connection is closed once its handshake is complete. It is never handed out, so that nothing is served on it,
    /// and never asked for a client certificate. TLS 1.3 here too: a CA that validates over TLS 1.2 alone is refused.
    #[must_use]
    pub fn acme_challenges(self, challenges: Arc<dyn ResolvesServerCert>) -> Self {
        Self { challenges: Some(challenges), ..self }
    }

    /// The protocols offered, preferred first. Default: `h2`, `http/1.1`.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// The self-signed certificate; `None` for the other kinds.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_ref()
    }

    /// A view of the certificate that is served at the moment, which outlives these settings.
    pub fn served_certificate(&self) -> ServedCertificate {
        self.served.clone()
    }

    /// The files to look at before each handshake.
    pub(super) fn files(&self) -> Option<Arc<PemFiles>> {
        self.files.clone()
    }

    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, TlsConfigError> {
        config(Arc::clone(&self.client_auth), Arc::clone(&self.resolver), self.alpn.clone())
    }

    /// For handshakes of a CA that validates.
    pub(super) fn challenge_config(&self) -> Result<Option<Arc<ServerConfig>>, TlsConfigError> {
        let challenges = self.challenges.as_ref();
        challenges
            .map(|resolver| config(Arc::new(NoClientAuth), Arc::clone(resolver), vec![ACME_TLS_ALPN.to_vec()]))
            .transpose()
    }
}

fn config(
    client_auth: Arc<dyn ClientCertVerifier>,
    resolver: Arc<dyn ResolvesServerCert>,
    alpn: Vec<Vec<u8>>,
) -> Result<Arc<ServerConfig>, TlsConfigError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(TlsConfigError::Certificate)?
        .with_client_cert_verifier(client_auth)
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("resolver", &self.resolver).field("alpn", &self.alpn.len()).finish_non_exhaustive()
    }
}

/// Why TLS settings cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// A PEM file cannot be read, or does not hold what it should.
    #[error("{}: expected a PEM file with {expected}: {source}", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What is wrong.
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate or its key is refused by rustls, or they do not belong together.
    #[error("certificate and key: {0}")]
    Certificate(#[source] rustls::Error),
    /// No certificate can be made for these names.
    #[error("self-signed certificate: {0}")]
    SelfSigned(#[source] BoxError),
    /// The roots cannot judge certificates.
    #[error("roots: {0}")]
    Roots(#[source] BoxError),
}
