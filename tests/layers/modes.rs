//! Clients and servers of which one knows nothing of attestation, in each mode.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tower_attest::mock::MockTee;
use tower_attest::{ErrorKind, Mode, Observation, ReportLayer, VerifiedReport};

use crate::support::{attester, echo, echo_server, get, http1, kind, layer, recording_server, serve, text};

#[tokio::test]
async fn an_unaware_client_is_served_without_a_report() {
    let tee = MockTee::new();
    let address = echo_server(tee.provider()).await;
    let response = http1().request(get(address, "/x")).await.unwrap();
    assert!(!response.headers().contains_key("attestation-report"));
    assert_eq!(text(response).await, "GET /x");
}

#[tokio::test]
async fn an_unaware_client_is_refused_where_a_nonce_is_required() {
    let tee = MockTee::new();
    let report = ReportLayer::new(attester(tee.provider()).await).require_nonce();
    let address = serve(report.layer(echo())).await;
    let response = http1().request(get(address, "/x")).await.unwrap();
    assert_eq!(response.status(), StatusCode::PRECONDITION_REQUIRED);
    let response = layer(&tee).layer(http1()).oneshot(get(address, "/x")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

fn observation<B>(response: &Response<B>) -> &Observation {
    response.extensions().get::<Observation>().unwrap()
}

#[tokio::test]
async fn an_unaware_server_is_refused_tolerated_or_observed() {
    let tee = MockTee::new();
    let (address, seen) = recording_server(|_| Response::new(Full::from("plain"))).await;

    let error = layer(&tee).layer(http1()).oneshot(get(address, "/x")).await.unwrap_err();
    assert_eq!(kind(&*error), Some(ErrorKind::NoReport { status: 200 }));
    assert!(seen.lock().unwrap().iter().all(|request| request.uri.path() != "/x"), "nothing was sent");

    for mode in [Mode::Optional, Mode::Observe] {
        let response = layer(&tee).mode(mode).layer(http1()).oneshot(get(address, "/x")).await.unwrap();
        assert!(matches!(observation(&response), Observation::Missing), "{mode:?}");
        assert!(VerifiedReport::of(&response).is_none());
        assert_eq!(text(response).await, "plain");
    }
}

#[tokio::test]
async fn an_observer_sends_no_preflight() {
    let (address, seen) = recording_server(|_| Response::new(Full::from("plain"))).await;
    layer(&MockTee::new()).mode(Mode::Observe).layer(http1()).oneshot(get(address, "/x")).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|request| request.uri.path()).collect::<Vec<_>>(), ["/x"]);
}

#[tokio::test]
async fn a_bad_report_is_refused_in_optional_and_passes_in_observe() {
    let address = echo_server(MockTee::new().provider()).await;
    let stranger = MockTee::new();
    let error = layer(&stranger).mode(Mode::Optional).layer(http1()).oneshot(get(address, "/x")).await.unwrap_err();
    assert_eq!(kind(&*error), Some(ErrorKind::Refused));
    let response = layer(&stranger).mode(Mode::Observe).layer(http1()).oneshot(get(address, "/x")).await.unwrap();
    assert!(!matches!(observation(&response), Observation::Verified { .. }));
    assert!(VerifiedReport::of(&response).is_none());
    assert_eq!(text(response).await, "GET /x");
}

#[tokio::test]
async fn a_good_report_is_observed_as_verified() {
    let tee = MockTee::new();
    let address = echo_server(tee.provider()).await;
    let client = layer(&tee).mode(Mode::Optional).layer(http1());
    let response = client.oneshot(get(address, "/x")).await.unwrap();
    assert!(matches!(observation(&response), Observation::Verified { .. }));
    assert!(VerifiedReport::of(&response).is_none(), "only Required hands out a VerifiedReport");
}

#[tokio::test]
async fn an_intermediarys_error_is_retryable_and_its_body_is_not_shown() {
    for status in [429, 502, 503, 504] {
        let (address, _) = recording_server(move |_| {
            Response::builder().status(status).body(Full::from("secret page of a proxy")).unwrap()
        })
        .await;
        let error = layer(&MockTee::new()).layer(http1()).oneshot(get(address, "/x")).await.unwrap_err();
        assert_eq!(kind(&*error), Some(ErrorKind::NoReport { status }));
        assert!(!error.to_string().contains("secret page"));
    }
}

#[tokio::test]
async fn the_endpoint_is_signed_fresh_evidence_for_people_with_curl() {
    let tee = MockTee::new();
    let address = echo_server(tee.provider()).await;
    let path = tower_attest::protocol::WELL_KNOWN_PATH;
    let response = http1().request(get(address, path)).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let mut request = get(address, path);
    let nonce = tower_attest::protocol::NonceHeader::new(tower_attest::Nonce::from_bytes([7; 32]));
    request.headers_mut().insert("attestation-nonce", nonce.to_value());
    let response = http1().request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/cmw+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body: Bytes = text(response).await.into();
    let evidence = tower_attest::protocol::Evidence::from_json(&body, &tower_attest::Platform::KNOWN).unwrap();
    assert_eq!(evidence.batch.size(), 1);
}
