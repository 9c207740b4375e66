//! One worker: an attested channel to it, what is known of it, and how it has served.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::ServiceExt;
use tower_attest::tls::{AttestedChannel, ChannelBuilder, ChannelError, Stage};
use tower_attest::{BoxError, VerifiedReport};

use super::stats::{Standing, Tally, WorkerStats};
use crate::proxy::body::ProxyBody;
use crate::proxy::lent::Lent;

/// How long a look at a worker may take before requests are sent to others meanwhile.
const SLOW: Duration = Duration::from_secs(2);
/// The first pause of a worker that is believed and does not serve; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many answers in a row that a gateway gives for want of a service make a worker one that does not serve.
const GATEWAY_ERRORS: u32 = 5;

type Exchange = Pin<Box<dyn Future<Output = Result<Response<ProxyBody>, BoxError>> + Send>>;

pub(super) struct Worker {
    uri: Uri,
    channel: AttestedChannel,
    /// Makes a channel for one upgraded connection.
    builder: Box<dyn Fn() -> ChannelBuilder + Send + Sync>,
    verdict: Mutex<Verdict>,
    service: Mutex<Service>,
    pub(super) tally: Arc<Tally>,
    /// Wakes the task that looks at it.
    look: Notify,
    /// Wakes requests that wait for a worker.
    changed: Arc<Notify>,
}

/// Whether requests may be sent to it.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// Nobody can tell yet, or any more.
    Undecided,
    Believed(Box<VerifiedReport>),
    Refused(ChannelError),
}

/// How a worker that is believed has served lately.
#[derive(Debug)]
struct Service {
    gateway_errors: u32,
    pause: Duration,
    /// Until when others are preferred.
    paused: Option<Instant>,
}

impl Worker {
    /// # Errors
    ///
    /// A setting of the channel cannot work.
    pub(super) fn new(
        uri: Uri,
        builder: impl Fn() -> ChannelBuilder + Send + Sync + 'static,
        connections: usize,
        tally: Arc<Tally>,
        changed: Arc<Notify>,
    ) -> Result<Self, ChannelError> {
        let channel = builder().connections(connections).connect_lazy()?;
        Ok(Self {
            uri,
            channel,
            builder: Box::new(builder),
            verdict: Mutex::new(Verdict::Undecided),
            service: Mutex::new(Service { gateway_errors: 0, pause: FIRST_PAUSE, paused: None }),
            tally,
            look: Notify::new(),
            changed,
        })
    }

    /// Looks whether it is believed, for as long as it is polled: connects again, renews its evidence, finds out that it has
    /// gone, though nobody sends anything.
    pub(super) async fn watch(self: Arc<Self>, every: Duration) {
        loop {
            let mut looking = std::pin::pin!(self.channel.verify());
            let verdict = match tokio::time::timeout(SLOW, &mut looking).await {
                Ok(verdict) => verdict,
                Err(_) => {
                    self.doubt();
                    looking.await
                }
            };
            self.judge(match verdict {
                Ok(report) => Verdict::Believed(Box::new(report)),
                Err(error) => Verdict::Refused(error),
            });
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.look.notified() => {}
            }
        }
    }

    /// Has the next look come at once.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_believed(&self) -> bool {
        matches!(*self.verdict.lock().unwrap_or_else(PoisonError::into_inner), Verdict::Believed(_))
    }

    /// Whether it serves, as far as is known: others are preferred if it does not.
    pub(super) fn serves(&self) -> bool {
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        service.paused.is_none_or(|until| until <= Instant::now())
    }

    /// Sends it no requests until the next look, which is due now.
    pub(super) fn doubt(&self) {
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*verdict, Verdict::Believed(_)) {
            *verdict = Verdict::Undecided;
        }
        drop(verdict);
        self.look();
    }

    fn judge(&self, next: Verdict) {
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*verdict, &next) {
            (Verdict::Believed(_), Verdict::Believed(_)) => {}
            (_, Verdict::Believed(report)) => {
                let name = report.measurement_name();
                tracing::info!(worker = %self.uri, platform = %report.platform(), measurement = name, "worker believed");
            }
            (Verdict::Refused(before), Verdict::Refused(error))
                if (before.stage(), before.kind()) == (error.stage(), error.kind()) => {}
            (_, Verdict::Refused(error)) => {
                self.tally.ejections.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(worker = %self.uri, stage = %error.stage(), reason = %error, "worker ejected");
            }
            (_, Verdict::Undecided) => {}
        }
        *verdict = next;
        drop(verdict);
        self.changed.notify_waiters();
    }

    /// It answered. A gateway's error says that what is behind it does not serve.
    pub(super) fn answered(&self, gateway_error: bool) {
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        if !gateway_error {
            *service = Service { gateway_errors: 0, pause: FIRST_PAUSE, paused: None };
            return;
        }
        self.tally.failures.fetch_add(1, Ordering::Relaxed);
        service.gateway_errors = service.gateway_errors.saturating_add(1);
        if service.gateway_errors >= GATEWAY_ERRORS {
            self.pause(&mut service, "it answers for want of a service");
        }
    }

    /// It broke off an exchange, or let one stand still for too long.
    pub(super) fn failed(&self, how: &'static str) {
        self.tally.failures.fetch_add(1, Ordering::Relaxed);
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        self.pause(&mut service, how);
        drop(service);
        self.look();
    }

    fn pause(&self, service: &mut Service, why: &'static str) {
        let now = Instant::now();
        if service.paused.is_some_and(|until| until > now) {
            return;
        }
        tracing::warn!(worker = %self.uri, why, pause = ?service.pause, "worker paused: others are preferred");
        self.tally.pauses.fetch_add(1, Ordering::Relaxed);
        service.paused = Some(now + service.pause);
        service.pause = (service.pause * 2).min(LONGEST_PAUSE);
    }

    /// Sends a request on its attested channel. An upgrade takes its connection away, and gets one of its own.
    pub(super) fn send(&self, request: Request<Lent>, upgrade: bool) -> Exchange {
        let call = |channel: AttestedChannel| -> Exchange {
            let answered = channel.oneshot(request);
            Box::pin(async move { Ok(answered.await?.map(|body| body.map_err(Into::into).boxed_unsync())) })
        };
        if !upgrade {
            return call(self.channel.clone());
        }
        let builder = (self.builder)().alpn(["http/1.1"]);
        Box::pin(async move { call(builder.connect().await?).await })
    }

    pub(super) fn stats(&self) -> WorkerStats {
        let standing = match self.verdict() {
            Verdict::Undecided => Standing::Undecided,
            Verdict::Believed(_) if self.serves() => Standing::Serving,
            Verdict::Believed(_) => Standing::Paused,
            Verdict::Refused(error) => Standing::Ejected { stage: error.stage(), kind: error.kind() },
        };
        // As the operator wrote it: a URI without a path is shown with one.
        self.tally.stats(self.uri.to_string().trim_end_matches('/').to_owned(), standing)
    }
}

/// Whether a worker was not reached, as opposed to not believed.
pub(super) fn is_away(stage: Stage) -> bool {
    matches!(stage, Stage::Connect | Stage::Tls | Stage::Http)
}

#[cfg(test)]
pub(super) mod tests {
    use tower_attest::AnyOf;

    use super::*;

    /// A worker that nobody has looked at.
    pub(in super::super) fn worker() -> Worker {
        let uri = Uri::from_static("https://worker.example");
        let builder = || AttestedChannel::builder(Uri::from_static("https://worker.example"), AnyOf::none());
        Worker::new(uri, builder, 1, Arc::default(), Arc::default()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateways_errors_count_in_a_row_and_a_good_answer_forgives_them() {
        let worker = worker();
        for _ in 0..3 {
            for _ in 1..GATEWAY_ERRORS {
                worker.answered(true);
            }
            assert!(worker.serves());
            worker.answered(false);
        }
        for _ in 0..GATEWAY_ERRORS {
            worker.answered(true);
        }
        assert!(!worker.serves());
        worker.answered(false);
        assert!(worker.serves(), "it was asked all the same, and serves");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_until_it_serves_again_and_one_counts_once() {
        let worker = worker();
        let mut lengths = Vec::new();
        for _ in 0..7 {
            worker.failed("it broke off an exchange");
            worker.failed("the others that ran with it");
            let began = Instant::now();
            while !worker.serves() {
                tokio::time::advance(Duration::from_millis(500)).await;
            }
            lengths.push(began.elapsed().as_secs());
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 30, 30]);
        worker.answered(false);
        worker.failed("again");
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(worker.serves());
    }

    #[tokio::test]
    async fn what_it_has_done_is_counted_and_where_it_stands_is_told() {
        let worker = worker();
        assert_eq!(worker.stats().standing, Standing::Undecided);
        worker.failed("it broke off an exchange");
        assert_eq!((worker.stats().failures, worker.stats().pauses), (1, 1));
        let error = worker.channel.verify().await.unwrap_err();
        worker.judge(Verdict::Refused(error.clone()));
        worker.judge(Verdict::Refused(error));
        let stats = worker.stats();
        assert!(matches!(stats.standing, Standing::Ejected { .. }), "{stats:?}");
        assert_eq!((stats.ejections, stats.worker.as_str()), (1, "https://worker.example"));
        worker.doubt();
        assert!(matches!(worker.stats().standing, Standing::Ejected { .. }), "doubt takes nothing back");
    }
}
