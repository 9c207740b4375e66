//! Several workers behind one `serve`: attested channels to each, requests to those that are believed.
//!
//! Clients trust this server's measurement and the digest of its configuration, which covers the policy that workers are
//! judged by. So plaintext goes where a client agreed to: no request is sent on a channel of another policy than the one in
//! force when its connection was accepted.

mod flags;
mod flight;
mod generation;
mod narrowed;
mod stats;
mod worker;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use tokio::sync::{Mutex, watch};
use tower_attest::Attester;

pub(crate) use self::flags::{Terms, WorkerFlags};
use self::flight::Flight;
use self::generation::Generation;
use self::narrowed::Narrowed;
use self::stats::Tally;
pub(crate) use self::stats::{Standing, WorkerStats};
use self::worker::Worker;
use super::config::EffectiveConfig;
use super::forwarded::forward;
use super::upstream::{Connector, Upstream};
use crate::admin::metrics::believing::Believing;
use crate::failure::{Failure, chain};
use crate::proxy::activity::Activity;
use crate::proxy::body::ProxyBody;
use crate::proxy::failed::Failed;
use crate::proxy::head::remove_attestation;
use crate::proxy::lent::Loan;
use crate::proxy::problem::{Code, Problem};
use crate::proxy::service::Backend;

/// HTTP/2 windows in bytes, of a stream and of a connection. The second holds 256 of the first, `serve`'s limit of streams:
/// a client that does not read its response holds up no other.
const WINDOWS: (u32, u32) = (512 << 10, 128 << 20);

/// The workers of one `serve`.
pub(crate) struct Balancer {
    flags: WorkerFlags,
    upstreams: Vec<Upstream>,
    connect_timeout: Duration,
    /// What of the effective configuration no reload changes.
    base: EffectiveConfig,
    tallies: Vec<Arc<Tally>>,
    meter: Believing,
    current: ArcSwap<Generation>,
    /// The digest in force. Held by the reload that runs.
    reloading: Mutex<[u8; 32]>,
}

impl Balancer {
    /// Connects to the workers, and keeps looking at them. Inside a tokio runtime.
    pub(crate) async fn start(
        flags: WorkerFlags,
        upstreams: Vec<Upstream>,
        connect_timeout: Duration,
        base: EffectiveConfig,
        terms: &Terms,
        meter: Believing,
    ) -> Result<Arc<Self>, Failure> {
        let tallies: Vec<_> = upstreams.iter().map(|_| Arc::default()).collect();
        let digest = base.with(&flags.lines(terms)).map_err(Failure::undecided)?.digest();
        let generation = generation(&flags, &upstreams, connect_timeout, &tallies, terms, &meter).await?;
        let (current, reloading) = (ArcSwap::from_pointee(generation), Mutex::new(digest));
        Ok(Arc::new(Self { flags, upstreams, connect_timeout, base, tallies, meter, current, reloading }))
    }

    /// Reads the files again. If they say something else, that is in force on return: keys that vouch for it, then workers
    /// judged by it alone, and clients that were told of what was before come again on new connections. On an error what
    /// was before stays in force.
    pub(crate) async fn reload(&self, attester: &Attester) -> Result<(), Failure> {
        let mut in_force = self.reloading.lock().await;
        let terms = self.flags.read()?;
        let config = self.base.with(&self.flags.lines(&terms)).map_err(Failure::undecided)?;
        if config.digest() == *in_force {
            return Ok(());
        }
        let (upstreams, timeout) = (&self.upstreams, self.connect_timeout);
        let next = Arc::new(generation(&self.flags, upstreams, timeout, &self.tallies, &terms, &self.meter).await?);
        next.settled().await;
        // The order matters: a connection that is accepted between the two is told of the new configuration and asked to
        // come again, and none that was told of the old one is served under the new.
        attester.set_config(config.digest()).map_err(|error| Failure::during("the key document", &error))?;
        *in_force = config.digest();
        let before = self.current.swap(Arc::clone(&next));
        before.retire(&next);
        tracing::info!(config = hex::encode(config.digest()), "workers are judged by another policy");
        Ok(())
    }

    /// What each worker has done, in the order of their URLs.
    pub(crate) fn stats(&self) -> Vec<WorkerStats> {
        self.current.load().workers().iter().map(|worker| worker.stats()).collect()
    }

    /// For a client's connection that has just been accepted, before anything is said on it.
    pub(crate) fn backend(self: &Arc<Self>) -> BalancerBackend {
        BalancerBackend { generation: self.current.load_full() }
    }
}

async fn generation(
    flags: &WorkerFlags,
    upstreams: &[Upstream],
    connect_timeout: Duration,
    tallies: &[Arc<Tally>],
    terms: &Terms,
    meter: &Believing,
) -> Result<Generation, Failure> {
    let believer = flags.sources().believer(terms.demands.clone(), None);
    believer.count(meter.clone());
    // Before the first verdict, which a policy that requires revocation lists would otherwise have go wrong.
    believer.ready().await;
    let verifier = Arc::new(Narrowed::new(Arc::clone(believer.judge())));
    Generation::start(Arc::clone(&verifier), flags.check_interval(), |changed| {
        upstreams
            .iter()
            .zip(tallies)
            .map(|(upstream, tally)| {
                let wrong = |error: &(dyn std::error::Error + 'static)| {
                    Failure::during(format_args!("--upstream {upstream}"), error)
                };
                let uri: Uri = upstream.to_string().parse().map_err(|error| wrong(&error))?;
                let named = upstream.named(flags.name()).parse::<Uri>().map_err(|error| wrong(&error))?;
                let connector = Connector::new(upstream.clone(), connect_timeout);
                let (believer, verifier) = (believer.clone(), Arc::clone(&verifier));
                let (keep_alive, meter) = (flags.keep_alive(), meter.clone());
                let builder = move || {
                    let meter = meter.clone();
                    believer
                        .channel_judged_by(named.clone(), Arc::clone(&verifier))
                        .connector(connector.clone())
                        .connect_timeout(connect_timeout)
                        .http2_keep_alive(keep_alive, keep_alive)
                        .http2_windows(WINDOWS.0, WINDOWS.1)
                        .on_attestation(move |attestation| meter.attestation(attestation))
                };
                Worker::new(uri, builder, flags.connections(), Arc::clone(tally), Arc::clone(changed))
                    .map_err(|error| wrong(&error))
            })
            .collect()
    })
}

/// The workers, as one client's connection may use them.
#[derive(Debug, Clone)]
pub(crate) struct BalancerBackend {
    generation: Arc<Generation>,
}

impl BalancerBackend {
    /// Turns true when the connection shall take no more requests.
    pub(crate) fn retired(&self) -> watch::Receiver<bool> {
        self.generation.retired()
    }
}

impl Backend for BalancerBackend {
    /// A worker knows itself by its own name, which the channel puts in.
    fn prepare(&self, request: &mut Parts, peer: Option<SocketAddr>) -> Result<(), Problem> {
        forward(request, peer)?;
        request.headers.remove(HOST);
        let target = request.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        request.uri = Uri::from(target);
        Ok(())
    }

    async fn send(&self, request: Request<ProxyBody>, upgrade: bool) -> Result<Response<ProxyBody>, Problem> {
        let (mut parts, body) = request.into_parts();
        let activity = parts.extensions.remove::<Arc<Activity>>();
        let loan = Loan::new(body);
        let mut harmless = parts.method.is_safe() && loan.is_empty() && !upgrade;
        let mut avoid = None;
        // Each worker may have gone since it was last looked at.
        for _ in 0..=self.generation.workers().len() {
            let worker = self.generation.choose(avoid.as_ref()).await?;
            let mut flight = Flight::start(Arc::clone(&worker), activity.clone());
            let request = Request::from_parts(parts.clone(), loan.lend());
            let error = match worker.send(request, upgrade).await {
                Ok(mut response) => {
                    remove_attestation(response.headers_mut());
                    return Ok(flight.carry(response));
                }
                Err(error) => error,
            };
            let failed = Failed::of(&error, &loan);
            tracing::debug!(?failed, reason = %chain(&*error), "exchange with a worker failed");
            match &failed {
                Failed::Client => {
                    flight.end();
                    return Err(Problem::new(
                        StatusCode::BAD_REQUEST,
                        Code::ClientGone,
                        "the request's body broke off",
                    ));
                }
                Failed::Unsent | Failed::Unprocessed => {
                    flight.end();
                    worker.doubt();
                }
                Failed::Broken => flight.broke(),
            }
            if !failed.allows_another(loan.is_whole(), harmless) {
                return Err(broke_off());
            }
            harmless &= !matches!(failed, Failed::Broken);
            avoid = Some(worker);
        }
        Err(broke_off())
    }
}

fn broke_off() -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, Code::UpstreamBroke, "the worker broke off the exchange")
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}
