//! What clients of AMD's KDS and Intel's PCS have in common: HTTP requests that are bounded in time, size and number, and
//! one pause for all callers when the service fails or asks for it.
//!
//! An endorser (RFC 9334, section 2) is who says that a platform is genuine: here AMD or Intel, by the service that hands
//! out their certificates, revocation lists and TCB levels.

mod error;
mod failures;
mod gate;
mod refresh;
mod response;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
mod url;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Empty;
use tokio::sync::Semaphore;
use tower_service::Service;

pub use self::error::{EndorsementError, EndorsementErrorKind};
pub(crate) use self::failures::Failures;
use self::gate::Gate;
pub(crate) use self::refresh::{AbortOnDrop, LONGEST_SLEEP, Plan, SHORTEST};
pub(crate) use self::response::Answer;
use self::response::Failure;
pub(crate) use self::settings::endorser_settings;
pub(crate) use self::url::base_url;
use crate::error::BoxError;
use crate::time::{Clock, SystemClock};

/// A client of one endorser's service, over any tower HTTP service `S`, which is cloned for each request.
pub(crate) struct Endorser<S> {
    service: Mutex<S>,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u32,
    pub(crate) longest_pause: Duration,
    pub(crate) in_flight: Semaphore,
    pub(crate) clock: Arc<dyn Clock>,
    gate: Gate,
}

/// When a call, of one request or several, must have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// Monotonic time.
    at: Duration,
}

impl<S> Endorser<S> {
    pub(crate) fn new(service: S) -> Self {
        Self {
            service: Mutex::new(service),
            timeout: Duration::from_secs(10),
            attempts: 3,
            longest_pause: Duration::from_secs(5 * 60),
            in_flight: Semaphore::new(8),
            clock: Arc::new(SystemClock),
            gate: Gate::default(),
        }
    }

    /// The end of a call that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline { at: self.clock.now().monotonic.saturating_add(self.timeout) }
    }

    /// The service, to look at in tests.
    #[cfg(test)]
    pub(crate) fn service(&self) -> S
    where
        S: Clone,
    {
        self.service.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S, B> Endorser<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// What `GET url` answers with status 200, at most `limit` bytes of it, before `deadline`.
    pub(crate) async fn get(&self, url: &str, limit: usize, deadline: Deadline) -> Result<Answer, EndorsementError> {
        let late = || {
            let message = format!("no answer to GET {url} within {:?}", self.timeout);
            EndorsementError::new(EndorsementErrorKind::Unavailable, message)
        };
        let slot = self.within(deadline, self.in_flight.acquire()).await.ok_or_else(late)?;
        // The semaphore is never closed.
        let _slot =
            slot.map_err(|closed| EndorsementError::with_source(EndorsementErrorKind::Unavailable, "", closed))?;
        let mut attempt = 1;
        loop {
            let now = self.clock.now().monotonic;
            let pause = self.gate.closed_for(now);
            if !pause.is_zero() {
                if now.saturating_add(pause) >= deadline.at {
                    return Err(self.gate.refusal(pause));
                }
                self.clock.sleep(pause).await;
            }
            let entered = self.gate.enter();
            let (error, retry_after) = match self.within(deadline, self.attempt(url, limit)).await {
                Some(Ok(answer)) => {
                    self.gate.answered();
                    return Ok(answer);
                }
                Some(Err(Failure::Final(error))) => {
                    self.gate.answered();
                    return Err(error);
                }
                Some(Err(Failure::Passing { error, retry_after })) => (error, retry_after),
                None => (late(), None),
            };
            let now = self.clock.now().monotonic;
            let pause = self.gate.failed(entered, now, retry_after, self.longest_pause, &error);
            tracing::warn!(url, attempt, pause_ms = pause.as_millis(), %error, "endorser.failed");
            if attempt >= self.attempts || now.saturating_add(pause) >= deadline.at {
                return Err(error);
            }
            attempt += 1;
        }
    }

    async fn attempt(&self, url: &str, limit: usize) -> Result<Answer, Failure> {
        let request = Request::get(url).body(Empty::new()).map_err(|error| {
            Failure::Final(EndorsementError::with_source(EndorsementErrorKind::Configuration, url, error))
        })?;
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let broken = |error: S::Error| {
            let message = format!("GET {url} failed");
            Failure::passing(EndorsementError::with_source(EndorsementErrorKind::Unavailable, message, error))
        };
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(broken)?;
        let response = service.call(request).await.map_err(broken)?;
        response::read(response, url, limit, self.longest_pause, self.clock.now().wall).await
    }

    /// The output of `future`, or `None` at `deadline`.
    async fn within<F: Future>(&self, deadline: Deadline, future: F) -> Option<F::Output> {
        let mut timer = self.clock.sleep(deadline.at.saturating_sub(self.clock.now().monotonic));
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}
