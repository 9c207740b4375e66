//! What the sidecars check before they say that they are ready.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_attest::tls::ServedCertificate;
use tower_attest::{Attester, Health, Nonce, async_trait};
use tower_service::Service;

use super::metrics::believing::check;
use super::ready::Check;
use crate::connect::backend::AttestedBackend;
use crate::failure::chain;
use crate::serve::balancer::{Balancer, Standing, WorkerStats};
use crate::serve::upstream::Connector;

/// The hardware makes reports.
#[derive(Debug)]
pub(crate) struct AttesterCheck(pub(crate) Attester);

#[async_trait]
impl Check for AttesterCheck {
    fn name(&self) -> &'static str {
        "attester"
    }

    async fn check(&self) -> Result<String, String> {
        match self.0.health() {
            Health::Ready => Ok("the last report was made".to_owned()),
            Health::Stalled => Err("the hardware hangs: look at the device and the kernel's log".to_owned()),
            Health::Stopped => Err("the attester has stopped".to_owned()),
            // Nobody sends nonces to a server that is not ready, so that nothing but this would find out that the hardware
            // is back.
            _ => match self.0.evidence(&Nonce::from_bytes([0; 32]), None).await {
                Ok(_) => Ok("the hardware is back".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// The upstream takes connections. Whether it answers what is asked there is its own affair.
#[derive(Debug)]
pub(crate) struct UpstreamCheck(pub(crate) Connector);

#[async_trait]
impl Check for UpstreamCheck {
    fn name(&self) -> &'static str {
        "upstream"
    }

    async fn check(&self) -> Result<String, String> {
        let connected = self.0.clone().call(http::Uri::default()).await;
        connected.map(|_| "it takes connections".to_owned()).map_err(|error| error.to_string())
    }
}

/// A worker is believed and serves. What each is good for is looked at all the time, whoever asks.
#[derive(Debug)]
pub(crate) struct WorkersCheck(pub(crate) Arc<Balancer>);

#[async_trait]
impl Check for WorkersCheck {
    fn name(&self) -> &'static str {
        "upstream"
    }

    async fn check(&self) -> Result<String, String> {
        any_serves(&self.0.stats())
    }
}

/// One that others are preferred to still gets requests if there is no other.
fn any_serves(workers: &[WorkerStats]) -> Result<String, String> {
    let good = |worker: &&WorkerStats| matches!(worker.standing, Standing::Serving | Standing::Paused);
    let (believed, all) = (workers.iter().filter(good).count(), workers.len());
    if believed > 0 {
        return Ok(format!("{believed} of {all} workers are believed"));
    }
    let shown = |worker: &WorkerStats| match worker.standing {
        Standing::Ejected { stage, kind } => format!("{}: {stage}: {}", worker.worker, check(kind)),
        _ => format!("{}: no verdict yet", worker.worker),
    };
    Err(workers.iter().map(shown).collect::<Vec<_>>().join("; "))
}

/// The certificate is within its dates.
#[derive(Debug)]
pub(crate) struct CertificateCheck(pub(crate) ServedCertificate);

#[async_trait]
impl Check for CertificateCheck {
    fn name(&self) -> &'static str {
        "certificate"
    }

    async fn check(&self) -> Result<String, String> {
        let (Some(from), Some(until)) = (self.0.not_before(), self.0.not_after()) else {
            return Err("its dates cannot be read".to_owned());
        };
        within(SystemTime::now(), from, until)
    }
}

fn within(now: SystemTime, from: SystemTime, until: SystemTime) -> Result<String, String> {
    let shown = |time| humantime::format_rfc3339_seconds(time);
    match now {
        now if now < from => Err(format!("expected a certificate that is valid now, found one from {}", shown(from))),
        now if now > until => {
            Err(format!("expected a certificate that is valid now, found one until {}", shown(until)))
        }
        _ => Ok(format!("valid until {}", shown(until))),
    }
}

/// The far end has been attested, or is now.
#[derive(Debug)]
pub(crate) struct FarEndCheck(pub(crate) AttestedBackend);

/// How long it may take to find that out. The connection may be new, and may be busy.
const FAR_END: Duration = Duration::from_millis(500);

#[async_trait]
impl Check for FarEndCheck {
    fn name(&self) -> &'static str {
        "far-end"
    }

    /// Nobody sends requests to a sidecar that is not ready, so that nothing but this would connect again.
    async fn check(&self) -> Result<String, String> {
        let route = self.0.route();
        match tokio::time::timeout(FAR_END, route.attest()).await {
            Ok(Ok(())) => Ok("attested".to_owned()),
            Ok(Err(error)) => Err(chain(&*error)),
            // Over HTTP/1.1 a connection that carries a long exchange takes no other meanwhile.
            Err(_) if route.is_attested() => Ok("attested, and busy".to_owned()),
            Err(_) => Err(format!("no verdict within {FAR_END:?}")),
        }
    }
}
