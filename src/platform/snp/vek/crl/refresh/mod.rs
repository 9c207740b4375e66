//! Revocation lists renewed in the background, before they end.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::{CrlRequest, CrlSink, CrlSource};
use crate::platform::endorser::{AbortOnDrop, LONGEST_SLEEP, Plan, SHORTEST};
use crate::platform::snp::Product;
use crate::platform::snp::vek::{EndorsementError, EndorsementErrorKind};
use crate::time::{Clock, SystemClock};

/// Sets up a background task that keeps the revocation lists of some products new.
///
/// | after | the next try comes in |
/// |---|---|
/// | success | [`with_interval`](Self::with_interval) (24 h), or half the time to `nextUpdate` where that is sooner; at least 1 min |
/// | failure | 1 min, doubling up to 1 h; a `Retry-After` that is longer is kept, up to the interval |
///
/// Where no new list can be had, the verifier refuses chains from `nextUpdate` on.
#[derive(Debug)]
pub struct CrlRefresher<S> {
    source: S,
    products: Vec<Product>,
    interval: Duration,
    clock: Arc<dyn Clock>,
}

impl<S: CrlSource + 'static> CrlRefresher<S> {
    /// Takes the lists of `products` from `source`.
    pub fn new(source: S, products: impl IntoIterator<Item = Product>) -> Self {
        Self {
            source,
            products: products.into_iter().collect(),
            interval: Duration::from_secs(24 * 60 * 60),
            clock: Arc::new(SystemClock),
        }
    }

    /// How long a list is used at most before a newer one is looked for: the time in which a revocation is seen.
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

    /// Starts the task. It ends when the last clone of the returned handle, or the sink, is dropped.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<K: CrlSink + 'static>(self, sink: &Arc<K>) -> CrlRefresh {
        let states = self.products.iter().map(|product| CrlState::new(*product)).collect();
        let (publish, states) = watch::channel(states);
        let sink: Weak<K> = Arc::downgrade(sink);
        let task = tokio::spawn(self.run(sink, publish)).abort_handle();
        CrlRefresh { states, _task: Arc::new(AbortOnDrop(task)) }
    }

    async fn run(self, sink: Weak<dyn CrlSink>, publish: watch::Sender<Vec<CrlState>>) {
        let now = self.clock.now();
        let mut plans: Vec<Plan> = self.products.iter().map(|_| Plan::due_at(now)).collect();
        loop {
            for (position, (plan, product)) in plans.iter_mut().zip(&self.products).enumerate() {
                if !plan.is_due(self.clock.now()) {
                    continue;
                }
                let Some(sink) = sink.upgrade() else { return };
                let outcome = self.renew(*product, &*sink).await;
                drop(sink);
                let wait = plan.next(&outcome, self.clock.now(), self.interval);
                tracing::debug!(%product, wait_s = wait.as_secs(), error = ?outcome.as_ref().err(), "snp.crl.renewed");
                publish.send_modify(|states| {
                    if let Some(state) = states.get_mut(position) {
                        state.record(outcome);
                    }
                });
            }
            let now = self.clock.now();
            let wait = plans.iter().map(|plan| plan.wait(now)).min().unwrap_or(LONGEST_SLEEP);
            self.clock.sleep(wait.min(LONGEST_SLEEP)).await;
        }
    }

    async fn renew(&self, product: Product, sink: &dyn CrlSink) -> Result<SystemTime, EndorsementError> {
        let request = CrlRequest::new(product, sink, self.clock.now().wall);
        let der = self.source.crl(&request).await?;
        request.check(&der)
    }
}

/// A running [`CrlRefresher`]. The task ends with the last clone of this handle.
#[derive(Clone)]
pub struct CrlRefresh {
    states: watch::Receiver<Vec<CrlState>>,
    _task: Arc<AbortOnDrop>,
}

impl CrlRefresh {
    /// Waits until each list has been asked for once, so that a wrong set-up can be seen at the start.
    ///
    /// # Errors
    ///
    /// The first product's failure, if any of them failed at its last try. The task goes on all the same.
    pub async fn first_round(&self) -> Result<(), EndorsementError> {
        let mut states = self.states.clone();
        let tried = states.wait_for(|states| states.iter().all(|state| state.tries > 0)).await;
        let states = tried.map_err(|ended| {
            EndorsementError::with_source(EndorsementErrorKind::Unavailable, "the verifier was dropped", ended)
        })?;
        let failure = states.iter().find_map(|state| state.error.clone());
        failure.map_or(Ok(()), Err)
    }

    /// How each list stands, for a health check.
    pub fn states(&self) -> Vec<CrlState> {
        self.states.borrow().clone()
    }
}

impl fmt::Debug for CrlRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrlRefresh").field("states", &self.states()).finish_non_exhaustive()
    }
}

/// How the renewal of one list stands.
#[derive(Debug, Clone)]
pub struct CrlState {
    product: Product,
    tries: u64,
    next_update: Option<SystemTime>,
    error: Option<EndorsementError>,
}

impl CrlState {
    fn new(product: Product) -> Self {
        Self { product, tries: 0, next_update: None, error: None }
    }

    fn record(&mut self, outcome: Result<SystemTime, EndorsementError>) {
        self.tries = self.tries.saturating_add(1);
        match outcome {
            Ok(next_update) => (self.next_update, self.error) = (Some(next_update), None),
            Err(error) => self.error = Some(error),
        }
    }

    /// Whose list it is.
    pub fn product(&self) -> Product {
        self.product
    }

    /// How often it has been asked for.
    pub fn tries(&self) -> u64 {
        self.tries
    }

    /// `nextUpdate` of the list that was taken last; `None` before the first.
    pub fn next_update(&self) -> Option<SystemTime> {
        self.next_update
    }

    /// Why the last try failed, if it did.
    pub fn error(&self) -> Option<&EndorsementError> {
        self.error.as_ref()
    }
}

#[cfg(test)]
mod tests;
