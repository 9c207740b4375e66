//! What `connect` tells its client of the far end: the field `Attestation-Result`, and problems that name what failed.

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use sfv::{Integer, ItemSerializer, StringRef, key_ref, token_ref};
use tower_attest::tls::{ChannelError, Stage};
use tower_attest::{AttestError, BoxError, ErrorKind, FailedRule, GrpcCode, VerifiedReport, VerifyError};

use crate::admin::metrics::believing::check;
use crate::failure::chain;
use crate::proxy::problem::{Code, Problem};

pub(crate) const ATTESTATION_RESULT: HeaderName = HeaderName::from_static("attestation-result");

/// `verified` with what is known, an Item of RFC 9651.
pub(crate) fn verified(report: &VerifiedReport) -> Option<HeaderValue> {
    let measurement = hex::encode(report.measurement());
    let config = report.config_digest().map(hex::encode);
    let platform = report.platform().to_string();
    let strength = report.strength().to_string().to_ascii_lowercase();
    let age = i64::try_from(report.age().as_secs()).ok().and_then(|age| Integer::try_from(age).ok())?;
    let mut item = ItemSerializer::new()
        .bare_item(token_ref("verified"))
        .parameter(key_ref("strength"), StringRef::from_str(&strength).ok()?)
        .parameter(key_ref("platform"), StringRef::from_str(&platform).ok()?)
        .parameter(key_ref("measurement"), StringRef::from_str(&measurement).ok()?);
    // A structured string is ASCII; a name that is not is left out.
    if let Some(name) = report.measurement_name().and_then(|name| StringRef::from_str(name).ok()) {
        item = item.parameter(key_ref("measurement-name"), name);
    }
    if let Some(config) = config.as_deref().and_then(|config| StringRef::from_str(config).ok()) {
        item = item.parameter(key_ref("config"), config);
    }
    HeaderValue::try_from(item.parameter(key_ref("age"), age).finish()).ok()
}

/// The answer to a request that was not sent, or whose exchange broke off.
pub(crate) fn failed(error: &BoxError) -> Problem {
    if let Some(refused) = ChannelError::of(&**error) {
        return not_attested(Some(refused.stage()), refused.attest_error(), refused.to_string());
    }
    if let Some(refused) = AttestError::of(&**error) {
        return not_attested(None, refused, refused.to_string());
    }
    tracing::warn!(reason = %chain(&**error), "exchange broke off");
    Problem::new(StatusCode::BAD_GATEWAY, Code::UpstreamBroke, "the far end broke off the exchange")
}

fn not_attested(stage: Option<Stage>, error: &AttestError, detail: String) -> Problem {
    let grpc = error.grpc_code();
    let (code, token) = match (stage, error.kind(), grpc) {
        (_, _, GrpcCode::Unauthenticated | GrpcCode::FailedPrecondition) => (Code::NotAttested, "refused"),
        (Some(Stage::Connect | Stage::Tls | Stage::Http), ..) | (None, ErrorKind::Transport, _) => {
            (Code::UpstreamDown, "unreachable")
        }
        _ => (Code::AttestationUnavailable, "undecided"),
    };
    tracing::warn!(stage = stage.map(tracing::field::display), reason = %error, "far end not attested");
    let rules: Vec<Value> = failed_rules(error)
        .iter()
        .map(|rule| json!({ "rule": rule.rule, "expected": rule.expected, "found": rule.found }))
        .collect();
    let mut problem = Problem::new(StatusCode::BAD_GATEWAY, code, detail)
        .with_grpc(grpc.number())
        .with("check", check(error.kind()))
        .with_field(ATTESTATION_RESULT, HeaderValue::from_static(token));
    if let Some(stage) = stage {
        problem = problem.with("stage", stage.to_string());
    }
    if !rules.is_empty() {
        problem = problem.with("failed_rules", rules);
    }
    problem
}

/// The rules of the policy that the far end does not meet; none if something else failed.
pub(crate) fn failed_rules(error: &AttestError) -> &[FailedRule] {
    let verify = error.cause().and_then(|cause| cause.downcast_ref::<VerifyError>());
    verify.map_or(&[], VerifyError::failed_rules)
}
