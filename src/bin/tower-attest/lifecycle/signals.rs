//! The signals that a sidecar listens to.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// 128 and the signal's number, as shells have it.
const INTERRUPTED: u8 = 128 + 2;
#[cfg(unix)]
const TERMINATED: u8 = 128 + 15;

/// From its making on, no signal is lost and none has its usual effect.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) end: End,
    pub(super) reload: Reload,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(super) struct End {
    #[cfg(unix)]
    term: Signal,
    #[cfg(unix)]
    int: Signal,
}

/// SIGHUP.
#[derive(Debug)]
pub(super) struct Reload {
    #[cfg(unix)]
    hup: Signal,
}

#[cfg(unix)]
impl Signals {
    pub(super) fn install() -> io::Result<Self> {
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { end: End { term, int }, reload: Reload { hup: signal(SignalKind::hangup())? } })
    }
}

#[cfg(unix)]
impl End {
    /// The next one, as the exit code that it asks for.
    pub(super) async fn recv(&mut self) -> u8 {
        tokio::select! {
            _ = self.term.recv() => TERMINATED,
            _ = self.int.recv() => INTERRUPTED,
        }
    }
}

#[cfg(unix)]
impl Reload {
    /// The next one. Any number that came since the last are one.
    pub(super) async fn recv(&mut self) {
        self.hup.recv().await;
    }
}

#[cfg(not(unix))]
impl Signals {
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self { end: End {}, reload: Reload {} })
    }
}

#[cfg(not(unix))]
impl End {
    /// The next Ctrl-C.
    pub(super) async fn recv(&mut self) -> u8 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        INTERRUPTED
    }
}

#[cfg(not(unix))]
impl Reload {
    /// Never: there is no such signal.
    pub(super) async fn recv(&mut self) {
        std::future::pending().await
    }
}
