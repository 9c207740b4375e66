//! The layer's own refusals: RFC 9457 problem details over HTTP, trailers-only replies over gRPC.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;

use super::attester::AttesterError;
use super::body::ReportBody;
use crate::error::GrpcCode;
use crate::protocol::HeaderError;

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

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

/// How the client expects to be answered.
#[derive(Debug, Clone)]
pub(super) enum Wire {
    Http,
    /// The request's content type, which the reply echoes: gRPC and gRPC-Web clients both want their own.
    Grpc(HeaderValue),
}

impl Wire {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(CONTENT_TYPE) {
            Some(value) if value.as_bytes().get(..16).is_some_and(|p| p.eq_ignore_ascii_case(b"application/grpc")) => {
                Self::Grpc(value.clone())
            }
            _ => Self::Http,
        }
    }
}

/// RFC 9457. `code` is an extension member of ours, for programs.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
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
            Self::NoEvidence(_) => "no-evidence",
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
        match wire {
            Wire::Http => self.problem(method),
            Wire::Grpc(content_type) => self.trailers_only(content_type),
        }
    }

    fn problem<B>(&self, method: &Method) -> Response<ReportBody<B>> {
        let status = self.status();
        let problem = Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: &self.detail(),
            code: self.code(),
        };
        // A struct of strings and numbers always serialises.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(match *method {
            Method::HEAD => ReportBody::default(),
            _ => ReportBody::own(Bytes::from(body)),
        });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            Self::NoEvidence(error) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(error.retry_after().as_secs()));
            }
            _ => {}
        }
        response
    }

    /// Status 200 and everything else in the head: what gRPC calls trailers-only.
    fn trailers_only<B>(&self, content_type: &HeaderValue) -> Response<ReportBody<B>> {
        let mut response = Response::new(ReportBody::default());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type.clone());
        headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(self.grpc_code().number())));
        if let Ok(message) = HeaderValue::try_from(percent_encode(&self.detail())) {
            headers.insert(GRPC_MESSAGE, message);
        }
        response
    }
}

/// As the gRPC protocol asks: everything but printable ASCII, and `%` itself.
fn percent_encode(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => {
                encoded.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    encoded.extend(char::from_digit(u32::from(nibble), 16).map(|digit| digit.to_ascii_uppercase()));
                }
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    type Reply = Response<ReportBody<Full<Bytes>>>;

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

    #[test]
    fn every_kind_of_grpc_is_known_by_its_content_type_and_nothing_else_is() {
        let wire =
            |value: &str| Wire::of(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(value).unwrap())]));
        for grpc in ["application/grpc", "application/grpc+proto", "Application/gRPC;x=y", "application/grpc-web-text"]
        {
            assert!(matches!(wire(grpc), Wire::Grpc(echo) if echo == grpc), "{grpc}");
        }
        for other in ["application/json", "application/grp", "text/application/grpc"] {
            assert!(matches!(wire(other), Wire::Http), "{other}");
        }
        assert!(matches!(Wire::of(&HeaderMap::new()), Wire::Http));
    }

    #[test]
    fn a_grpc_message_is_percent_encoded() {
        assert_eq!(percent_encode("50% of é\n"), "50%25 of %C3%A9%0A");
    }
}
