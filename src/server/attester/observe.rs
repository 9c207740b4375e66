//! What the attester tells of each call of the hardware, for whoever counts.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::error::AttesterError;

/// One call of the hardware: the argument of [`on_report`](super::AttesterBuilder::on_report).
#[derive(Debug, Clone)]
pub struct ReportCall {
    nonces: usize,
    took: Duration,
    error: Option<AttesterError>,
}

impl ReportCall {
    pub(super) fn new(nonces: usize, took: Duration, error: Option<AttesterError>) -> Self {
        Self { nonces, took, error }
    }

    /// How many nonces the report answers, or would have answered: at least 1.
    pub fn nonces(&self) -> usize {
        self.nonces
    }

    /// How long the call took. Of a call that has not returned: the report timeout.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Why there is no report. [`Stalled`](super::AttesterErrorKind::Stalled) if the call has not returned in time.
    pub fn error(&self) -> Option<&AttesterError> {
        self.error.as_ref()
    }
}

type OnReport = dyn Fn(&ReportCall) + Send + Sync;

/// Who is told of calls, if anybody.
#[derive(Clone, Default)]
pub(super) struct Observer(Option<Arc<OnReport>>);

impl Observer {
    pub(super) fn new(f: impl Fn(&ReportCall) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(f)))
    }

    /// A panic ends here: it must not take the attester with it.
    pub(super) fn tell(&self, call: &ReportCall) {
        if let Some(observer) = &self.0
            && catch_unwind(AssertUnwindSafe(|| observer(call))).is_err()
        {
            tracing::error!(
                name: "attest.observer_panicked", target: "tower_attest::server",
                "what on_report was given panicked; its message is in the process's standard error"
            );
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(set)" } else { "Observer(none)" })
    }
}

#[cfg(all(test, feature = "mock"))]
mod tests;
