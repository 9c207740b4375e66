//! What the sidecars check before they say that they are ready.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_attest::{Attester, Health, Nonce, async_trait};
use tower_service::Service;

use super::metrics::believing::check;
use super::ready::Check;
use crate::connect::backend::AttestedBackend;
use crate::failure::chain;
use crate::serve::balancer::{Balancer, Standing, WorkerStats};
use crate::serve::certificate::CertificateStatus;
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

/// The certificate is within its dates, and with a CA its own.
#[derive(Debug)]
pub(crate) struct CertificateCheck(pub(crate) CertificateStatus);

#[async_trait]
impl Check for CertificateCheck {
    fn name(&self) -> &'static str {
        "certificate"
    }

    async fn check(&self) -> Result<String, String> {
        judge(&self.0, SystemTime::now())
    }
}

fn judge(certificate: &CertificateStatus, now: SystemTime) -> Result<String, String> {
    let until = certificate.not_after().map(humantime::format_rfc3339_seconds);
    match (certificate.is_valid(now), until, certificate.acme()) {
        (true, Some(until), _) => Ok(format!("valid until {until}")),
        (true, None, _) => Ok("valid".to_owned()),
        (false, None, Some(_)) => Err("expected one that the CA has issued, found none yet: see the log".to_owned()),
        (false, Some(until), Some(_)) => {
            Err(format!("expected one of the CA's that is valid now for all names, found one until {until}"))
        }
        (false, Some(until), None) => {
            Err(format!("expected one that is valid now, found one until {until}: look at both clocks"))
        }
        (false, None, None) => Err("its dates cannot be read".to_owned()),
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

#[cfg(test)]
mod tests {
    use tower_attest::ErrorKind;
    use tower_attest::mock::{Behaviour, MockTee};
    use tower_attest::tls::Stage;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_attester_is_asked_again_only_when_it_has_failed_and_comes_back_by_itself() {
        let provider = MockTee::new().provider();
        let builder = Attester::builder(provider.clone()).name("a").report_timeout(Duration::from_secs(30));
        let check = AttesterCheck(builder.start().await.unwrap());
        let ask = async || check.0.evidence(&Nonce::from_bytes([1; 32]), None).await;
        for _ in 0..3 {
            check.check().await.unwrap();
        }
        assert_eq!(provider.calls(), 1, "a probe that finds it well costs no report");

        provider.set_behaviour(Behaviour::Failing);
        ask().await.unwrap_err();
        assert!(check.check().await.unwrap_err().contains("the hardware made no report"));
        provider.set_behaviour(Behaviour::Healthy);
        assert_eq!(check.check().await.unwrap(), "the hardware is back");
        assert_eq!(check.0.health(), Health::Ready);

        provider.set_behaviour(Behaviour::Hanging);
        ask().await.unwrap_err();
        let calls = provider.calls();
        assert!(check.check().await.unwrap_err().contains("hangs"));
        assert_eq!(provider.calls(), calls, "nothing is asked of a device that hangs");
        provider.set_behaviour(Behaviour::Healthy);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(check.check().await.unwrap(), "the hardware is back");

        check.0.drain().await;
        assert!(check.check().await.unwrap_err().contains("stopped"));
    }

    #[test]
    fn workers_are_ready_while_one_is_believed_and_otherwise_each_says_why_not() {
        let worker = |number: u32, standing| WorkerStats {
            worker: format!("https://w{number}:1"),
            standing,
            in_flight: 0,
            requests: 0,
            failures: 0,
            ejections: 0,
            pauses: 0,
        };
        let ejected = Standing::Ejected { stage: Stage::Policy, kind: ErrorKind::Refused };
        let wrong = any_serves(&[worker(1, ejected), worker(2, Standing::Undecided)]).unwrap_err();
        assert_eq!(wrong, "https://w1:1: policy: refused; https://w2:1: no verdict yet");
        for good in [Standing::Serving, Standing::Paused] {
            let found = any_serves(&[worker(1, ejected), worker(2, good), worker(3, Standing::Undecided)]);
            assert_eq!(found.unwrap(), "1 of 3 workers are believed");
        }
        assert!(any_serves(&[]).is_err());
    }

    #[test]
    fn a_certificate_counts_within_its_dates_and_with_a_ca_if_it_is_the_cas() {
        let of =
            |acme: bool| CertificateStatus::of(tower_attest::Tls::self_signed("a").unwrap().served_certificate(), acme);
        let (now, year) = (SystemTime::now(), Duration::from_secs(366 * 86400));
        assert!(judge(&of(false), now).unwrap().starts_with("valid until "));
        assert!(judge(&of(false), now + 5000 * year).unwrap_err().contains("found one until"));
        assert!(judge(&of(true), now).unwrap_err().contains("found none yet"));
    }
}
