//! The workers under one policy, and the choice among them. Another policy is another generation, with channels of its own:
//! no request of one is ever sent on a channel of the other.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::narrowed::Narrowed;
use super::worker::{Verdict, Worker, is_away};
use crate::failure::Failure;
use crate::proxy::problem::{Code, Problem};

/// How long a change of policy waits for verdicts.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) struct Generation {
    workers: Vec<Arc<Worker>>,
    changed: Arc<Notify>,
    verifier: Arc<Narrowed>,
    retired: watch::Sender<bool>,
    /// Look at the workers until the last connection of a client of this generation has ended.
    _watching: JoinSet<()>,
    random: RandomState,
    draws: AtomicU64,
}

impl Generation {
    /// Inside a tokio runtime.
    pub(super) fn start(
        verifier: Arc<Narrowed>,
        every: std::time::Duration,
        workers: impl FnOnce(&Arc<Notify>) -> Result<Vec<Worker>, Failure>,
    ) -> Result<Self, Failure> {
        let changed = Arc::new(Notify::new());
        let workers: Vec<_> = workers(&changed)?.into_iter().map(Arc::new).collect();
        let mut watching = JoinSet::new();
        for worker in &workers {
            watching.spawn(Arc::clone(worker).watch(every));
        }
        Ok(Self {
            workers,
            changed,
            verifier,
            retired: watch::Sender::new(false),
            _watching: watching,
            random: RandomState::new(),
            draws: AtomicU64::new(0),
        })
    }

    pub(super) fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }

    /// Turns true when another policy has taken this one's place.
    pub(super) fn retired(&self) -> watch::Receiver<bool> {
        self.retired.subscribe()
    }

    /// `next` has taken its place. What still runs here goes on with workers that both policies accept, and is cut off
    /// otherwise.
    pub(super) fn retire(&self, next: &Self) {
        self.verifier.narrow(&next.verifier);
        self.retired.send_replace(true);
        for worker in &self.workers {
            worker.doubt();
        }
        self.changed.notify_waiters();
    }

    /// Waits until there is a verdict on each worker, but not for long: whoever changes a policy wants it in force.
    pub(super) async fn settled(&self) {
        let decided = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if !self.workers.iter().any(|worker| matches!(worker.verdict(), Verdict::Undecided)) {
                    return;
                }
                changed.await;
            }
        };
        // What is undecided then is decided later.
        let _ = tokio::time::timeout(PATIENCE, decided).await;
    }

    fn is_retired(&self) -> bool {
        *self.retired.borrow()
    }

    /// A worker that is believed: of two at random the one that is less busy, and rather not `avoid`. Waits for a verdict as
    /// long as there may be one.
    pub(super) async fn choose(&self, avoid: Option<&Arc<Worker>>) -> Result<Arc<Worker>, Problem> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_retired() {
                return Err(changed_configuration());
            }
            if let Some(worker) = self.pick(avoid) {
                return Ok(worker);
            }
            self.any_hope()?;
            changed.await;
        }
    }

    fn pick(&self, avoid: Option<&Arc<Worker>>) -> Option<Arc<Worker>> {
        let believed: Vec<_> = self.workers.iter().filter(|worker| worker.is_believed()).collect();
        let avoided = |worker: &Arc<Worker>| avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, worker));
        let of = |wanted: &dyn Fn(&Arc<Worker>) -> bool| {
            let among: Vec<_> = believed.iter().copied().filter(|worker| wanted(worker)).collect();
            self.less_busy(&among)
        };
        of(&|worker| worker.serves() && !avoided(worker))
            .or_else(|| of(&|worker| !avoided(worker)))
            .or_else(|| of(&|_| true))
    }

    fn less_busy(&self, among: &[&Arc<Worker>]) -> Option<Arc<Worker>> {
        let draw = self.random.hash_one(self.draws.fetch_add(1, Ordering::Relaxed));
        let (first, second) = two_of(among.len(), draw)?;
        let (first, second) = (among.get(first)?, among.get(second)?);
        let busy = |worker: &Worker| worker.tally.in_flight.load(Ordering::Relaxed);
        Some(Arc::clone(if busy(second) < busy(first) { second } else { first }))
    }

    /// Fails once every worker has been refused.
    fn any_hope(&self) -> Result<(), Problem> {
        let (mut away, mut refused) = (0_usize, 0_usize);
        for worker in &self.workers {
            match worker.verdict() {
                Verdict::Refused(error) if is_away(error.stage()) => away += 1,
                Verdict::Refused(_) => refused += 1,
                Verdict::Undecided | Verdict::Believed(_) => return Ok(()),
            }
        }
        let detail = format!("no worker can be used: {away} cannot be reached, {refused} are not believed");
        Err(Problem::new(StatusCode::BAD_GATEWAY, Code::NoWorker, detail))
    }
}

/// What requests get on connections whose client was told of another configuration.
fn changed_configuration() -> Problem {
    let detail = "the configuration has changed since this connection was made: ask again on another";
    Problem::new(StatusCode::MISDIRECTED_REQUEST, Code::ConfigurationChanged, detail)
}

/// Two different numbers below `length`, if there are; the same twice if there is but one.
fn two_of(length: usize, draw: u64) -> Option<(usize, usize)> {
    let length = u64::try_from(length).ok().filter(|length| *length > 0)?;
    let first = draw % length;
    let second = match length.checked_sub(1).filter(|others| *others > 0) {
        Some(others) => (first + 1 + (draw >> 32) % others) % length,
        None => first,
    };
    Some((usize::try_from(first).ok()?, usize::try_from(second).ok()?))
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("retired", &self.is_retired()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation() -> Generation {
        let verifier = Arc::new(Narrowed::new(tower_attest::AnyOf::none()));
        Generation::start(verifier, std::time::Duration::from_secs(1), |_| Ok(vec![])).unwrap()
    }

    #[tokio::test]
    async fn once_another_policy_is_in_force_no_request_is_sent_under_this_one() {
        let (before, next) = (generation(), generation());
        let mut retired = before.retired();
        let refused = before.choose(None).await.map(drop).unwrap_err();
        assert_eq!((refused.status(), refused.code()), (StatusCode::BAD_GATEWAY, Code::NoWorker));
        before.retire(&next);
        assert!(retired.wait_for(|retired| *retired).await.is_ok(), "connections are told");
        let refused = before.choose(None).await.map(drop).unwrap_err();
        assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(refused.code(), Code::ConfigurationChanged);
    }

    #[test]
    fn two_choices_are_two_workers_and_each_pair_comes_up() {
        assert_eq!(two_of(0, 7), None);
        assert_eq!(two_of(1, 7), Some((0, 0)));
        let random = RandomState::new();
        let mut seen = std::collections::HashSet::new();
        for draw in 0..1000_u64 {
            let (first, second) = two_of(3, random.hash_one(draw)).unwrap();
            assert!(first != second && first < 3 && second < 3);
            seen.insert((first, second));
        }
        assert_eq!(seen.len(), 6, "{seen:?}");
    }
}
