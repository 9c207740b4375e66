//! The end of a sidecar: stop accepting, let running exchanges end, and end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::meter::Open;

/// Held by everything that a shutdown waits for, and by all that belongs to one connection together with its permit.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    ending: watch::Receiver<bool>,
    /// Ends this connection alone.
    retired: Option<watch::Receiver<bool>>,
    _permit: Option<Arc<OwnedSemaphorePermit>>,
    _open: Option<Arc<Open>>,
}

impl Running {
    /// The same for one connection. Its permit is given back when the last clone is gone, that of an upgraded
    /// connection included.
    pub(crate) fn with(&self, permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Some(Arc::new(permit)), ..self.clone() }
    }

    /// The same, counted as open while any of it runs.
    pub(crate) fn counted(self, open: Open) -> Self {
        Self { _open: Some(Arc::new(open)), ..self }
    }

    /// The same, ending also once this turns true.
    pub(crate) fn until(self, retired: Option<watch::Receiver<bool>>) -> Self {
        Self { retired, ..self }
    }

    /// Ready once what runs is to end and nothing more to begin.
    pub(crate) async fn ending(&mut self) {
        let Self { ending, retired, .. } = self;
        // A sender that is gone means that the process is ending.
        let begun = async { drop(ending.wait_for(|ending| *ending).await) };
        let Some(retired) = retired else { return begun.await };
        tokio::select! {
            () = begun => {}
            _ = retired.wait_for(|retired| *retired) => {}
        }
    }
}

/// Tells everything that runs to end, and waits for it.
#[derive(Debug)]
pub(crate) struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    pub(crate) fn new() -> (Self, Running) {
        let (sender, ending) = watch::channel(false);
        (Self(sender), Running { ending, retired: None, _permit: None, _open: None })
    }

    /// Begins the shutdown.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Waits until nothing runs, at most for `limit`. Says whether all ended.
    pub(crate) async fn drained(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.0.closed()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_what_runs_and_not_longer_than_its_limit() {
        let (shutdown, running) = Shutdown::new();
        let mut task = running.clone();
        drop(running);
        assert!(tokio::time::timeout(Duration::from_secs(1), task.ending()).await.is_err());
        shutdown.begin();
        task.ending().await;
        assert!(!shutdown.drained(Duration::from_secs(5)).await);
        drop(task);
        assert!(shutdown.drained(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_can_end_by_itself() {
        let (_shutdown, running) = Shutdown::new();
        let retired = watch::Sender::new(false);
        let (mut one, mut other) = (running.clone().until(Some(retired.subscribe())), running.until(None));
        assert!(tokio::time::timeout(Duration::from_secs(1), one.ending()).await.is_err());
        retired.send_replace(true);
        assert!(tokio::time::timeout(Duration::from_secs(1), one.ending()).await.is_ok());
        assert!(tokio::time::timeout(Duration::from_secs(1), other.ending()).await.is_err());
    }

    #[tokio::test]
    async fn a_permit_is_held_until_all_of_its_connection_is_gone() {
        let permits = Arc::new(tokio::sync::Semaphore::new(1));
        let (_shutdown, running) = Shutdown::new();
        let meter = super::super::meter::Meter::new(1);
        let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
        let connection = running.with(permit).counted(meter.connection());
        let upgraded = connection.clone();
        drop(connection);
        assert_eq!(permits.available_permits(), 0);
        assert!(meter.text().contains("\nconnections 1\n"), "{}", meter.text());
        drop(upgraded);
        assert_eq!(permits.available_permits(), 1);
        assert!(
            meter.text().contains("\nconnections 0\n") && meter.text().contains("\nconnections_accepted_total 1\n")
        );
    }
}
