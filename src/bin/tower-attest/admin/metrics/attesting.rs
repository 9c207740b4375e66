//! The metrics of who attests: the hardware's reports, what responses got, keys, handshakes, the certificate.

use std::time::UNIX_EPOCH;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tower_attest::server::Outcome;
use tower_attest::tls::ListenerHandle;
use tower_attest::{Attester, AttesterErrorKind, Health, ReportCall, Stats};

use super::pull::{describe, number, size};
use crate::proxy::meter::Labels;
use crate::serve::certificate::CertificateStatus;

/// Hardware takes milliseconds to a second, and a throttled one much longer.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
const NONCES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// What is counted as it happens. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Attesting {
    reports: Family<Labels<1>, Counter>,
    durations: Histogram,
    batches: Histogram,
    outcomes: Family<Labels<3>, Counter>,
}

impl Attesting {
    pub(crate) fn new() -> Self {
        Self {
            reports: Family::default(),
            durations: Histogram::new(SECONDS),
            batches: Histogram::new(NONCES),
            outcomes: Family::default(),
        }
    }

    /// For [`AttesterBuilder::on_report`](tower_attest::AttesterBuilder::on_report).
    pub(crate) fn report(&self, call: &ReportCall) {
        let outcome = match call.error().map(|error| error.kind()) {
            None => "made",
            Some(AttesterErrorKind::Stalled) => "stalled",
            Some(_) => "failed",
        };
        self.reports.get_or_create(&[("outcome", outcome)]).inc();
        self.durations.observe(call.took().as_secs_f64());
        self.batches.observe(size(call.nonces()));
    }

    /// For [`ReportLayer::on_outcome`](tower_attest::ReportLayer::on_outcome).
    pub(crate) fn outcome(&self, outcome: Outcome) {
        let nonce = ("nonce", if outcome.asked() { "yes" } else { "no" });
        let labels = [nonce, ("outcome", outcome.name()), ("reason", outcome.reason().unwrap_or_default())];
        self.outcomes.get_or_create(&labels).inc();
    }

    pub(crate) fn register(&self, registry: &mut Registry, attester: &Attester) {
        registry.register(
            "reports",
            "Calls of the hardware: reports made, calls that failed, calls that did not return in time",
            self.reports.clone(),
        );
        let took = "How long a call of the hardware took; one that did not return counts with the report timeout";
        registry.register_with_unit("report_duration", took, Unit::Seconds, self.durations.clone());
        registry.register("report_batch", "Nonces that share a report", self.batches.clone());
        registry.register(
            "attested_requests",
            "Requests by whether they had a nonce, as those of attesting clients do, and by what they got for it",
            self.outcomes.clone(),
        );
        let gauge = |registry: &mut Registry, name, help, read: fn(&Stats) -> f64| {
            let attester = attester.clone();
            describe(name, help).gauge(registry, move || Some(read(&attester.stats())));
        };
        gauge(registry, "report_queue", "Nonces that wait for the hardware", |stats| size(stats.queued));
        gauge(registry, "report_queue_limit", "Nonces that may wait for the hardware", |stats| size(stats.queue_limit));
        gauge(registry, "key_epoch", "The number of the current keys, from 1", |stats| number(stats.epoch));
        gauge(registry, "sealed_requests_opened", "Sealed requests that the current keys have opened", |stats| {
            size(stats.opened)
        });
        gauge(
            registry,
            "sealed_requests_limit",
            "Sealed requests that the current keys open before new ones take their place; 0 without sealing",
            |stats| size(stats.opened_limit),
        );
        let stats = attester.clone();
        describe("key_age", "Age of the current keys")
            .seconds()
            .gauge(registry, move || Some(stats.stats().keys_age.as_secs_f64()));
        let stats = attester.clone();
        describe("key_lifetime", "Age at which new keys take the place of the current ones")
            .seconds()
            .gauge(registry, move || Some(stats.stats().keys_lifetime.as_secs_f64()));
        let stats = attester.clone();
        describe(
            "nonces",
            "Nonces by what became of them: answered by a report, or refused before the hardware was asked",
        )
        .counters(registry, move || {
            let stats = stats.stats();
            let of = |outcome, times| ([("outcome", outcome)], number(times));
            vec![of("answered", stats.nonces), of("refused", stats.refused)]
        });
        let health = attester.clone();
        describe("attester_health", "How the hardware is: 1 for the state that it is in").gauges(registry, move || {
            let states = [
                ("ready", Health::Ready),
                ("failing", Health::Failing),
                ("stalled", Health::Stalled),
                ("stopped", Health::Stopped),
            ];
            let now = health.health();
            let value = |state| if now == state { 1.0 } else { 0.0 };
            states.map(|(name, state)| ([("state", name)], value(state))).to_vec()
        });
    }
}

/// How TLS handshakes end.
pub(crate) fn handshakes(registry: &mut Registry, listener: ListenerHandle) {
    describe("tls_handshakes", "TLS handshakes by how they ended").counters(registry, move || {
        let stats = listener.stats();
        let of = |outcome, times| ([("outcome", outcome)], number(times));
        vec![
            of("completed", stats.completed),
            of("challenge", stats.challenges),
            of("failed", stats.failed),
            of("timed-out", stats.timed_out),
        ]
    });
}

/// Until when the certificate is valid, and how it goes with the CA.
pub(crate) fn certificate(registry: &mut Registry, certificate: CertificateStatus) {
    let end = certificate.clone();
    let help = "When the certificate ends that is served, in seconds since 1970; none until the CA has issued one";
    describe("certificate_expiry_timestamp", help)
        .seconds()
        .gauge(registry, move || Some(end.not_after()?.duration_since(UNIX_EPOCH).ok()?.as_secs_f64()));
    describe("acme_orders", "Certificates that the CA issued, and attempts that failed").counters(
        registry,
        move || {
            let Some(acme) = certificate.acme() else { return Vec::new() };
            let of = |outcome, times| ([("outcome", outcome)], number(times));
            vec![of("issued", acme.issued_total()), of("failed", acme.failed_total())]
        },
    );
}
