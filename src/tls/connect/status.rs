//! What each endpoint of a channel is doing, for calls that must not wait and for people who look.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;

use super::error::ChannelError;
use crate::client::VerifiedReport;

/// One endpoint of a channel, as it was when asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// What the connector is asked to connect to.
    pub address: Uri,
    /// What it is doing.
    pub state: EndpointState,
}

/// What an endpoint is doing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EndpointState {
    /// No verdict yet: idle before the first request, connecting, or waiting for evidence.
    Connecting,
    /// Its connection has been attested with this report.
    Attested(VerifiedReport),
    /// The last attempt failed; it is tried again after a pause, and takes no requests until one succeeds.
    Ejected(ChannelError),
}

/// The endpoints of one channel.
#[derive(Debug, Clone, Default)]
pub(super) struct Registry {
    endpoints: Arc<Mutex<Vec<Arc<Report>>>>,
}

/// Where one endpoint reports what it is doing.
pub(super) struct Report {
    address: Uri,
    state: Mutex<EndpointState>,
}

impl Registry {
    pub(super) fn enter(&self, address: Uri) -> Arc<Report> {
        let report = Arc::new(Report { address, state: Mutex::new(EndpointState::Connecting) });
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&report));
        report
    }

    pub(super) fn remove(&self, report: &Arc<Report>) {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, report));
    }

    pub(super) fn endpoints(&self) -> Vec<EndpointStatus> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints
            .iter()
            .map(|report| EndpointStatus { address: report.address.clone(), state: report.state() })
            .collect()
    }

    /// The failure that calls meet at once: that of an endpoint, if every endpoint has failed.
    pub(super) fn failure(&self) -> Option<ChannelError> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failure = None;
        for report in endpoints.iter() {
            match report.state() {
                EndpointState::Ejected(error) => failure = Some(error),
                EndpointState::Connecting | EndpointState::Attested(_) => return None,
            }
        }
        failure
    }
}

impl Report {
    pub(super) fn connecting(&self) {
        self.set(EndpointState::Connecting);
    }

    pub(super) fn attested(&self, report: VerifiedReport) {
        self.set(EndpointState::Attested(report));
    }

    pub(super) fn failed(&self, error: ChannelError) {
        self.set(EndpointState::Ejected(error));
    }

    fn set(&self, state: EndpointState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn state(&self) -> EndpointState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("address", &self.address).field("state", &self.state()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Stage;

    #[test]
    fn calls_fail_at_once_only_when_every_endpoint_has_failed() {
        let error = || ChannelError::io(Stage::Connect, "m", "source");
        let registry = Registry::default();
        assert!(registry.failure().is_none());
        let (a, b) = (registry.enter("https://a".parse().unwrap()), registry.enter("https://b".parse().unwrap()));
        a.failed(error());
        assert!(registry.failure().is_none(), "b may still serve");
        b.failed(error());
        assert!(registry.failure().is_some());
        a.connecting();
        assert!(registry.failure().is_none(), "a verdict is on its way");
        registry.remove(&a);
        assert!(registry.failure().is_some());
    }
}
