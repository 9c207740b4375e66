//! `tower-attest serve`: ends TLS inside the TEE, attests, and sends requests on to a program that knows nothing of it.

mod backend;
mod banner;
mod collateral;
mod config;
pub(crate) mod hardware;
mod upstream;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::uri::Authority;
use tokio::sync::Semaphore;
use tower::Layer;
use tower_attest::seal::UnsealLayer;
use tower_attest::tls::{ConnectionInfoLayer, Tls, TlsListener, TlsStream};
use tower_attest::{Attester, ReportLayer};

use self::backend::UpstreamBackend;
use self::config::EffectiveConfig;
use self::hardware::Hardware;
use self::upstream::{Upstream, UpstreamProtocol};
use crate::failure::Failure;
use crate::proxy::activity::Exchanges;
use crate::proxy::limits::{Limits, positive};
use crate::proxy::server::{Protocol, serve_connection};
use crate::proxy::service::Proxy;
use crate::proxy::shutdown::{Running, Shutdown, signal};
use crate::proxy::timed::Timed;
use crate::simulation;

/// Attest a service that cannot change: run this beside it, inside the TEE.
///
/// Ends TLS 1.3, answers for the hardware, and sends requests on. Clients are `tower-attest connect`, `AttestedChannel`,
/// or anything that speaks HTTPS and asks for no proof.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A host name that clients use for this server. Repeat it for more.
    #[arg(long = "host", value_name = "NAME", required = true, value_parser = name)]
    names: Vec<Authority>,
    /// Where requests go: http://HOST:PORT or unix:PATH.
    #[arg(long, value_name = "URL")]
    upstream: Upstream,
    /// What is spoken with the upstream.
    #[arg(long, value_name = "PROTOCOL", default_value = "auto")]
    upstream_protocol: UpstreamProtocol,
    /// Send plaintext to an upstream that is not on this machine.
    #[arg(long)]
    insecure_upstream: bool,
    /// How long connecting to the upstream may take.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = positive)]
    connect_timeout: Duration,
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where the certificate comes from.
    #[arg(long, value_name = "KIND", default_value = "self-signed")]
    tls: TlsKind,
    /// Certificate chain, PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", required_if_eq("tls", "pem"))]
    cert: Option<PathBuf>,
    /// Private key, PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", required_if_eq("tls", "pem"))]
    key: Option<PathBuf>,
    /// The hardware that vouches for this server.
    #[arg(long, value_name = "PLATFORM", default_value = "auto")]
    platform: Hardware,
    /// Send Intel's collateral along with TDX quotes, so that clients need no route to Intel: `intel`, the URL of a PCCS,
    /// or a directory (docs/TDX.md).
    #[arg(long, value_name = "SOURCE")]
    collateral: Option<collateral::Source>,
    /// Run on a simulated platform, which proves nothing.
    #[arg(long)]
    insecure_no_hardware: bool,
    /// Write a policy that accepts the simulated platform to this file. Not for hardware: a policy that a server writes
    /// for itself is no policy.
    #[arg(long, value_name = "FILE", requires = "insecure_no_hardware")]
    simulated_policy: Option<PathBuf>,
    /// Take requests that are sealed to a key in the evidence, too: they pass carriers that end TLS.
    #[arg(long, conflicts_with = "sealed_only")]
    sealed: bool,
    /// Take sealed requests alone: others are answered 403, or PERMISSION_DENIED over gRPC.
    #[arg(long)]
    sealed_only: bool,
    /// Print the effective configuration, whose SHA-256 clients can pin, and end.
    #[arg(long)]
    show_config: bool,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TlsKind {
    /// A key made at the start, which never leaves this process. Clients rely on the evidence alone.
    SelfSigned,
    /// From --cert and --key.
    Pem,
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
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let config = self.config()?;
        if self.show_config {
            anstream::print!("{}", config.text());
            anstream::println!("# sha256 {}", hex::encode(config.digest()));
            return Ok(ExitCode::SUCCESS);
        }
        if !self.upstream.is_local() && !self.insecure_upstream {
            return Err(Failure::undecided(format_args!(
                "--upstream {}: plaintext would leave this machine, and with it the TEE; run the service beside this \
                 program, or accept that with --insecure-upstream",
                self.upstream
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
        let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::during("starting", &error))?;
        runtime.block_on(self.serve(config))
    }

    /// What stands in it decides where plaintext goes. Limits do not.
    fn config(&self) -> Result<EffectiveConfig, Failure> {
        let mut names: Vec<_> = self.host_names().collect();
        names.sort_unstable();
        names.dedup();
        let tls = self.tls.to_possible_value();
        EffectiveConfig::new(&[
            ("names", &names.join(",")),
            ("upstream", &self.upstream.to_string()),
            ("upstream-protocol", &self.upstream_protocol.to_string()),
            ("tls", tls.as_ref().map_or("", |tls| tls.get_name())),
            ("sealed", self.sealing()),
        ])
        .map_err(Failure::undecided)
    }

    /// As key documents list them: lower case, without brackets.
    fn host_names(&self) -> impl Iterator<Item = String> {
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

    fn seals(&self) -> bool {
        self.sealed || self.sealed_only
    }

    fn unseal(&self, attester: &Attester) -> Result<Option<UnsealLayer>, Failure> {
        if !self.seals() {
            return Ok(None);
        }
        let layer = UnsealLayer::new(attester.clone()).map_err(|error| Failure::during("--sealed", &error))?;
        Ok(Some(if self.sealed_only { layer.sealed_only() } else { layer }))
    }

    fn tls(&self) -> Result<Tls, Failure> {
        let made = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) if self.tls == TlsKind::Pem => Tls::pem(cert, key),
            _ => Tls::self_signed_names(self.host_names()),
        };
        made.map_err(|error| Failure::during("TLS", &error))
    }

    async fn serve(self, config: EffectiveConfig) -> Result<ExitCode, Failure> {
        let signal = signal().map_err(|error| Failure::during("signals", &error))?;
        let tls = self.tls()?;
        let mut attester = Attester::builder(self.platform.open(self.collateral.as_ref())?)
            .names(self.host_names())
            .config(config.digest());
        if self.seals() {
            attester = attester.seal();
        }
        let attester = attester.start().await.map_err(|error| Failure::during("the hardware", &error))?;
        let unseal = self.unseal(&attester)?;
        let identity = banner::identity(&attester).await?;
        if let Some(path) = &self.simulated_policy {
            std::fs::write(path, simulation::policy()).map_err(|error| Failure::during(path.display(), &error))?;
        }
        let listener = TlsListener::bind(self.listen, tls)
            .await
            .map_err(|error| Failure::during(format_args!("--listen {}", self.listen), &error))?;
        banner::print(&self, &identity, &config, listener.local_addr());
        self.accept(listener, attester.clone(), unseal, signal).await;
        attester.drain().await;
        Ok(ExitCode::SUCCESS)
    }

    /// Accepts connections until the signal, then lets what runs come to its end.
    async fn accept(
        self,
        mut listener: TlsListener,
        attester: Attester,
        unseal: Option<UnsealLayer>,
        signal: impl Future<Output = ()>,
    ) {
        let limits = Arc::new(self.limits);
        let backend =
            UpstreamBackend::new(self.upstream, self.upstream_protocol, self.connect_timeout, self.names.into());
        let layers = Layers { report: ReportLayer::new(attester), unseal };
        let permits =
            Arc::new(Semaphore::new(usize::try_from(limits.max_connections).unwrap_or(Semaphore::MAX_PERMITS)));
        let (shutdown, running) = Shutdown::new();
        let accepting = async {
            while let Ok(permit) = Arc::clone(&permits).acquire_owned().await
                && let Some((stream, _)) = listener.accept().await
            {
                tokio::spawn(connection(
                    stream,
                    layers.clone(),
                    backend.clone(),
                    Arc::clone(&limits),
                    running.with(permit),
                ));
            }
        };
        tokio::select! {
            () = accepting => {}
            () = signal => {}
        }
        drop(listener);
        drop(running);
        shutdown.begin();
        tracing::info!("shutting down");
        if !shutdown.drained(limits.drain_timeout).await {
            tracing::warn!(limit = ?limits.drain_timeout, "exchanges cut off at the end of the drain timeout");
        }
    }
}

/// What stands between a connection and the proxy.
#[derive(Debug, Clone)]
struct Layers {
    report: ReportLayer,
    unseal: Option<UnsealLayer>,
}

async fn connection(
    stream: TlsStream,
    layers: Layers,
    backend: UpstreamBackend,
    limits: Arc<Limits>,
    running: Running,
) {
    let protocol = if stream.is_http2() { Protocol::Http2 } else { Protocol::Http1 };
    let info = stream.info().clone();
    let exchanges = Exchanges::default();
    let proxy = Proxy::new(backend, Arc::clone(&limits), exchanges.clone(), running.clone(), info.remote_addr());
    let info = ConnectionInfoLayer::new(info);
    match layers.unseal {
        None => {
            let service = info.layer(layers.report.layer(proxy));
            serve_connection(stream, protocol, service, exchanges, &limits, running).await;
        }
        Some(unseal) => {
            let timed = Timed::new(unseal.layer(proxy), Arc::clone(&limits), exchanges.clone());
            let service = info.layer(layers.report.layer(timed));
            serve_connection(stream, protocol, service, exchanges, &limits, running).await;
        }
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
