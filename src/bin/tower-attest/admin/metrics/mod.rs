//! What `/metrics` shows.
//!
//! Numbers come from three places: handles that others move ([`Meter`](crate::proxy::meter::Meter), [`attesting`],
//! [`believing`]), values that are read at each scrape ([`pull`]), and the checks of `/readyz`.

pub(crate) mod attesting;
pub(crate) mod believing;
mod process;
mod pull;
pub(crate) mod workers;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use self::pull::{describe, number};
use super::negotiate::Format;
use super::ready::Findings;
use crate::lifecycle::{ReloadCount, Reloads};
use crate::proxy::meter::{Labels, Meter};

/// All metrics of one sidecar.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    ready: Family<Labels<1>, Gauge>,
}

impl Metrics {
    /// Those that both sidecars have. `about` stands in `tower_attest_build_info` beside the version.
    pub(crate) fn new(about: &[(&'static str, &str)], meter: &Meter, reloads: &Reloads) -> Self {
        let mut metrics = Self { registry: Registry::default(), ready: Family::default() };
        process::register(&mut metrics.registry);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let labels: Vec<_> = about.iter().chain(&version).map(|(name, value)| (*name, (*value).to_owned())).collect();
        let ready = metrics.ready.clone();
        let own = metrics.own();
        own.register("build", "What runs", Info::new(labels));
        own.register("ready", "Whether each check of /readyz passes: 1 if it does", ready);
        meter.register(own);
        let reloads = reloads.clone();
        describe("reloads", "Files read again after SIGHUP").counters(own, move || {
            let counts = reloads.counts();
            let outcomes = |count: &ReloadCount| {
                [("reloaded", count.reloaded), ("refused", count.refused)]
                    .map(|(outcome, times)| ([("name", count.name), ("outcome", outcome)], number(times)))
            };
            counts.iter().flat_map(outcomes).collect()
        });
        metrics
    }

    /// Where metrics of this program go, whose names begin with `tower_attest_`.
    pub(crate) fn own(&mut self) -> &mut Registry {
        self.registry.sub_registry_with_prefix("tower_attest")
    }

    /// All of them, beside what the checks found.
    pub(super) fn encode(&self, format: Format, findings: Findings) -> String {
        for finding in findings.checks {
            self.ready.get_or_create(&[("check", finding.check)]).set(i64::from(finding.ok));
        }
        let mut out = String::with_capacity(32 * 1024);
        // Writing to a string does not fail.
        let _ = match format {
            Format::OpenMetrics => text::encode(&mut out, &self.registry),
            Format::Prometheus => prometheus_text::encode(&mut out, &self.registry),
        };
        out
    }
}
