//! Whether this sidecar can do its work now, check by check.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower_attest::async_trait;

/// How long a finding is good for, whoever asks: what is probed does not feel how often that is.
const KEPT: Duration = Duration::from_secs(1);
/// How long all checks together may take. Kubernetes waits for a second, unless told otherwise.
const PATIENCE: Duration = Duration::from_millis(800);

/// One thing that must be in order.
#[async_trait]
pub(crate) trait Check: fmt::Debug + Send + Sync + 'static {
    /// One word, in lower case.
    fn name(&self) -> &'static str;

    /// What was found, or what is wrong. It may be dropped before it ends.
    async fn check(&self) -> Result<String, String>;
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) ok: bool,
    pub(crate) detail: String,
}

/// What all checks found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Findings {
    pub(crate) ready: bool,
    pub(crate) checks: Vec<Finding>,
}

impl Findings {
    /// Not ready, for a reason that no check needs to find out.
    pub(crate) fn not_yet(check: &'static str, detail: &str) -> Self {
        Self { ready: false, checks: vec![Finding { check, ok: false, detail: detail.to_owned() }] }
    }

    fn of(checks: Vec<Finding>) -> Self {
        Self { ready: checks.iter().all(|finding| finding.ok), checks }
    }
}

/// The checks of one sidecar, and what they found last.
#[derive(Debug)]
pub(crate) struct Readiness {
    checks: Vec<Arc<dyn Check>>,
    draining: AtomicBool,
    last: Mutex<Option<(Instant, Findings)>>,
}

impl Readiness {
    pub(crate) fn new(checks: Vec<Arc<dyn Check>>) -> Self {
        Self { checks, draining: AtomicBool::new(false), last: Mutex::default() }
    }

    /// From now on it is not ready: it takes no new connections.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Looks, unless somebody has just looked. Whoever asks meanwhile waits for the same findings.
    pub(crate) async fn look(&self) -> Findings {
        if self.draining.load(Ordering::Relaxed) {
            return Findings::not_yet("draining", "this process ends: it takes no new connections");
        }
        let mut last = self.last.lock().await;
        if let Some((at, findings)) = &*last
            && at.elapsed() < KEPT
        {
            return findings.clone();
        }
        let findings = self.check().await;
        *last = Some((Instant::now(), findings.clone()));
        findings
    }

    /// All checks side by side, in bounded time.
    async fn check(&self) -> Findings {
        let deadline = Instant::now() + PATIENCE;
        let mut running = JoinSet::new();
        for (place, check) in self.checks.iter().cloned().enumerate() {
            running.spawn(async move {
                let late = || Err(format!("no answer within {PATIENCE:?}"));
                (place, tokio::time::timeout_at(deadline, check.check()).await.unwrap_or_else(|_| late()))
            });
        }
        let mut found: Vec<_> = self.checks.iter().map(|_| Err("the check panicked".to_owned())).collect();
        while let Some(ended) = running.join_next().await {
            if let Ok((place, outcome)) = ended
                && let Some(slot) = found.get_mut(place)
            {
                *slot = outcome;
            }
        }
        let findings = self.checks.iter().zip(found).map(|(check, outcome)| Finding {
            check: check.name(),
            ok: outcome.is_ok(),
            detail: outcome.unwrap_or_else(|wrong| wrong),
        });
        Findings::of(findings.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[derive(Debug, Default)]
    struct Scripted {
        name: &'static str,
        wrong: AtomicBool,
        asked: AtomicU64,
    }

    #[async_trait]
    impl Check for Scripted {
        fn name(&self) -> &'static str {
            self.name
        }

        async fn check(&self) -> Result<String, String> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            match (self.name, self.wrong.load(Ordering::Relaxed)) {
                ("hangs", true) => std::future::pending().await,
                ("panics", true) => panic!("a fault of the check's"),
                (_, true) => Err("it is wrong".to_owned()),
                (_, false) => Ok("it is right".to_owned()),
            }
        }
    }

    fn scripted(name: &'static str) -> Arc<Scripted> {
        Arc::new(Scripted { name, ..Scripted::default() })
    }

    fn dynamic(check: &Arc<Scripted>) -> Arc<dyn Check> {
        check.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn each_check_that_fails_makes_it_unready_and_is_named_and_it_comes_back() {
        let checks = ["one", "hangs", "panics"].map(scripted);
        let readiness = Readiness::new(checks.iter().map(dynamic).collect());
        assert!(readiness.look().await.ready);
        for (failing, detail) in checks.iter().zip(["it is wrong", "no answer within 800ms", "the check panicked"]) {
            tokio::time::advance(KEPT).await;
            failing.wrong.store(true, Ordering::Relaxed);
            let started = Instant::now();
            let findings = readiness.look().await;
            assert!(!findings.ready && started.elapsed() <= PATIENCE);
            for finding in findings.checks {
                let expected = if finding.check == failing.name { detail } else { "it is right" };
                assert_eq!((finding.detail.as_str(), finding.ok), (expected, expected == "it is right"));
            }
            failing.wrong.store(false, Ordering::Relaxed);
            tokio::time::advance(KEPT).await;
            assert!(readiness.look().await.ready);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_each_thing_is_probed_once_a_second() {
        let check = scripted("one");
        let readiness = Arc::new(Readiness::new(vec![dynamic(&check)]));
        for second in 1..=3 {
            let asking: Vec<_> = (0..100)
                .map(|_| {
                    let readiness = Arc::clone(&readiness);
                    tokio::spawn(async move { readiness.look().await })
                })
                .collect();
            for asked in asking {
                assert!(asked.await.unwrap().ready);
            }
            assert_eq!(check.asked.load(Ordering::Relaxed), second);
            tokio::time::advance(KEPT).await;
        }
    }

    #[tokio::test]
    async fn one_that_drains_is_unready_at_once() {
        let readiness = Readiness::new(vec![scripted("one")]);
        assert!(readiness.look().await.ready);
        readiness.drain();
        let findings = readiness.look().await;
        assert_eq!((findings.ready, findings.checks[0].check), (false, "draining"));
    }
}
