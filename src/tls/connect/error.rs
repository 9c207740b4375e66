//! Why a connection was not made, or is no longer used.

use std::fmt;

use crate::error::{AttestError, BoxError, ErrorKind, find};
use crate::verifier::{VerifyError, VerifyErrorKind};

/// Which step towards an attested connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The connector gave no connection: name resolution, TCP, the Unix socket.
    Connect,
    /// The TLS handshake failed for another reason than the certificate: version, ALPN, a peer that hung up.
    Tls,
    /// The server's certificate was refused: its name, its dates, its issuer.
    WebPki,
    /// The HTTP connection broke before any evidence was judged.
    Http,
    /// The evidence is missing, malformed, not bound to this connection, or not genuine.
    Evidence,
    /// The evidence is genuine and the policy does not accept it.
    Policy,
    /// A request could not be sent on this channel at all: it names another host.
    Request,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::WebPki => "certificate",
            Self::Http => "http",
            Self::Evidence => "evidence",
            Self::Policy => "policy",
            Self::Request => "request",
        })
    }
}

/// Why an [`AttestedChannel`](crate::tls::AttestedChannel) has no connection to send a request on: nothing of the
/// request has left. Cheap to clone: one failure fails all who wait.
///
/// Its source is an [`AttestError`]; with the feature `tonic` the gRPC code of that error is what a generated client
/// returns. Errors of a request that was sent are hyper's own.
#[derive(Debug, Clone)]
pub struct ChannelError {
    stage: Stage,
    error: AttestError,
}

impl ChannelError {
    pub(super) fn new(stage: Stage, error: AttestError) -> Self {
        Self { stage, error }
    }

    /// A failure below HTTP.
    pub(super) fn io(stage: Stage, message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        let kind = if stage == Stage::WebPki { ErrorKind::Certificate } else { ErrorKind::Transport };
        Self::new(stage, AttestError::with_source(kind, message, source))
    }

    pub(super) fn timeout(stage: Stage, doing: &str, limit: std::time::Duration) -> Self {
        Self::new(stage, AttestError::new(ErrorKind::Timeout, format!("expected {doing} within {limit:?}")))
    }

    /// A failure of the preflight: what the verifier's policy refused is told from the rest.
    pub(super) fn attestation(error: AttestError) -> Self {
        let verify = error.cause().and_then(|cause| cause.downcast_ref::<VerifyError>()).map(VerifyError::kind);
        let stage = match (verify, error.kind()) {
            (Some(VerifyErrorKind::Policy | VerifyErrorKind::Configuration), _) => Stage::Policy,
            (_, ErrorKind::NameMismatch | ErrorKind::ConfigMismatch) => Stage::Policy,
            (_, ErrorKind::Transport) => Stage::Http,
            _ => Stage::Evidence,
        };
        Self::new(stage, error)
    }

    /// Which step failed.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Which check failed.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// The error with what was expected and what was found.
    pub fn attest_error(&self) -> &AttestError {
        &self.error
    }

    /// The channel error in an error's chain of sources, such as that of a `tonic::Status`.
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        find(error)
    }

    /// Whether the same server would answer a repeated attempt in the same way: it was refused, and did not merely fail.
    pub(super) fn is_refusal(&self) -> bool {
        self.error.grpc_code() != crate::error::GrpcCode::Unavailable
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attested channel: {}: {}", self.stage, self.error)
    }
}

impl std::error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: VerifyErrorKind) -> ChannelError {
        ChannelError::attestation(AttestError::with_source(ErrorKind::Refused, "m", VerifyError::new(kind, "m")))
    }

    #[test]
    fn policy_is_told_from_evidence() {
        assert_eq!(refused(VerifyErrorKind::Policy).stage(), Stage::Policy);
        assert_eq!(refused(VerifyErrorKind::Signature).stage(), Stage::Evidence);
        let broken = ChannelError::attestation(AttestError::new(ErrorKind::Transport, "m"));
        assert_eq!(broken.stage(), Stage::Http);
    }

    #[test]
    fn only_what_may_pass_by_itself_is_no_refusal() {
        for kind in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Transport] {
            assert!(!ChannelError::attestation(AttestError::new(kind, "m")).is_refusal(), "{kind:?}");
        }
        for kind in [ErrorKind::Refused, ErrorKind::Stale, ErrorKind::Malformed, ErrorKind::Configuration] {
            assert!(ChannelError::attestation(AttestError::new(kind, "m")).is_refusal(), "{kind:?}");
        }
    }

    #[cfg(feature = "tonic")]
    #[test]
    fn a_refused_certificate_and_refused_evidence_are_unauthenticated_and_a_dead_host_is_unavailable() {
        let code = |error: ChannelError| tonic::Status::from_error(Box::new(error)).code();
        assert_eq!(code(refused(VerifyErrorKind::Policy)), tonic::Code::Unauthenticated);
        assert_eq!(code(ChannelError::io(Stage::WebPki, "m", "source")), tonic::Code::Unauthenticated);
        assert_eq!(code(ChannelError::io(Stage::Connect, "m", "source")), tonic::Code::Unavailable);
    }
}
