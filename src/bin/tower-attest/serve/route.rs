//! Where `serve` sends requests: to one program that knows nothing of attestation, or to workers that prove what they are.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response};
use tokio::sync::watch;
use tower_attest::Attester;

use super::Serve;
use super::backend::UpstreamBackend;
use super::balancer::{Balancer, BalancerBackend};
use super::config::EffectiveConfig;
use super::flags::Target;
use crate::admin::metrics::believing::Believing;
use crate::failure::Failure;
use crate::lifecycle::Lifecycle;
use crate::proxy::body::ProxyBody;
use crate::proxy::problem::Problem;
use crate::proxy::service::Backend;

/// Where the requests of all clients go.
#[derive(Debug, Clone)]
pub(super) enum Route {
    Plain(Arc<UpstreamBackend>),
    Workers(Arc<Balancer>),
}

/// Where the requests of one client's connection go.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Plain(Arc<UpstreamBackend>),
    Workers(BalancerBackend),
}

impl Serve {
    /// Inside a tokio runtime.
    pub(super) async fn route(
        &self,
        target: Target,
        base: EffectiveConfig,
        meter: &Believing,
    ) -> Result<Route, Failure> {
        Ok(match target {
            Target::Plain(upstream) => Route::Plain(Arc::new(UpstreamBackend::new(
                upstream,
                self.upstream_protocol,
                self.connect_timeout,
                self.names.clone().into(),
            ))),
            Target::Workers(upstreams, terms) => Route::Workers(
                Balancer::start(self.workers.clone(), upstreams, self.connect_timeout, base, &terms, meter.clone())
                    .await?,
            ),
        })
    }
}

impl Route {
    /// SIGHUP reads the workers' policy again, and the root certificates with it.
    pub(super) fn reload_on_signal(&self, lifecycle: &Lifecycle, attester: &Attester) {
        let Self::Workers(balancer) = self else { return };
        let (balancer, attester) = (Arc::clone(balancer), attester.clone());
        lifecycle.reloads().add("upstream-policy", move || {
            let (balancer, attester) = (Arc::clone(&balancer), attester.clone());
            async move { balancer.reload(&attester).await }
        });
    }

    /// For a connection that has just been accepted, before anything is said on it.
    pub(super) fn connection(&self) -> Way {
        match self {
            Self::Plain(backend) => Way::Plain(Arc::clone(backend)),
            Self::Workers(balancer) => Way::Workers(balancer.backend()),
        }
    }
}

impl Way {
    /// Turns true when the connection shall take no more requests.
    pub(super) fn retired(&self) -> Option<watch::Receiver<bool>> {
        match self {
            Self::Plain(_) => None,
            Self::Workers(backend) => Some(backend.retired()),
        }
    }
}

impl Backend for Way {
    fn prepare(&self, request: &mut Parts, peer: Option<SocketAddr>) -> Result<(), Problem> {
        match self {
            Self::Plain(backend) => backend.prepare(request, peer),
            Self::Workers(backend) => backend.prepare(request, peer),
        }
    }

    async fn send(&self, request: Request<ProxyBody>, upgrade: bool) -> Result<Response<ProxyBody>, Problem> {
        match self {
            Self::Plain(backend) => backend.send(request, upgrade).await,
            Self::Workers(backend) => backend.send(request, upgrade).await,
        }
    }
}
