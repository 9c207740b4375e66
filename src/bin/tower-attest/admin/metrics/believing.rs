//! The metrics of who believes, or does not: attested connections, verdicts, verification, what is remembered.

use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tower_attest::client::TrustStats;
use tower_attest::tls::{Attestation, ChannelError, EndpointState, EndpointStatus, Stage};
use tower_attest::{Claims, ErrorKind, GrpcCode, Observation, Verdict, VerifyError, VerifyErrorKind};

use super::pull::{describe, size};
use crate::proxy::meter::{Histograms, Labels};

/// From a verification out of caches to one that fetches from AMD or Intel.
const SECONDS: [f64; 13] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// What is counted as it happens. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Believing {
    attestations: Family<Labels<4>, Counter>,
    durations: Histograms<1>,
    verdicts: Family<Labels<2>, Counter>,
    verifications: Histograms<1>,
}

impl Believing {
    pub(crate) fn new() -> Self {
        Self {
            attestations: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            verdicts: Family::default(),
            verifications: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        }
    }

    /// For [`ChannelBuilder::on_attestation`](tower_attest::tls::ChannelBuilder::on_attestation).
    pub(crate) fn attestation(&self, attestation: &Attestation) {
        let kind = ("kind", if attestation.is_renewal() { "renewal" } else { "connection" });
        let (outcome, stage, check) = match attestation.outcome() {
            Ok(_) => ("verified", "", ""),
            Err(error) => (failure(error), stage(error.stage()), check(error.kind())),
        };
        let labels = [kind, ("outcome", outcome), ("stage", stage), ("check", check)];
        self.attestations.get_or_create(&labels).inc();
        self.durations.get_or_create(&[("outcome", outcome)]).observe(attestation.took().as_secs_f64());
    }

    /// For [`SealLayer::on_verdict`](tower_attest::SealLayer::on_verdict).
    pub(crate) fn verdict(&self, verdict: &Verdict) {
        let outcome = match verdict.observation() {
            Observation::Verified(_) => "verified",
            Observation::Missing => "missing",
            Observation::Undecided(_) => "undecided",
            Observation::Refused(error) if error.grpc_code() == GrpcCode::Unavailable => "undecided",
            _ => "refused",
        };
        let check = verdict.error().map_or("", |error| check(error.kind()));
        self.verdicts.get_or_create(&[("outcome", outcome), ("check", check)]).inc();
    }

    /// One call of the verifier.
    pub(crate) fn verification(&self, took: Duration, outcome: &Result<Claims, VerifyError>) {
        let outcome = match outcome {
            Ok(_) => "accepted",
            Err(error) if error.kind() == VerifyErrorKind::Unavailable => "unavailable",
            Err(_) => "refused",
        };
        self.verifications.get_or_create(&[("outcome", outcome)]).observe(took.as_secs_f64());
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "attestations",
            "Times that a far end was attested, or was not: at which stage, by which check",
            self.attestations.clone(),
        );
        let took = "How long it took to attest: of a new connection from its beginning, handshakes included";
        registry.register_with_unit("attestation_duration", took, Unit::Seconds, self.durations.clone());
        registry.register("verdicts", "Verdicts on responses to sealed requests", self.verdicts.clone());
        let took = "How long the verifier took over a report, fetching what it lacked included";
        registry.register_with_unit("verification_duration", took, Unit::Seconds, self.verifications.clone());
    }
}

/// What there is to say of a channel's far ends. `read` tells them as they are then, or nothing where there is no channel.
pub(crate) fn endpoints(
    registry: &mut Registry,
    read: impl Fn() -> Option<Vec<EndpointStatus>> + Clone + Send + Sync + 'static,
) {
    let states = read.clone();
    describe("endpoints", "Connections to far ends by state").gauges(registry, move || {
        let Some(endpoints) = states() else { return Vec::new() };
        let count = |name| endpoints.iter().filter(|endpoint| state(&endpoint.state) == name).count();
        ["connecting", "attested", "ejected"].map(|name| ([("state", name)], size(count(name)))).to_vec()
    });
    describe("evidence_age", "Age of the oldest evidence on which a connection rests").seconds().gauge(
        registry,
        move || {
            let now = SystemTime::now();
            let ages = read()?.into_iter().filter_map(|endpoint| match endpoint.state {
                EndpointState::Attested(report) => Some(now.duration_since(report.drawn_at()).unwrap_or_default()),
                _ => None,
            });
            ages.max().map(|age| age.as_secs_f64())
        },
    );
}

/// What clients of sealed requests remember.
pub(crate) fn trust(registry: &mut Registry, read: impl Fn() -> Option<TrustStats> + Clone + Send + Sync + 'static) {
    let keys = read.clone();
    describe("trusted_keys", "Keys that are believed").gauge(registry, move || keys().map(|stats| size(stats.keys)));
    describe("trusted_origins", "Servers of which keys are believed, or were asked for")
        .gauge(registry, move || read().map(|stats| size(stats.origins)));
}

fn state(state: &EndpointState) -> &'static str {
    match state {
        EndpointState::Attested(_) => "attested",
        EndpointState::Ejected(_) => "ejected",
        _ => "connecting",
    }
}

/// As `Attestation-Result` has it: refused for good, unreachable, or undecided.
fn failure(error: &ChannelError) -> &'static str {
    match (error.attest_error().grpc_code(), error.stage()) {
        (GrpcCode::Unauthenticated | GrpcCode::FailedPrecondition, _) => "refused",
        (_, Stage::Connect | Stage::Tls | Stage::Http) => "unreachable",
        _ => "undecided",
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect => "connect",
        Stage::Tls => "tls",
        Stage::WebPki => "certificate",
        Stage::Http => "http",
        Stage::Evidence => "evidence",
        Stage::Policy => "policy",
        Stage::Request => "request",
        _ => "other",
    }
}

/// A stable name for each check.
pub(crate) fn check(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotAttested => "not-attested",
        ErrorKind::Configuration => "configuration",
        ErrorKind::Certificate => "certificate",
        ErrorKind::NoReport { .. } => "no-report",
        ErrorKind::Malformed => "malformed",
        ErrorKind::KeysMismatch => "keys-mismatch",
        ErrorKind::NameMismatch => "name-mismatch",
        ErrorKind::ConfigMismatch => "config-mismatch",
        ErrorKind::Stale => "stale",
        ErrorKind::Refused => "refused",
        ErrorKind::UnknownKeys => "unknown-keys",
        ErrorKind::BadSignature => "bad-signature",
        ErrorKind::NotSealed { .. } => "not-sealed",
        ErrorKind::SealBroken => "seal-broken",
        ErrorKind::Truncated => "truncated",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Transport => "transport",
        _ => "other",
    }
}
