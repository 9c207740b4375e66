//! What workers have done, for whoever looks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tower_attest::ErrorKind;
use tower_attest::tls::Stage;

/// One worker's counts, kept over changes of policy.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) in_flight: AtomicUsize,
    pub(super) requests: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) ejections: AtomicU64,
    pub(super) pauses: AtomicU64,
}

/// One worker, as it was when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerStats {
    /// Its URL.
    pub(crate) worker: String,
    pub(crate) standing: Standing,
    /// Exchanges that run.
    pub(crate) in_flight: usize,
    /// Requests sent to it, those included that were then sent to another.
    pub(crate) requests: u64,
    /// Exchanges that broke or stood still, and gateway's errors (502, 503, 504).
    pub(crate) failures: u64,
    /// How often it was found not to be believed, or not to be there.
    pub(crate) ejections: u64,
    /// How often others were preferred for a while, since it did not serve.
    pub(crate) pauses: u64,
}

/// What a worker is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Believed, and serving.
    Serving,
    /// Believed. Others are preferred for a while, since it did not serve.
    Paused,
    /// No verdict yet.
    Undecided,
    /// Not believed, or not there: gets nothing.
    Ejected { stage: Stage, kind: ErrorKind },
}

impl Tally {
    pub(super) fn stats(&self, worker: String, standing: Standing) -> WorkerStats {
        WorkerStats {
            worker,
            standing,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            ejections: self.ejections.load(Ordering::Relaxed),
            pauses: self.pauses.load(Ordering::Relaxed),
        }
    }
}
