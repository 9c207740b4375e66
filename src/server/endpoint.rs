//! The well-known endpoint's answer: evidence in JSON.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};

use super::attester::{AttesterError, AttesterErrorKind};
use super::body::ReportBody;
use super::reject::{Refusal, Wire};
use crate::protocol::{CMW_JSON, Evidence, MAX_EVIDENCE};

/// The answer to a GET with a valid nonce. Whether it is 200 or 503, it gets signed.
pub(super) fn answer<B>(outcome: Result<Evidence, AttesterError>) -> Response<ReportBody<B>> {
    match outcome.and_then(encode) {
        Ok(json) => {
            let mut response = Response::new(ReportBody::own(Bytes::from(json)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(CMW_JSON));
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => Refusal::NoEvidence(error).response(&Wire::Http, &Method::GET),
    }
}

/// Evidence that would be too large for every client goes out without its collateral, which clients can fetch.
fn encode(evidence: Evidence) -> Result<Vec<u8>, AttesterError> {
    let json = evidence.to_json();
    if json.len() <= MAX_EVIDENCE {
        return Ok(json);
    }
    let json = Evidence { report: evidence.report.without_collateral(), ..evidence }.to_json();
    if json.len() <= MAX_EVIDENCE {
        return Ok(json);
    }
    let message = format!("expected evidence of at most {MAX_EVIDENCE} bytes, found {}", json.len());
    tracing::error!(
        name: "attest.evidence_too_large", target: "tower_attest::server",
        bytes = json.len(), "no client can read this evidence"
    );
    Err(AttesterError::new(AttesterErrorKind::Hardware, message))
}
