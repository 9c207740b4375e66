//! Counts exchanges and connections, whatever the proxy stands in front of.
//!
//! Every label is one of a few words that stand in this program. Nothing that a client sends becomes one.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::problem::{Asked, Code, Problem};

/// Names and values that are bounded by being in this program's text.
pub(crate) type Labels<const N: usize> = [(&'static str, &'static str); N];
pub(crate) type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// From a loopback answer to a proof that takes half an hour.
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1800.0];

/// The metrics of one sidecar's main port. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Meter(Arc<Metrics>);

#[derive(Debug)]
struct Metrics {
    requests: Family<Labels<4>, Counter>,
    durations: Histograms<1>,
    in_flight: Gauge,
    connections: Gauge,
    accepted: Counter,
    limit: Gauge,
}

impl Meter {
    /// `max_connections` is told beside how many there are.
    pub(crate) fn new(max_connections: u32) -> Self {
        let metrics = Metrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            accepted: Counter::default(),
            limit: Gauge::default(),
        };
        metrics.limit.set(i64::from(max_connections));
        Self(Arc::new(metrics))
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let Metrics { requests, durations, in_flight, connections, accepted, limit } = &*self.0;
        registry.register(
            "requests",
            "Exchanges that have ended: answered by the far end, refused by this program, or broken off",
            requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From a request's head to the end of its response",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("requests_in_flight", "Exchanges that have not ended", in_flight.clone());
        registry.register("connections", "Open connections of clients, upgraded ones included", connections.clone());
        registry.register("connections_accepted", "Connections of clients that began to be served", accepted.clone());
        registry.register("connections_limit", "Connections of clients that may be open at once", limit.clone());
    }

    /// A connection that counts as open until this is dropped.
    pub(crate) fn connection(&self) -> Open {
        self.0.accepted.inc();
        self.0.connections.inc();
        Open(self.clone())
    }

    /// An exchange that begins now.
    pub(crate) fn begin(&self, asked: &Asked) -> Measure {
        self.0.in_flight.inc();
        let (status, end) = (NONE, End::Gone);
        Measure {
            meter: self.clone(),
            started: Instant::now(),
            grpc: asked.is_grpc(),
            head: asked.is_head(),
            status,
            end,
        }
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

/// See [`Meter::connection`].
#[derive(Debug)]
pub(crate) struct Open(Meter);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.connections.dec();
    }
}

/// No status was seen.
const NONE: &str = "none";

/// One exchange, counted when it is dropped.
#[derive(Debug)]
pub(crate) struct Measure {
    meter: Meter,
    started: Instant,
    grpc: bool,
    head: bool,
    status: &'static str,
    end: End,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The client went away, or was cut off: nobody polls any more.
    Gone,
    Whole,
    Refused(Code),
    Broken(Code),
    NotOpened,
}

/// An exchange whose request is still to be opened: measured by whoever sees it first, the proxy or what is around it.
#[derive(Debug, Clone)]
pub(crate) struct Unmeasured(Arc<Mutex<Option<Measure>>>);

impl Unmeasured {
    pub(crate) fn new(meter: &Meter, asked: &Asked) -> Self {
        Self(Arc::new(Mutex::new(Some(meter.begin(asked)))))
    }

    /// The measure, for the first who asks.
    pub(crate) fn take(&self) -> Option<Measure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Measure {
    /// The same for the request that was found inside another.
    pub(crate) fn of(mut self, asked: &Asked) -> Self {
        (self.grpc, self.head) = (asked.is_grpc(), asked.is_head());
        self
    }

    /// What is around the proxy answers in its place: the request was not opened, or came unsealed where it must not.
    pub(crate) fn not_opened(mut self, status: StatusCode) {
        (self.status, self.end) = (class(status), End::NotOpened);
    }

    /// This program answers.
    pub(crate) fn refused(mut self, problem: &Problem) {
        self.status = if self.grpc { grpc_name(problem.grpc()) } else { class(problem.status()) };
        self.end = End::Refused(problem.code());
    }

    /// The far end has answered: its body follows, unless there can be none.
    pub(crate) fn answered<B>(&mut self, response: &Response<B>) {
        let status = response.status();
        let grpc = self.grpc && status == StatusCode::OK;
        self.status = if grpc { grpc_status(response.headers()).unwrap_or(NONE) } else { class(status) };
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || status.is_informational();
        if self.head || bodiless {
            self.whole();
        }
    }

    /// Part of the body has passed.
    pub(crate) fn passed(&mut self, frame: &Frame<Bytes>) {
        let Some(trailers) = frame.trailers_ref() else { return };
        if self.grpc && self.status == NONE {
            self.status = grpc_status(trailers).unwrap_or(NONE);
        }
        self.whole();
    }

    /// The whole body has passed.
    pub(crate) fn whole(&mut self) {
        self.end = End::Whole;
    }

    /// The body was cut off.
    pub(crate) fn broke(&mut self, code: Code) {
        self.end = End::Broken(code);
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        let (outcome, reason) = match self.end {
            End::Gone => ("broken", Code::ClientGone.name()),
            End::Whole => ("answered", ""),
            End::Refused(code) => ("refused", code.name()),
            End::NotOpened => ("refused", "not-opened"),
            End::Broken(code) => ("broken", code.name()),
        };
        let protocol = ("protocol", if self.grpc { "grpc" } else { "http" });
        let metrics = &self.meter.0;
        metrics.in_flight.dec();
        let labels = [protocol, ("status", self.status), ("outcome", outcome), ("reason", reason)];
        metrics.requests.get_or_create(&labels).inc();
        metrics.durations.get_or_create(&[protocol]).observe(self.started.elapsed().as_secs_f64());
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}

fn grpc_status(fields: &HeaderMap) -> Option<&'static str> {
    let value = fields.get("grpc-status")?;
    Some(value.to_str().ok().and_then(|value| value.parse().ok()).map_or("other", grpc_name))
}

/// As the gRPC protocol names its codes.
fn grpc_name(code: u8) -> &'static str {
    match code {
        0 => "OK",
        1 => "CANCELLED",
        2 => "UNKNOWN",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        6 => "ALREADY_EXISTS",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        10 => "ABORTED",
        11 => "OUT_OF_RANGE",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        16 => "UNAUTHENTICATED",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
