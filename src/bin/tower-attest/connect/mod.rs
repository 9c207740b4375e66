//! `tower-attest connect`: a plaintext port beside a client that knows nothing of attestation, attested channels behind it.

mod addresses;
pub(crate) mod backend;
mod location;
mod reload;
mod result;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::Uri;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tower_attest::VerifiedReport;
use tower_attest::tls::{AttestedChannel, ChannelError, EndpointState};

use self::backend::{AttestedBackend, Far, Hosts, Route, Way};
use crate::admin::checks::FarEndCheck;
use crate::admin::metrics::{Metrics, believing};
use crate::admin::{Admin, AdminFlags};
use crate::banner::line;
use crate::configuration::{Source, after_help};
use crate::failure::Failure;
use crate::lifecycle::{self, Lifecycle};
use crate::listen::{Listen, Listener};
use crate::proxy::activity::Exchanges;
use crate::proxy::limits::Limits;
use crate::proxy::meter::Meter;
use crate::proxy::server::serve_connection;
use crate::proxy::service::Proxy;
use crate::proxy::shutdown::{Running, Shutdown};
use crate::trust::Trust;

/// How long to wait after the system refused a connection for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const EXAMPLES: &str = after_help!(
    "\
Examples:
  tower-attest connect --to https://prover.example --policy policy.toml
  tower-attest connect --to https://prover.example --policy policy.toml \\
      --listen unix:/run/prover.sock
  tower-attest connect --to https://prover.example --policy policy.toml \\
      --address 10.0.0.1:443 --address 10.0.0.2:443
  tower-attest connect --to https://balancer.example --policy policy.toml \\
      --sealed
  tower-attest connect --config-file tower-attest.toml --check"
);

/// Give a program that cannot change an attested way to a service: run this beside it.
///
/// Takes plaintext HTTP/1.1, HTTP/2 and gRPC, and sends it on over channels whose far end has been verified. What cannot be
/// verified is answered 502, or UNAUTHENTICATED over gRPC; nothing of the request has then left.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Connect {
    /// The service, https://HOST or https://HOST:PORT.
    #[arg(long, value_name = "URL", value_parser = https)]
    to: Uri,
    /// An address of the service, HOST:PORT, in place of what its name resolves to. Repeat it to balance between several;
    /// each is attested by itself.
    #[arg(long = "address", value_name = "ADDR", value_parser = addresses::address)]
    addresses: Vec<Uri>,
    /// Where to listen: ADDR:PORT or unix:PATH.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: Listen,
    /// Listen where other machines can connect. They send plaintext to this one.
    #[arg(long)]
    insecure_listen: bool,
    /// Another host that clients may ask this port for, and whose pages may ask it in a browser. Loopback names and the
    /// service's are allowed.
    #[arg(long = "allow-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// Seal each request to a key in verified evidence, in place of attested channels: where something that reads along
    /// ends TLS before the service. The service runs with --sealed or --sealed-only.
    #[arg(long, conflicts_with_all = ["addresses", "connections", "dangerous_trust_attestation_alone"])]
    sealed: bool,
    /// Connections to keep to the service where no --address is given.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    admin: AdminFlags,
    #[command(flatten)]
    limits: Limits,
}

fn https(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    let plain = uri.scheme_str() == Some("https")
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && matches!(uri.path_and_query().map(|target| target.as_str()), None | Some("/"));
    let named = uri.host().is_some_and(|host| ServerName::try_from(host.trim_matches(['[', ']'])).is_ok());
    if plain && named { Ok(uri) } else { Err("expected https://HOST or https://HOST:PORT".to_owned()) }
}

impl Connect {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        if !self.listen.is_local() && !self.insecure_listen {
            return Err(Failure::undecided(format_args!(
                "--listen {}: other machines could send plaintext to it; listen on a loopback address or a Unix socket, \
                 or accept that with --insecure-listen",
                self.listen
            )));
        }
        if self.source.check {
            let demands = self.trust.read()?;
            if self.sealed {
                demands.roots()?;
            }
            return Ok(self.source.checked());
        }
        lifecycle::run(|lifecycle| Arc::new(self).connect(lifecycle))
    }

    async fn connect(self: Arc<Self>, lifecycle: Lifecycle) -> Result<(), Failure> {
        let meter = believing::Believing::new();
        let far = Far::new(self.to.clone(), self.trust.open()?, meter.clone());
        let admin = self.admin.start().await?;
        let listener = self
            .listen
            .bind()
            .await
            .map_err(|error| Failure::during(format_args!("--listen {}", self.listen), &error))?;
        line("to", &self.to.to_string());
        let way = match self.sealed {
            true => Way::Sealed(Box::new(far.sealer()?)),
            false => Way::Channel(self.channel(&far).await?),
        };
        let hosts = self.hosts();
        let address = listener.address().map_err(|error| Failure::during("--listen", &error))?;
        match &way {
            Way::Channel(channel) => log_start(&address, attested(channel).as_ref()),
            Way::Sealed(_) => log_start(&address, None),
        }
        line("listening", &address.to_string());
        let backend = AttestedBackend::new(Route { way, far }, hosts);
        self.reload_on_signal(&lifecycle, backend.clone());
        let connections = Meter::new(self.limits.max_connections);
        self.tell(&admin, &backend, &meter, &connections, &lifecycle);
        lifecycle.serving(format!("{} on {address}", self.to));
        let ending = async {
            lifecycle.ending().await;
            admin.draining();
        };
        serve(listener, backend, Arc::new(self.limits.clone()), &connections, ending).await;
        admin.stop().await;
        Ok(())
    }

    /// Tells whoever runs this that it listens, and from where to read how it does.
    fn tell(
        &self,
        admin: &Admin,
        backend: &AttestedBackend,
        meter: &believing::Believing,
        connections: &Meter,
        lifecycle: &Lifecycle,
    ) {
        let mut metrics = Metrics::new(&[("command", "connect")], connections, lifecycle.reloads());
        meter.register(metrics.own());
        let route = backend.clone();
        if self.sealed {
            believing::trust(metrics.own(), move || match &route.route().way {
                Way::Sealed(sealer) => Some(sealer.trust()),
                Way::Channel(_) => None,
            });
        } else {
            believing::endpoints(metrics.own(), move || match &route.route().way {
                Way::Channel(channel) => Some(channel.endpoints()),
                Way::Sealed(_) => None,
            });
        }
        admin.serving(vec![Arc::new(FarEndCheck(backend.clone()))], metrics);
    }

    /// Tries the far end once, so that whoever starts this learns at once whether it is believed. If it is not, requests
    /// are answered so until it is.
    async fn channel(&self, far: &Far) -> Result<AttestedChannel, Failure> {
        let configuration = |error: ChannelError| Failure::during("--to", &error);
        if !self.addresses.is_empty() {
            return self.lazy_channel(far).map_err(configuration);
        }
        match far.builder().connections(usize::from(self.connections)).connect().await {
            Ok(channel) => {
                attested(&channel).iter().for_each(introduce);
                Ok(channel)
            }
            Err(error) => {
                warn(&error);
                self.lazy_channel(far).map_err(configuration)
            }
        }
    }

    /// The same without trying: the first request waits for the verdict.
    fn lazy_channel(&self, far: &Far) -> Result<AttestedChannel, ChannelError> {
        match self.addresses.is_empty() {
            true => far.builder().connections(usize::from(self.connections)).connect_lazy(),
            false => AttestedChannel::balance(far.builder(), addresses::fixed(&self.addresses)),
        }
    }

    fn hosts(&self) -> Hosts {
        match self.listen {
            Listen::Tcp(_) if !self.insecure_listen => {
                let far = self.to.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
                Hosts::Only(self.allowed_hosts.iter().cloned().chain([far]).collect())
            }
            _ => Hosts::Any,
        }
    }
}

/// Who the far end is, if it has been attested.
fn attested(channel: &AttestedChannel) -> Option<VerifiedReport> {
    channel.endpoints().into_iter().find_map(|endpoint| match endpoint.state {
        EndpointState::Attested(report) => Some(report),
        _ => None,
    })
}

fn log_start(address: &Listen, report: Option<&VerifiedReport>) {
    let platform = report.map(|report| report.platform().to_string());
    let measurement = report.map(|report| hex::encode(report.measurement()));
    let config = report.and_then(VerifiedReport::config_digest).map(hex::encode);
    tracing::info!(platform, measurement, config, %address, "serving");
}

/// The same for whoever started this.
fn introduce(report: &VerifiedReport) {
    let measurement = hex::encode(report.measurement());
    let (first, second) = measurement.split_at(measurement.len() / 2);
    line("attested", &report.platform().to_string());
    line("measurement", first);
    line("", second);
    if let Some(name) = report.measurement_name() {
        line("", &format!("{name:?}"));
    }
    if let Some(config) = report.config_digest() {
        line("config", &hex::encode(config));
    }
}

fn warn(error: &ChannelError) {
    tracing::warn!(stage = %error.stage(), reason = %error, "not attested yet: nothing is forwarded");
}

/// Accepts connections until the sidecar is to end, then lets what runs come to its end.
async fn serve(
    listener: Listener,
    backend: AttestedBackend,
    limits: Arc<Limits>,
    meter: &Meter,
    ending: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(usize::try_from(limits.max_connections).unwrap_or(Semaphore::MAX_PERMITS)));
    let (shutdown, running) = Shutdown::new();
    let accepting = async {
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let accepted = match &listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                    // That it cannot be set costs time alone.
                    let _ = stream.set_nodelay(true);
                    spawn(
                        stream,
                        Some(peer),
                        &backend,
                        &limits,
                        running.with(permit).counted(meter.connection()),
                        meter,
                    );
                }),
                #[cfg(unix)]
                Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    spawn(stream, None, &backend, &limits, running.with(permit).counted(meter.connection()), meter);
                }),
            };
            if let Err(error) = accepted {
                tracing::error!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = ending => {}
    }
    drop(listener);
    drop(running);
    shutdown.begin();
    if !shutdown.drained(limits.drain_timeout).await {
        tracing::warn!(limit = ?limits.drain_timeout, "exchanges cut off at the end of the drain timeout");
    }
}

fn spawn(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Option<SocketAddr>,
    backend: &AttestedBackend,
    limits: &Arc<Limits>,
    running: Running,
    meter: &Meter,
) {
    let (limits, exchanges) = (Arc::clone(limits), Exchanges::default());
    let proxy =
        Proxy::new(backend.clone(), Arc::clone(&limits), exchanges.clone(), running.clone(), peer, meter.clone());
    tokio::spawn(async move { serve_connection(stream, proxy, exchanges, &limits, running).await });
}
