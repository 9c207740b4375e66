//! Signs the head of one response, and puts evidence beside the signature where it fits.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode};

use super::attester::KeyEpoch;
use super::cors;
use crate::protocol::{ATTESTATION_REPORT, ChannelBinding, Evidence, Nonce, ReportHeader, ResponseStatement, Target};

/// In the extensions of an answer to a request that was sealed to keys which are not held, or not held any more: it is signed
/// by the keys that are. Signed by those that it was sealed to, where they ended under the request, it would look as
/// though somebody had damaged or repeated that.
#[cfg(feature = "seal")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeysOver;

/// What is known of a response before it exists. Holds the keys until the head is out.
#[derive(Debug)]
pub(super) struct Signing {
    pub(super) keys: Arc<KeyEpoch>,
    pub(super) nonce: Nonce,
    pub(super) binding: Option<ChannelBinding>,
    pub(super) method: Method,
    pub(super) target: Target,
}

impl Signing {
    /// Signs the response's status. Informational responses are never signed.
    pub(super) fn attach<B>(&self, response: &mut Response<B>, evidence: Option<Evidence>, limit: usize) -> Attached {
        if response.status().is_informational() {
            return Attached::Nothing;
        }
        let (value, attached) = self.header(response.status(), evidence, limit);
        response.headers_mut().insert(ATTESTATION_REPORT, value);
        cors::expose_report(response.headers_mut());
        attached
    }

    fn header(&self, status: StatusCode, evidence: Option<Evidence>, limit: usize) -> (HeaderValue, Attached) {
        let sig = self.keys.sign(&ResponseStatement {
            nonce: &self.nonce,
            binding: self.binding.as_ref(),
            keys: self.keys.digest(),
            method: &self.method,
            target: &self.target,
            status,
        });
        let bare = ReportHeader { keys: *self.keys.digest(), sig, evidence: None };
        match evidence.and_then(|evidence| with_evidence(&bare, evidence, limit)) {
            Some(value) => (value, Attached::Evidence),
            None => (bare.to_value(), Attached::Signature),
        }
    }
}

/// What a response got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attached {
    Nothing,
    Signature,
    /// With evidence beside the signature.
    Evidence,
}

/// The field with as much evidence as fits: the VEK certificate is left out first, collateral always.
fn with_evidence(bare: &ReportHeader, evidence: Evidence, limit: usize) -> Option<HeaderValue> {
    let whole = Evidence { report: evidence.report.without_collateral(), ..evidence };
    let fitting = |evidence: &Evidence| {
        let cbor = evidence.to_cbor();
        // Base64 only grows: no need to encode what is too large already.
        (cbor.len() <= limit).then(|| ReportHeader { evidence: Some(cbor.into()), ..bare.clone() }.to_value())
    };
    let fits = |value: &HeaderValue| value.len() <= limit;
    let value = fitting(&whole).filter(fits).or_else(|| {
        whole.report.vek()?;
        fitting(&Evidence { report: whole.report.clone().without_vek(), ..whole.clone() }).filter(fits)
    });
    if value.is_none() {
        tracing::debug!(
            name: "attest.evidence_omitted", target: "tower_attest::server",
            reason = "too large", limit, "answered without evidence"
        );
    }
    value
}
