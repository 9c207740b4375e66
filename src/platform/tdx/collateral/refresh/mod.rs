//! Collateral renewed in the background, before it ends.

#[cfg(all(test, feature = "sim"))]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::{Collateral, CollateralRequest, CollateralSource, MemoryCollateral, PlatformId};
use crate::platform::endorser::{AbortOnDrop, EndorsementError, LONGEST_SLEEP, Plan, SHORTEST};
use crate::time::{Clock, SystemClock};
use crate::verifier::{VerifyError, VerifyErrorKind};

/// Sets up a background task that keeps what a [`MemoryCollateral`] holds new, so that no verification waits for a fetch.
///
/// A platform is renewed from its first verification on, until the memory drops it:
///
/// | after | the next try comes in |
/// |---|---|
/// | success | [`with_interval`](Self::with_interval) (24 h), or half the time to `nextUpdate` where that is sooner; at least 1 min |
/// | failure | 1 min, doubling up to 1 h; a `Retry-After` that is longer is kept, up to the interval |
///
/// A fetched set takes the place of the one before only once a verification has found that it passes every check.
#[derive(Debug)]
pub struct CollateralRefresher {
    interval: Duration,
    clock: Arc<dyn Clock>,
}

impl CollateralRefresher {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self { interval: Duration::from_secs(24 * 60 * 60), clock: Arc::new(SystemClock) }
    }

    /// How long collateral is used at most before newer is looked for: the time in which a revocation, or a TCB that has
    /// fallen out of date, is seen.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(SHORTEST);
        self
    }

    /// Takes time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Starts the task. It ends when the last clone of the returned handle, or `memory`, is dropped.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<S: CollateralSource + 'static>(self, memory: &Arc<MemoryCollateral<S>>) -> CollateralRefresh {
        let (publish, states) = watch::channel(Vec::new());
        let task = tokio::spawn(self.run(Arc::downgrade(memory), publish)).abort_handle();
        CollateralRefresh { states, _task: Arc::new(AbortOnDrop(task)) }
    }

    async fn run<S: CollateralSource>(
        self,
        memory: Weak<MemoryCollateral<S>>,
        publish: watch::Sender<Vec<CollateralState>>,
    ) {
        let mut entries: HashMap<PlatformId, Entry> = HashMap::new();
        loop {
            let Some(memory) = memory.upgrade() else { return };
            let now = self.clock.now();
            let kept: HashMap<PlatformId, Option<SystemTime>> = memory.platforms().into_iter().collect();
            entries.retain(|platform, _| kept.contains_key(platform));
            for (platform, end) in kept {
                // What has just been fetched for a verification is as good as a first success here.
                entries.entry(platform).or_insert_with(|| {
                    let mut plan = Plan::due_at(now);
                    plan.next(&Ok(end.unwrap_or(now.wall)), now, self.interval);
                    Entry { plan, state: CollateralState { platform, tries: 0, next_update: end, error: None } }
                });
            }
            for (platform, entry) in &mut entries {
                if !entry.plan.is_due(self.clock.now()) {
                    continue;
                }
                let outcome = renew(&memory, *platform, self.clock.now().wall).await;
                let wait = entry.plan.next(&outcome, self.clock.now(), self.interval);
                let error = outcome.as_ref().err();
                tracing::debug!(%platform, wait_s = wait.as_secs(), ?error, "tdx.collateral.renewed");
                entry.state.record(outcome);
            }
            drop(memory);
            publish.send_replace(entries.values().map(|entry| entry.state.clone()).collect());
            let now = self.clock.now();
            let wait = entries.values().map(|entry| entry.plan.wait(now)).min().unwrap_or(LONGEST_SLEEP);
            self.clock.sleep(wait.min(LONGEST_SLEEP)).await;
        }
    }
}

impl Default for CollateralRefresher {
    fn default() -> Self {
        Self::new()
    }
}

/// No quote is at hand that a set could be judged by: its dates alone are looked at here.
async fn renew<S: CollateralSource>(
    memory: &MemoryCollateral<S>,
    platform: PlatformId,
    now: SystemTime,
) -> Result<SystemTime, EndorsementError> {
    let dated = |collateral: &Arc<Collateral>| {
        collateral.next_update().ok_or_else(|| {
            VerifyError::new(VerifyErrorKind::Endorsement, "the collateral does not say when it must be replaced")
        })
    };
    memory.prefetch(&CollateralRequest::new(platform, now, &dated)).await
}

struct Entry {
    plan: Plan,
    state: CollateralState,
}

/// A running [`CollateralRefresher`]. The task ends with the last clone of this handle.
#[derive(Clone)]
pub struct CollateralRefresh {
    states: watch::Receiver<Vec<CollateralState>>,
    _task: Arc<AbortOnDrop>,
}

impl CollateralRefresh {
    /// How each platform's collateral stands, for a health check. A platform is listed within five minutes of its first
    /// verification.
    pub fn states(&self) -> Vec<CollateralState> {
        self.states.borrow().clone()
    }
}

impl fmt::Debug for CollateralRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollateralRefresh").field("states", &self.states()).finish_non_exhaustive()
    }
}

/// How the renewal of one platform's collateral stands.
#[derive(Debug, Clone)]
pub struct CollateralState {
    platform: PlatformId,
    tries: u64,
    next_update: Option<SystemTime>,
    error: Option<EndorsementError>,
}

impl CollateralState {
    fn record(&mut self, outcome: Result<SystemTime, EndorsementError>) {
        self.tries = self.tries.saturating_add(1);
        match outcome {
            Ok(next_update) => (self.next_update, self.error) = (Some(next_update), None),
            Err(error) => self.error = Some(error),
        }
    }

    /// Whose collateral it is.
    pub fn platform(&self) -> PlatformId {
        self.platform
    }

    /// How often it has been fetched in the background.
    pub fn tries(&self) -> u64 {
        self.tries
    }

    /// `nextUpdate` of the newest set.
    pub fn next_update(&self) -> Option<SystemTime> {
        self.next_update
    }

    /// Why the last try failed, if it did.
    pub fn error(&self) -> Option<&EndorsementError> {
        self.error.as_ref()
    }
}
