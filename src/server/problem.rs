//! How a layer refuses: RFC 9457 problem details over HTTP, trailers-only replies over gRPC.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;

use crate::error::GrpcCode;

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How the client expects to be answered.
#[derive(Debug, Clone)]
pub(crate) enum Wire {
    Http,
    /// The request's content type, which the reply echoes: gRPC and gRPC-Web clients both want their own.
    Grpc(HeaderValue),
}

impl Wire {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(CONTENT_TYPE) {
            Some(value) if value.as_bytes().get(..16).is_some_and(|p| p.eq_ignore_ascii_case(b"application/grpc")) => {
                Self::Grpc(value.clone())
            }
            _ => Self::Http,
        }
    }
}

/// A refusal, in all that either wire says of it. Nothing of the request stands in it.
#[derive(Debug)]
pub(crate) struct Problem<'a> {
    pub(crate) kind: &'static str,
    pub(crate) title: Option<&'static str>,
    pub(crate) status: StatusCode,
    pub(crate) grpc: GrpcCode,
    pub(crate) code: &'static str,
    pub(crate) detail: &'a str,
}

/// RFC 9457. `code` is an extension member of ours, for programs.
#[derive(Serialize)]
struct Details<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl<'a> Problem<'a> {
    /// A problem that has no type of its own.
    pub(crate) fn new(status: StatusCode, grpc: GrpcCode, code: &'static str, detail: &'a str) -> Self {
        Self { kind: "about:blank", title: None, status, grpc, code, detail }
    }

    pub(crate) fn response(&self, wire: &Wire, method: &Method) -> Response<Bytes> {
        match wire {
            Wire::Http => self.details(method),
            Wire::Grpc(content_type) => self.trailers_only(content_type),
        }
    }

    fn details(&self, method: &Method) -> Response<Bytes> {
        let details = Details {
            r#type: self.kind,
            title: self.title.or(self.status.canonical_reason()).unwrap_or_default(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code,
        };
        // A struct of strings and numbers always serialises.
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut response = Response::new(if *method == Method::HEAD { Bytes::new() } else { Bytes::from(body) });
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Status 200 and everything else in the head: what gRPC calls trailers-only.
    fn trailers_only(&self, content_type: &HeaderValue) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type.clone());
        headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(self.grpc.number())));
        if let Ok(message) = HeaderValue::try_from(percent_encode(self.detail)) {
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
    use super::*;

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
