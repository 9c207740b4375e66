//! [`ResponseFuture`]: the application's answer first, then evidence for as long as it may take, then the signature.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderName, Response};
use pin_project::pin_project;

#[cfg(feature = "seal")]
use super::attester::KeyEpoch;
use super::attester::{AttesterError, PendingEvidence};
use super::body::ReportBody;
use super::layer::Settings;
use super::outcome::{Omission, Outcome};
use super::reject::NO_EVIDENCE;
#[cfg(feature = "seal")]
use super::sign::KeysOver;
use super::sign::{Attached, Signing};
use super::{cors, endpoint};
use crate::protocol::{ATTESTATION_REPORT, Evidence};
use crate::time::Sleep;

/// The response of an [`AttachReport`](super::AttachReport).
#[pin_project]
pub struct ResponseFuture<F, B> {
    #[pin]
    stage: Stage<F, B>,
    job: Job,
    settings: Arc<Settings>,
}

#[pin_project(project = StageProjection)]
enum Stage<F, B> {
    /// The application works.
    Forwarded(#[pin] F),
    /// The application has answered; evidence may still be on its way.
    Held(Option<Response<ReportBody<B>>>),
    /// The endpoint waits for evidence.
    Endpoint,
    /// The layer has answered.
    Answered(Option<Response<ReportBody<B>>>),
}

/// What is to be done with a response.
#[derive(Debug)]
pub(super) struct Job {
    signing: Option<Signing>,
    evidence: Option<Result<PendingEvidence, AttesterError>>,
    patience: Patience,
    allow: Option<&'static [HeaderName]>,
    /// There is a nonce, and nothing to sign.
    unsignable: bool,
}

/// A timer that is only made when something has to be waited for.
#[derive(Default)]
struct Patience(Option<Sleep>);

impl Job {
    /// `allow`: the fields that the answer to a browser's CORS preflight must allow.
    pub(super) fn unsigned(allow: Option<&'static [HeaderName]>) -> Self {
        Self { signing: None, evidence: None, patience: Patience::default(), allow, unsignable: false }
    }

    pub(super) fn unsignable() -> Self {
        Self { unsignable: true, ..Self::unsigned(None) }
    }

    pub(super) fn signed(signing: Signing, evidence: Option<Result<PendingEvidence, AttesterError>>) -> Self {
        Self { signing: Some(signing), evidence, ..Self::unsigned(None) }
    }

    /// Signs with these keys. Evidence that was asked for is for those that were chosen when the request came.
    #[cfg(feature = "seal")]
    fn sign_with(&mut self, keys: Arc<KeyEpoch>) {
        if let Some(signing) = self.signing.as_mut().filter(|signing| signing.keys.digest() != keys.digest()) {
            signing.keys = keys;
            self.evidence = None;
        }
    }

    /// The evidence if there is to be any, its error, or `None` if `wait` is over.
    fn poll_evidence(
        &mut self,
        cx: &mut Context<'_>,
        wait: impl FnOnce() -> Sleep,
    ) -> Poll<Option<Result<Evidence, AttesterError>>> {
        let outcome = match &mut self.evidence {
            None => None,
            Some(Err(error)) => Some(Err(error.clone())),
            Some(Ok(pending)) => match Pin::new(pending).poll(cx) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => {
                    ready!(self.patience.0.get_or_insert_with(wait).as_mut().poll(cx));
                    None
                }
            },
        };
        Poll::Ready(outcome)
    }

    /// Everything that happens to a head before it goes out.
    fn finish<B>(&self, response: &mut Response<B>, evidence: Option<Evidence>, header_limit: usize) -> Attached {
        response.headers_mut().remove(ATTESTATION_REPORT);
        if let Some(fields) = self.allow {
            cors::allow(response.headers_mut(), fields);
        }
        self.signing.as_ref().map_or(Attached::Nothing, |signing| signing.attach(response, evidence, header_limit))
    }

    /// What became of a request that the application has answered. `omitted`: why there was no evidence to attach, of
    /// those that wanted some.
    fn outcome(&self, attached: Attached, omitted: Option<Omission>) -> Outcome {
        match (attached, omitted) {
            (Attached::Nothing, _) if self.signing.is_none() && !self.unsignable => Outcome::Unasked,
            (Attached::Nothing, _) => Outcome::Unsignable,
            (Attached::Evidence, _) => Outcome::Attested,
            (Attached::Signature, Some(omission)) => Outcome::Omitted(omission),
            (Attached::Signature, None) if self.evidence.is_some() => Outcome::Omitted(Omission::TooLarge),
            (Attached::Signature, None) => Outcome::Signed,
        }
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(super) fn forwarded(inner: F, job: Job, settings: Arc<Settings>) -> Self {
        Self { stage: Stage::Forwarded(inner), job, settings }
    }

    pub(super) fn endpoint(job: Job, settings: Arc<Settings>) -> Self {
        Self { stage: Stage::Endpoint, job, settings }
    }

    pub(super) fn answered(response: Response<ReportBody<B>>, settings: Arc<Settings>) -> Self {
        Self { stage: Stage::Answered(Some(response)), job: Job::unsigned(None), settings }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ReportBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let attester = &this.settings.attester;
        loop {
            match this.stage.as_mut().project() {
                StageProjection::Forwarded(inner) => {
                    let response = ready!(inner.poll(cx))?.map(ReportBody::inner);
                    #[cfg(feature = "seal")]
                    if response.extensions().get::<KeysOver>().is_some() {
                        this.job.sign_with(attester.keys_now());
                    }
                    this.stage.set(Stage::Held(Some(response)));
                }
                StageProjection::Held(response) => {
                    let wanted = this.job.evidence.is_some();
                    let outcome = ready!(this.job.poll_evidence(cx, || attester.evidence_wait()));
                    let mut omitted = None;
                    if wanted && !matches!(outcome, Some(Ok(_))) {
                        let error = outcome.as_ref().and_then(|outcome| outcome.as_ref().err());
                        omitted = Some(Omission::of(error));
                        let reason = error.map_or("not ready in time".to_owned(), ToString::to_string);
                        tracing::debug!(
                            name: "attest.evidence_omitted", target: "tower_attest::server",
                            reason, "answered without evidence"
                        );
                    }
                    let mut response = taken(response);
                    let evidence = outcome.and_then(Result::ok);
                    let attached = this.job.finish(&mut response, evidence, this.settings.header_limit);
                    this.settings.observer.tell(this.job.outcome(attached, omitted));
                    return Poll::Ready(Ok(response));
                }
                StageProjection::Endpoint => {
                    let outcome = ready!(this.job.poll_evidence(cx, || attester.endpoint_wait()));
                    let mut response = endpoint::answer(outcome.unwrap_or_else(|| Err(attester.waited_too_long())));
                    this.job.finish(&mut response, None, this.settings.header_limit);
                    let given = response.status().is_success();
                    let outcome = if given { Outcome::Evidence } else { Outcome::Refused(NO_EVIDENCE) };
                    this.settings.observer.tell(outcome);
                    this.stage.set(Stage::Answered(Some(response)));
                }
                StageProjection::Answered(response) => return Poll::Ready(Ok(taken(response))),
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "as for every future, polling it after its end is a fault of the caller")]
fn taken<T>(response: &mut Option<T>) -> T {
    response.take().expect("polled after completion")
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("job", &self.job).finish_non_exhaustive()
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Patience(waiting)" } else { "Patience" })
    }
}
