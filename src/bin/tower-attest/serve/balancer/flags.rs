//! The flags of `serve` about its workers, and what stands in the files that they name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tower_attest::PolicyFile;

use crate::certificates::{Certificates, Roots, parse_roots};
use crate::failure::Failure;
use crate::proxy::limits::positive;
use crate::serve::config::sha256;
use crate::trust::{Demands, Sources};

/// Whom `serve` believes of its https upstreams.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Workers (https upstreams)")]
pub(crate) struct WorkerFlags {
    /// What workers must prove before anything is sent to them: a policy with [snp], [tdx] and [server]. Read again on
    /// SIGHUP; another policy is another effective configuration.
    #[arg(long, value_name = "FILE")]
    upstream_policy: Option<PathBuf>,
    /// The name that each worker answers for, in its certificate and in its evidence. Default: its own host.
    #[arg(long, value_name = "NAME", value_parser = host)]
    upstream_name: Option<String>,
    /// Who may issue the workers' certificates.
    #[arg(long, value_name = "ROOTS", default_value = "webpki", conflicts_with_all = ["upstream_roots_file", "dangerous_upstream_trust_attestation_alone"])]
    upstream_roots: Roots,
    /// Root certificates, PEM, in place of --upstream-roots. Read again on SIGHUP.
    #[arg(long, value_name = "FILE", conflicts_with = "dangerous_upstream_trust_attestation_alone")]
    upstream_roots_file: Option<PathBuf>,
    /// Take any certificate of a worker, such as a self-signed one: the evidence alone says who it is. Whoever runs the same
    /// measured program can then pose as a worker, unless the policy pins the chip or the configuration.
    #[arg(long)]
    dangerous_upstream_trust_attestation_alone: bool,
    /// How old a worker's evidence may be when a request starts.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = positive)]
    upstream_max_evidence_age: Duration,
    /// Fetch nothing from AMD or Intel for workers.
    #[arg(long)]
    upstream_offline: bool,
    /// A directory with AMD's certificates (docs/SNP.md).
    #[arg(long, value_name = "DIR")]
    upstream_endorsements: Option<PathBuf>,
    /// A directory with Intel's collateral (docs/TDX.md).
    #[arg(long, value_name = "DIR")]
    upstream_collateral: Option<PathBuf>,
    /// Believe workers on simulated hardware, which proves nothing.
    #[arg(long)]
    insecure_upstream_simulator: bool,
    /// Connections to keep to each worker. On HTTP/2 one carries many requests at once.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    upstream_connections: u16,
    /// How often each worker is looked at, though nothing is sent: one that is back is found within this time.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = positive)]
    upstream_check_interval: Duration,
    /// HTTP/2: how often a worker's connection is asked whether it lives; without an answer in the same time again, it is
    /// given up.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive)]
    upstream_keep_alive: Duration,
}

/// A host as certificates and key documents have it.
fn host(text: &str) -> Result<String, String> {
    let wrong = || format!("expected a host name or IP address without port, found {text:?}");
    let bare = text.trim_matches(['[', ']']);
    rustls::pki_types::ServerName::try_from(bare).map_err(|_| wrong())?;
    Ok(bare.to_ascii_lowercase())
}

/// What stands in the files, all of it read once: what is judged by is what the digests are of.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(super) demands: Demands,
    policy_digest: [u8; 32],
    /// As the effective configuration has them.
    issuers: String,
}

impl WorkerFlags {
    /// One of the flags that only https upstreams have a use for, if it was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        [
            ("--upstream-policy", self.upstream_policy.is_some()),
            ("--upstream-name", self.upstream_name.is_some()),
            ("--upstream-roots-file", self.upstream_roots_file.is_some()),
            ("--dangerous-upstream-trust-attestation-alone", self.dangerous_upstream_trust_attestation_alone),
            ("--upstream-offline", self.upstream_offline),
            ("--upstream-endorsements", self.upstream_endorsements.is_some()),
            ("--upstream-collateral", self.upstream_collateral.is_some()),
            ("--insecure-upstream-simulator", self.insecure_upstream_simulator),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    /// Reads the files.
    pub(crate) fn read(&self) -> Result<Terms, Failure> {
        let Some(path) = &self.upstream_policy else {
            return Err(Failure::undecided(
                "--upstream-policy: https upstreams are sent nothing before they have proved what they are; say what they \
                 must prove",
            ));
        };
        self.sources().check("--upstream-")?;
        let text = read(path)?;
        let policy_digest = sha256(&text);
        let text = String::from_utf8(text).map_err(|error| Failure::during(path.display(), &error))?;
        let policy: PolicyFile = text
            .parse()
            .map_err(|error: tower_attest::platform::InvalidPolicyFile| Failure::during(path.display(), &error))?;
        if let (Some(flag), Some(policy)) = (&self.upstream_name, policy.server_name())
            && !flag.eq_ignore_ascii_case(policy.trim_matches(['[', ']']))
        {
            return Err(Failure::undecided(format_args!(
                "--upstream-name {flag:?} is not the name that the policy expects, {policy:?}"
            )));
        }
        let (certificates, issuers) = self.certificates()?;
        Ok(Terms { demands: Demands::of(policy, certificates), policy_digest, issuers })
    }

    fn certificates(&self) -> Result<(Certificates, String), Failure> {
        if self.dangerous_upstream_trust_attestation_alone {
            return Ok((Certificates::Any, "any".to_owned()));
        }
        let Some(path) = &self.upstream_roots_file else {
            return Ok(match self.upstream_roots {
                Roots::Webpki => (Certificates::WebPki, "webpki".to_owned()),
                Roots::Native => (Certificates::Native, "native".to_owned()),
            });
        };
        let pem = read(path)?;
        Ok((Certificates::File(parse_roots(&pem, path)?), format!("file {}", hex::encode(sha256(&pem)))))
    }

    pub(super) fn sources(&self) -> Sources {
        Sources {
            max_evidence_age: self.upstream_max_evidence_age,
            offline: self.upstream_offline,
            endorsements: self.upstream_endorsements.clone(),
            collateral: self.upstream_collateral.clone(),
            insecure_simulator: self.insecure_upstream_simulator,
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.upstream_name.as_deref()
    }

    pub(super) fn connections(&self) -> usize {
        usize::from(self.upstream_connections)
    }

    pub(super) fn check_interval(&self) -> Duration {
        self.upstream_check_interval
    }

    pub(super) fn keep_alive(&self) -> Duration {
        self.upstream_keep_alive
    }

    /// What of these decides where plaintext goes, as the effective configuration has it.
    pub(crate) fn lines(&self, terms: &Terms) -> [(&'static str, String); 5] {
        [
            ("upstream-policy", hex::encode(terms.policy_digest)),
            ("upstream-name", self.upstream_name.clone().unwrap_or_default()),
            ("upstream-certificates", terms.issuers.clone()),
            ("upstream-max-evidence-age", humantime::format_duration(self.upstream_max_evidence_age).to_string()),
            ("upstream-simulator", if self.insecure_upstream_simulator { "believed" } else { "refused" }.to_owned()),
        ]
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::during(path.display(), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_name_is_a_host() {
        assert_eq!(host("Worker.example").unwrap(), "worker.example");
        assert_eq!(host("[::1]").unwrap(), "::1");
        for text in ["", "a:80", "https://a", "a/b", "a\nb"] {
            assert!(host(text).is_err(), "{text:?}");
        }
    }
}
