//! Who may issue a server's certificate: flags that every command shares which speaks to one.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tower_attest::tls::ChannelBuilder;

use crate::failure::Failure;

/// Which certificates are believed.
#[derive(Debug, Clone, Args)]
pub(crate) struct CertificateFlags {
    /// Who may issue the server's certificate.
    #[arg(long, value_name = "ROOTS", default_value = "webpki", conflicts_with_all = ["roots_file", "dangerous_trust_attestation_alone"])]
    roots: Roots,
    /// Root certificates, PEM, in place of --roots.
    #[arg(long, value_name = "FILE", conflicts_with = "dangerous_trust_attestation_alone")]
    roots_file: Option<PathBuf>,
    /// Take any certificate, such as a self-signed one: the evidence alone says who the server is. Anybody who runs the
    /// same measured program can then answer, unless the policy pins the chip or the configuration.
    #[arg(long)]
    dangerous_trust_attestation_alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Roots {
    /// Mozilla's.
    Webpki,
    /// The operating system's.
    Native,
}

/// What the flags and the file amount to.
#[derive(Debug, Clone)]
pub(crate) enum Certificates {
    /// Mozilla's roots.
    WebPki,
    /// The operating system's roots.
    Native,
    /// The roots of a file.
    File(RootCertStore),
    /// Any certificate.
    Any,
}

impl CertificateFlags {
    pub(crate) fn open(&self) -> Result<Certificates, Failure> {
        if self.dangerous_trust_attestation_alone {
            return Ok(Certificates::Any);
        }
        match &self.roots_file {
            Some(path) => Ok(Certificates::File(read(path)?)),
            None => Ok(if self.roots == Roots::Native { Certificates::Native } else { Certificates::WebPki }),
        }
    }
}

/// The root certificates of a PEM file, one at least.
pub(crate) fn read(path: &Path) -> Result<RootCertStore, Failure> {
    parse_roots(&std::fs::read(path).map_err(|error| Failure::during(path.display(), &error))?, path)
}

/// The root certificates in the bytes of a file.
pub(crate) fn parse_roots(pem: &[u8], path: &Path) -> Result<RootCertStore, Failure> {
    let wrong = |error: &(dyn std::error::Error + 'static)| Failure::during(path.display(), error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(Failure::undecided(format_args!("{}: expected certificates, found none", path.display())));
    }
    Ok(roots)
}

impl Certificates {
    /// Whether these are the same.
    pub(crate) fn are(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::WebPki, Self::WebPki) | (Self::Native, Self::Native) | (Self::Any, Self::Any) => true,
            (Self::File(roots), Self::File(others)) => roots.roots == others.roots,
            _ => false,
        }
    }

    /// A channel that takes these certificates.
    pub(crate) fn apply(&self, builder: ChannelBuilder) -> ChannelBuilder {
        match self {
            Self::WebPki => builder,
            Self::Native => builder.native_roots(),
            Self::File(roots) => builder.roots(roots.clone()),
            Self::Any => builder.dangerous_trust_attestation_alone(),
        }
    }

    /// The roots for a client that attests no connection. There, any certificate would mean no server in particular.
    pub(crate) fn store(&self) -> Result<RootCertStore, Failure> {
        match self {
            Self::WebPki => Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()),
            Self::Native => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Ok(roots)
            }
            Self::File(roots) => Ok(roots.clone()),
            Self::Any => Err(Failure::undecided(
                "--dangerous-trust-attestation-alone: without an attested channel nothing ties the evidence to the \
                 connection, and the certificate is all there is; give --roots-file",
            )),
        }
    }
}
