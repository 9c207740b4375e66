//! gRPC-web and CORS: the right order works, the wrong order says what is wrong.

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio_stream::wrappers::TcpListenerStream;
use tonic_web::{GrpcWebClientLayer, GrpcWebLayer};
use tower::{Layer, ServiceBuilder};
use tower_attest::mock::MockTee;
use tower_attest::protocol::NonceHeader;
use tower_attest::{Nonce, ReportLayer, VerifiedReport};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::prover::HashProver;
use crate::prover::api::ProveRequest;
use crate::prover::api::prover_client::ProverClient;
use crate::prover::api::prover_server::ProverServer;
use crate::support::{attester, echo, get, http1, kind, layer, serve, text};

async fn grpc_web_server(tee: &MockTee) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .accept_http1(true)
            .layer(ReportLayer::new(attester(tee.provider()).await))
            .layer(GrpcWebLayer::new())
            .add_service(ProverServer::new(HashProver))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    address
}

#[tokio::test]
async fn grpc_web_over_http1_is_verified_with_the_layer_inside() {
    let tee = MockTee::new();
    let address = grpc_web_server(&tee).await;
    let transport = Client::builder(TokioExecutor::new()).build_http();
    let service = ServiceBuilder::new().layer(GrpcWebClientLayer::new()).layer(layer(&tee)).service(transport);
    let mut client = ProverClient::with_origin(service, format!("http://{address}").parse().unwrap());
    let reply = client.prove(ProveRequest::default()).await.unwrap();
    assert!(VerifiedReport::of(&reply).is_some());
}

#[tokio::test]
async fn the_layer_outside_grpc_web_fails_and_says_where_it_belongs() {
    let tee = MockTee::new();
    let address = grpc_web_server(&tee).await;
    let transport = Client::builder(TokioExecutor::new()).build_http();
    let service = ServiceBuilder::new().layer(layer(&tee)).layer(GrpcWebClientLayer::new()).service(transport);
    let mut client = ProverClient::with_origin(service, format!("http://{address}").parse().unwrap());
    let status = client.prove(ProveRequest::default()).await.unwrap_err();
    assert!(kind(&status).is_some(), "{status}");
    assert!(format!("{status:?} {status}").contains("GrpcWebClientLayer"), "{status:?}");
}

async fn cors_server(cors: CorsLayer) -> std::net::SocketAddr {
    let tee = MockTee::new();
    serve(ServiceBuilder::new().layer(ReportLayer::new(attester(tee.provider()).await)).layer(cors).service(echo()))
        .await
}

fn lists(response: &http::Response<hyper::body::Incoming>, name: &str) -> Vec<String> {
    let values = response.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_ascii_lowercase());
    values.flat_map(|value| value.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn cors_lists_gain_the_two_fields() {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST])
        .allow_headers(AllowHeaders::list(["content-type".parse().unwrap()]))
        .expose_headers(["grpc-status".parse::<http::HeaderName>().unwrap()]);
    let address = cors_server(cors).await;
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri(format!("http://{address}/x"))
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "attestation-nonce,content-type")
        .body(Full::default())
        .unwrap();
    let response = http1().request(preflight).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(lists(&response, "access-control-allow-headers"), ["content-type", "attestation-nonce"]);

    let mut request = get(address, "/x");
    request.headers_mut().insert("origin", "https://app.example".parse().unwrap());
    let nonce = NonceHeader::new(Nonce::from_bytes([7; 32]));
    request.headers_mut().insert("attestation-nonce", nonce.to_value());
    let response = http1().request(request).await.unwrap();
    assert_eq!(lists(&response, "access-control-expose-headers"), ["grpc-status", "attestation-report"]);
    assert_eq!(text(response).await, "GET /x");
}

#[tokio::test]
async fn no_cors_is_invented_where_there_was_none() {
    let tee = MockTee::new();
    let address = serve(ReportLayer::new(attester(tee.provider()).await).layer(echo())).await;
    let mut request = get(address, "/x");
    request.headers_mut().insert("origin", "https://app.example".parse().unwrap());
    let response = http1().request(request).await.unwrap();
    assert!(response.headers().keys().all(|name| !name.as_str().starts_with("access-control-")));
}
