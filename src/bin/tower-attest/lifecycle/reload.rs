//! What SIGHUP reads again: certificates, policies, whatever a sidecar enters here.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::failure::Failure;

/// How long one reload may take. Those behind it wait meanwhile, and so does the next SIGHUP.
const LIMIT: Duration = Duration::from_secs(60);

type Work = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// The reloads of one sidecar. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reloads(Arc<Mutex<Vec<Arc<Entry>>>>);

/// How often a reload was tried, by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReloadCount {
    pub(crate) name: &'static str,
    /// What was read is in force.
    pub(crate) reloaded: u64,
    /// What was read is not; the one before is.
    pub(crate) refused: u64,
}

struct Entry {
    name: &'static str,
    work: Box<dyn Fn() -> Work + Send + Sync>,
    reloaded: AtomicU64,
    refused: AtomicU64,
}

impl Reloads {
    /// Enters a reload under a name, which logs and metrics show. It either puts into force what it reads, or fails and
    /// leaves what was before. It may be dropped while it waits, if it takes longer than a minute.
    pub(crate) fn add<F>(&self, name: &'static str, work: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let work = Box::new(move || -> Work { Box::pin(work()) });
        let entry = Entry { name, work, reloaded: AtomicU64::new(0), refused: AtomicU64::new(0) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(entry));
    }

    /// Runs all of them, one after the other. One that fails keeps no other from running. Returns those that were refused.
    pub(super) async fn run(self) -> Vec<&'static str> {
        let mut refused = Vec::new();
        let entries = self.entries();
        if entries.is_empty() {
            tracing::info!("reload: there is nothing to read again");
        }
        for entry in entries {
            let outcome = tokio::time::timeout(LIMIT, (entry.work)()).await.unwrap_or_else(|_| {
                Err(Failure::undecided(format_args!("it took longer than {} seconds", LIMIT.as_secs())))
            });
            match outcome {
                Ok(()) => {
                    entry.reloaded.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(reload = entry.name, "reloaded");
                }
                Err(error) => {
                    entry.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(reload = entry.name, %error, "not reloaded: what was before stays in force");
                    refused.push(entry.name);
                }
            }
        }
        refused
    }

    /// What came of those that were tried so far.
    pub(crate) fn counts(&self) -> Vec<ReloadCount> {
        let count = |entry: Arc<Entry>| ReloadCount {
            name: entry.name,
            reloaded: entry.reloaded.load(Ordering::Relaxed),
            refused: entry.refused.load(Ordering::Relaxed),
        };
        self.entries().into_iter().map(count).collect()
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_is_run_whatever_becomes_of_the_others_and_counted_by_outcome() {
        let reloads = Reloads::default();
        let tries = Arc::new(AtomicU64::new(0));
        reloads.add("certificate", || async { Err(Failure::undecided("no such file")) });
        reloads.add("policy", {
            let tries = Arc::clone(&tries);
            move || {
                let nth = tries.fetch_add(1, Ordering::Relaxed);
                async move { if nth == 1 { Err(Failure::undecided("the second")) } else { Ok(()) } }
            }
        });
        for refused in [&["certificate"][..], &["certificate", "policy"], &["certificate"]] {
            assert_eq!(reloads.clone().run().await, refused);
        }
        let count = |name, reloaded, refused| ReloadCount { name, reloaded, refused };
        assert_eq!(reloads.counts(), [count("certificate", 0, 3), count("policy", 2, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_given_up_and_the_next_has_its_turn() {
        let reloads = Reloads::default();
        reloads.add("hangs", std::future::pending);
        reloads.add("works", || async { Ok(()) });
        reloads.clone().run().await;
        assert_eq!(reloads.counts().iter().map(|count| count.reloaded).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(reloads.counts().iter().map(|count| count.refused).collect::<Vec<_>>(), [1, 0]);
    }
}
