//! A sidecar's own answers: RFC 9457 problem details over HTTP, trailers-only replies over gRPC.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use super::activity::Expired;
use super::body::{ProxyBody, empty, full};

/// A stable name of what went wrong, for programs: the member `code` of the problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The request cannot be carried.
    Request,
    /// Its body is larger than it may be.
    BodyTooLarge,
    /// The client went away, or broke off its body.
    ClientGone,
    /// There is no connection to be had.
    UpstreamDown,
    /// The connection broke, or did not speak HTTP.
    UpstreamBroke,
    /// It took too long.
    Timeout,
    /// The far end is not believed. Nothing of the request was sent in the clear.
    NotAttested,
    /// Whether to believe the far end could not be told. Nothing of the request was sent in the clear.
    AttestationUnavailable,
    /// None of several workers is believed and there. Nothing of the request was sent to any.
    NoWorker,
    /// The client was told of another configuration than the one in force. Nothing of the request was sent on.
    ConfigurationChanged,
}

impl Code {
    /// As programs and metrics have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::BodyTooLarge => "body-too-large",
            Self::ClientGone => "client-gone",
            Self::UpstreamDown => "upstream-down",
            Self::UpstreamBroke => "upstream-broke",
            Self::Timeout => "timeout",
            Self::NotAttested => "not-attested",
            Self::AttestationUnavailable => "attestation-unavailable",
            Self::NoWorker => "no-worker",
            Self::ConfigurationChanged => "configuration-changed",
        }
    }
}

/// Why a sidecar answers instead of the far end.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    grpc: u8,
    code: Code,
    detail: String,
    more: Map<String, Value>,
    field: Option<Box<(HeaderName, HeaderValue)>>,
}

/// How a client expects to be answered.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    method: Method,
    /// The content type of a gRPC request, which the answer echoes.
    grpc: Option<HeaderValue>,
}

impl Asked {
    pub(crate) fn of(request: &Parts) -> Self {
        Self { method: request.method.clone(), grpc: grpc_type(&request.headers) }
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.grpc.is_some()
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

#[derive(Serialize)]
struct Json<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(flatten)]
    more: &'a Map<String, Value>,
}

impl Problem {
    /// The gRPC code follows from `code`.
    pub(crate) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        let grpc = match code {
            Code::Request => 3,
            Code::BodyTooLarge => 8,
            Code::ClientGone => 1,
            Code::UpstreamDown
            | Code::UpstreamBroke
            | Code::AttestationUnavailable
            | Code::NoWorker
            | Code::ConfigurationChanged => 14,
            Code::Timeout => 4,
            Code::NotAttested => 16,
        };
        Self { status, grpc, code, detail: detail.into(), more: Map::new(), field: None }
    }

    pub(crate) fn too_large(limit: u64) -> Self {
        let detail = format!("the request's body: expected at most {limit} bytes, found more");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::BodyTooLarge, detail)
    }

    pub(crate) fn expired(expired: Expired) -> Self {
        let detail = match expired {
            Expired::Idle(limit) => format!("expected progress within {limit:?}, found none"),
            Expired::Total(limit) => format!("expected an end within {limit:?}, found none"),
        };
        Self::new(StatusCode::GATEWAY_TIMEOUT, Code::Timeout, detail)
    }

    /// Answers gRPC with a code of one's own.
    pub(crate) fn with_grpc(mut self, code: u8) -> Self {
        self.grpc = code;
        self
    }

    /// Adds a member to the problem.
    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.more.insert(member.to_owned(), value.into());
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The number of the gRPC code.
    pub(crate) fn grpc(&self) -> u8 {
        self.grpc
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Adds a field to the answer's head.
    pub(crate) fn with_field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.field = Some(Box::new((name, value)));
        self
    }

    /// The answer to such a request. Nothing of the request stands in it.
    pub(crate) fn response(&self, asked: &Asked) -> Response<ProxyBody> {
        let mut response = match &asked.grpc {
            Some(content_type) => self.trailers_only(content_type.clone()),
            None => self.json(&asked.method),
        };
        if let Some((name, value)) = self.field.as_deref() {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }

    fn json(&self, method: &Method) -> Response<ProxyBody> {
        let problem = Json {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code.name(),
            more: &self.more,
        };
        // Strings, numbers and JSON always serialise.
        let json = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(if *method == Method::HEAD { empty() } else { full(json) });
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Status 200 and everything else in the head, as gRPC has it.
    fn trailers_only(&self, content_type: HeaderValue) -> Response<ProxyBody> {
        let mut response = Response::new(empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert("grpc-status", HeaderValue::from(u16::from(self.grpc)));
        let message = HeaderValue::try_from(percent_encode(&self.detail));
        headers.insert("grpc-message", message.unwrap_or(HeaderValue::from_static("")));
        response
    }
}

/// The content type of a gRPC request, which the answer echoes.
pub(crate) fn grpc_type(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(CONTENT_TYPE)?;
    let prefix = value.as_bytes().get(..16)?;
    prefix.eq_ignore_ascii_case(b"application/grpc").then(|| value.clone())
}

/// As the gRPC protocol asks: everything but printable ASCII, and `%` itself.
fn percent_encode(message: &str) -> String {
    message.bytes().fold(String::with_capacity(message.len()), |mut encoded, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt;

    use super::*;

    fn asked(method: Method, content_type: &str) -> Asked {
        let request = Request::builder().method(method).header(CONTENT_TYPE, content_type).body(()).unwrap();
        Asked::of(&request.into_parts().0)
    }

    #[tokio::test]
    async fn over_http_the_problem_says_what_the_status_says() {
        let problem = Problem::new(StatusCode::BAD_GATEWAY, Code::NotAttested, "no").with("stage", "policy");
        let response = problem.response(&asked(Method::GET, "text/plain"));
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (502, &"application/problem+json".parse().unwrap())
        );
        let json: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(json["status"], 502);
        assert_eq!(
            (&json["code"], &json["stage"], &json["detail"]),
            (&"not-attested".into(), &"policy".into(), &"no".into())
        );
        let head = problem.response(&asked(Method::HEAD, "text/plain"));
        assert!(http_body::Body::is_end_stream(head.body()));
    }

    #[test]
    fn over_grpc_it_is_trailers_only_with_the_code() {
        let asked = asked(Method::POST, "application/grpc+proto");
        for (code, expected) in [
            (Code::Request, "3"),
            (Code::BodyTooLarge, "8"),
            (Code::UpstreamDown, "14"),
            (Code::UpstreamBroke, "14"),
            (Code::AttestationUnavailable, "14"),
            (Code::NoWorker, "14"),
            (Code::ConfigurationChanged, "14"),
            (Code::Timeout, "4"),
            (Code::NotAttested, "16"),
        ] {
            let response = Problem::new(StatusCode::BAD_GATEWAY, code, "50 % ä").response(&asked);
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["grpc-status"], expected);
            assert_eq!(response.headers()["grpc-message"], "50 %25 %C3%A4");
            assert_eq!(response.headers()["content-type"], "application/grpc+proto");
        }
    }
}
