//! The listener's certificate: where it comes from, and whether it is valid.

use std::sync::Arc;
use std::time::SystemTime;

use tower_attest::tls::{ServedCertificate, Tls};

use super::Serve;
use super::acme::{Acme, AcmeStatus, Challenges};
use super::flags::TlsKind;
use crate::failure::Failure;
use crate::lifecycle::Lifecycle;

/// What `--tls` amounts to.
#[derive(Debug)]
pub(crate) struct Certificate {
    tls: Tls,
    kind: TlsKind,
    acme: Option<Acme>,
}

impl Certificate {
    pub(super) fn open(serve: &Serve) -> Result<Self, Failure> {
        let made = match (serve.tls, &serve.cert, &serve.key) {
            (TlsKind::Acme, ..) => {
                let acme = Acme::open(serve.acme.clone(), &serve.host_names().collect::<Vec<_>>())?;
                return Ok(Self { tls: acme.tls(), kind: serve.tls, acme: Some(acme) });
            }
            (TlsKind::Pem, Some(cert), Some(key)) => Tls::pem(cert, key),
            _ => Tls::self_signed_names(serve.host_names()),
        };
        let tls = made.map_err(|error| Failure::during("TLS", &error))?;
        Ok(Self { tls, kind: serve.tls, acme: None })
    }

    /// Whether the files will do, without making any.
    pub(super) fn check(serve: &Serve) -> Result<(), Failure> {
        match serve.tls {
            TlsKind::Acme => Acme::check(serve.acme.clone()),
            TlsKind::Pem | TlsKind::SelfSigned => Self::open(serve).map(drop),
        }
    }

    pub(super) fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// Enters what SIGHUP does to it. PEM files are looked at before each handshake anyway; a signal tells at once whether
    /// they will do. A CA that failed is asked again at once.
    pub(super) fn reload_by(&self, lifecycle: &Lifecycle) {
        if let Some(acme) = &self.acme {
            let retry = acme.retry();
            lifecycle.reloads().add("certificate", move || {
                retry.notify_one();
                std::future::ready(Ok(()))
            });
        } else if self.kind == TlsKind::Pem {
            let tls = self.tls.clone();
            lifecycle.reloads().add("certificate", move || {
                let tls = tls.clone();
                async move { tls.reload().map_err(|error| Failure::during("TLS", &error)) }
            });
        }
    }

    /// What port 80 answers to a CA, if there is one.
    pub(super) fn challenges(&self) -> Option<Challenges> {
        self.acme.as_ref().map(Acme::challenges)
    }

    pub(crate) fn status(&self) -> CertificateStatus {
        CertificateStatus { served: self.tls.served_certificate(), acme: self.acme.as_ref().map(Acme::status) }
    }

    /// For people; `None` where `--tls` has said it all.
    pub(super) fn describe(&self) -> Option<String> {
        let acme = self.acme.as_ref()?;
        Some(match self.status().not_after() {
            Some(end) => format!("by {}, until {}", acme.ca(), humantime::format_rfc3339_seconds(end)),
            None => format!("self-signed until {} has issued one", acme.ca()),
        })
    }

    /// Renews it until the future is dropped. Ends at once where nothing is to be renewed.
    pub(super) async fn run(self) {
        if let Some(acme) = self.acme {
            acme.run().await;
        }
    }
}

/// What readiness and metrics show of it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CertificateStatus {
    served: ServedCertificate,
    acme: Option<Arc<AcmeStatus>>,
}

impl CertificateStatus {
    /// Whether it is within its dates. With a CA: whether the CA's own serves, for all names; a self-signed one in its place
    /// does not count.
    pub(crate) fn is_valid(&self, now: SystemTime) -> bool {
        match &self.acme {
            Some(acme) => acme.is_valid(now),
            None => self.served.not_before() <= Some(now) && self.served.not_after() >= Some(now),
        }
    }

    /// Until when it is valid. With a CA: `None` while it has issued none.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        self.acme.as_ref().map_or_else(|| self.served.not_after(), |acme| acme.not_after())
    }

    #[cfg(test)]
    pub(crate) fn of(served: ServedCertificate, acme: bool) -> Self {
        Self { served, acme: acme.then(Arc::default) }
    }

    /// How it stands with the CA, if there is one.
    pub(crate) fn acme(&self) -> Option<&AcmeStatus> {
        self.acme.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn without_a_ca_it_is_valid_within_its_dates() {
        let tls = Tls::self_signed("localhost").unwrap();
        let status = CertificateStatus { served: tls.served_certificate(), acme: None };
        let (from, to) = (status.served.not_before().unwrap(), status.not_after().unwrap());
        let second = Duration::from_secs(1);
        let valid = [from - second, from, to, to + second].map(|now| status.is_valid(now));
        assert_eq!(valid, [false, true, true, false]);
        assert!(status.acme().is_none());
    }

    #[test]
    fn what_serves_in_the_place_of_a_cas_certificate_is_not_valid() {
        let tls = Tls::self_signed("localhost").unwrap();
        let status = CertificateStatus { served: tls.served_certificate(), acme: Some(Arc::default()) };
        assert!(!status.is_valid(SystemTime::now()));
        assert_eq!((status.not_after(), status.acme().unwrap().issued_total()), (None, 0));
    }
}
