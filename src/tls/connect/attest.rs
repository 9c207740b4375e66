//! The preflight: asks the server for evidence on one connection and judges it as bound to that connection.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Empty};

use super::error::{ChannelError, Stage};
use super::sender::Sender;
use super::settings::Settings;
use crate::client::endpoint::{Collect, judge_binding, judge_status};
use crate::client::exchange::{Carrier, Encoded, Exchange, VerifiedKeys};
use crate::client::verified::VerifiedReport;
use crate::crypto;
use crate::error::{AttestError, BoxError, ErrorKind};
use crate::protocol::{ATTESTATION_NONCE, ChannelBinding, MAX_EVIDENCE, Nonce, Target, TargetError, WELL_KNOWN_PATH};
use crate::time::Now;

/// What is known of a connection's far end, and under which policy it was found.
#[derive(Debug, Clone)]
pub(super) struct Attested {
    pub(super) keys: Arc<VerifiedKeys>,
    pub(super) report: VerifiedReport,
    revision: u64,
}

impl Attested {
    /// Whether a request may start on this connection at `now`.
    pub(super) fn holds(&self, settings: &Settings, now: Now) -> bool {
        self.revision == settings.verifier.revision() && !self.keys.passed(now, settings.max_evidence_age)
    }

    /// Whether one request may start on evidence that was just fetched, however short the age.
    pub(super) fn allows_one(&self, settings: &Settings, now: Now) -> bool {
        let patience = settings.max_evidence_age.max(settings.verification_timeout);
        self.revision == settings.verifier.revision() && !self.keys.passed(now, patience)
    }

    /// Whether it is time for new evidence: after half of its life.
    pub(super) fn is_due(&self, settings: &Settings, now: Now) -> bool {
        self.keys.age(now) >= self.keys.lifetime(settings.max_evidence_age) / 2
    }
}

/// Asks on this connection, in bounded time: a bare `GET` with the host and the nonce, and nothing of the user's.
pub(super) async fn attest(
    settings: &Settings,
    sender: &mut Sender,
    binding: ChannelBinding,
) -> Result<Attested, ChannelError> {
    let limit = settings.verification_timeout;
    match tokio::time::timeout(limit, ask(settings, sender, binding)).await {
        Ok(attested) => attested.map_err(ChannelError::attestation),
        Err(_) => Err(ChannelError::timeout(Stage::Evidence, "verified evidence from the server", limit)),
    }
}

async fn ask(settings: &Settings, sender: &mut Sender, binding: ChannelBinding) -> Result<Attested, AttestError> {
    let uri = Uri::from_static(WELL_KNOWN_PATH);
    let target = Target::of(&Method::GET, &uri)
        .map_err(|error: TargetError| AttestError::new(ErrorKind::Configuration, error.to_string()))?;
    let mut revision = settings.verifier.revision();
    let exchange = Exchange::new(Nonce::from_bytes(crypto::random()), settings.clock.now(), Method::GET, target);

    let mut request = Request::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync());
    *request.uri_mut() = uri;
    request.headers_mut().insert(ATTESTATION_NONCE, exchange.nonce_header(Vec::new(), true));
    poll_fn(|cx| sender.poll_ready(cx)).await.map_err(broken)?;
    let (parts, body) = sender.send(request, &settings.authority).await.map_err(broken)?.into_parts();

    judge_binding(parts.status, true)?;
    let head = exchange.judge_head(Ok(Carrier::Attested(binding)), parts.status, &parts.headers)?;
    judge_status(parts.status, &parts.headers)?;
    let body = Collect::new(body, MAX_EVIDENCE).await?;
    let pending = exchange.judge_evidence(&head, Encoded::Json(&body), &settings.expectations)?;
    let mut at = settings.clock.now().wall;
    let mut verified = settings.verifier.verify(pending.report(), at).await;
    if settings.verifier.revision() != revision {
        // It counts under the new policy, or the new list, which this very evidence may have brought.
        revision = settings.verifier.revision();
        at = settings.clock.now().wall;
        verified = settings.verifier.verify(pending.report(), at).await;
    }
    let keys = pending.finish(verified, at)?;
    let report = exchange.judge_signature(&head, &keys)?;
    if settings.verifier.revision() != revision {
        return Err(AttestError::new(
            ErrorKind::Unavailable,
            "the verifier's policy or revocation data changed while it verified: retry",
        ));
    }
    Ok(Attested { keys, report, revision })
}

fn broken(error: impl Into<BoxError>) -> AttestError {
    AttestError::with_source(
        ErrorKind::Transport,
        "the connection broke while the server was asked for evidence",
        error,
    )
}
