//! What the service manager is told (`sd_notify(3)`): ready, reloading, ending, alive. Nothing, where there is none.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

/// It listens, or has read its files again; `status` is what `systemctl status` shows.
pub(super) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It reads its files again. The time tells this reload from the one before.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager was not told of the reload"),
    }
}

/// It takes no more connections.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("ending: running exchanges go on")]);
}

/// Tells the watchdog, where there is one, that all is well, twice in the time that it allows.
pub(super) async fn watchdog(is_alive: impl Fn() -> bool) -> Infallible {
    match sd_notify::watchdog_enabled() {
        Some(limit) => watch(limit / 2, is_alive, || notify(&[NotifyState::Watchdog])).await,
        None => std::future::pending().await,
    }
}

/// A task has to come back first: the runtime that serves answers, and not merely this one future.
async fn watch(interval: Duration, is_alive: impl Fn() -> bool, mut tell: impl FnMut()) -> Infallible {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answers = tokio::spawn(async {}).await.is_ok();
        if answers && is_alive() {
            tell();
        } else {
            tracing::error!("the watchdog is not told that this is alive: the task that makes reports has ended");
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_told_for_as_long_as_it_is_alive() {
        let (alive, told) = (AtomicBool::new(true), AtomicUsize::new(0));
        let watch = watch(
            Duration::from_secs(5),
            || alive.load(Ordering::Relaxed),
            || {
                told.fetch_add(1, Ordering::Relaxed);
            },
        );
        let script = async {
            tokio::time::sleep(Duration::from_secs(11)).await;
            assert_eq!(told.load(Ordering::Relaxed), 3, "at 0, 5 and 10 seconds");
            alive.store(false, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(told.load(Ordering::Relaxed), 3);
        };
        tokio::select! {
            never = watch => match never {},
            () = script => {}
        }
    }

    #[test]
    fn the_watchdog_is_not_told_while_the_runtime_does_not_answer() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let (unblock, blocked) = std::sync::mpsc::channel::<()>();
        let told = Arc::new(AtomicUsize::new(0));
        runtime.block_on(async {
            // The one worker does nothing else until it is told to. Not even timers go off meanwhile.
            let (started, hanging) = tokio::sync::oneshot::channel();
            tokio::spawn(async move {
                started.send(()).unwrap();
                blocked.recv().unwrap();
            });
            hanging.await.unwrap();
            let before = Arc::clone(&told);
            let outside = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                let before = before.load(Ordering::Relaxed);
                unblock.send(()).unwrap();
                before
            });
            let (first, mut is_told) = tokio::sync::mpsc::unbounded_channel();
            let tell = || {
                told.fetch_add(1, Ordering::Relaxed);
                first.send(()).unwrap();
            };
            tokio::select! {
                never = watch(Duration::from_millis(1), || true, tell) => match never {},
                _ = is_told.recv() => {}
            }
            assert_eq!(outside.join().unwrap(), 0);
        });
    }
}
