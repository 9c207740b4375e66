//! [`AttachReport`]: decides what becomes of a request.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Method, Request, Response};
use tower_service::Service;

use super::attester::KeyEpoch;
use super::body::ReportBody;
use super::cors;
use super::future::{Job, ResponseFuture};
use super::layer::Settings;
use super::outcome::Outcome;
use super::reject::{Refusal, Wire};
use super::sign::Signing;
use crate::protocol::{ATTESTATION_REPORT, NonceHeader, Target, TargetError, WELL_KNOWN_PATH};

/// A service whose responses are signed. Made by [`ReportLayer`](super::ReportLayer).
#[derive(Debug, Clone)]
pub struct AttachReport<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> AttachReport<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for AttachReport<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
{
    type Response = Response<ReportBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        parts.headers.remove(ATTESTATION_REPORT);
        match self.settings.judge(&parts) {
            Verdict::Pass(job) => {
                let inner = self.inner.call(Request::from_parts(parts, body));
                ResponseFuture::forwarded(inner, job, Arc::clone(&self.settings))
            }
            Verdict::Evidence(job) => {
                self.give_readiness_back();
                ResponseFuture::endpoint(job, Arc::clone(&self.settings))
            }
            Verdict::Refuse(refusal, signing) => {
                self.give_readiness_back();
                // The endpoint speaks HTTP, whatever the client's content type.
                let wire = if is_endpoint(&parts) { Wire::Http } else { Wire::of(&parts.headers) };
                let mut response = refusal.response(&wire, &parts.method);
                if let Some(signing) = signing {
                    signing.attach(&mut response, None, self.settings.header_limit);
                }
                self.settings.observer.tell(Outcome::Refused(refusal.code()));
                ResponseFuture::answered(response, Arc::clone(&self.settings))
            }
        }
    }
}

impl<S: Clone> AttachReport<S> {
    /// A service that is ready and not called keeps its permit for as long as it lives, which on an idle connection is
    /// long. A clone has none.
    fn give_readiness_back(&mut self) {
        self.inner = self.inner.clone();
    }
}

/// What becomes of a request.
enum Verdict {
    /// The application answers.
    Pass(Job),
    /// The layer answers with evidence.
    Evidence(Job),
    /// The layer refuses, and signs if the nonce is valid.
    Refuse(Refusal, Option<Signing>),
}

impl Settings {
    fn judge(&self, request: &Parts) -> Verdict {
        if is_endpoint(request) {
            return self.judge_endpoint(request);
        }
        let header = match NonceHeader::from_headers(&request.headers) {
            Ok(Some(header)) => header,
            Ok(None) if self.nonce_required && !self.is_exempt(request) => {
                return Verdict::Refuse(Refusal::NonceRequired, None);
            }
            Ok(None) => return Verdict::Pass(Job::unsigned(cors::asked_fields(request))),
            Err(error) => return Verdict::Refuse(Refusal::MalformedNonce(error), None),
        };
        let (keys, trusted) = self.attester.select_keys(&header.have);
        let signing = match self.signing(request, &header, keys) {
            Ok(signing) => signing,
            Err(error) => return unsignable(&error),
        };
        if header.bind && signing.binding.is_none() {
            return Verdict::Refuse(Refusal::NoExporter, Some(signing));
        }
        let ask = || self.attester.request_evidence(&signing.keys, &signing.nonce, signing.binding.as_ref());
        let pending = (!trusted).then(ask);
        Verdict::Pass(Job::signed(signing, pending))
    }

    /// Whatever `have` says, the endpoint gives evidence for the current keys.
    fn judge_endpoint(&self, request: &Parts) -> Verdict {
        let header = match NonceHeader::from_headers(&request.headers) {
            Ok(Some(header)) => header,
            Ok(None) if request.method != Method::GET => return Verdict::Refuse(Refusal::Method, None),
            Ok(None) => return Verdict::Refuse(Refusal::MissingNonce, None),
            Err(error) => return Verdict::Refuse(Refusal::MalformedNonce(error), None),
        };
        let signing = match self.signing(request, &header, self.attester.current_keys()) {
            Ok(signing) => signing,
            Err(error) => return unsignable(&error),
        };
        if request.method != Method::GET {
            return Verdict::Refuse(Refusal::Method, Some(signing));
        }
        if header.bind && signing.binding.is_none() {
            return Verdict::Refuse(Refusal::NoExporter, Some(signing));
        }
        let pending = self.attester.request_evidence(&signing.keys, &signing.nonce, signing.binding.as_ref());
        Verdict::Evidence(Job::signed(signing, Some(pending)))
    }

    /// What will be signed. Without an exporter of our own it says, truthfully, that the response is bound to nothing.
    fn signing(&self, request: &Parts, header: &NonceHeader, keys: Arc<KeyEpoch>) -> Result<Signing, TargetError> {
        let target = Target::of(&request.method, &request.uri)?;
        let binding = if header.bind { self.binding(&request.extensions) } else { None };
        Ok(Signing { keys, nonce: header.nonce, binding, method: request.method.clone(), target })
    }
}

/// A browser's preflight for the endpoint is for the application's CORS policy to answer.
fn is_endpoint(request: &Parts) -> bool {
    request.uri.path() == WELL_KNOWN_PATH && !cors::is_preflight(&request.method, &request.headers)
}

/// A plain `CONNECT` is never attested, and passes; a target too long to sign is refused.
fn unsignable(error: &TargetError) -> Verdict {
    match error {
        TargetError::Connect => Verdict::Pass(Job::unsignable()),
        TargetError::TooLong(length) => Verdict::Refuse(Refusal::TargetTooLong(*length), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `http` holds no URI of more than 65 534 bytes, so that servers refuse longer ones before this layer; should that
    /// change, this layer does.
    #[test]
    fn a_target_too_long_to_sign_is_refused() {
        assert!("/".repeat(65_536).parse::<http::Uri>().is_err());
        let verdict = unsignable(&TargetError::TooLong(65_536));
        assert!(matches!(verdict, Verdict::Refuse(Refusal::TargetTooLong(65_536), None)));
    }
}
