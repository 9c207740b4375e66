//! What the layer did with a request, for whoever counts.

use std::fmt;
use std::sync::Arc;

use super::attester::{AttesterError, AttesterErrorKind};

/// What [`ReportLayer`](super::ReportLayer) did with one request: the argument of
/// [`on_outcome`](super::ReportLayer::on_outcome).
///
/// ```
/// use tower_attest::server::{Omission, Outcome};
///
/// assert!(!Outcome::Unasked.asked());
/// let omitted = Outcome::Omitted(Omission::TooLarge);
/// assert_eq!((omitted.name(), omitted.reason()), ("omitted", Some("too-large")));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// There was no nonce, and none was required: the application answered, unsigned.
    Unasked,
    /// The response is signed, and the client knows the keys already.
    Signed,
    /// The response is signed, and has evidence for the keys beside it.
    Attested,
    /// The response is signed. Its client does not know the keys and must ask the endpoint.
    Omitted(Omission),
    /// There was a nonce, on a request whose response is never signed: a plain `CONNECT`, an informational response.
    Unsignable,
    /// The endpoint gave evidence.
    Evidence,
    /// The layer answered with a refusal. Its [`reason`](Self::reason) is a `code` of the [module](super#refusals)'s table.
    Refused(&'static str),
}

/// Why evidence that was wanted does not stand in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Omission {
    /// It is larger than [`header_limit`](super::ReportLayer::header_limit).
    TooLarge,
    /// It was not there [`evidence_wait`](super::AttesterBuilder::evidence_wait) after the application's answer.
    Late,
    /// The attester had none to give.
    Unavailable(AttesterErrorKind),
}

impl Outcome {
    /// Whether the request had a nonce, as those of attesting clients do. During a migration, the share that has not is
    /// the share of clients that [`require_nonce`](super::ReportLayer::require_nonce) would refuse.
    pub fn asked(&self) -> bool {
        !matches!(self, Self::Unasked | Self::Refused("nonce-required" | "missing-nonce"))
    }

    /// A stable name in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unasked => "unasked",
            Self::Signed => "signed",
            Self::Attested => "attested",
            Self::Omitted(_) => "omitted",
            Self::Unsignable => "unsignable",
            Self::Evidence => "evidence",
            Self::Refused(_) => "refused",
        }
    }

    /// A stable name for why evidence was omitted or the request refused: one of some fifteen, whatever clients send.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Omitted(Omission::TooLarge) => Some("too-large"),
            Self::Omitted(Omission::Late) => Some("late"),
            Self::Omitted(Omission::Unavailable(kind)) => Some(match kind {
                AttesterErrorKind::Configuration => "configuration",
                AttesterErrorKind::QueueFull => "queue-full",
                AttesterErrorKind::Hardware => "hardware",
                AttesterErrorKind::Stalled => "stalled",
                AttesterErrorKind::Stopped => "stopped",
            }),
            Self::Refused(code) => Some(code),
            _ => None,
        }
    }
}

impl Omission {
    /// Of evidence that did not come: its error, or `None` if the wait was over.
    pub(super) fn of(error: Option<&AttesterError>) -> Self {
        error.map_or(Self::Late, |error| Self::Unavailable(error.kind()))
    }
}

type OnOutcome = dyn Fn(Outcome) + Send + Sync;

/// Who is told, if anybody.
#[derive(Clone, Default)]
pub(super) struct Observer(Option<Arc<OnOutcome>>);

impl Observer {
    pub(super) fn new(f: impl Fn(Outcome) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(f)))
    }

    pub(super) fn tell(&self, outcome: Outcome) {
        if let Some(observer) = &self.0 {
            observer(outcome);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(set)" } else { "Observer(none)" })
    }
}
