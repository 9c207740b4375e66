//! The flags of `serve`, what they amount to, and which of them do not go together.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::uri::Authority;

use super::acme::AcmeFlags;
use super::balancer::{Terms, WorkerFlags};
use super::collateral;
use super::config::EffectiveConfig;
use super::hardware::Hardware;
use super::redirect::RedirectFlags;
use super::upstream::{Upstream, UpstreamProtocol};
use crate::admin::AdminFlags;
use crate::configuration::{Source, after_help};
use crate::failure::Failure;
use crate::proxy::limits::{Limits, positive};

const EXAMPLES: &str = after_help!(
    "\
Examples:
  tower-attest serve --host prover.example --upstream http://127.0.0.1:8082
  tower-attest serve --host prover.example --upstream unix:/run/prover.sock \\
      --tls pem --cert cert.pem --key key.pem --listen 0.0.0.0:443
  tower-attest serve --host prover.example --upstream http://127.0.0.1:8082 \\
      --listen 0.0.0.0:443 --redirect 0.0.0.0:80 --tls acme \\
      --state-dir /var/lib/tower-attest --acme-accept-terms
  tower-attest serve --host localhost --upstream http://127.0.0.1:8082 \\
      --platform sim-snp --insecure-no-hardware --simulated-policy policy.toml
  tower-attest serve --config-file /etc/tower-attest/tower-attest.toml --check"
);

/// Attest a service that cannot change: run this beside it, inside the TEE.
///
/// Ends TLS 1.3, answers for the hardware, and sends requests on. Clients are `tower-attest connect`, `AttestedChannel`,
/// or anything that speaks HTTPS and asks for no proof.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Serve {
    /// A host name that clients use for this server. Repeat it for more.
    #[arg(long = "host", value_name = "NAME", required = true, value_parser = name)]
    pub(super) names: Vec<Authority>,
    /// Where requests go: http://HOST:PORT or unix:PATH; or https://HOST:PORT, a worker that must prove what it is. Repeat it
    /// to balance between several workers.
    #[arg(long = "upstream", value_name = "URL", required = true)]
    pub(super) upstreams: Vec<Upstream>,
    /// What is spoken with the upstream. With workers, TLS settles it.
    #[arg(long, value_name = "PROTOCOL", default_value = "auto")]
    pub(super) upstream_protocol: UpstreamProtocol,
    /// Send plaintext to an upstream that is not on this machine.
    #[arg(long)]
    pub(super) insecure_upstream: bool,
    /// How long connecting to the upstream may take.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = positive)]
    pub(super) connect_timeout: Duration,
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    pub(super) listen: SocketAddr,
    /// Where the certificate comes from.
    #[arg(long, value_name = "KIND", default_value = "self-signed")]
    pub(super) tls: TlsKind,
    /// Certificate chain, PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", required_if_eq("tls", "pem"))]
    pub(super) cert: Option<PathBuf>,
    /// Private key, PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", required_if_eq("tls", "pem"))]
    pub(super) key: Option<PathBuf>,
    /// The hardware that vouches for this server.
    #[arg(long, value_name = "PLATFORM", default_value = "auto")]
    pub(super) platform: Hardware,
    /// Send Intel's collateral along with TDX quotes, so that clients need no route to Intel: `intel`, the URL of a PCCS,
    /// or a directory (docs/TDX.md).
    #[arg(long, value_name = "SOURCE")]
    pub(super) collateral: Option<collateral::Source>,
    /// Run on a simulated platform, which proves nothing.
    #[arg(long)]
    pub(super) insecure_no_hardware: bool,
    /// Write a policy that accepts the simulated platform to this file. Not for hardware: a policy that a server writes
    /// for itself is no policy.
    #[arg(long, value_name = "FILE", requires = "insecure_no_hardware")]
    pub(super) simulated_policy: Option<PathBuf>,
    /// While this file exists, the simulated hardware does not answer: to see what a stalled device does to a deployment.
    #[arg(long, value_name = "FILE", requires = "insecure_no_hardware")]
    pub(super) simulated_stall_file: Option<PathBuf>,
    /// How long the keys in the evidence are used before new ones take their place. The old ones serve as long again, 5 min
    /// at most, for clients that know only them.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = positive)]
    pub(super) key_lifetime: Duration,
    /// How long the hardware may take for one report before it counts as stalled.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = positive)]
    pub(super) report_timeout: Duration,
    /// Take requests that are sealed to a key in the evidence, too: they pass carriers that end TLS.
    #[arg(long, conflicts_with = "sealed_only")]
    pub(super) sealed: bool,
    /// Take sealed requests alone: others are answered 403, or PERMISSION_DENIED over gRPC.
    #[arg(long)]
    pub(super) sealed_only: bool,
    /// A token that clients repeat on sealed requests, in Attestation-Route, so that a balancer in front of several servers
    /// can send each request to the one that can open it: 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`. Another for each server.
    #[arg(long = "route", value_name = "TOKEN")]
    pub(super) sealed_route: Option<String>,
    /// Print the effective configuration, whose SHA-256 clients can pin, and end.
    #[arg(long)]
    pub(super) show_config: bool,
    #[command(flatten)]
    pub(super) acme: AcmeFlags,
    #[command(flatten)]
    pub(super) redirect: RedirectFlags,
    #[command(flatten)]
    pub(super) source: Source,
    #[command(flatten)]
    pub(super) workers: WorkerFlags,
    #[command(flatten)]
    pub(super) admin: AdminFlags,
    #[command(flatten)]
    pub(super) limits: Limits,
}

/// Where requests go, once it is clear that the flags go together.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// A program that knows nothing of attestation.
    Plain(Upstream),
    /// Workers, sorted by their URLs, and what they must prove.
    Workers(Vec<Upstream>, Box<Terms>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TlsKind {
    /// A key made at the start, which never leaves this process. Clients rely on the evidence alone.
    SelfSigned,
    /// From --cert and --key.
    Pem,
    /// From a CA, by ACME: a key made here, kept in --state-dir and renewed. Needs --acme-accept-terms.
    Acme,
}

/// A host name or address without port, as clients write it.
fn name(text: &str) -> Result<Authority, String> {
    let wrong = || format!("expected a host name or IP address without port, found {text:?}");
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<Ipv6Addr>() {
        return format!("[{ip}]").parse().map_err(|_| wrong());
    }
    let authority: Authority = text.parse().map_err(|_| wrong())?;
    if text.contains([':', '@', '[']) { Err(wrong()) } else { Ok(authority) }
}

impl Serve {
    /// What no flag can say of itself.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if let Some(upstream) = self.upstreams.iter().find(|upstream| !upstream.is_worker() && !upstream.is_local())
            && !self.insecure_upstream
        {
            return Err(Failure::undecided(format_args!(
                "--upstream {upstream}: plaintext would leave this machine, and with it the TEE; run the service beside this \
                 program, make it a worker that proves what it is (https), or accept that with --insecure-upstream"
            )));
        }
        if self.platform.is_simulated() && !self.insecure_no_hardware {
            return Err(Failure::undecided(
                "--platform: this one is simulated and proves nothing; accept that with --insecure-no-hardware",
            ));
        }
        if self.simulated_policy.is_some() && !self.platform.is_simulated() {
            return Err(Failure::undecided("--simulated-policy: this platform is not simulated"));
        }
        if self.simulated_stall_file.is_some() && !self.platform.is_simulated() {
            return Err(Failure::undecided("--simulated-stall-file: this platform is not simulated"));
        }
        if self.collateral.is_some() && !self.platform.may_be_tdx() {
            return Err(Failure::undecided("--collateral: only TDX quotes have collateral"));
        }
        if self.tls == TlsKind::Acme {
            self.acme.check(self.names.iter().map(|name| name.host()), self.redirect.redirect.is_some())?;
        }
        if self.sealed_route.is_some() && !self.seals() {
            return Err(Failure::undecided(
                "--route: only sealed requests are routed; take them with --sealed or --sealed-only",
            ));
        }
        Ok(())
    }

    /// Where requests go. Reads the files that say what workers must prove.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let mut upstreams = self.upstreams.clone();
        upstreams.sort_by_key(ToString::to_string);
        if let Some([twice, _]) = upstreams.windows(2).find(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(Failure::undecided(format_args!("--upstream {twice}: expected it once, found it twice")));
        }
        if upstreams.iter().all(Upstream::is_worker) {
            if self.upstream_protocol != UpstreamProtocol::Auto {
                return Err(Failure::undecided("--upstream-protocol: with https upstreams TLS settles what is spoken"));
            }
            return Ok(Target::Workers(upstreams, Box::new(self.workers.read()?)));
        }
        let mut upstreams = upstreams.into_iter();
        match (upstreams.next(), upstreams.next(), self.workers.given()) {
            (Some(upstream), None, None) => Ok(Target::Plain(upstream)),
            (_, None, Some(flag)) => Err(Failure::undecided(format_args!(
                "{flag}: only https upstreams prove anything; this one is plaintext"
            ))),
            _ => Err(Failure::undecided(
                "--upstream: expected one upstream, or several that are https, found several with plaintext among them",
            )),
        }
    }

    /// What stands in it decides where plaintext goes. Limits do not. What a reload can change is left to
    /// [`configured`](Self::configured).
    pub(super) fn base_config(&self, target: &Target) -> Result<EffectiveConfig, Failure> {
        let mut names: Vec<_> = self.host_names().collect();
        names.sort_unstable();
        names.dedup();
        let tls = self.tls.to_possible_value();
        let upstreams = match target {
            Target::Plain(upstream) => std::slice::from_ref(upstream),
            Target::Workers(upstreams, _) => upstreams,
        };
        let mut settings = vec![("names", names.join(","))];
        settings.extend(upstreams.iter().map(|upstream| ("upstream", upstream.to_string())));
        settings.extend([
            ("upstream-protocol", self.upstream_protocol.to_string()),
            ("tls", tls.as_ref().map_or("", |tls| tls.get_name()).to_owned()),
            ("sealed", self.sealing().to_owned()),
        ]);
        EffectiveConfig::new(&settings).map_err(Failure::undecided)
    }

    /// The whole of it.
    pub(super) fn configured(&self, base: &EffectiveConfig, target: &Target) -> Result<EffectiveConfig, Failure> {
        match target {
            Target::Plain(_) => Ok(base.clone()),
            Target::Workers(_, terms) => base.with(&self.workers.lines(terms)).map_err(Failure::undecided),
        }
    }

    /// As key documents list them: lower case, without brackets.
    pub(super) fn host_names(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(|name| name.host().trim_matches(['[', ']']).to_ascii_lowercase())
    }

    /// What becomes of sealed requests, as the effective configuration has it.
    fn sealing(&self) -> &'static str {
        match (self.sealed, self.sealed_only) {
            (_, true) => "only",
            (true, false) => "on",
            (false, false) => "off",
        }
    }

    pub(super) fn seals(&self) -> bool {
        self.sealed || self.sealed_only
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hosts_without_ports() {
        assert_eq!(name("prover.example").unwrap(), "prover.example");
        assert_eq!(name("::1").unwrap(), "[::1]");
        for text in ["", "a:80", "user@a", "http://a", "a/b", "a b", "a:", "[a]"] {
            assert!(name(text).is_err(), "{text:?}");
        }
    }
}
