//! `tower-attest serve`: ends TLS inside the TEE, attests, and sends requests on to a program that knows nothing of it.

mod acme;
mod admin;
mod backend;
pub(crate) mod balancer;
mod banner;
pub(crate) mod certificate;
mod collateral;
mod config;
mod flags;
mod forwarded;
pub(crate) mod hardware;
mod redirect;
mod route;
mod stall;
pub(crate) mod upstream;

use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::Layer;
use tower_attest::seal::UnsealLayer;
use tower_attest::tls::{ConnectionInfoLayer, TlsListener, TlsStream};
use tower_attest::{Attester, Health, ReportLayer, ReportProvider};

use self::admin::Counters;
use self::certificate::Certificate;
use self::config::EffectiveConfig;
pub(crate) use self::flags::Serve;
use self::flags::Target;
use self::redirect::Redirect;
use self::route::{Route, Way};
use self::stall::Stalling;
use crate::failure::Failure;
use crate::lifecycle::{self, Lifecycle};
use crate::proxy::activity::Exchanges;
use crate::proxy::limits::Limits;
use crate::proxy::meter::Meter;
use crate::proxy::server::serve_connection;
use crate::proxy::service::Proxy;
use crate::proxy::shutdown::{Running, Shutdown};
use crate::proxy::timed::Timed;
use crate::simulation;

impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let target = self.target()?;
        let base = self.base_config(&target)?;
        let config = self.configured(&base, &target)?;
        if self.show_config {
            anstream::print!("{}", config.text());
            anstream::println!("# sha256 {}", hex::encode(config.digest()));
            return Ok(ExitCode::SUCCESS);
        }
        self.check()?;
        if self.source.check {
            self.check_files()?;
            return Ok(self.source.checked());
        }
        lifecycle::run(|lifecycle| self.serve(config, base, target, lifecycle))
    }

    /// What can be known of the files without the hardware or the network.
    fn check_files(&self) -> Result<(), Failure> {
        Certificate::check(self)?;
        self.collateral.as_ref().map_or(Ok(()), |source| source.open().map(drop))
    }

    /// What makes the reports.
    fn hardware(&self) -> Result<Box<dyn ReportProvider>, Failure> {
        let hardware = self.platform.open(self.collateral.as_ref())?;
        Ok(match &self.simulated_stall_file {
            Some(file) => Box::new(Stalling::new(hardware, file)),
            None => hardware,
        })
    }

    fn unseal(&self, attester: &Attester) -> Result<Option<UnsealLayer>, Failure> {
        if !self.seals() {
            return Ok(None);
        }
        let layer = UnsealLayer::new(attester.clone()).map_err(|error| Failure::during("--sealed", &error))?;
        Ok(Some(if self.sealed_only { layer.sealed_only() } else { layer }))
    }

    async fn serve(
        self,
        config: EffectiveConfig,
        base: EffectiveConfig,
        target: Target,
        lifecycle: Lifecycle,
    ) -> Result<(), Failure> {
        let certificate = Certificate::open(&self)?;
        let tls = certificate.tls();
        let admin = self.admin.start().await?;
        let counters = self.counters();
        let on_report = counters.attesting.clone();
        let mut attester = Attester::builder(self.hardware()?)
            .names(self.host_names())
            .config(config.digest())
            .epoch(self.key_lifetime)
            .report_timeout(self.report_timeout)
            .on_report(move |call| on_report.report(call));
        if self.seals() {
            attester = attester.seal();
        }
        if let Some(route) = &self.sealed_route {
            attester = attester.route(route);
        }
        let attester = attester.start().await.map_err(|error| Failure::during("the hardware", &error))?;
        let unseal = self.unseal(&attester)?;
        let identity = banner::identity(&attester).await?;
        if let Some(path) = &self.simulated_policy {
            std::fs::write(path, simulation::policy()).map_err(|error| Failure::during(path.display(), &error))?;
        }
        certificate.reload_by(&lifecycle);
        let route = self.route(target, base, &counters.believing).await?;
        route.reload_on_signal(&lifecycle, &attester);
        let listener = TlsListener::bind(self.listen, tls)
            .await
            .map_err(|error| Failure::during(format_args!("--listen {}", self.listen), &error))?;
        let redirect = Redirect::bind(&self.redirect, &self.names, certificate.challenges()).await?;
        let front = Front { certificate, redirect };
        let outside = (listener.handle(), front.certificate.status());
        self.tell(&admin, &counters, &attester, outside, &route, &lifecycle);
        banner::print(&self, &identity, &config, &front, listener.local_addr());
        lifecycle.alive_while({
            let attester = attester.clone();
            move || attester.health() != Health::Stopped
        });
        lifecycle.serving(format!("{identity} on {}", listener.local_addr()));
        let Counters { attesting, meter, .. } = counters;
        let report = ReportLayer::new(attester.clone()).on_outcome(move |outcome| attesting.outcome(outcome));
        let layers = Layers { report, unseal, meter };
        let ending = async {
            lifecycle.ending().await;
            admin.draining();
        };
        self.accept(listener, layers, route, front, ending).await;
        attester.drain().await;
        admin.stop().await;
        Ok(())
    }

    /// Accepts connections until the sidecar is to end, then lets what runs come to its end.
    async fn accept(
        self,
        mut listener: TlsListener,
        layers: Layers,
        route: Route,
        front: Front,
        ending: impl Future<Output = ()>,
    ) {
        let limits = Arc::new(self.limits);
        let permits =
            Arc::new(Semaphore::new(usize::try_from(limits.max_connections).unwrap_or(Semaphore::MAX_PERMITS)));
        let (shutdown, running) = Shutdown::new();
        let _background = front.start(&limits, &running);
        let accepting = async {
            while let Ok(permit) = Arc::clone(&permits).acquire_owned().await
                && let Some((stream, _)) = listener.accept().await
            {
                let way = route.connection();
                let running = running.with(permit).counted(layers.meter.connection()).until(way.retired());
                tokio::spawn(connection(stream, layers.clone(), way, Arc::clone(&limits), running));
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
}

/// What runs beside the listener.
#[derive(Debug)]
struct Front {
    certificate: Certificate,
    redirect: Option<Redirect>,
}

impl Front {
    /// Runs until the set is dropped.
    fn start(self, limits: &Arc<Limits>, running: &Running) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.certificate.run());
        if let Some(redirect) = self.redirect {
            tasks.spawn(redirect.run(Arc::clone(limits), running.clone()));
        }
        tasks
    }
}

/// What stands between a connection and the proxy.
#[derive(Debug, Clone)]
struct Layers {
    report: ReportLayer,
    unseal: Option<UnsealLayer>,
    meter: Meter,
}

async fn connection(stream: TlsStream, layers: Layers, way: Way, limits: Arc<Limits>, running: Running) {
    let info = stream.info().clone();
    let exchanges = Exchanges::default();
    let peer = info.remote_addr();
    let meter = layers.meter;
    let proxy = Proxy::new(way, Arc::clone(&limits), exchanges.clone(), running.clone(), peer, meter.clone());
    let info = ConnectionInfoLayer::new(info);
    match layers.unseal {
        None => {
            let service = info.layer(layers.report.layer(proxy));
            serve_connection(stream, service, exchanges, &limits, running).await;
        }
        Some(unseal) => {
            let timed = Timed::new(unseal.layer(proxy), Arc::clone(&limits), exchanges.clone(), meter);
            let service = info.layer(layers.report.layer(timed));
            serve_connection(stream, service, exchanges, &limits, running).await;
        }
    }
}
