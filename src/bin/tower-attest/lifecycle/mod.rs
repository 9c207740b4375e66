//! A sidecar from its start to its end: what signals do to it, and what it reads again while it runs.
//!
//! SIGTERM and SIGINT begin the end, a second one completes it at once. SIGHUP runs what stands in [`Reloads`].

mod reload;
mod signals;
#[cfg(unix)]
mod systemd;
#[cfg(not(unix))]
#[path = "no_manager.rs"]
mod systemd;

use std::fmt;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use self::reload::{ReloadCount, Reloads};
use self::signals::Signals;
use crate::failure::Failure;

/// What a sidecar is doing, as far as signals are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// It does not listen yet: a signal to end leaves nothing to finish.
    #[default]
    Starting,
    Serving,
    /// What runs comes to its end.
    Ending,
}

/// The sidecar's own handle to its life. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
    reloads: Reloads,
    /// What the service manager shows.
    status: Arc<Mutex<String>>,
    /// All must hold for the service manager to be told that this is alive.
    alive: Arc<Mutex<Vec<IsAlive>>>,
}

type IsAlive = Box<dyn Fn() -> bool + Send + Sync>;

impl Lifecycle {
    /// What SIGHUP reads again.
    pub(crate) fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// It listens. The service manager learns so, and shows `status`.
    pub(crate) fn serving(&self, status: String) {
        systemd::ready(&status);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        self.phase.send_if_modified(|phase| {
            let starting = *phase == Phase::Starting;
            if starting {
                *phase = Phase::Serving;
            }
            starting
        });
    }

    /// What must hold until the end begins, or this process is better started anew.
    pub(crate) fn alive_while(&self, check: impl Fn() -> bool + Send + Sync + 'static) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(check));
    }

    fn is_alive(&self) -> bool {
        let checks = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        *self.phase.borrow() == Phase::Ending || checks.iter().all(|check| check())
    }

    /// Reads again what there is to read, and says so to the service manager.
    async fn reload(self) {
        systemd::reloading();
        let refused = self.reloads.clone().run().await;
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match refused.is_empty() {
            true => systemd::ready(&status),
            false => systemd::ready(&format!("{status}; not reloaded: {}", refused.join(", "))),
        }
    }

    /// Ready once the sidecar is to take no more connections.
    pub(crate) fn ending(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut phase = self.phase.subscribe();
        async move {
            // A sender that is gone means that the process is ending.
            let _ = phase.wait_for(|phase| *phase == Phase::Ending).await;
        }
    }

    /// Does what signals ask for. Returns the exit code where that is to end at once.
    async fn obey(&self, mut signals: Signals) -> u8 {
        let mut phases = self.phase.subscribe();
        let mut reloading: Option<JoinHandle<()>> = None;
        loop {
            let phase = *phases.borrow_and_update();
            tokio::select! {
                code = signals.end.recv() => match self.phase.send_replace(Phase::Ending) {
                    Phase::Starting => return 0,
                    Phase::Serving => {
                        systemd::stopping();
                        tracing::info!("ending: no more connections, running exchanges go on");
                    }
                    Phase::Ending => {
                        tracing::warn!("ended by a second signal: running exchanges are cut off");
                        return code;
                    }
                },
                // One that comes earlier, or while another is at work, waits: the files may have changed since.
                () = signals.reload.recv(), if phase == Phase::Serving && reloading.is_none() => {
                    // On a task of its own: a file system that hangs must not keep the next signal from being heard.
                    reloading = Some(tokio::spawn(self.clone().reload()));
                }
                () = finished(&mut reloading) => reloading = None,
                _ = phases.changed() => {}
            }
        }
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle").field("phase", &self.phase).field("reloads", &self.reloads).finish_non_exhaustive()
    }
}

async fn finished(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => {
            // How it went stands in the log.
            let _ = task.await;
        }
        None => std::future::pending().await,
    }
}

/// Runs a sidecar until it has ended, by itself or by signals. A signal is heard from here on.
pub(crate) fn run<F>(sidecar: impl FnOnce(Lifecycle) -> F) -> Result<ExitCode, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::during("starting", &error))?;
    let outcome = runtime.block_on(async {
        let signals = Signals::install().map_err(|error| Failure::during("signals", &error))?;
        let lifecycle = Lifecycle::default();
        tokio::select! {
            ended = sidecar(lifecycle.clone()) => ended.map(|()| ExitCode::SUCCESS),
            code = lifecycle.obey(signals) => Ok(ExitCode::from(code)),
            never = systemd::watchdog(|| lifecycle.is_alive()) => match never {},
        }
    });
    // What hangs in a system call must not keep the process from ending.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_alive_while_all_holds_that_must_and_whenever_it_ends() {
        let lifecycle = Lifecycle::default();
        assert!(lifecycle.is_alive(), "before anything is known");
        lifecycle.alive_while(|| true);
        assert!(lifecycle.is_alive());
        lifecycle.alive_while(|| false);
        assert!(!lifecycle.is_alive(), "one of two is enough");
        // What must hold while it serves ends with a drain, which the watchdog must not cut short.
        lifecycle.phase.send_replace(Phase::Ending);
        assert!(lifecycle.is_alive());
    }

    #[test]
    fn an_end_that_has_begun_is_not_undone_by_listening() {
        let lifecycle = Lifecycle::default();
        lifecycle.phase.send_replace(Phase::Ending);
        lifecycle.serving("late".to_owned());
        assert_eq!(*lifecycle.phase.borrow(), Phase::Ending);
    }
}
