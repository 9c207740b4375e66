//! What the models share: the schedulers, a clock that a model moves, and a transport in memory.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::{Config, Runner};
use tokio::sync::watch;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceBuilder, service_fn};
use tower_attest::time::{Clock, Now, Sleep};
use tower_attest::{Attester, ReportLayer};

/// Runs `model` in many interleavings: half of them random, half by the PCT scheduler, which looks for bugs that need few
/// switches at the right places. An interleaving in which somebody waits for ever fails as a deadlock.
///
/// `SHUTTLE_ITERATIONS` says how many each (200 unless set). A failure prints its schedule; `SHUTTLE_REPLAY` runs that
/// one again.
pub(crate) fn in_every_order<F: Future<Output = ()> + 'static>(model: fn() -> F) {
    let run = move || shuttle::future::block_on(model());
    let mut config = Config::new();
    // Signatures are made on these stacks.
    config.stack_size = 1 << 20;
    if let Ok(schedule) = std::env::var("SHUTTLE_REPLAY") {
        Runner::new(ReplayScheduler::new_from_encoded(&schedule), config).run(run);
        return;
    }
    let count = std::env::var("SHUTTLE_ITERATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(200);
    Runner::new(RandomScheduler::new(count), config.clone()).run(run);
    Runner::new(PctScheduler::new(3, count), config).run(run);
}

/// Time that passes only when the model says so; its timers then end. A timer that nobody lets pass is one that waits for
/// ever, so that no timeout can hide a lost wake-up.
#[derive(Debug, Clone)]
pub(crate) struct ModelClock {
    now: Arc<watch::Sender<Now>>,
}

impl ModelClock {
    pub(crate) fn new() -> Self {
        let start = Now { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30), monotonic: Duration::ZERO };
        Self { now: Arc::new(watch::channel(start).0) }
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.now.send_modify(|now| {
            now.wall += by;
            now.monotonic += by;
        });
    }
}

impl Clock for ModelClock {
    fn now(&self) -> Now {
        *self.now.borrow()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let mut now = self.now.subscribe();
        let end = now.borrow().monotonic + duration;
        Box::pin(async move {
            // The sender lives in the clock, which outlives whoever sleeps by it.
            while now.borrow_and_update().monotonic < end && now.changed().await.is_ok() {}
        })
    }
}

pub(crate) type Transport =
    BoxCloneSyncService<Request<Full<Bytes>>, Response<tower_attest::server::ReportBody<Full<Bytes>>>, Infallible>;

/// A server in memory, and how often its evidence endpoint was asked. Whoever calls it lets others run before and after.
pub(crate) fn server(attester: Attester) -> (Transport, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let echo = service_fn(|request: Request<Full<Bytes>>| async move {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let attested = ReportLayer::new(attester).layer(echo);
    let transport = ServiceBuilder::new()
        .map_request(move |request: Request<Full<Bytes>>| {
            if request.uri().path() == tower_attest::protocol::WELL_KNOWN_PATH {
                count.fetch_add(1, Ordering::SeqCst);
            }
            request
        })
        .service(attested);
    (BoxCloneSyncService::new(transport), asked)
}

pub(crate) fn request() -> Request<Full<Bytes>> {
    Request::post("http://prover.example/prove").body(Full::from("witness")).expect("a request")
}
