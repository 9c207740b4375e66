//! What each mode lets through, and what it tells.

use http::header::HeaderName;
use http::{Method, StatusCode};
use tower::ServiceExt;

use super::super::fake::CONFIG;
use super::*;
use crate::client::{Strength, VerifiedReport};
use crate::protocol::{ATTESTATION_NONCE, ATTESTATION_REPORT, WELL_KNOWN_PATH};
use crate::verifier::{VerifyError, VerifyErrorKind};

fn strip(set: &Set) {
    set.server.tamper(|_, response| {
        response.headers_mut().remove(ATTESTATION_REPORT);
    });
}

fn corrupt(set: &Set) {
    set.server.tamper(|_, response| {
        response.headers_mut().insert(ATTESTATION_REPORT, "v=1".parse().unwrap());
    });
}

#[tokio::test]
async fn required_hands_out_a_verified_report_and_no_observation() {
    let set = Set::new();
    let response = set.send().await.unwrap();
    let report = VerifiedReport::of(&response).unwrap();
    assert_eq!((report.strength(), report.channel_bound()), (Strength::Presence, false));
    assert!(Observation::of(&response).is_none());
    assert!(VerifiedReport::of(response.extensions()).is_some());
    let verdicts = set.verdicts();
    assert_eq!(verdicts.len(), 1);
    assert!(verdicts[0].report().is_some() && verdicts[0].mode() == Mode::Required);
}

#[tokio::test]
async fn required_refuses_what_is_missing_and_tells_so_once() {
    let set = Set::new();
    strip(&set);
    assert_eq!(set.refused().await, ErrorKind::NoReport { status: 200 });
    let verdicts = set.verdicts();
    assert_eq!(verdicts.len(), 1);
    assert!(matches!(verdicts[0].observation(), Observation::Refused(_)));
    assert_eq!(verdicts[0].error().unwrap().kind(), ErrorKind::NoReport { status: 200 });
}

#[tokio::test]
async fn required_refuses_a_warm_response_without_a_report() {
    let set = Set::new();
    set.send().await.unwrap();
    strip(&set);
    assert_eq!(set.refused().await, ErrorKind::NoReport { status: 200 });
    set.server.set(|b| b.status = StatusCode::BAD_GATEWAY);
    assert_eq!(set.refused().await, ErrorKind::NoReport { status: 502 });
}

#[tokio::test]
async fn required_sends_nothing_to_a_server_without_attestation() {
    let set = Set::new();
    set.server.set(|b| b.attests = false);
    set.refused().await;
    assert_eq!(set.server.counts(), (1, 0));
}

#[tokio::test]
async fn optional_lets_a_missing_report_pass_and_refuses_a_bad_one() {
    let set = Set::in_mode(Mode::Optional);
    assert!(matches!(set.observed().await, Observation::Verified(_)));
    assert_eq!(set.server.counts(), (0, 1), "no preflight");
    corrupt(&set);
    assert_eq!(set.refused().await, ErrorKind::Malformed);
    strip(&set);
    let response = set.send().await.unwrap();
    assert!(matches!(Observation::of(&response), Some(Observation::Missing)));
    assert!(VerifiedReport::of(&response).is_none());
}

#[tokio::test]
async fn optional_asks_the_endpoint_for_keys_it_does_not_know() {
    let set = Set::in_mode(Mode::Optional);
    set.server.set(|b| b.evidence_fits = false);
    assert!(matches!(set.observed().await, Observation::Verified(_)));
    assert_eq!(set.server.counts(), (1, 1));
}

/// A report by keys that nobody vouches for is not a missing one, whatever the endpoint answers.
#[tokio::test]
async fn optional_takes_no_bad_report_for_a_missing_one_where_the_endpoint_has_none() {
    let set = Set::in_mode(Mode::Optional);
    set.server.set(|b| b.evidence_fits = false);
    set.server.tamper(|path, response| {
        if path == WELL_KNOWN_PATH {
            response.headers_mut().remove(ATTESTATION_REPORT);
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
    });
    assert_eq!(set.refused().await, ErrorKind::NoReport { status: 404 });
    assert!(matches!(set.verdicts()[0].observation(), Observation::Refused(_)));
}

#[tokio::test]
async fn observe_refuses_nothing_and_tells_everything() {
    let set = Set::in_mode(Mode::Observe);
    let observed = set.observed().await;
    assert!(observed.report().is_some() && observed.error().is_none());
    corrupt(&set);
    let Observation::Refused(error) = set.observed().await else { panic!() };
    assert_eq!(error.kind(), ErrorKind::Malformed);
    strip(&set);
    assert!(matches!(set.observed().await, Observation::Missing));
    let kinds: Vec<_> = set.verdicts().iter().map(|v| v.error().map(AttestError::kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::Malformed), None]);
    assert_eq!(set.server.counts(), (0, 3), "no preflight");
}

#[tokio::test]
async fn observe_tells_what_the_verifier_and_the_signature_say() {
    let set = Set::in_mode(Mode::Observe);
    set.verifier.refuse(Some(VerifyError::new(VerifyErrorKind::Policy, "measurement")));
    assert_eq!(set.observed().await.error().unwrap().kind(), ErrorKind::Refused);
    set.verifier.refuse(None);
    set.observed().await;
    set.server.tamper(|_, response| *response.status_mut() = StatusCode::ACCEPTED);
    assert_eq!(set.observed().await.error().unwrap().kind(), ErrorKind::BadSignature);
}

/// The verifier never answers, and the response comes all the same, without a timer having run.
#[tokio::test]
async fn observe_waits_for_no_verifier() {
    let set = Set::in_mode(Mode::Observe);
    let gate = set.verifier.gate();
    let client = set.client.clone();
    let mut future = tokio_test::task::spawn(client.oneshot(request()));
    let std::task::Poll::Ready(Ok(response)) = future.poll() else { panic!("it waited") };
    let Some(Observation::Undecided(error)) = Observation::of(&response) else { panic!() };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    gate.add_permits(1);
    assert!(matches!(set.observed().await, Observation::Verified(_)));
}

#[tokio::test]
async fn observe_does_not_ask_the_endpoint() {
    let set = Set::in_mode(Mode::Observe);
    set.server.set(|b| b.evidence_fits = false);
    let Observation::Undecided(error) = set.observed().await else { panic!() };
    assert_eq!(error.kind(), ErrorKind::UnknownKeys);
    assert_eq!(set.server.counts(), (0, 1));
}

#[tokio::test]
async fn a_plain_connect_is_refused_where_attestation_is_required_and_passes_elsewhere() {
    let connect = || {
        let mut request = request();
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = "prover.example:443".parse().unwrap();
        request
    };
    let set = Set::new();
    assert_eq!(kind(&set.client.clone().oneshot(connect()).await), ErrorKind::Configuration);
    assert_eq!(set.server.counts(), (0, 0));
    for mode in [Mode::Optional, Mode::Observe] {
        let set = Set::in_mode(mode);
        set.server.set(|b| b.attests = false);
        let response = set.client.clone().oneshot(connect()).await.unwrap();
        assert!(matches!(Observation::of(&response), Some(Observation::Missing)));
        assert!(set.server.seen()[0].nonce.is_none());
        assert_eq!(set.verdicts().len(), 1);
    }
}

#[tokio::test]
async fn the_inner_services_own_error_passes_as_it_is() {
    for mode in [Mode::Optional, Mode::Observe] {
        let set = Set::in_mode(mode);
        set.server.set(|b| b.fails = true);
        assert_eq!(set.send().await.unwrap_err().to_string(), "connection refused");
    }
    let set = Set::new();
    set.send().await.unwrap();
    set.server.set(|b| b.fails = true);
    assert_eq!(set.send().await.unwrap_err().to_string(), "connection refused");
    assert_eq!(set.verdicts().len(), 1, "there was nothing to judge");
}

#[tokio::test]
async fn a_nonce_of_the_callers_is_replaced_on_every_line() {
    let set = Set::new();
    let name: HeaderName = ATTESTATION_NONCE;
    let mut request = request();
    for _ in 0..2 {
        request.headers_mut().append(&name, ":AAAA:".parse().unwrap());
    }
    set.client.clone().oneshot(request).await.unwrap();
    for seen in set.server.seen() {
        assert_eq!(seen.headers.get_all(&name).iter().count(), 1);
        assert!(seen.nonce.is_some());
    }
}

#[tokio::test]
async fn each_request_has_a_nonce_of_its_own() {
    let set = Set::new();
    for _ in 0..8 {
        set.send().await.unwrap();
    }
    let nonces: std::collections::HashSet<_> =
        set.server.seen().iter().map(|s| s.nonce.clone().unwrap().nonce).collect();
    assert_eq!(nonces.len(), 9, "eight requests and a preflight");
}

#[tokio::test]
async fn a_replayed_response_is_refused() {
    let set = Set::new();
    let first = set.send().await.unwrap().headers()[ATTESTATION_REPORT].clone();
    set.server.tamper(move |_, response| {
        response.headers_mut().insert(ATTESTATION_REPORT, first.clone());
    });
    assert_eq!(set.refused().await, ErrorKind::BadSignature);
}

#[tokio::test]
async fn the_pinned_configuration_and_the_name_reach_the_exchange() {
    let set = Set::with(|layer| layer.accept_presence().config([1; 32]));
    assert_eq!(set.refused().await, ErrorKind::ConfigMismatch);
    let set = Set::with(|layer| layer.accept_presence().name("other.example"));
    assert_eq!(set.refused().await, ErrorKind::NameMismatch);
    let set = Set::with(|layer| layer.accept_presence().config(CONFIG));
    set.send().await.unwrap();
}

#[test]
fn debug_shows_settings_and_no_keys() {
    let set = Set::new();
    let text = format!("{:?}", AttestLayer::new(set.verifier.clone()).name(NAME));
    assert!(text.contains("prover.example") && text.contains("Required"), "{text}");
}
