//! gRPC through a balancer: tonic's health service behind each worker, its client before the client's sidecar.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Endpoint, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Answered;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

use super::support::{balancer, dir, policy, url};
use crate::sidecar::support::Serve;

/// A worker with a health service behind it.
async fn worker(dir: &Arc<tempfile::TempDir>) -> (Serve, HealthReporter) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    (Serve::start_at("127.0.0.1:0", &upstream, &[], Arc::clone(dir)), reporter)
}

fn asks(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_streams_and_errors_pass_and_no_worker_is_unavailable() {
    let dir = dir();
    let (one, two) = (worker(&dir).await, worker(&dir).await);
    let urls = [&one.0, &two.0].map(|serve| url(serve.addr().port()));
    let front = balancer(&dir, &urls, &policy(&dir), &[]);
    let connect = front.connect(&[]);
    let channel = Endpoint::new(format!("http://{}", connect.addr())).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    for reporter in [&one.1, &two.1] {
        reporter.set_service_status("prover", ServingStatus::Serving).await;
    }
    for _ in 0..10 {
        let response = client.check(asks("prover")).await.unwrap();
        let result = response.metadata().get("attestation-result").unwrap().to_str().unwrap();
        assert!(result.starts_with("verified;"), "{result}");
        assert_eq!(response.into_inner().status(), Answered::Serving);
        assert_eq!(client.check(asks("nobody")).await.unwrap_err().code(), Code::NotFound);
    }
    let mut changes = client.watch(asks("prover")).await.unwrap().into_inner();
    assert_eq!(changes.message().await.unwrap().unwrap().status(), Answered::Serving);
    for reporter in [&one.1, &two.1] {
        reporter.set_service_status("prover", ServingStatus::NotServing).await;
    }
    assert_eq!(changes.message().await.unwrap().unwrap().status(), Answered::NotServing);
    drop((one, two));
    // What runs breaks off first.
    assert!(changes.message().await.is_err());
    loop {
        let refused = client.check(asks("prover")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        if refused.message().contains("no worker can be used: 2 cannot be reached") {
            break;
        }
    }
}
