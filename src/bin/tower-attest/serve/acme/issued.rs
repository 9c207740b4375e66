//! A certificate that the CA has issued, with its key: what it is for, until when, and how ACME names it.

use std::net::IpAddr;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use instant_acme::{CertificateIdentifier, Identifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, Der, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::ParsedCertificate;
use tower_attest::tls::{CertificateSlot, ServedCertificate, TlsConfigError};
use zeroize::Zeroizing;

use crate::der::{INTEGER, OCTET_STRING, OID, Reader, SEQUENCE};

/// A chain, the server's own certificate first, and the key that belongs to it.
pub(super) struct Issued {
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why something is no certificate to serve.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotUsable {
    #[error("expected a private key in PEM (PKCS#8), found none")]
    NoKey,
    #[error("expected certificates in PEM: {0}")]
    Pem(rustls::pki_types::pem::Error),
    #[error("expected a certificate, found none")]
    NoCertificate,
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    #[error("expected a certificate with its dates, found none")]
    NoDates,
    #[error("expected a certificate for {0}, found one for other names")]
    Name(String),
    #[error("expected a certificate that is valid now, found one that is valid from {from} to {to}")]
    Dates { from: humantime::Rfc3339Timestamp, to: humantime::Rfc3339Timestamp },
}

impl Issued {
    /// Checks that the two belong together.
    pub(super) fn new(chain_pem: &[u8], key: PrivatePkcs8KeyDer<'static>) -> Result<Self, NotUsable> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(chain_pem).collect::<Result<_, _>>().map_err(NotUsable::Pem)?;
        if chain.is_empty() {
            return Err(NotUsable::NoCertificate);
        }
        let served = CertificateSlot::new(chain.clone(), key.clone_key().into())?.served();
        let (not_before, not_after) = dates(&served).ok_or(NotUsable::NoDates)?;
        Ok(Self { chain, key, not_before, not_after })
    }

    /// As [`to_pem`](Self::to_pem) has written it.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, NotUsable> {
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs8(key)) => Self::new(pem, key),
            _ => Err(NotUsable::NoKey),
        }
    }

    /// The key, then the chain.
    pub(super) fn to_pem(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(16 << 10));
        block(&mut text, "PRIVATE KEY", self.key.secret_pkcs8_der());
        for certificate in &self.chain {
            block(&mut text, "CERTIFICATE", certificate);
        }
        text
    }

    pub(super) fn not_before(&self) -> SystemTime {
        self.not_before
    }

    pub(super) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// For a listener.
    pub(super) fn chain_and_key(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key().into())
    }

    /// The first of these names that it is not for, as TLS clients judge.
    pub(super) fn lacks<'a>(&self, names: &'a [Identifier]) -> Option<&'a Identifier> {
        names.iter().find(|name| !self.is_for(name))
    }

    pub(super) fn is_for(&self, name: &Identifier) -> bool {
        let name = match name {
            Identifier::Dns(name) => ServerName::try_from(name.as_str()).ok(),
            Identifier::Ip(ip) => Some(ServerName::from(*ip)),
            _ => None,
        };
        let parsed = self.chain.first().and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
        match (parsed, name) {
            (Some(parsed), Some(name)) => rustls::client::verify_server_name(&parsed, &name).is_ok(),
            _ => false,
        }
    }

    /// What a CA must have issued: for all these names, and valid now.
    pub(super) fn check(self, names: &[Identifier], now: SystemTime) -> Result<Self, NotUsable> {
        if let Some(name) = self.lacks(names) {
            return Err(NotUsable::Name(name.authorized(false).to_string()));
        }
        if now < self.not_before || now > self.not_after {
            let [from, to] = [self.not_before, self.not_after].map(humantime::format_rfc3339_seconds);
            return Err(NotUsable::Dates { from, to });
        }
        Ok(self)
    }

    /// How the CA's renewal information names it (RFC 9773, section 4.1). `None` if it does not say which key signed it.
    pub(super) fn identifier(&self) -> Option<CertificateIdentifier<'static>> {
        let (authority, serial) = authority_and_serial(self.chain.first()?)?;
        Some(CertificateIdentifier::new(Der::from_slice(authority), Der::from_slice(serial)).into_owned())
    }
}

/// Names and addresses as an order has them.
pub(super) fn identifier(host: &str) -> Identifier {
    host.parse::<IpAddr>().map_or_else(|_| Identifier::Dns(host.to_owned()), Identifier::Ip)
}

fn dates(served: &ServedCertificate) -> Option<(SystemTime, SystemTime)> {
    Some((served.not_before()?, served.not_after()?))
}

/// RFC 7468: lines of 64 characters.
fn block(text: &mut String, label: &str, der: &[u8]) {
    let body = Zeroizing::new(STANDARD.encode(der));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = body.as_str();
    while let Some((line, after)) = rest.split_at_checked(64.min(rest.len())).filter(|(line, _)| !line.is_empty()) {
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
}

/// The key identifier of the issuer (RFC 5280, section 4.2.1.1) and the serial number, as they stand in the certificate.
fn authority_and_serial(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    const VERSION: u8 = 0xa0;
    const EXTENSIONS: u8 = 0xa3;
    const KEY_IDENTIFIER: u8 = 0x80;
    const BOOLEAN: u8 = 0x01;
    const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
    let mut tbs = Reader::new(certificate).take(SEQUENCE)?.take(SEQUENCE)?;
    tbs.take(VERSION)?;
    let serial = tbs.take(INTEGER)?.rest();
    let mut extensions = loop {
        if let (EXTENSIONS, contents) = tbs.next()? {
            break Reader::new(contents).take(SEQUENCE)?;
        }
    };
    while let Some(mut extension) = extensions.take(SEQUENCE) {
        let kind = extension.take(OID)?.rest();
        extension.take(BOOLEAN);
        if kind == AUTHORITY_KEY_IDENTIFIER {
            let mut value = extension.take(OCTET_STRING)?.take(SEQUENCE)?;
            return Some((value.take(KEY_IDENTIFIER)?.rest(), serial));
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests;
