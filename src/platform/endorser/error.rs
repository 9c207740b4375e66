//! Why an endorsement could not be had.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::BoxError;
use crate::verifier::{VerifyError, VerifyErrorKind};

/// Why a certificate or CRL could not be had. Cheap to clone: one fetch may fail many who wait for it.
#[derive(Debug, Clone)]
pub struct EndorsementError {
    kind: EndorsementErrorKind,
    message: Arc<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of failure it is, and so whether asking again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndorsementErrorKind {
    /// The source answered, and has no such endorsement. Also: the report names nothing that could be asked for.
    NotFound,
    /// The source asks for a pause, or this process keeps one because of earlier failures.
    RateLimited {
        /// How long to wait before asking again.
        retry_after: Duration,
    },
    /// The source cannot be reached, fails, or takes too long.
    Unavailable,
    /// The source's answer is not acceptable: too large, a redirect, not the endorsement that was asked for.
    Refused,
    /// A setting that cannot work.
    Configuration,
}

impl fmt::Display for EndorsementErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("endorsement not found"),
            Self::RateLimited { retry_after } => {
                write!(f, "endorsement source asks for a pause of {} s", retry_after.as_secs_f32().ceil())
            }
            Self::Unavailable => f.write_str("endorsement source unavailable"),
            Self::Refused => f.write_str("endorsement source's answer refused"),
            Self::Configuration => f.write_str("endorsement source misconfigured"),
        }
    }
}

impl EndorsementError {
    /// A failure whose message says what was asked for and what came back.
    pub fn new(kind: EndorsementErrorKind, message: impl Into<Arc<str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same, caused by `source`.
    pub fn with_source(kind: EndorsementErrorKind, message: impl Into<Arc<str>>, source: impl Into<BoxError>) -> Self {
        Self { kind, message: message.into(), source: Some(Arc::from(source.into())) }
    }

    /// The same failure under another kind.
    pub(crate) fn with_kind(mut self, kind: EndorsementErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> EndorsementErrorKind {
        self.kind
    }
}

impl fmt::Display for EndorsementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl Error for EndorsementError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

/// A pause or an outage becomes [`Unavailable`](VerifyErrorKind::Unavailable), worth a retry. A certificate that the
/// verifier's own check refused gives that refusal back, one that nobody has is
/// [`EndorsementMissing`](VerifyErrorKind::EndorsementMissing); anything else is an
/// [`Endorsement`](VerifyErrorKind::Endorsement) error.
impl From<EndorsementError> for VerifyError {
    fn from(error: EndorsementError) -> Self {
        if let Some(refusal) = error.source.as_deref().and_then(|source| source.downcast_ref::<VerifyError>()) {
            return refusal.clone();
        }
        let kind = match error.kind {
            EndorsementErrorKind::RateLimited { .. } | EndorsementErrorKind::Unavailable => {
                VerifyErrorKind::Unavailable
            }
            EndorsementErrorKind::NotFound => VerifyErrorKind::EndorsementMissing,
            EndorsementErrorKind::Refused => VerifyErrorKind::Endorsement,
            EndorsementErrorKind::Configuration => VerifyErrorKind::Configuration,
        };
        VerifyError::with_source(kind, error.to_string(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_outages_and_pauses_are_worth_a_retry() {
        let kind_of = |kind| VerifyError::from(EndorsementError::new(kind, "m")).kind();
        assert_eq!(kind_of(EndorsementErrorKind::Unavailable), VerifyErrorKind::Unavailable);
        let pause = EndorsementErrorKind::RateLimited { retry_after: Duration::from_secs(3) };
        assert_eq!(kind_of(pause), VerifyErrorKind::Unavailable);
        assert_eq!(kind_of(EndorsementErrorKind::NotFound), VerifyErrorKind::EndorsementMissing);
        assert_eq!(kind_of(EndorsementErrorKind::Refused), VerifyErrorKind::Endorsement);
    }

    #[test]
    fn the_verifiers_own_refusal_comes_back_unchanged() {
        let refusal = VerifyError::new(VerifyErrorKind::Mismatch, "another chip");
        let error = EndorsementError::with_source(EndorsementErrorKind::Refused, "m", refusal);
        assert_eq!(VerifyError::from(error).kind(), VerifyErrorKind::Mismatch);
    }
}
