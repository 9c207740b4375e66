//! Why an exchange was refused: one error type for both layers, with the check that failed and what to do about it.
//!
//! ```
//! use tower_attest::{AttestError, ErrorKind, GrpcCode};
//!
//! let error = AttestError::new(ErrorKind::NoReport { status: 503 }, "no Attestation-Report field");
//! assert_eq!(error.grpc_code(), GrpcCode::Unavailable);
//! assert!(error.to_string().contains("503"));
//! ```
//!
//! # Catalogue
//!
//! | kind | what happened | what to do | gRPC code |
//! |---|---|---|---|
//! | [`NotAttested`](ErrorKind::NotAttested) | the transport below was not attested and presence was not accepted | use an attested channel, or write `.accept_presence()` | `FAILED_PRECONDITION` |
//! | [`Configuration`](ErrorKind::Configuration) | a setting cannot work (no binding to ask for, a plain `CONNECT`, a target that is too long) | change what the message names | `FAILED_PRECONDITION` |
//! | [`Certificate`](ErrorKind::Certificate) | the server's TLS certificate was refused, before any evidence | look at its name, dates and issuer; choose the roots | `UNAUTHENTICATED` |
//! | [`NoReport`](ErrorKind::NoReport) | the response has no `Attestation-Report` | attach `ReportLayer` on the server, outermost; look for an intermediary | `UNAUTHENTICATED`, or `UNAVAILABLE` where an intermediary may have answered |
//! | [`Malformed`](ErrorKind::Malformed) | the field or the evidence does not parse | look for an intermediary that edits fields | `UNAUTHENTICATED` |
//! | [`KeysMismatch`](ErrorKind::KeysMismatch) | evidence vouches for other keys than those that signed | treat as an attack or a mixed deployment | `UNAUTHENTICATED` |
//! | [`NameMismatch`](ErrorKind::NameMismatch) | the server does not answer for the expected name | correct `.name()` or the server's names | `UNAUTHENTICATED` |
//! | [`ConfigMismatch`](ErrorKind::ConfigMismatch) | the server runs with another configuration than the pinned one | compare the configurations | `UNAUTHENTICATED` |
//! | [`Stale`](ErrorKind::Stale) | the report is for another nonce, channel or batch | treat as a replay | `UNAUTHENTICATED` |
//! | [`Refused`](ErrorKind::Refused) | the verifier refused: signature, chain or policy | read the failed rules in the source | `UNAUTHENTICATED` |
//! | [`UnknownKeys`](ErrorKind::UnknownKeys) | the response is signed by keys that no evidence vouches for | retry; behind a balancer, know each replica first | `UNAUTHENTICATED` |
//! | [`BadSignature`](ErrorKind::BadSignature) | the signature is not over this exchange | check the order of layers and path rewriting | `UNAUTHENTICATED` |
//! | [`NotSealed`](ErrorKind::NotSealed) | the server answered a sealed request, and not with a sealed response | see the status: the layer is missing, or what came there was altered or repeated | `UNAUTHENTICATED`, or `UNAVAILABLE` for 429, 502, 503 and 504 |
//! | [`SealBroken`](ErrorKind::SealBroken) | what came is not what the server sealed for this request | treat as an attack | `UNAUTHENTICATED` |
//! | [`Truncated`](ErrorKind::Truncated) | the sealed response ends before its end | the request may have been served; look for an intermediary with limits | `DATA_LOSS` |
//! | [`Timeout`](ErrorKind::Timeout) | fetching or verifying evidence took too long | raise the timeout; look at the server's hardware | `UNAVAILABLE` |
//! | [`Unavailable`](ErrorKind::Unavailable) | collateral, or the server's hardware, cannot be had now | retry later | `UNAVAILABLE` |
//! | [`Transport`](ErrorKind::Transport) | the inner service failed during the preflight | see the source | `UNAVAILABLE` |

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// A boxed error, as tower's middleware use it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a response, or the transport below, is not believed. Cheap to clone; one failure may fail many waiting requests.
#[derive(Clone)]
pub struct AttestError {
    inner: Arc<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
    #[cfg(feature = "tonic")]
    status: tonic::Status,
}

/// The check that failed. See the [catalogue](self#catalogue).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The transport was not attested before sending, and the caller did not accept mere presence.
    NotAttested,
    /// A setting that cannot work.
    Configuration,
    /// The server's TLS certificate was refused: its name, its dates or its issuer.
    Certificate,
    /// The response carries no `Attestation-Report` field.
    NoReport {
        /// HTTP status of that response. 429, 502, 503 and 504 suggest an intermediary.
        status: u16,
    },
    /// A field, the evidence, or the key document does not parse, repeats, or has an unknown version.
    Malformed,
    /// The key document in the evidence is not the one whose digest stands in `keys`.
    KeysMismatch,
    /// The expected host name is not among the key document's `names`.
    NameMismatch,
    /// The key document's `config` is not the pinned one.
    ConfigMismatch,
    /// REPORTDATA does not commit to this nonce, this channel and these keys.
    Stale,
    /// The verifier refused the report: signature, certificate chain, revocation or policy.
    Refused,
    /// The response is signed by keys that no verified evidence vouches for.
    UnknownKeys,
    /// The response signature does not verify over the client's view of the exchange.
    BadSignature,
    /// The server answered a sealed request, and not with a sealed response.
    NotSealed {
        /// HTTP status of that answer, which the server signed.
        status: u16,
    },
    /// A sealed response does not open: altered, out of order, or not the one to this request.
    SealBroken,
    /// A sealed response ends before its final chunk.
    Truncated,
    /// Evidence could not be fetched or verified in time.
    Timeout,
    /// What is needed to decide (collateral, the server's hardware) is not available now.
    Unavailable,
    /// The inner service failed while evidence was being fetched.
    Transport,
}

/// The gRPC status codes that this crate answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrpcCode {
    /// 3
    InvalidArgument,
    /// 7
    PermissionDenied,
    /// 9
    FailedPrecondition,
    /// 14
    Unavailable,
    /// 15
    DataLoss,
    /// 16
    Unauthenticated,
}

impl GrpcCode {
    /// The number that stands in `grpc-status`.
    pub fn number(self) -> u8 {
        match self {
            Self::InvalidArgument => 3,
            Self::PermissionDenied => 7,
            Self::FailedPrecondition => 9,
            Self::Unavailable => 14,
            Self::DataLoss => 15,
            Self::Unauthenticated => 16,
        }
    }
}

impl AttestError {
    /// An error of `kind` whose message says what was expected and what was found.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::build(kind, message.into(), None)
    }

    /// The same, caused by `source`.
    pub fn with_source(kind: ErrorKind, message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::build(kind, message.into(), Some(Arc::from(source.into())))
    }

    fn build(kind: ErrorKind, message: String, source: Option<Arc<dyn Error + Send + Sync>>) -> Self {
        #[cfg(feature = "tonic")]
        let status = {
            let text = match &source {
                Some(source) if !message.contains(&source.to_string()) => {
                    format!("{}: {source}", summary(kind, &message))
                }
                _ => summary(kind, &message),
            };
            let mut status = tonic::Status::new(tonic_code(kind), text);
            if let Some(source) = &source {
                status.set_source(Arc::clone(source));
            }
            status
        };
        Self {
            inner: Arc::new(Inner {
                kind,
                message,
                source,
                #[cfg(feature = "tonic")]
                status,
            }),
        }
    }

    /// The check that failed.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// What was expected and what was found.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What caused it, for example a [`VerifyError`](crate::VerifyError) with each failed rule. With the feature
    /// `tonic`, [`Error::source`] is a `tonic::Status` and this cause stands behind it.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.inner.source.as_deref()
    }

    /// The gRPC code for this error.
    pub fn grpc_code(&self) -> GrpcCode {
        grpc_code(self.inner.kind)
    }

    /// The error of this crate in an error's chain of sources, however deep: behind a `tonic::Status`, a channel's error
    /// or an application's own.
    ///
    /// ```
    /// use std::io;
    /// use tower_attest::{AttestError, ErrorKind};
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// #[error("failed to prove the transaction")]
    /// struct ProverError(#[source] AttestError);
    ///
    /// let error = ProverError(AttestError::new(ErrorKind::Refused, "another program"));
    /// assert_eq!(AttestError::of(&error).map(AttestError::kind), Some(ErrorKind::Refused));
    /// assert!(AttestError::of(&io::Error::other("refused")).is_none());
    /// ```
    pub fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find(error)
    }
}

/// The first `T` among `error` and its sources.
pub(crate) fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref())
}

fn grpc_code(kind: ErrorKind) -> GrpcCode {
    match kind {
        ErrorKind::NotAttested | ErrorKind::Configuration => GrpcCode::FailedPrecondition,
        ErrorKind::NoReport { status: 429 | 502 | 503 | 504 } => GrpcCode::Unavailable,
        ErrorKind::NotSealed { status: 429 | 502 | 503 | 504 } => GrpcCode::Unavailable,
        ErrorKind::Truncated => GrpcCode::DataLoss,
        ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Transport => GrpcCode::Unavailable,
        _ => GrpcCode::Unauthenticated,
    }
}

fn summary(kind: ErrorKind, message: &str) -> String {
    format!("{kind}: {message}")
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAttested => f.write_str("the transport is not attested"),
            Self::Configuration => f.write_str("this configuration cannot work"),
            Self::Certificate => f.write_str("the server's certificate was refused"),
            Self::NoReport { status: status @ (429 | 502 | 503 | 504) } => {
                write!(f, "no attestation report (status {status}: an intermediary may have answered)")
            }
            Self::NoReport { status } => write!(f, "no attestation report (status {status})"),
            Self::Malformed => f.write_str("malformed attestation"),
            Self::KeysMismatch => f.write_str("the evidence vouches for other keys"),
            Self::NameMismatch => f.write_str("the server does not answer for the expected name"),
            Self::ConfigMismatch => f.write_str("the server runs with another configuration"),
            Self::Stale => f.write_str("the report is not for this request"),
            Self::Refused => f.write_str("the report was refused"),
            Self::UnknownKeys => f.write_str("signed by keys that no evidence vouches for"),
            Self::BadSignature => f.write_str("the response signature does not verify"),
            Self::NotSealed { status } => write!(f, "the response is not sealed (status {status})"),
            Self::SealBroken => f.write_str("the sealed response does not open"),
            Self::Truncated => f.write_str("the sealed response ends before its end"),
            Self::Timeout => f.write_str("attestation took too long"),
            Self::Unavailable => f.write_str("attestation is not available now"),
            Self::Transport => f.write_str("the transport failed during attestation"),
        }
    }
}

impl fmt::Display for AttestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&summary(self.inner.kind, &self.inner.message))
    }
}

impl fmt::Debug for AttestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestError")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl Error for AttestError {
    #[cfg(feature = "tonic")]
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.inner.status)
    }

    #[cfg(not(feature = "tonic"))]
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.inner.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

#[cfg(feature = "tonic")]
fn tonic_code(kind: ErrorKind) -> tonic::Code {
    tonic::Code::from_i32(i32::from(grpc_code(kind).number()))
}

/// The bridge for code that returns `tonic::Status` itself.
#[cfg(feature = "tonic")]
impl From<AttestError> for tonic::Status {
    fn from(error: AttestError) -> Self {
        let mut status = tonic::Status::new(error.inner.status.code(), error.inner.status.message());
        status.set_source(Arc::new(error));
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intermediary_is_retryable_and_a_refusal_is_not() {
        for status in [429, 502, 503, 504] {
            let error = AttestError::new(ErrorKind::NoReport { status }, "");
            assert_eq!(error.grpc_code(), GrpcCode::Unavailable);
        }
        for kind in [ErrorKind::NoReport { status: 200 }, ErrorKind::Refused, ErrorKind::UnknownKeys, ErrorKind::Stale]
        {
            assert_eq!(AttestError::new(kind, "").grpc_code(), GrpcCode::Unauthenticated);
        }
        for (status, code) in [(400, GrpcCode::Unauthenticated), (503, GrpcCode::Unavailable)] {
            assert_eq!(AttestError::new(ErrorKind::NotSealed { status }, "").grpc_code(), code);
        }
        let truncated = AttestError::new(ErrorKind::Truncated, "").grpc_code();
        assert_eq!((truncated, truncated.number()), (GrpcCode::DataLoss, 15), "not one that retries repeat");
    }

    #[test]
    fn the_cause_stays_reachable_through_source() {
        let error = AttestError::with_source(ErrorKind::Refused, "m", "the cause");
        let mut chain = vec![];
        let mut next: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(e) = next {
            chain.push(e.to_string());
            next = e.source();
        }
        assert_eq!(chain.last().map(String::as_str), Some("the cause"));
        assert_eq!(error.cause().map(ToString::to_string).as_deref(), Some("the cause"));
    }

    #[test]
    fn it_is_found_behind_the_errors_of_others_and_nowhere_else() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Outer(&'static str, #[source] Box<dyn Error + Send + Sync>);

        let inner = AttestError::new(ErrorKind::Stale, "m");
        let error = Outer("outermost", Outer("between", inner.clone().into()).into());
        assert_eq!(AttestError::of(&error).map(AttestError::kind), Some(ErrorKind::Stale));
        assert_eq!(AttestError::of(&inner).map(AttestError::kind), Some(ErrorKind::Stale));
        assert!(AttestError::of(&Outer("outermost", "another error".into())).is_none());
    }

    #[cfg(feature = "tonic")]
    #[test]
    fn it_is_found_behind_the_status_that_a_generated_client_returns() {
        let error: BoxError = AttestError::new(ErrorKind::NameMismatch, "m").into();
        let status = tonic::Status::from_error(error);
        assert_eq!(AttestError::of(&status).map(AttestError::kind), Some(ErrorKind::NameMismatch));
    }

    #[cfg(feature = "tonic")]
    #[test]
    fn a_status_made_from_the_error_keeps_code_and_error() {
        let status = tonic::Status::from(AttestError::new(ErrorKind::Refused, "m"));
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        let source = status.source().and_then(|e| e.downcast_ref::<AttestError>());
        assert_eq!(source.map(AttestError::kind), Some(ErrorKind::Refused));
    }
}
