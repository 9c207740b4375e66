//! Inside `ReportLayer`, around the services that people have, over loopback sockets.

use std::net::SocketAddr;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tower::ServiceBuilder;

use super::*;
use crate::protocol::{ATTESTATION_NONCE, Evidence, Nonce, NonceHeader, ReportHeader};
use crate::{KeysDigest, Platform, ReportLayer};

fn nonce(have: Vec<KeysDigest>) -> http::HeaderValue {
    NonceHeader { have, ..NonceHeader::new(Nonce::from_bytes([7; 32])) }.to_value()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Sends over HTTP/2 or HTTP/1.1 what a client has sealed, and opens what comes back.
async fn over(
    client: &Client,
    address: SocketAddr,
    h2: bool,
    request: Request<Body>,
) -> (HeaderMap, Response<(Bytes, Option<HeaderMap>)>) {
    let (mut request, key) = client.seal(request);
    request.headers_mut().insert(ATTESTATION_NONCE, nonce(vec![client.keys]));
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let response = if h2 {
        *request.uri_mut() = format!("http://{address}{SEALED_PATH}").parse().unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        request.headers_mut().insert("host", "prover.example".parse().unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let report = ReportHeader::from_headers(response.headers()).unwrap().expect("signed outside");
    assert_eq!((report.keys, report.evidence), (client.keys, None));
    let outer = response.headers().clone();
    (outer, open(response.map(|body| SealedBody::plain(body.map_err(Into::into).boxed_unsync())), key).await)
}

#[tokio::test]
async fn the_layer_outside_signs_what_is_sealed_and_vouches_for_the_keys_to_seal_to() {
    let server = Server::start().await;
    let service = ServiceBuilder::new()
        .layer(ReportLayer::new(server.attester.clone()))
        .layer(server.layer())
        .service(server.application());
    let client = server.client();
    let (mut request, key) = client.seal(post("https://prover.example/prove", full("witness")));
    request.headers_mut().insert(ATTESTATION_NONCE, nonce(vec![client.keys]));
    let response = service.clone().oneshot(request).await.unwrap();
    let report = ReportHeader::from_headers(response.headers()).unwrap().unwrap();
    assert_eq!((report.keys, report.evidence), (client.keys, None));
    let (parts, body) = response.into_parts();
    let (inner, _) = head_of(body, key).await;
    assert_eq!((parts.status, &inner.headers["x-inner"]), (StatusCode::OK, &"1".parse().unwrap()));

    let stranger = Server::start().await.client();
    let (mut request, _) = stranger.seal(post("https://prover.example/prove", full("witness")));
    request.headers_mut().insert(ATTESTATION_NONCE, nonce(vec![stranger.keys]));
    let response = service.oneshot(request).await.unwrap();
    let report = ReportHeader::from_headers(response.headers()).unwrap().unwrap();
    assert_eq!((response.status(), report.keys), (StatusCode::BAD_REQUEST, client.keys));
    let evidence = Evidence::from_cbor(&report.evidence.unwrap(), &[Platform::MOCK]).unwrap();
    let document = KeyDocument::parse(evidence.keys).unwrap();
    assert_eq!((Client::of(&document).config, server.seen().len()), (client.config, 1));
    assert_eq!(server.provider.reports(), 2);
}

#[tokio::test]
async fn around_a_whole_axum_router() {
    let server = Server::start().await;
    let (listener, address) = listen().await;
    let handler = async |sealed: Option<axum::Extension<SealedRequest>>, body: String| {
        format!("{body} {}", if sealed.is_some() { "sealed" } else { "plain" })
    };
    let router = axum::Router::new().nest("/api", axum::Router::new().route("/x", axum::routing::post(handler)));
    let layers =
        ServiceBuilder::new().layer(ReportLayer::new(server.attester.clone())).layer(server.layer()).service(router);
    let whole = axum::Router::new().fallback_service(layers);
    tokio::spawn(async move { axum::serve(listener, whole).await });
    for h2 in [false, true] {
        let request = post("https://prover.example/api/x?y", full("witness"));
        let (_, opened) = over(&server.client(), address, h2, request).await;
        assert_eq!((opened.status(), &opened.body().0[..]), (StatusCode::OK, &b"witness sealed"[..]));
        let request = post("https://prover.example/none", full(""));
        let (_, opened) = over(&server.client(), address, h2, request).await;
        assert_eq!(opened.status(), StatusCode::NOT_FOUND);
    }
}

/// The health service's `Check` with an empty message.
fn check(content_type: &'static str) -> Request<Body> {
    let mut request = post("https://prover.example/grpc.health.v1.Health/Check", full(vec![0; 5]));
    request.headers_mut().insert("content-type", content_type.parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    request
}

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

#[tokio::test]
async fn under_tonic_over_http2_and_over_http1() {
    let server = Server::start().await;
    let (listener, address) = listen().await;
    let (_, health) = tonic_health::server::health_reporter();
    let serving = tonic::transport::Server::builder()
        .accept_http1(true)
        .layer(ReportLayer::new(server.attester.clone()))
        .layer(server.layer().sealed_only())
        .add_service(health)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    for h2 in [true, false] {
        let (_, opened) = over(&server.client(), address, h2, check("application/grpc")).await;
        let (content, trailers) = opened.body();
        assert_eq!((opened.status(), &content[..]), (StatusCode::OK, SERVING), "h2: {h2}");
        assert_eq!(trailers.as_ref().unwrap()["grpc-status"], "0");
        let request = post("https://prover.example/no.such.Service/Method", full(vec![0; 5]));
        let (_, opened) = over(&server.client(), address, h2, request).await;
        assert_eq!(opened.headers()["grpc-status"], "12");
    }
}

#[tokio::test]
async fn grpc_web_passes_over_http1_and_plain_grpc_beside_it() {
    let server = Server::start().await;
    let (listener, address) = listen().await;
    let (_, health) = tonic_health::server::health_reporter();
    let serving = tonic::transport::Server::builder()
        .accept_http1(true)
        .layer(ReportLayer::new(server.attester.clone()))
        .layer(server.layer())
        .layer(tonic_web::GrpcWebLayer::new())
        .add_service(health)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    let (_, opened) = over(&server.client(), address, false, check("application/grpc-web+proto")).await;
    let content = &opened.body().0;
    assert_eq!(opened.headers()["content-type"], "application/grpc-web+proto");
    assert!(content.starts_with(SERVING) && content[SERVING.len()] == 0x80, "{content:?}");
    let (_, opened) = over(&server.client(), address, false, check("application/grpc")).await;
    assert_eq!(opened.body().1.as_ref().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn under_plain_hyper_with_cors_between_the_layers() {
    let server = Server::start().await;
    let (listener, address) = listen().await;
    let cors = tower_http::cors::CorsLayer::new()
        .allow_origin(["https://app.example".parse::<http::HeaderValue>().unwrap()])
        .allow_methods([Method::POST]);
    let service = ServiceBuilder::new()
        .layer(ReportLayer::new(server.attester.clone()))
        .layer(cors)
        .layer(server.layer().sealed_only())
        .service(service_fn(async |request: Request<UnsealedBody<hyper::body::Incoming>>| {
            Ok::<_, std::convert::Infallible>(Response::new(request.into_body()))
        }));
    tokio::spawn({
        let service = service.clone();
        async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = TowerToHyperService::new(service.clone());
                let builder = auto::Builder::new(TokioExecutor::new());
                tokio::spawn(async move { builder.serve_connection(TokioIo::new(stream), service).await.unwrap() });
            }
        }
    });
    for h2 in [false, true] {
        let (outer, opened) =
            over(&server.client(), address, h2, post("https://prover.example/echo", full("witness"))).await;
        assert_eq!(opened.body().0, "witness");
        assert!(!outer.contains_key("access-control-allow-origin"), "no browser has asked");
    }
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let preflight = Request::options(SEALED_PATH)
        .header("host", "prover.example")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "attestation-keys, attestation-nonce, content-type");
    let answer = sender.send_request(preflight.body(full("")).unwrap()).await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example");
    let allowed = answer.headers()["access-control-allow-headers"].to_str().unwrap();
    for field in ["attestation-nonce", "attestation-keys", "attestation-route", "content-type"] {
        assert!(allowed.split(", ").any(|allowed| allowed == field), "{allowed}");
    }

    let (mut request, key) = server.client().seal(post("https://prover.example/echo", full("witness")));
    request.headers_mut().insert("origin", "https://app.example".parse().unwrap());
    request.headers_mut().insert("host", "prover.example".parse().unwrap());
    request.headers_mut().insert(ATTESTATION_NONCE, nonce(vec![server.client().keys]));
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
    assert_eq!(response.headers()["access-control-expose-headers"], "attestation-report");
    let (_, mut body) = head_of(response.into_body(), key).await;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "witness");
}
