//! Why no certificate came of an attempt.

use instant_acme::{Error, Problem};
use tower_attest::BoxError;

use super::issued::NotUsable;
use super::schedule::Cause;
use crate::failure::chain;

/// What failed, and for the log what the CA said.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error("{doing}: {}", chain(error))]
    Acme { doing: &'static str, error: Error },
    #[error("{name}: the CA offers {offered}, and not {asked}")]
    NotOffered { name: String, asked: &'static str, offered: String },
    #[error("--acme-profile {asked}: the CA offers {offered}")]
    NoProfile { asked: String, offered: String },
    #[error("{name}: the CA could not validate it: {reason}")]
    NotValidated { name: String, reason: String },
    #[error("what the CA issued: {0}")]
    Issued(#[from] NotUsable),
    #[error("making a key: {0}")]
    Key(#[source] BoxError),
    #[error("no certificate within {0:?}")]
    Timeout(std::time::Duration),
}

impl AttemptError {
    pub(super) fn during(doing: &'static str) -> impl Fn(Error) -> Self {
        move |error| Self::Acme { doing, error }
    }

    /// Whether it is worth asking again soon.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Acme { error: Error::Api(problem), .. } if !is_internal(problem) => Cause::Refused,
            Self::NotOffered { .. } | Self::NoProfile { .. } | Self::NotValidated { .. } | Self::Issued(_) => {
                Cause::Refused
            }
            Self::Acme { .. } | Self::Key(_) | Self::Timeout(_) => Cause::Unavailable,
        }
    }

    /// The CA does not know the account: it has lost it, or somebody deleted it there.
    pub(super) fn is_unknown_account(&self) -> bool {
        matches!(self, Self::Acme { error: Error::Api(problem), .. } if is(problem, "accountDoesNotExist"))
    }
}

/// An error of the CA's own, or one that is over with the next nonce: the library has tried three.
fn is_internal(problem: &Problem) -> bool {
    is(problem, "serverInternal") || is(problem, "badNonce") || problem.status.is_some_and(|status| status >= 500)
}

/// RFC 8555, section 6.7.
pub(super) fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|urn| urn.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(kind: &str, status: u16) -> AttemptError {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        let problem = serde_json::json!({ "type": kind, "status": status, "detail": "no" });
        AttemptError::Acme { doing: "ordering", error: Error::Api(serde_json::from_value(problem).unwrap()) }
    }

    #[test]
    fn what_the_ca_refuses_is_told_from_what_it_could_not_do() {
        for (error, cause) in [
            (api("rateLimited", 429), Cause::Refused),
            (api("rejectedIdentifier", 400), Cause::Refused),
            (api("serverInternal", 500), Cause::Unavailable),
            (api("badNonce", 400), Cause::Unavailable),
            (api("other", 503), Cause::Unavailable),
            (AttemptError::Acme { doing: "ordering", error: Error::Other("no route".into()) }, Cause::Unavailable),
            (AttemptError::NotValidated { name: "a".into(), reason: "no".into() }, Cause::Refused),
        ] {
            assert_eq!(error.cause(), cause, "{error}");
        }
    }

    #[test]
    fn an_account_that_the_ca_does_not_know_is_told_from_other_refusals() {
        assert!(api("accountDoesNotExist", 400).is_unknown_account());
        assert!(!api("unauthorized", 401).is_unknown_account());
    }
}
