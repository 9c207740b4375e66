//! The metrics of workers that prove what they are, one series for each URL that the operator gave.

use prometheus_client::registry::Registry;

use super::pull::{describe, number, size};
use crate::serve::balancer::{Standing, WorkerStats};

type Named = [(&'static str, String); 1];

pub(crate) fn register(registry: &mut Registry, read: impl Fn() -> Vec<WorkerStats> + Clone + Send + Sync + 'static) {
    let of = |count: fn(&WorkerStats) -> f64| {
        let read = read.clone();
        move || read().into_iter().map(|stats| (named(&stats), count(&stats))).collect::<Vec<_>>()
    };
    describe("worker_requests", "Requests sent to a worker, those included that were then sent to another")
        .counters(registry, of(|stats| number(stats.requests)));
    describe("worker_failures", "Exchanges with a worker that broke or stood still, and its answers 502, 503 and 504")
        .counters(registry, of(|stats| number(stats.failures)));
    describe("worker_ejections", "Times that a worker was found not to be believed, or not to be there")
        .counters(registry, of(|stats| number(stats.ejections)));
    describe("worker_pauses", "Times that others were preferred to a worker for a while, since it did not serve")
        .counters(registry, of(|stats| number(stats.pauses)));
    describe("worker_requests_in_flight", "Exchanges with a worker that have not ended")
        .gauges(registry, of(|stats| size(stats.in_flight)));
    describe("worker_standing", "What a worker is good for: 1 for how it stands").gauges(registry, move || {
        let each = |stats: WorkerStats| {
            ["serving", "paused", "undecided", "ejected"].map(|name| {
                let value = if standing(stats.standing) == name { 1.0 } else { 0.0 };
                ([("worker", stats.worker.clone()), ("standing", name.to_owned())], value)
            })
        };
        read().into_iter().flat_map(each).collect()
    });
}

fn named(stats: &WorkerStats) -> Named {
    [("worker", stats.worker.clone())]
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Serving => "serving",
        Standing::Paused => "paused",
        Standing::Undecided => "undecided",
        Standing::Ejected { .. } => "ejected",
    }
}
