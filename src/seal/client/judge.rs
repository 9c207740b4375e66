//! What follows from the response that carries a sealed one. The steps are those of `client/exchange`.

use std::pin::Pin;
use std::sync::Arc;

use http::response::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body;

use super::body::broken;
use super::unsent::Sent;
use crate::client::VerifiedReport;
use crate::client::endpoint::Endpoint;
use crate::client::exchange::{Encoded, Head, VerifiedKeys, lacks_endorsement};
use crate::client::service::Shared;
use crate::client::transport::Closer;
use crate::client::verification::Verification;
use crate::error::{AttestError, ErrorKind};
use crate::protocol::{KeysDigest, SEALED_RESPONSE};
use crate::seal::framing::Opener;
use crate::seal::message::{Decoder, OpenBody};

/// A response whose head carries a report that is still to be judged.
pub(super) struct Unjudged<ResBody> {
    response: Response<ResBody>,
    sent: Sent,
    head: Head,
}

pub(super) enum Judged<ResBody> {
    Refused(Closer, AttestError),
    /// The verifier is to judge evidence that came with it.
    Verify(Box<Verification>, Box<Unjudged<ResBody>>),
    /// The endpoint is to be asked for evidence.
    Ask(Box<Unjudged<ResBody>>),
    /// It was not opened: these are the server's keys, verified under this revision.
    OtherKeys(Arc<VerifiedKeys>, u64),
    /// The server's own, and sealed.
    Open(Pin<Box<OpenBody<ResBody>>>, Box<(Parts, VerifiedReport)>),
}

pub(super) fn head<ResBody: Body>(
    shared: &Shared,
    endpoint: &Endpoint,
    sent: Sent,
    response: Response<ResBody>,
) -> Judged<ResBody> {
    let head = shared.judge_transport(&endpoint.origin, response.extensions()).and_then(|()| {
        let carrier = shared.carrier(response.extensions(), sent.bind);
        sent.exchange.judge_head(carrier, response.status(), response.headers())
    });
    let head = match head {
        Ok(head) => head,
        Err(error) => return Judged::Refused(Closer::of(response.extensions()), error),
    };
    let unjudged = Box::new(Unjudged { response, sent, head });
    if let Some(evidence) = unjudged.head.evidence() {
        let expected = &shared.settings.expectations;
        let pending = unjudged.sent.exchange.judge_evidence(&unjudged.head, Encoded::Cbor(evidence), expected);
        return match pending {
            Ok(pending) => Judged::Verify(Box::new(Verification::new(shared, pending)), unjudged),
            Err(error) => Judged::Refused(unjudged.closer(), error),
        };
    }
    match unjudged.believed(shared, endpoint) {
        Some(keys) => unjudged.signed_by(shared, endpoint, &keys),
        None => Judged::Ask(unjudged),
    }
}

impl<ResBody: Body> Unjudged<ResBody> {
    /// Which keys signed, as the response says.
    pub(super) fn keys(&self) -> &KeysDigest {
        self.head.keys()
    }

    pub(super) fn closer(&self) -> Closer {
        Closer::of(self.response.extensions())
    }

    /// The keys with which it may be signed: those that it was sealed to, however long it took, and those believed.
    fn believed(&self, shared: &Shared, endpoint: &Endpoint) -> Option<Arc<VerifiedKeys>> {
        let (sent, digest, revision) = (&self.sent, self.head.keys(), shared.revision());
        let unchanged = sent.plan.revision == revision;
        if unchanged && sent.keys.digest() == digest {
            return Some(Arc::clone(&sent.keys));
        }
        let then = if unchanged { sent.plan.keys(digest) } else { None };
        then.or_else(|| shared.trust.keys(&endpoint.origin, digest, sent.exchange.drawn(), revision))
    }

    /// Evidence that came with the response has been judged. Where it cannot be judged now, keys that are believed
    /// already still are. A header may have had no room for endorsements: the endpoint has.
    pub(super) fn verified(
        self: Box<Self>,
        shared: &Shared,
        endpoint: &Endpoint,
        verified: Result<Arc<VerifiedKeys>, AttestError>,
    ) -> Judged<ResBody> {
        let error = match verified {
            Ok(keys) => return self.signed_by(shared, endpoint, &keys),
            Err(error) => error,
        };
        if lacks_endorsement(&error) {
            return Judged::Ask(self);
        }
        match self.believed(shared, endpoint) {
            Some(keys) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                self.signed_by(shared, endpoint, &keys)
            }
            _ => Judged::Refused(self.closer(), error),
        }
    }

    pub(super) fn signed_by(self, shared: &Shared, endpoint: &Endpoint, keys: &Arc<VerifiedKeys>) -> Judged<ResBody> {
        let report = match self.sent.exchange.judge_signature(&self.head, keys) {
            Ok(report) => report,
            Err(error) => return Judged::Refused(self.closer(), error),
        };
        shared.trust.used(&endpoint.origin, keys.digest());
        let status = self.response.status();
        let sealed = status == StatusCode::OK && is_sealed(self.response.headers().get(header::CONTENT_TYPE));
        if !sealed {
            if status == StatusCode::BAD_REQUEST && keys.digest() != self.sent.keys.digest() {
                return Judged::OtherKeys(Arc::clone(keys), shared.revision());
            }
            if status == StatusCode::BAD_REQUEST {
                // Should it have ended this key early, only evidence tells of the next one.
                shared.trust.forget(&endpoint.origin, keys.digest());
            }
            return Judged::Refused(self.closer(), not_sealed(status));
        }
        // Others signed than it was sealed to, and the policy is no longer the one under which those were believed.
        if keys.digest() != self.sent.keys.digest() && self.sent.plan.revision != shared.revision() {
            return Judged::Refused(self.closer(), policy_changed());
        }
        let Self { response, sent, .. } = self;
        let report = report.sealed(sent.keys, sent.exchange.drawn());
        let (parts, body) = response.into_parts();
        let open = OpenBody::new(body, Opener::response(sent.response_key), Decoder::response(), broken);
        Judged::Open(Box::pin(open), Box::new((parts, report)))
    }
}

fn policy_changed() -> AttestError {
    AttestError::new(
        ErrorKind::Unavailable,
        "the verifier's policy or revocation data changed while the request was out, and other keys signed than those that \
         it was sealed to: retry",
    )
}

fn is_sealed(content_type: Option<&HeaderValue>) -> bool {
    content_type.is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(SEALED_RESPONSE.as_bytes()))
}

fn not_sealed(status: StatusCode) -> AttestError {
    let why = match status.as_u16() {
        400 => "the server could not open the request: it was altered or repeated on the way",
        403..=405 => "the server has no UnsealLayer, or it does not stand directly inside ReportLayer",
        200 => "the server did not open the request: it has no UnsealLayer inside its ReportLayer",
        _ => "the server answered before it opened the request",
    };
    AttestError::new(
        ErrorKind::NotSealed { status: status.as_u16() },
        format!("expected status 200 with {SEALED_RESPONSE}, found {status}: {why}"),
    )
}
