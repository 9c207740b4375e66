//! A listener beside the main one, for whoever runs the sidecar: `/livez`, `/readyz` and `/metrics`.
//!
//! It shares no path with the main port, and no limit: a flood of clients there does not keep a probe out here.

mod answer;
pub(crate) mod checks;
pub(crate) mod metrics;
mod negotiate;
pub(crate) mod ready;
mod server;

use std::sync::{Arc, OnceLock};

use clap::Args;
use tokio::task::JoinHandle;

use self::answer::Told;
use self::metrics::Metrics;
use self::ready::{Check, Readiness};
use crate::failure::Failure;
use crate::listen::Listen;
use crate::proxy::shutdown::Shutdown;

/// For whoever runs this.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Admin")]
pub(crate) struct AdminFlags {
    /// Answer /livez, /readyz and /metrics on this address, in plain HTTP: ADDR:PORT or unix:PATH. Whoever can connect reads
    /// them: no secret, but how much is going on.
    #[arg(long, value_name = "ADDR")]
    admin: Option<Listen>,
}

/// The listener, from before the sidecar listens until after it has drained.
#[derive(Debug)]
pub(crate) struct Admin(Option<Serving>);

#[derive(Debug)]
struct Serving {
    told: Arc<OnceLock<Told>>,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl AdminFlags {
    /// Binds it, if it is wanted, and answers that the sidecar is starting.
    pub(crate) async fn start(&self) -> Result<Admin, Failure> {
        let Some(listen) = &self.admin else { return Ok(Admin(None)) };
        let wrong = |error: std::io::Error| Failure::during(format_args!("--admin {listen}"), &error);
        let listener = listen.bind().await.map_err(wrong)?;
        crate::banner::line("admin", &listener.address().map_err(wrong)?.to_string());
        let (told, (shutdown, running)) = (Arc::default(), Shutdown::new());
        let task = tokio::spawn(server::serve(listener, Arc::clone(&told), running));
        Ok(Admin(Some(Serving { told, shutdown, task })))
    }
}

impl Admin {
    /// The sidecar listens: from now on the checks decide.
    pub(crate) fn serving(&self, checks: Vec<Arc<dyn Check>>, metrics: Metrics) {
        if let Some(serving) = &self.0 {
            // It is told once; a second time would change nothing.
            let _ = serving.told.set(Told { readiness: Readiness::new(checks), metrics });
        }
    }

    /// The sidecar takes no more connections: it is alive, and not ready.
    pub(crate) fn draining(&self) {
        if let Some(told) = self.0.as_ref().and_then(|serving| serving.told.get()) {
            told.readiness.drain();
        }
    }

    /// The sidecar has ended what it did.
    pub(crate) async fn stop(self) {
        if let Some(Serving { shutdown, task, .. }) = self.0 {
            shutdown.begin();
            // It bounds itself. If it panicked, the log has said so.
            let _ = task.await;
        }
    }
}
