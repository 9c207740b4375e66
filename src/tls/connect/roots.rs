//! Which certificates a client takes: WebPKI roots, or none because the attestation says it all.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::super::accept::TlsConfigError;
use super::super::binding::{VERSIONS, provider};

/// Who may vouch for the server's name.
#[derive(Debug)]
pub(in crate::tls) enum Roots {
    /// Mozilla's, as this crate was built.
    WebPki,
    /// The operating system's.
    Native,
    /// The user's own.
    Custom(RootCertStore),
    /// Nobody: any certificate is taken, and the evidence alone identifies the server.
    Attestation,
}

/// A client's certificate chain and key.
#[derive(Debug)]
pub(in crate::tls) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

pub(in crate::tls) fn client_config(
    roots: Roots,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
) -> Result<ClientConfig, TlsConfigError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(TlsConfigError::Certificate)?
        .dangerous()
        .with_custom_certificate_verifier(verifier(roots)?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key }) => {
            builder.with_client_auth_cert(chain, key).map_err(TlsConfigError::Certificate)?
        }
    };
    config.alpn_protocols = alpn;
    // A resumed connection has had no certificate checked, and its secrets rest on those of an older one.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

fn verifier(roots: Roots) -> Result<Arc<dyn ServerCertVerifier>, TlsConfigError> {
    let store = match roots {
        Roots::Attestation => return Ok(Arc::new(AnyCertificate(provider()))),
        Roots::WebPki => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
        Roots::Native => native()?,
        Roots::Custom(store) => store,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build();
    Ok(verifier.map_err(|error| TlsConfigError::Roots(error.into()))?)
}

/// Those of the system's roots that parse; that none does is an error.
fn native() -> Result<RootCertStore, TlsConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    match (store.is_empty(), found.errors.into_iter().next()) {
        (true, Some(error)) => Err(TlsConfigError::Roots(error.into())),
        _ => Ok(store),
    }
}

/// Takes any certificate, and still demands that the peer holds its key: TLS itself stays whole. Who the peer is, the
/// evidence says, which is bound to this very connection.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("expected TLS 1.3, found TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
