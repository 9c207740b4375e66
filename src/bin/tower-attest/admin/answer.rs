//! What each path answers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tower_service::Service;

use super::metrics::Metrics;
use super::negotiate::Format;
use super::ready::{Findings, Readiness};
use crate::proxy::activity::{Activity, Exchanges};
use crate::proxy::body::{ProxyBody, ResponseBody, full};
use crate::proxy::limits::Limits;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What there is to tell, once the sidecar has started.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) readiness: Readiness,
    pub(super) metrics: Metrics,
}

/// Answers the requests of one connection.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    pub(super) told: Arc<OnceLock<Told>>,
    pub(super) exchanges: Exchanges,
    pub(super) limits: Arc<Limits>,
}

impl Answers {
    async fn answer(self, method: Method, path: String, headers: HeaderMap) -> Response<ProxyBody> {
        let activity = self.exchanges.begin(&self.limits);
        if method != Method::GET && method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return timed(response, activity);
        }
        let response = match path.as_str() {
            "/livez" => text(StatusCode::OK, "alive\n"),
            "/readyz" => self.readyz().await,
            "/metrics" => self.metrics(&headers).await,
            "/" => text(StatusCode::OK, "/livez\n/readyz\n/metrics\n"),
            _ => text(StatusCode::NOT_FOUND, "expected /livez, /readyz or /metrics\n"),
        };
        timed(response, activity)
    }

    async fn findings(&self) -> Findings {
        match self.told.get() {
            Some(told) => told.readiness.look().await,
            None => Findings::not_yet("starting", "this process has not started to listen"),
        }
    }

    async fn readyz(&self) -> Response<ProxyBody> {
        let findings = self.findings().await;
        let status = if findings.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        // Strings and truth values always serialise.
        let mut json = serde_json::to_vec(&findings).unwrap_or_default();
        json.push(b'\n');
        response(status, HeaderValue::from_static("application/json"), json)
    }

    async fn metrics(&self, headers: &HeaderMap) -> Response<ProxyBody> {
        let Some(told) = self.told.get() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "this process has not started to listen\n");
        };
        let findings = told.readiness.look().await;
        let format = Format::of(headers);
        let mut response = response(StatusCode::OK, format.content_type(), told.metrics.encode(format, findings));
        response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        response
    }
}

/// A client that does not read loses its connection.
fn timed(response: Response<ProxyBody>, activity: Arc<Activity>) -> Response<ProxyBody> {
    use http_body_util::BodyExt;
    response.map(|body| ResponseBody::new(body, activity, None).boxed_unsync())
}

fn text(status: StatusCode, text: &'static str) -> Response<ProxyBody> {
    response(status, TEXT, text)
}

fn response(status: StatusCode, content_type: HeaderValue, body: impl Into<bytes::Bytes>) -> Response<ProxyBody> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Service<Request<Incoming>> for Answers {
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// Whatever body comes is not read: hyper closes the connection after the answer.
    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let answer = self.clone().answer(parts.method, parts.uri.path().to_owned(), parts.headers);
        Box::pin(async move { Ok(answer.await) })
    }
}
