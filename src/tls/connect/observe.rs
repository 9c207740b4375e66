//! What a channel tells of each time that it attested a connection, for whoever counts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::error::ChannelError;
use crate::client::VerifiedReport;

/// One attempt to attest a connection: the argument of
/// [`on_attestation`](super::builder::ChannelBuilder::on_attestation).
#[derive(Debug, Clone)]
pub struct Attestation {
    pub(super) address: Uri,
    pub(super) renewal: bool,
    pub(super) took: Duration,
    pub(super) outcome: Result<VerifiedReport, ChannelError>,
}

impl Attestation {
    /// What was connected to.
    pub fn address(&self) -> &Uri {
        &self.address
    }

    /// Whether this was about new evidence on a connection that had been attested, and not about a new connection.
    pub fn is_renewal(&self) -> bool {
        self.renewal
    }

    /// How long it took: of a new connection from its beginning, name resolution and handshakes included.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// What was found, or why the far end is not believed.
    pub fn outcome(&self) -> Result<&VerifiedReport, &ChannelError> {
        self.outcome.as_ref()
    }
}

type OnAttestation = dyn Fn(&Attestation) + Send + Sync;

/// Who is told, if anybody.
#[derive(Clone, Default)]
pub(super) struct Observer(Option<Arc<OnAttestation>>);

impl Observer {
    pub(super) fn new(f: impl Fn(&Attestation) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(f)))
    }

    pub(super) fn tell(&self, attestation: &Attestation) {
        if let Some(observer) = &self.0 {
            observer(attestation);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(set)" } else { "Observer(none)" })
    }
}
