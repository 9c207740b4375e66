//! Makes attested connections for tower's `Reconnect`: tries until it has one, with a growing pause after each failure.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use tower::retry::backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff};
use tower::util::rng::HasherRng;
use tower_service::Service;

use super::connection::Connection;
use super::error::{ChannelError, Stage};
use super::establish::establish;
use super::settings::Settings;
use super::status::Report;
use super::task::Task;
use crate::error::{AttestError, ErrorKind};

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause but for jitter, which adds up to half: 30 seconds in all.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
const JITTER: f64 = 0.5;
/// A connection that ended unused this soon after it was begun counts as a failure.
const SOON: Duration = Duration::from_secs(10);

/// Its future never fails: while it pauses, its failure stands in the channel's status, where calls find it.
pub(super) struct MakeConnection {
    settings: Arc<Settings>,
    report: Arc<Report>,
    last: Option<Last>,
    pauses: Pauses,
}

pub(super) type Connecting = Pin<Box<dyn Future<Output = Result<Connection, Infallible>> + Send>>;

impl MakeConnection {
    pub(super) fn new(settings: Arc<Settings>, report: Arc<Report>) -> Self {
        Self { settings, report, last: None, pauses: Pauses::new() }
    }

    /// Takes note of a connection that was begun without it at `started`.
    pub(super) fn after(mut self, started: Duration, served: Arc<AtomicBool>) -> Self {
        self.last = Some(Last { started, served });
        self
    }

    /// A server that gives evidence and hangs up before the first request must not be asked in a tight loop.
    fn hung_up(&self) -> bool {
        let age = |last: &Last| self.settings.clock.now().monotonic.saturating_sub(last.started);
        self.last.as_ref().is_some_and(|last| !last.served.load(Ordering::Relaxed) && age(last) < SOON)
    }
}

/// The connection made last: when it was begun, and whether it was ever handed a request.
struct Last {
    started: Duration,
    served: Arc<AtomicBool>,
}

impl Service<Uri> for MakeConnection {
    type Response = Connection;
    type Error = Infallible;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Connecting {
        let hung_up = self.hung_up();
        if !hung_up {
            self.pauses = Pauses::new();
        }
        let mut pause = hung_up.then(|| (self.pauses.next(), closed_unused()));
        let served = Arc::new(AtomicBool::new(false));
        self.last = Some(Last { started: self.settings.clock.now().monotonic, served: Arc::clone(&served) });
        let (settings, report, mut pauses) =
            (Arc::clone(&self.settings), Arc::clone(&self.report), self.pauses.clone());
        Box::pin(async move {
            loop {
                if let Some((pause, error)) = pause.take() {
                    report.failed(error);
                    pause.await;
                }
                report.connecting();
                match attempt(&settings, &address, &served).await {
                    Ok(connection) => return Ok(connection.reporting(&report)),
                    Err(error) => {
                        tracing::warn!(
                            name: "attest.connection_failed",
                            target: "tower_attest::tls",
                            %address,
                            stage = %error.stage(),
                            %error,
                            "no attested connection"
                        );
                        pause = Some((pauses.next(), error));
                    }
                }
            }
        })
    }
}

/// On a task of its own: the far end's clock runs, whether or not anybody asks for the connection meanwhile.
async fn attempt(
    settings: &Arc<Settings>,
    address: &Uri,
    served: &Arc<AtomicBool>,
) -> Result<Connection, ChannelError> {
    let (settings, address, served) = (Arc::clone(settings), address.clone(), Arc::clone(served));
    let task = Task::spawn(async move { establish(&settings, &address, served).await });
    task.await.unwrap_or_else(|error| Err(ChannelError::io(Stage::Connect, "the attempt did not end", error)))
}

fn closed_unused() -> ChannelError {
    let message = "the server closed the connection before a request was sent on it";
    ChannelError::new(Stage::Http, AttestError::new(ErrorKind::Transport, message))
}

/// Exponential pauses with jitter, tower's.
#[derive(Debug, Clone)]
struct Pauses(Option<ExponentialBackoff>);

impl Pauses {
    fn new() -> Self {
        let maker = ExponentialBackoffMaker::new(FIRST_PAUSE, LONGEST_PAUSE, JITTER, HasherRng::default());
        Self(maker.ok().map(|mut maker| maker.make_backoff()))
    }

    fn next(&mut self) -> tokio::time::Sleep {
        match &mut self.0 {
            Some(backoff) => backoff.next_backoff(),
            None => tokio::time::sleep(LONGEST_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_stay_below_thirty_seconds() {
        let mut pauses = Pauses::new();
        let lengths: Vec<Duration> = (0..20).map(|_| pauses.next().deadline() - tokio::time::Instant::now()).collect();
        assert!(lengths[0] >= FIRST_PAUSE && lengths[0] <= FIRST_PAUSE * 3 / 2, "{lengths:?}");
        assert!(lengths[5] > lengths[0] * 8, "{lengths:?}");
        assert!(lengths.iter().all(|length| *length <= Duration::from_secs(30)), "{lengths:?}");
        assert!(lengths[19] >= LONGEST_PAUSE, "{lengths:?}");
    }
}
