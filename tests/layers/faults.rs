//! Hardware that is slow, busy, broken or hung; queues that are full; headers that are too large.

use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt};
use tower_attest::mock::{Behaviour, MockTee};
use tower_attest::protocol::{NonceHeader, WELL_KNOWN_PATH};
use tower_attest::{Attester, Nonce, ReportLayer, VerifiedReport};

use crate::support::{attester, echo, get, http2, layer, serve, text};

fn endpoint(address: std::net::SocketAddr, nonce: u32) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&nonce.to_be_bytes());
    let mut request = get(address, WELL_KNOWN_PATH);
    request.headers_mut().insert("attestation-nonce", NonceHeader::new(Nonce::from_bytes(bytes)).to_value());
    request
}

#[tokio::test]
async fn a_thousand_nonces_cost_two_reports() {
    let tee = MockTee::new();
    let provider = tee.provider();
    let attester = Attester::builder(provider.clone()).name("localhost").start().await.unwrap();
    let before = provider.reports();
    provider.hold();
    let address = serve(ReportLayer::new(attester.clone()).layer(echo())).await;
    // One HTTP/2 connection carries 200 streams at once: ten carry a thousand.
    let clients: Vec<_> = (0..10).map(|_| http2()).collect();
    let mut calls = JoinSet::new();
    let ask = |calls: &mut JoinSet<_>, nonce: u32| {
        let (client, request) = (clients[nonce as usize % 10].clone(), endpoint(address, nonce));
        calls.spawn(async move { client.request(request).await.unwrap().status() });
    };
    ask(&mut calls, 0);
    while provider.calls() == before {
        tokio::task::yield_now().await;
    }
    for nonce in 1..1000 {
        ask(&mut calls, nonce);
    }
    while attester.stats().queued < 999 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    provider.release();
    let statuses = calls.join_all().await;
    assert_eq!(statuses.len(), 1000);
    assert!(statuses.iter().all(|status| *status == StatusCode::OK));
    assert_eq!(provider.reports() - before, 2);
}

#[tokio::test]
async fn the_application_is_answered_while_the_hardware_fails_and_evidence_returns_with_it() {
    let tee = MockTee::new();
    let provider = tee.provider();
    let address = serve(ReportLayer::new(attester(provider.clone()).await).layer(echo())).await;
    provider.set_behaviour(Behaviour::Failing);

    let mut request = endpoint(address, 1);
    *request.uri_mut() = format!("http://{address}/x").parse().unwrap();
    let response = http2().request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let report = response.headers()["attestation-report"].to_str().unwrap();
    assert!(report.contains("sig=") && !report.contains("evidence="), "{report}");

    let response = http2().request(endpoint(address, 2)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(response.headers()["content-type"], "application/problem+json");

    provider.set_behaviour(Behaviour::Healthy);
    assert_eq!(http2().request(endpoint(address, 3)).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_already_knows_the_keys_notices_no_outage() {
    let tee = MockTee::new();
    let provider = tee.provider();
    let address = serve(ReportLayer::new(attester(provider.clone()).await).layer(echo())).await;
    let client = layer(&tee).layer(http2());
    client.clone().oneshot(get(address, "/x")).await.unwrap();
    provider.set_behaviour(Behaviour::Failing);
    let response = client.oneshot(get(address, "/x")).await.unwrap();
    assert!(VerifiedReport::of(&response).is_some());
}

#[tokio::test]
async fn a_full_queue_refuses_the_endpoint_at_once_and_serves_the_application() {
    let tee = MockTee::new();
    let provider = tee.provider();
    let attester = Attester::builder(provider.clone())
        .name("localhost")
        .queue(2)
        .evidence_wait(Duration::from_millis(1))
        .start()
        .await
        .unwrap();
    let before = provider.calls();
    provider.hold();
    let address = serve(ReportLayer::new(attester.clone()).layer(echo())).await;
    let client = http2();
    let mut waiting = JoinSet::new();
    for nonce in 0..3 {
        let (client, request) = (client.clone(), endpoint(address, nonce));
        waiting.spawn(async move { client.request(request).await.unwrap().status() });
        while provider.calls() == before || attester.stats().queued < usize::try_from(nonce).unwrap() {
            tokio::task::yield_now().await;
        }
    }
    let response = client.request(endpoint(address, 9)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    let mut request = endpoint(address, 10);
    *request.uri_mut() = format!("http://{address}/x").parse().unwrap();
    assert_eq!(client.request(request).await.unwrap().status(), StatusCode::OK);
    provider.release();
    assert!(waiting.join_all().await.iter().all(|status| *status == StatusCode::OK), "no waiter was lost");
}

#[tokio::test]
async fn evidence_over_the_header_limit_is_fetched_from_the_endpoint() {
    let tee = MockTee::new();
    let provider = tee.provider();
    let report = ReportLayer::new(attester(provider.clone()).await).header_limit(300);
    let address = serve(report.layer(echo())).await;
    let client = layer(&tee).layer(http2());
    let response = client.clone().oneshot(get(address, "/x")).await.unwrap();
    assert!(VerifiedReport::of(&response).is_some());

    let mut request = endpoint(address, 1);
    *request.uri_mut() = format!("http://{address}/x").parse().unwrap();
    let response = http2().request(request).await.unwrap();
    let field = &response.headers()["attestation-report"];
    assert!(field.len() <= 300 && !field.to_str().unwrap().contains("evidence="));
}

#[tokio::test]
async fn a_malformed_nonce_is_answered_by_http_and_grpc_in_their_own_way() {
    let tee = MockTee::new();
    let address = serve(ReportLayer::new(attester(tee.provider()).await).layer(echo())).await;
    let mut request = get(address, "/x");
    request.headers_mut().insert("attestation-nonce", "nonsense".parse().unwrap());
    let response = http2().request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(text(response).await.to_ascii_lowercase().contains("attestation-nonce"));

    let mut request = get(address, "/prover.v1.Prover/Prove");
    request.headers_mut().insert("attestation-nonce", "nonsense".parse().unwrap());
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let response = http2().request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["grpc-status"], "3");
}

/// Runs in a process of its own: with a device hung for ever, `main` must still return.
#[test]
fn a_process_with_hung_hardware_ends() {
    const FLAG: &str = "TOWER_ATTEST_TEST_HUNG_HARDWARE";
    if std::env::var_os(FLAG).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tee = MockTee::new();
            let provider = tee.provider();
            let attester = attester(provider.clone()).await;
            let before = provider.calls();
            provider.set_behaviour(Behaviour::Hanging);
            let address = serve(ReportLayer::new(attester).layer(echo())).await;
            let call = tokio::spawn(async move { http2().request(endpoint(address, 1)).await.map(drop) });
            while provider.calls() == before {
                tokio::task::yield_now().await;
            }
            call.abort();
        });
        return;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::a_process_with_hung_hardware_ends"])
        .env(FLAG, "1")
        .status()
        .unwrap();
    assert!(status.success());
}
