//! The layer's own refusals, in the clear and sealed.

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::error::GrpcCode;
use crate::protocol::{HeaderError, SEALED_REQUEST, UNKNOWN_KEYS_PROBLEM};
use crate::seal::error::SealError;
use crate::server::KeysOver;
use crate::server::problem::{Problem, Wire};

const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// Why a request is not opened, or not served in the clear. Everybody on the way can read it.
#[derive(Debug)]
pub(super) enum Refusal {
    /// In the clear, to a server that takes sealed requests only.
    SealedOnly,
    /// The path of sealed requests with another method than POST.
    Method,
    /// The path of sealed requests with another media type.
    MediaType,
    MissingKeys,
    MalformedKeys(HeaderError),
    /// Sealed to keys that are not held here: another server's, or past their time.
    UnknownKeys,
    /// Everything that may be wrong with what was sealed, a repetition included. One answer: to tell them apart would
    /// help only somebody who tries them.
    NotOpened,
}

impl Refusal {
    /// A stable name, also the `reason` of the tracing event.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::SealedOnly => "sealed-only",
            Self::Method => "method-not-allowed",
            Self::MediaType => "media-type",
            Self::MissingKeys => "missing-keys",
            Self::MalformedKeys(_) => "malformed-keys",
            Self::UnknownKeys => "unknown-keys",
            Self::NotOpened => "not-opened",
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::SealedOnly => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::MissingKeys | Self::MalformedKeys(_) | Self::UnknownKeys | Self::NotOpened => StatusCode::BAD_REQUEST,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::SealedOnly => {
                "this server answers sealed requests only; send requests through a sealing client".to_owned()
            }
            Self::Method => "sealed requests are posted".to_owned(),
            Self::MediaType => format!("expected the media type {SEALED_REQUEST}"),
            Self::MissingKeys => {
                "attestation-keys: expected the digest of the key document that the request is sealed to, found none"
                    .to_owned()
            }
            Self::MalformedKeys(error) => error.to_string(),
            Self::UnknownKeys => {
                "sealed to keys that this server does not hold; get its evidence and seal to its keys".to_owned()
            }
            Self::NotOpened => "the request could not be opened, or has been opened before; seal it again".to_owned(),
        }
    }

    /// The reply. Nothing of the request stands in it.
    pub(super) fn response(&self, wire: &Wire, method: &Method) -> Response<Bytes> {
        tracing::debug!(
            name: "attest.sealed_refused", target: "tower_attest::seal",
            reason = self.code(), "refused in the clear"
        );
        let detail = self.detail();
        let mut problem = Problem::new(self.status(), GrpcCode::PermissionDenied, self.code(), &detail);
        if let Self::UnknownKeys = self {
            problem.kind = UNKNOWN_KEYS_PROBLEM;
            problem.title = Some("key identifier unknown");
        }
        let mut response = problem.response(wire, method);
        match self {
            Self::UnknownKeys => {
                response.extensions_mut().insert(KeysOver);
            }
            Self::Method => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            }
            Self::MediaType => {
                response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static(SEALED_REQUEST));
                response.headers_mut().insert(ACCEPT, HeaderValue::from_static(SEALED_REQUEST));
            }
            _ => {}
        }
        response
    }
}

/// Why the layer answers in place of the inner service, sealed: nobody but the client reads it.
#[derive(Debug)]
pub(super) enum Sealed {
    /// Not a message of Binary HTTP, or one whose head is too large.
    Message(SealError),
    /// `Content-Length` is no number, or several.
    ContentLength,
    /// To what the layer outside answers, and would attest.
    Target,
    /// The inner service's response cannot be sealed.
    Response(SealError),
}

impl Sealed {
    fn code(&self) -> &'static str {
        match self {
            Self::Message(SealError::HeadTooLarge(_)) => "head-too-large",
            Self::Message(_) | Self::ContentLength => "malformed-message",
            Self::Target => "sealed-target",
            Self::Response(_) => "response-not-sealed",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Message(SealError::HeadTooLarge(_)) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Message(_) | Self::ContentLength | Self::Target => StatusCode::BAD_REQUEST,
            Self::Response(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Message(error) => error.to_string(),
            Self::ContentLength => "content-length: expected one number".to_owned(),
            Self::Target => "the well-known paths of attestation are asked in the clear".to_owned(),
            Self::Response(error) => format!("the service's response cannot be sealed: {error}"),
        }
    }

    /// The reply, before it is sealed.
    pub(super) fn response(&self, wire: &Wire, method: &Method) -> Response<Bytes> {
        tracing::debug!(
            name: "attest.sealed_refused", target: "tower_attest::seal",
            reason = self.code(), "refused, sealed"
        );
        let detail = self.detail();
        Problem::new(self.status(), GrpcCode::InvalidArgument, self.code(), &detail).response(wire, method)
    }
}
