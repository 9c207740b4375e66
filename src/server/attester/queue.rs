//! The queue in front of the hardware: bounded, and a nonce whose client has gone gives its slot back at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::error::AttesterError;
use super::{Health, Stats};
use crate::protocol::{BatchProof, Leaf};
use crate::report::Report;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// What one nonce gets: the shared report, and its own proof. Not the tree: an application may take long to answer.
pub(super) type Share = Result<(Report, BatchProof), AttesterError>;

/// A nonce that waits for its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) leaf: Leaf,
    pub(super) reply: oneshot::Sender<Share>,
}

#[derive(Debug)]
pub(super) struct Queue {
    limit: usize,
    state: Mutex<State>,
    /// Wakes the batcher: something waits.
    work: Notify,
    /// Wakes the batcher: nothing more will come.
    closing: Notify,
}

#[derive(Debug)]
struct State {
    /// By arrival.
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    closed: bool,
    /// Why nothing is accepted now, if so.
    stalled: Option<AttesterError>,
    last_failed: bool,
    stats: Stats,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        let state = State {
            waiting: BTreeMap::new(),
            next: 0,
            closed: false,
            stalled: None,
            last_failed: false,
            stats: Stats::default(),
        };
        Self { limit, state: Mutex::new(state), work: Notify::new(), closing: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a leaf. The place gives its slot back when it is dropped.
    pub(super) fn push(self: &Arc<Self>, leaf: Leaf) -> Result<Place, AttesterError> {
        let (reply, share) = oneshot::channel();
        let mut state = self.state();
        let refusal = if state.closed {
            Some(AttesterError::stopped())
        } else if let Some(stalled) = &state.stalled {
            Some(stalled.clone())
        } else if state.waiting.len() >= self.limit {
            Some(AttesterError::queue_full(self.limit))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            state.stats.refused += 1;
            return Err(refusal);
        }
        let id = state.next;
        state.next += 1;
        state.waiting.insert(id, Waiting { leaf, reply });
        drop(state);
        self.work.notify_one();
        Ok(Place { queue: Arc::clone(self), id, share })
    }

    /// Takes the next batch, oldest first: empty if nothing waits, `None` if nothing ever will. Both are decided under one
    /// lock, so that a nonce which comes just before the end is served.
    pub(super) fn take(&self, most: usize) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        if state.closed && state.waiting.is_empty() {
            return None;
        }
        let mut batch = Vec::with_capacity(most.min(state.waiting.len()));
        while batch.len() < most
            && let Some((_, waiting)) = state.waiting.pop_first()
        {
            batch.push(waiting);
        }
        Some(batch)
    }

    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// Ends when [`close`](Self::close) has been called.
    pub(super) async fn closing(&self) {
        self.closing.notified().await;
    }

    /// Accepts nothing more; what waits is still served.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.work.notify_one();
        self.closing.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Accepts nothing and serves nothing more: nobody is left to do so.
    pub(super) fn abort(&self) {
        let abandoned = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(abandoned);
    }

    /// Counts a report.
    pub(super) fn made(&self, nonces: usize) {
        let mut state = self.state();
        state.last_failed = false;
        state.stats.reports += 1;
        state.stats.nonces += u64::try_from(nonces).unwrap_or(u64::MAX);
        state.stats.largest_batch = state.stats.largest_batch.max(nonces);
    }

    /// Counts a call that made no report.
    pub(super) fn failed(&self) {
        let mut state = self.state();
        state.last_failed = true;
        state.stats.failures += 1;
    }

    /// Refuses everything with `error`, what waits included, until [`recovered`](Self::recovered).
    pub(super) fn stall(&self, error: &AttesterError) {
        let waiting = {
            let mut state = self.state();
            state.stalled = Some(error.clone());
            state.stats.stalls += 1;
            std::mem::take(&mut state.waiting)
        };
        for waiting in waiting.into_values() {
            let _ = waiting.reply.send(Err(error.clone()));
        }
    }

    pub(super) fn recovered(&self) {
        self.state().stalled = None;
    }

    pub(super) fn health(&self) -> Health {
        let state = self.state();
        match &*state {
            State { closed: true, .. } => Health::Stopped,
            State { stalled: Some(_), .. } => Health::Stalled,
            State { last_failed: true, .. } => Health::Failing,
            _ => Health::Ready,
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.state();
        Stats { queued: state.waiting.len(), queue_limit: self.limit, ..state.stats }
    }
}

/// One nonce's place in the queue, and later in a batch.
#[derive(Debug)]
pub(super) struct Place {
    queue: Arc<Queue>,
    id: u64,
    pub(super) share: oneshot::Receiver<Share>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let abandoned = self.queue.state().waiting.remove(&self.id);
        drop(abandoned);
    }
}
