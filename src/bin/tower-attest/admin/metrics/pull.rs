//! Metrics that are read when somebody asks, from whoever keeps the numbers.

use std::fmt;
use std::marker::PhantomData;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use crate::proxy::meter::Labels;

/// For a metric of one series.
const NONE: Labels<0> = [];

/// A metric's name, without prefix and unit, what it says, and its unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Describe {
    name: &'static str,
    help: &'static str,
    unit: Option<&'static str>,
}

pub(super) fn describe(name: &'static str, help: &'static str) -> Describe {
    Describe { name, help, unit: None }
}

impl Describe {
    pub(super) fn seconds(self) -> Self {
        Self { unit: Some("seconds"), ..self }
    }

    pub(super) fn bytes(self) -> Self {
        Self { unit: Some("bytes"), ..self }
    }

    /// One number that goes up and down; none where there is none to tell.
    pub(super) fn gauge(self, registry: &mut Registry, read: impl Fn() -> Option<f64> + Send + Sync + 'static) {
        self.gauges(registry, move || read().map(|value| (NONE, value)).into_iter().collect());
    }

    /// One number that only goes up.
    pub(super) fn counter(self, registry: &mut Registry, read: impl Fn() -> Option<f64> + Send + Sync + 'static) {
        self.counters(registry, move || read().map(|value| (NONE, value)).into_iter().collect());
    }

    pub(super) fn gauges<L: EncodeLabelSet + 'static>(
        self,
        registry: &mut Registry,
        read: impl Fn() -> Vec<(L, f64)> + Send + Sync + 'static,
    ) {
        let labels = PhantomData;
        registry.register_collector(Box::new(Pulled { describe: self, kind: MetricType::Gauge, read, labels }));
    }

    pub(super) fn counters<L: EncodeLabelSet + 'static>(
        self,
        registry: &mut Registry,
        read: impl Fn() -> Vec<(L, f64)> + Send + Sync + 'static,
    ) {
        let labels = PhantomData;
        registry.register_collector(Box::new(Pulled { describe: self, kind: MetricType::Counter, read, labels }));
    }
}

struct Pulled<F, L> {
    describe: Describe,
    kind: MetricType,
    read: F,
    labels: PhantomData<fn() -> L>,
}

impl<F, L> Collector for Pulled<F, L>
where
    F: Fn() -> Vec<(L, f64)> + Send + Sync + 'static,
    L: EncodeLabelSet + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let values = (self.read)();
        if values.is_empty() {
            return Ok(());
        }
        let Describe { name, help, unit } = self.describe;
        let unit = unit.map(|unit| Unit::Other(unit.to_owned()));
        // As `Registry::register` does with the help of what it holds itself.
        let help = format!("{help}.");
        let mut encoder = encoder.encode_descriptor(name, &help, unit.as_ref(), self.kind)?;
        for (labels, value) in values {
            put(&mut encoder.encode_family(&labels)?, self.kind, value)?;
        }
        Ok(())
    }
}

fn put(encoder: &mut MetricEncoder<'_>, kind: MetricType, value: f64) -> fmt::Result {
    match kind {
        MetricType::Counter => encoder.encode_counter(&value, None::<&Exemplar<Labels<0>, f64>>),
        _ => encoder.encode_gauge(&value),
    }
}

impl<F, L> fmt::Debug for Pulled<F, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulled").field("name", &self.describe.name).finish_non_exhaustive()
    }
}

/// Counts are exact up to 2^53, which no count here reaches.
#[expect(clippy::as_conversions, reason = "there is no other way from an integer of 64 bits to a float")]
pub(super) fn number(value: u64) -> f64 {
    value as f64
}

pub(super) fn size(value: usize) -> f64 {
    number(u64::try_from(value).unwrap_or(u64::MAX))
}
