//! Clients and replicas in one process, real but for the network, the hardware's time and the passing of time.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response, Uri};
use http_body_util::Full;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::protocol::{ATTESTATION_NONCE, ATTESTATION_REPORT, WELL_KNOWN_PATH};
use tower_attest::server::ReportBody;
use tower_attest::time::ManualClock;
use tower_attest::{AttestLayer, Attester, ReportLayer};

/// How a client's requests find a replica.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Balancing {
    /// Any, all behind one name.
    Random,
    /// Always the same, as with one connection.
    Sticky,
    /// Any, and the client knows which: each replica has a name of its own, so that trust is kept apart.
    OwnNames,
}

#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) replicas: usize,
    pub(crate) clients: usize,
    /// Seconds between a client's requests.
    pub(crate) interval: u64,
    /// Seconds that a replica's keys last.
    pub(crate) epoch: u64,
    pub(crate) balancing: Balancing,
}

/// What happened in the time that was measured.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    /// Nonces that the hardware answered.
    pub(crate) evidence: u64,
    /// Of those, asked for before a request could leave.
    pub(crate) preflights: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) client_hours: f64,
}

/// Evidence lasts 10 minutes: after twice that nothing reminds of the start.
const WARM_UP: u64 = 20 * 60;
const MEASURED: u64 = 3600;

type Replica = BoxCloneSyncService<Request<Full<Bytes>>, Response<ReportBody<Full<Bytes>>>, Infallible>;

#[derive(Default)]
struct Traffic {
    dice: AtomicU64,
    preflights: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
}

impl Scenario {
    pub(crate) async fn run(self) -> Totals {
        let (tee, clock) = (MockTee::new(), ManualClock::new());
        let mut attesters = Vec::with_capacity(self.replicas);
        for _ in 0..self.replicas {
            let epoch = Duration::from_secs(self.epoch);
            let builder = Attester::builder(tee.provider()).name("prover.example").clock(clock.clone());
            attesters.push(builder.epoch(epoch).start().await.unwrap());
        }
        let echo = service_fn(|request: Request<Full<Bytes>>| async move { Ok(Response::new(request.into_body())) });
        let replicas: Arc<[Replica]> =
            attesters.iter().map(|attester| Replica::new(ReportLayer::new(attester.clone()).layer(echo))).collect();
        let traffic = Arc::new(Traffic::default());
        let layer = AttestLayer::new(tee.verifier()).accept_presence().clock(clock.clone());
        let clients: Vec<_> = (0..self.clients)
            .map(|client| {
                let (replicas, traffic) = (Arc::clone(&replicas), Arc::clone(&traffic));
                layer.layer(Balancer { replicas, traffic, balancing: self.balancing, client })
            })
            .collect();

        let mut totals = Totals::default();
        let evidence = || attesters.iter().map(|attester| attester.stats().nonces).sum::<u64>();
        let mut before = 0;
        // Replicas start at different times; what they have in common is only how long their keys last.
        for second in 0..WARM_UP + MEASURED {
            if second == WARM_UP {
                before = evidence();
                for count in [&traffic.preflights, &traffic.request_bytes, &traffic.response_bytes] {
                    count.store(0, Ordering::Relaxed);
                }
            }
            for (index, client) in clients.iter().enumerate() {
                let phase = mix(index as u64) % self.interval;
                if second % self.interval == phase {
                    let uri = self.uri(&traffic);
                    let request = Request::post(uri).body(Full::from("witness")).unwrap();
                    client.clone().oneshot(request).await.unwrap();
                    totals.requests += u64::from(second >= WARM_UP);
                }
            }
            clock.advance(Duration::from_secs(1));
            // Batchers rotate keys on their own timers; time is ours here.
            if second % 60 == 0 {
                attesters.iter().for_each(|attester| drop(attester.key_document()));
            }
        }
        totals.evidence = evidence() - before;
        totals.preflights = traffic.preflights.load(Ordering::Relaxed);
        totals.request_bytes = traffic.request_bytes.load(Ordering::Relaxed);
        totals.response_bytes = traffic.response_bytes.load(Ordering::Relaxed);
        totals.client_hours = self.clients as f64 * MEASURED as f64 / 3600.0;
        totals
    }

    fn uri(self, traffic: &Traffic) -> Uri {
        let name = match self.balancing {
            Balancing::OwnNames => format!("http://{}.prover.example/prove", traffic.roll() % self.replicas as u64),
            Balancing::Random | Balancing::Sticky => "http://prover.example/prove".to_owned(),
        };
        name.parse().unwrap()
    }
}

impl Traffic {
    fn roll(&self) -> u64 {
        mix(self.dice.fetch_add(1, Ordering::Relaxed))
    }
}

/// The transport of one client: all replicas, and nothing in between.
#[derive(Clone)]
struct Balancer {
    replicas: Arc<[Replica]>,
    traffic: Arc<Traffic>,
    balancing: Balancing,
    client: usize,
}

impl Balancer {
    fn replica(&self, uri: &Uri) -> usize {
        let count = self.replicas.len();
        match self.balancing {
            Balancing::Random => (self.traffic.roll() % count as u64) as usize,
            Balancing::Sticky => self.client % count,
            Balancing::OwnNames => uri.host().unwrap().split('.').next().unwrap().parse().unwrap(),
        }
    }
}

impl Service<Request<Full<Bytes>>> for Balancer {
    type Response = Response<ReportBody<Full<Bytes>>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let replica = self.replicas[self.replica(request.uri())].clone();
        let traffic = Arc::clone(&self.traffic);
        if request.uri().path() == WELL_KNOWN_PATH {
            traffic.preflights.fetch_add(1, Ordering::Relaxed);
        } else {
            traffic.request_bytes.fetch_add(length(request.headers(), &ATTESTATION_NONCE), Ordering::Relaxed);
        }
        Box::pin(async move {
            let preflight = request.uri().path() == WELL_KNOWN_PATH;
            let response = replica.oneshot(request).await?;
            if !preflight {
                traffic.response_bytes.fetch_add(length(response.headers(), &ATTESTATION_REPORT), Ordering::Relaxed);
            }
            Ok(response)
        })
    }
}

fn length(headers: &http::HeaderMap, name: &HeaderName) -> u64 {
    headers.get(name).map_or(0, |value| value.len() as u64)
}

/// A number that looks random, the same in every run (the finaliser of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
