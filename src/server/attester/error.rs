//! Why the attester has no evidence to give.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::provider::{ProviderError, ProviderErrorKind};

/// Why an [`Attester`](super::Attester) did not start, or has no evidence to give. Cheap to clone: one failed report
/// fails every nonce in its batch.
///
/// ```
/// # #[cfg(feature = "mock")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use tower_attest::mock::{Behaviour, MockTee};
/// use tower_attest::{Attester, AttesterErrorKind};
///
/// let provider = MockTee::new().provider();
/// provider.set_behaviour(Behaviour::Unsupported);
/// let error = Attester::builder(provider).name("prover.example").start().await.unwrap_err();
/// assert_eq!(error.kind(), AttesterErrorKind::Hardware);
/// # }
/// # #[cfg(not(feature = "mock"))] fn main() {}
/// ```
#[derive(Debug, Clone)]
pub struct AttesterError {
    kind: AttesterErrorKind,
    message: String,
    source: Option<ProviderError>,
}

/// What kind of failure an [`AttesterError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttesterErrorKind {
    /// A setting that cannot work. Only [`start`](super::AttesterBuilder::start) says so, and layers that need a setting
    /// that was not made.
    Configuration,
    /// As many nonces wait as the queue takes: try again in a second.
    QueueFull,
    /// The provider failed; the source says how.
    Hardware,
    /// The provider has not returned from a call that took longer than the report timeout. Nothing is asked of it until
    /// it does.
    Stalled,
    /// The attester was drained, or the runtime that it was started on is gone.
    Stopped,
}

impl AttesterError {
    pub(in crate::server) fn new(kind: AttesterErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(super) fn hardware(source: ProviderError) -> Self {
        Self { kind: AttesterErrorKind::Hardware, message: String::new(), source: Some(source) }
    }

    pub(super) fn queue_full(limit: usize) -> Self {
        Self::new(AttesterErrorKind::QueueFull, format!("{limit} nonces wait already"))
    }

    pub(super) fn stalled(timeout: Duration) -> Self {
        Self::new(AttesterErrorKind::Stalled, format!("a report is not done after {timeout:?}"))
    }

    pub(super) fn stopped() -> Self {
        Self::new(AttesterErrorKind::Stopped, "the attester was drained or its runtime has ended")
    }

    pub(super) fn at_start(mut self) -> Self {
        let cause = match self.source.as_ref().map(ProviderError::kind) {
            Some(ProviderErrorKind::Unsupported) => "run on a machine with this TEE and with access to its device",
            Some(ProviderErrorKind::Busy) => "the device is in use: start again in a moment",
            Some(_) => "look at the device and the kernel's log",
            None if self.kind == AttesterErrorKind::Stalled => "the device hangs: look at it and at the kernel's log",
            None => return self,
        };
        let found = std::mem::take(&mut self.message);
        self.message = match found.is_empty() {
            true => format!("expected a first report at start; {cause}"),
            false => format!("expected a first report at start, found: {found}; {cause}"),
        };
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> AttesterErrorKind {
        self.kind
    }

    /// When to ask again, in whole seconds, as `Retry-After` says it.
    pub fn retry_after(&self) -> Duration {
        let busy = self.source.as_ref().is_some_and(|source| source.kind() == ProviderErrorKind::Busy);
        Duration::from_secs(match self.kind {
            AttesterErrorKind::QueueFull => 1,
            AttesterErrorKind::Hardware if busy => 1,
            AttesterErrorKind::Hardware => 5,
            AttesterErrorKind::Stalled | AttesterErrorKind::Stopped | AttesterErrorKind::Configuration => 10,
        })
    }
}

impl fmt::Display for AttesterErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "this attester cannot work",
            Self::QueueFull => "the queue for the hardware is full",
            Self::Hardware => "the hardware made no report",
            Self::Stalled => "the hardware hangs",
            Self::Stopped => "the attester has stopped",
        })
    }
}

impl fmt::Display for AttesterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for AttesterError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| {
            let source: &(dyn Error + 'static) = source;
            source
        })
    }
}
