//! Limits around a layer that reads a request's body before the proxy sees the request, as unsealing does.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tower_attest::BoxError;
use tower_service::Service;

use super::activity::{Exchanges, Timer};
use super::body::{ProxyBody, RequestBody, ResponseBody};
use super::limits::Limits;
use super::meter::{Meter, Unmeasured};
use super::problem::{Asked, Problem};

/// Answers 413 and 504 where the proxy inside cannot, since it has not been called yet.
#[derive(Debug, Clone)]
pub(crate) struct Timed<S> {
    inner: S,
    limits: Arc<Limits>,
    exchanges: Exchanges,
    meter: Meter,
}

impl<S> Timed<S> {
    pub(crate) fn new(inner: S, limits: Arc<Limits>, exchanges: Exchanges, meter: Meter) -> Self {
        Self { inner, limits, exchanges, meter }
    }
}

impl<S, R, B> Service<Request<R>> for Timed<S>
where
    S: Service<Request<RequestBody<R>>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let (asked, max_body) = (Asked::of(&parts), self.limits.max_body());
        let activity = self.exchanges.begin_around(&self.limits);
        let body = RequestBody::new(body, Arc::clone(&activity), max_body);
        let unmeasured = Unmeasured::new(&self.meter, &asked);
        parts.extensions.insert(unmeasured.clone());
        let answering = self.inner.call(Request::from_parts(parts, body));
        Box::pin(async move {
            let refuse = |problem: Problem| {
                if let Some(measure) = unmeasured.take() {
                    measure.refused(&problem);
                }
                Ok(problem.response(&asked))
            };
            let answered = tokio::select! {
                biased;
                answered = answering => answered,
                expired = Timer::new(Arc::clone(&activity)) => return refuse(Problem::expired(expired)),
            };
            if let (true, Some(limit)) = (activity.is_too_large(), max_body) {
                return refuse(Problem::too_large(limit));
            }
            activity.touch();
            answered.map(|response| {
                if let Some(measure) = unmeasured.take() {
                    measure.not_opened(response.status());
                }
                response.map(|body| ResponseBody::new(body, activity, None).boxed_unsync())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use http_body_util::Full;
    use tower::{ServiceExt, service_fn};

    use super::super::body::full;
    use super::super::limits::tests::limits;
    use super::*;

    fn timed<S>(inner: S, flags: &[&str]) -> Timed<S> {
        Timed::new(inner, Arc::new(limits(flags)), Exchanges::default(), Meter::new(1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_before_the_proxy_is_called_is_504_a_little_after_the_limit() {
        let silent = service_fn(|_: Request<RequestBody<ProxyBody>>| {
            std::future::pending::<Result<Response<ProxyBody>, Infallible>>()
        });
        let started = tokio::time::Instant::now();
        let response = timed(silent, &["--idle-timeout=5s"]).oneshot(Request::new(full("sealed"))).await.unwrap();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(started.elapsed() > Duration::from_secs(5), "the proxy inside answers first if it can");
    }

    #[tokio::test]
    async fn a_body_outside_past_its_limit_is_413() {
        let reads = service_fn(async |request: Request<RequestBody<Full<Bytes>>>| {
            let status = if request.into_body().collect().await.is_ok() { 200 } else { 400 };
            Ok::<_, Infallible>(Response::builder().status(status).body(full("")).unwrap())
        });
        for (limit, expected) in
            [("--max-body-bytes=6", StatusCode::OK), ("--max-body-bytes=5", StatusCode::PAYLOAD_TOO_LARGE)]
        {
            let response = timed(reads, &[limit]).oneshot(Request::new(Full::from("sealed"))).await.unwrap();
            assert_eq!(response.status(), expected);
        }
    }
}
