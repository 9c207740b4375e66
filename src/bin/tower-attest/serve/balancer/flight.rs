//! An exchange with a worker while it runs: counted, and held against the worker if it ends badly.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tower_attest::BoxError;

use super::worker::Worker;
use crate::proxy::activity::Activity;
use crate::proxy::body::ProxyBody;

/// The number of `UNAVAILABLE`.
const UNAVAILABLE: &[u8] = b"14";

/// Counted among the worker's exchanges until it is dropped.
pub(super) struct Flight {
    worker: Arc<Worker>,
    activity: Option<Arc<Activity>>,
    ended: bool,
}

impl Flight {
    pub(super) fn start(worker: Arc<Worker>, activity: Option<Arc<Activity>>) -> Self {
        worker.tally.in_flight.fetch_add(1, Ordering::Relaxed);
        worker.tally.requests.fetch_add(1, Ordering::Relaxed);
        Self { worker, activity, ended: false }
    }

    /// It ended in a way that says nothing more of the worker.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// It broke off.
    pub(super) fn broke(&mut self) {
        self.ended = true;
        self.worker.failed("it broke off an exchange");
    }

    /// The response has begun; the exchange runs until its body has ended.
    pub(super) fn carry(self, response: Response<ProxyBody>) -> Response<ProxyBody> {
        self.worker.answered(is_gateway_error(&response));
        response.map(|inner| Carried { inner, flight: self }.boxed_unsync())
    }
}

fn is_gateway_error<B>(response: &Response<B>) -> bool {
    let unavailable = response.headers().get("grpc-status").is_some_and(|status| status.as_bytes() == UNAVAILABLE);
    unavailable
        || matches!(
            response.status(),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        )
}

/// One that is dropped has not ended: the client has gone, or it stood still for too long.
impl Drop for Flight {
    fn drop(&mut self) {
        self.worker.tally.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.ended && self.activity.as_ref().is_some_and(|activity| activity.is_expired()) {
            self.worker.failed("an exchange stood still");
        }
    }
}

/// A response's body.
struct Carried {
    inner: ProxyBody,
    flight: Flight,
}

impl Body for Carried {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            None => self.flight.end(),
            Some(Err(_)) => self.flight.broke(),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::StreamBody;

    use super::super::worker::tests::worker;
    use super::*;
    use crate::proxy::body::full;

    fn failures(worker: &Worker) -> (usize, u64) {
        (worker.stats().in_flight, worker.stats().failures)
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_counts_until_its_body_has_ended_and_only_a_bad_end_counts_against_the_worker() {
        let worker = Arc::new(worker());
        let second = Duration::from_secs(1);
        let start = || Flight::start(Arc::clone(&worker), Some(Activity::start(Some(10 * second), None)));

        let response = start().carry(Response::new(full("body")));
        assert_eq!(failures(&worker), (1, 0));
        response.into_body().collect().await.unwrap();
        assert_eq!(failures(&worker), (0, 0));

        drop(start());
        assert_eq!(failures(&worker), (0, 0), "the client has gone");

        let standing_still = start().carry(Response::new(full("body")));
        tokio::time::advance(10 * second).await;
        drop(standing_still);
        assert_eq!(failures(&worker), (0, 1));

        let broken = StreamBody::new(tokio_stream::iter([Err::<Frame<Bytes>, BoxError>("broken".into())]));
        let response = start().carry(Response::new(broken.boxed_unsync()));
        assert!(response.into_body().collect().await.is_err());
        assert_eq!(failures(&worker), (0, 2));
    }

    #[test]
    fn a_gateways_errors_are_told_from_a_services() {
        for status in [502, 503, 504] {
            assert!(is_gateway_error(&Response::builder().status(status).body(()).unwrap()), "{status}");
        }
        for status in [200, 400, 429, 500, 501] {
            assert!(!is_gateway_error(&Response::builder().status(status).body(()).unwrap()), "{status}");
        }
        let grpc = |code: &str| Response::builder().header("grpc-status", code).body(()).unwrap();
        assert!(is_gateway_error(&grpc("14")) && !is_gateway_error(&grpc("13")) && !is_gateway_error(&grpc("0")));
    }
}
