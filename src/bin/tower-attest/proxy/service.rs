//! One exchange: a client's request to a [`Backend`], its response to the client, and what is said when that fails.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::BodyExt;
use tower_attest::BoxError;
use tower_service::Service;

use super::activity::{Exchanges, Timer};
use super::body::{ProxyBody, RequestBody, ResponseBody, end_early};
use super::head::{check, clean_request, remove_attestation, remove_hop_by_hop};
use super::limits::Limits;
use super::meter::{Measure, Meter, Unmeasured};
use super::problem::{Asked, Code, Problem};
use super::shutdown::Running;
use super::upgrade::Upgrade;
use super::weight::fits;

/// Where requests go.
pub(crate) trait Backend: Clone + Send + Sync + 'static {
    /// Edits a request's head, from which what concerns one connection alone has been removed.
    fn prepare(&self, request: &mut Parts, peer: Option<SocketAddr>) -> Result<(), Problem>;

    /// Sends a request. One that asks for an upgrade goes over HTTP/1.1. The exchange's clock, an `Arc<Activity>`, is in the
    /// extensions; when a limit passes, the future is dropped.
    fn send(
        &self,
        request: Request<ProxyBody>,
        upgrade: bool,
    ) -> impl Future<Output = Result<Response<ProxyBody>, Problem>> + Send;
}

/// The proxy of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Proxy<B> {
    backend: B,
    limits: Arc<Limits>,
    exchanges: Exchanges,
    running: Running,
    peer: Option<SocketAddr>,
    meter: Meter,
}

impl<B: Backend> Proxy<B> {
    pub(crate) fn new(
        backend: B,
        limits: Arc<Limits>,
        exchanges: Exchanges,
        running: Running,
        peer: Option<SocketAddr>,
        meter: Meter,
    ) -> Self {
        Self { backend, limits, exchanges, running, peer, meter }
    }

    async fn exchange<R>(self, request: Request<R>) -> Response<ProxyBody>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let asked = Asked::of(&parts);
        // What is around a request that was sealed has begun to measure it.
        let begun = parts.extensions.get::<Unmeasured>().and_then(Unmeasured::take);
        let mut measure = Some(begun.unwrap_or_else(|| self.meter.begin(&asked)).of(&asked));
        self.try_exchange(parts, body, &mut measure).await.unwrap_or_else(|problem| {
            if let Some(measure) = measure.take() {
                measure.refused(&problem);
            }
            tracing::debug!(code = ?problem.code(), status = problem.status().as_u16(), detail = problem.detail(), "answered instead of the far end");
            problem.response(&asked)
        })
    }

    async fn send(&self, request: Request<ProxyBody>, upgrade: bool) -> Result<Response<ProxyBody>, Problem> {
        let response = self.backend.send(request, upgrade).await?;
        if !response.headers().contains_key("grpc-status") || response.body().is_end_stream() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = end_early(body).await.map_err(|_| {
            Problem::new(StatusCode::BAD_GATEWAY, Code::UpstreamBroke, "the far end broke off its response")
        })?;
        Ok(Response::from_parts(parts, body))
    }

    /// Takes the measure once there is a response that will be passed on.
    async fn try_exchange<R>(
        self,
        mut parts: Parts,
        body: R,
        measure: &mut Option<Measure>,
    ) -> Result<Response<ProxyBody>, Problem>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let max_body = self.limits.max_body();
        check(&parts, max_body)?;
        let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
        if !fits(target, &parts.headers, self.limits.max_header_bytes) {
            let detail = "the request's fields are larger than HTTP/2 carries";
            return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Code::Request, detail));
        }
        let upgrade = Upgrade::take(&mut parts);
        clean_request(&mut parts.headers);
        remove_attestation(&mut parts.headers);
        self.backend.prepare(&mut parts, self.peer)?;
        if let Some(upgrade) = &upgrade {
            upgrade.ask(&mut parts.headers);
        }
        parts.extensions.clear();

        let activity = self.exchanges.begin(&self.limits);
        let body = RequestBody::new(body, Arc::clone(&activity), max_body).boxed_unsync();
        parts.extensions.insert(Arc::clone(&activity));
        let request = Request::from_parts(parts, body);
        let answered = tokio::select! {
            biased;
            answered = self.send(request, upgrade.is_some()) => answered,
            expired = Timer::new(Arc::clone(&activity)) => Err(Problem::expired(expired)),
        };
        let mut response = answered.map_err(|problem| match (activity.is_too_large(), max_body) {
            (true, Some(limit)) => Problem::too_large(limit),
            _ => problem,
        })?;
        activity.touch();
        if !fits("", response.headers(), self.limits.max_header_bytes) {
            let detail = "the response's fields are larger than HTTP/2 carries";
            return Err(Problem::new(StatusCode::BAD_GATEWAY, Code::UpstreamBroke, detail));
        }
        *response.version_mut() = Version::HTTP_11;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(upgrade) = upgrade else {
                let detail = "expected a response, found a change of protocol that was not asked for";
                return Err(Problem::new(StatusCode::BAD_GATEWAY, Code::UpstreamBroke, detail));
            };
            taken(measure, &response);
            return Ok(upgrade.join(response, self.limits.idle(), self.running));
        }
        remove_hop_by_hop(response.headers_mut());
        let measure = taken(measure, &response);
        Ok(response.map(|body| ResponseBody::new(body, activity, measure).boxed_unsync()))
    }
}

fn taken<B>(measure: &mut Option<Measure>, response: &Response<B>) -> Option<Measure> {
    let mut measure = measure.take()?;
    measure.answered(response);
    Some(measure)
}

impl<B, R> Service<Request<R>> for Proxy<B>
where
    B: Backend,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let exchange = self.clone().exchange(request);
        Box::pin(async move { Ok(exchange.await) })
    }
}

#[cfg(test)]
mod tests;
