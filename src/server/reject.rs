//! The layer's own refusals: RFC 9457 problem details over HTTP, trailers-only replies over gRPC.

use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};

use super::attester::AttesterError;
use super::body::ReportBody;
use super::problem::Problem;
pub(super) use super::problem::Wire;
use crate::error::GrpcCode;
use crate::protocol::HeaderError;

/// The code of [`Refusal::NoEvidence`].
pub(super) const NO_EVIDENCE: &str = "no-evidence";

/// Why the layer answers instead of the application.
#[derive(Debug)]
pub(super) enum Refusal {
    MalformedNonce(HeaderError),
    /// The endpoint was asked without a nonce.
    MissingNonce,
    /// The application was asked without a nonce, and the server requires one.
    NonceRequired,
    /// `bind=tls-exporter` on a connection whose exporter is not known here.
    NoExporter,
    TargetTooLong(usize),
    /// The endpoint was asked with another method than GET.
    Method,
    /// The endpoint has no evidence to give.
    NoEvidence(AttesterError),
}

impl Refusal {
    /// A stable name, also the `reason` of the tracing event.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::MalformedNonce(_) => "malformed-nonce",
            Self::MissingNonce => "missing-nonce",
            Self::NonceRequired => "nonce-required",
            Self::NoExporter => "no-exporter",
            Self::TargetTooLong(_) => "target-too-long",
            Self::Method => "method-not-allowed",
            Self::NoEvidence(_) => NO_EVIDENCE,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::MalformedNonce(_) | Self::MissingNonce | Self::NoExporter => StatusCode::BAD_REQUEST,
            Self::NonceRequired => StatusCode::PRECONDITION_REQUIRED,
            Self::TargetTooLong(_) => StatusCode::URI_TOO_LONG,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoEvidence(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn grpc_code(&self) -> GrpcCode {
        match self {
            Self::NonceRequired => GrpcCode::FailedPrecondition,
            Self::NoEvidence(_) => GrpcCode::Unavailable,
            _ => GrpcCode::InvalidArgument,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::MalformedNonce(error) => error.to_string(),
            Self::MissingNonce => {
                "attestation-nonce: expected 32 fresh random bytes as :<base64>:, found none".to_owned()
            }
            Self::NonceRequired => {
                "attestation-nonce: this server answers only requests that carry one; send requests \
                                    through an attesting client"
                    .to_owned()
            }
            Self::NoExporter => "attestation-nonce: bind=tls-exporter needs TLS 1.3 that ends in this server; connect \
                                 to it directly, or ask without bind"
                .to_owned(),
            Self::TargetTooLong(found) => {
                format!("the request target is too long to sign: expected at most 65535 bytes, found {found}")
            }
            Self::Method => "this resource answers GET".to_owned(),
            // What exactly is wrong with this machine is its operator's business: see the attester's events.
            Self::NoEvidence(error) => format!("{}; ask again later", error.kind()),
        }
    }

    /// The reply. Nothing of the request stands in it.
    pub(super) fn response<B>(&self, wire: &Wire, method: &Method) -> Response<ReportBody<B>> {
        tracing::debug!(
            name: "attest.request_refused", target: "tower_attest::server",
            reason = self.code(), "answered instead of the application"
        );
        let detail = self.detail();
        let problem = Problem::new(self.status(), self.grpc_code(), self.code(), &detail);
        let mut response = problem.response(wire, method).map(ReportBody::own);
        match (self, wire) {
            (Self::Method, Wire::Http) => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            }
            (Self::NoEvidence(error), Wire::Http) => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(error.retry_after().as_secs()));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::CONTENT_TYPE;
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::server::attester::AttesterErrorKind;

    type Reply = Response<ReportBody<Full<Bytes>>>;

    #[test]
    fn over_grpc_a_refusal_says_whether_to_mend_the_request_or_to_ask_again() {
        let stalled = AttesterError::new(AttesterErrorKind::Stalled, "no report");
        for (refusal, code) in [
            (Refusal::MissingNonce, GrpcCode::InvalidArgument),
            (Refusal::NonceRequired, GrpcCode::FailedPrecondition),
            (Refusal::NoEvidence(stalled), GrpcCode::Unavailable),
        ] {
            assert_eq!(refusal.grpc_code(), code, "{}", refusal.code());
        }
    }

    #[tokio::test]
    async fn a_problem_says_the_same_in_status_and_body() {
        for refusal in [Refusal::MissingNonce, Refusal::NonceRequired, Refusal::TargetTooLong(70_000), Refusal::Method]
        {
            let reply: Reply = refusal.response(&Wire::Http, &Method::GET);
            assert_eq!(reply.headers()[CONTENT_TYPE], "application/problem+json");
            let status = reply.status().as_u16();
            let body: serde_json::Value =
                serde_json::from_slice(&reply.into_body().collect().await.unwrap().to_bytes()).unwrap();
            assert_eq!(body["status"], status);
            assert_eq!(body["type"], "about:blank");
            assert_eq!(body["code"], refusal.code());
            assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        }
        let reply: Reply = Refusal::MissingNonce.response(&Wire::Http, &Method::HEAD);
        assert!(http_body::Body::is_end_stream(reply.body()));
    }

    #[test]
    fn a_target_too_long_is_414_or_invalid_argument() {
        let refusal = Refusal::TargetTooLong(70_000);
        let reply: Reply = refusal.response(&Wire::Http, &Method::GET);
        assert_eq!(reply.status(), StatusCode::URI_TOO_LONG);
        let reply: Reply = refusal.response(&Wire::Grpc(HeaderValue::from_static("application/grpc")), &Method::POST);
        assert_eq!((reply.status(), &reply.headers()["grpc-status"]), (StatusCode::OK, &HeaderValue::from_static("3")));
    }
}
