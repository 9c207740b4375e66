//! axum and plain hyper, HTTP/1.1 and HTTP/2.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get as route, post};
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt};
use tower_attest::mock::MockTee;
use tower_attest::protocol::WELL_KNOWN_PATH;
use tower_attest::{ErrorKind, ReportLayer, VerifiedReport};
use tower_http::normalize_path::NormalizePathLayer;

use crate::support::{attester, echo_server, get, http1, http2, kind, layer, recording_server, serve, text};

#[tokio::test]
async fn hyper_over_http1_and_http2_is_verified() {
    let tee = MockTee::new();
    let address = echo_server(tee.provider()).await;
    for transport in [http1(), http2()] {
        let client = layer(&tee).layer(transport);
        for path in ["/", "/a/b?x=1", "/a?", "/%2e%2e/%20", "/?"] {
            let response = client.clone().oneshot(get(address, path)).await.unwrap();
            assert!(VerifiedReport::of(&response).is_some(), "{path}");
            assert!(text(response).await.ends_with(path), "{path}");
        }
    }
}

#[tokio::test]
async fn axum_with_nested_routes_is_verified_when_the_layer_wraps_the_router() {
    let tee = MockTee::new();
    let api = Router::new().route("/x", route(|| async { "nested" }));
    let app = Router::new()
        .route("/", route(|| async { "root" }))
        .nest("/api", api)
        .layer(ReportLayer::new(attester(tee.provider()).await));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client = layer(&tee).layer(http1());
    for (path, body) in [("/", "root"), ("/api/x", "nested")] {
        let response = client.clone().oneshot(get(address, path)).await.unwrap();
        assert!(VerifiedReport::of(&response).is_some());
        assert_eq!(text(response).await, body);
    }
    let missing = client.oneshot(get(address, "/nothing")).await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert!(VerifiedReport::of(&missing).is_some(), "a 404 of the application is signed as well");
}

#[tokio::test]
async fn a_layer_inside_a_nested_router_signs_another_path_and_the_error_says_so() {
    let tee = MockTee::new();
    let report = ReportLayer::new(attester(tee.provider()).await);
    let api = Router::new().route("/x", route(|| async { "nested" })).layer(report.clone());
    let app = Router::new().nest("/api", api).route(WELL_KNOWN_PATH, route(|| async {}).layer(report));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let error = layer(&tee).layer(http1()).oneshot(get(address, "/api/x")).await.unwrap_err();
    assert_eq!(kind(&*error), Some(ErrorKind::BadSignature), "{error}");
    assert!(error.to_string().contains("path"), "names the likely cause: {error}");
}

#[tokio::test]
async fn path_normalisation_stands_inside() {
    let tee = MockTee::new();
    let app = Router::new().route("/x", route(|| async { "x" }));
    let normalised = NormalizePathLayer::trim_trailing_slash().layer(app);
    let address = serve(ReportLayer::new(attester(tee.provider()).await).layer(normalised)).await;
    let response = layer(&tee).layer(http1()).oneshot(get(address, "/x/")).await.unwrap();
    assert!(VerifiedReport::of(&response).is_some());
    assert_eq!(text(response).await, "x");
}

#[tokio::test]
async fn a_service_that_is_not_send_works_on_one_thread() {
    let tee = MockTee::new();
    let address = echo_server(tee.provider()).await;
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            let transport = http1();
            let not_send = std::rc::Rc::new(());
            let inner = tower::service_fn(move |request| {
                let (transport, not_send) = (transport.clone(), std::rc::Rc::clone(&not_send));
                async move {
                    let response = transport.request(request).await;
                    drop(not_send);
                    response
                }
            });
            let response = layer(&tee).layer(inner).oneshot(get(address, "/")).await.unwrap();
            assert!(VerifiedReport::of(&response).is_some());
        })
        .await;
}

#[tokio::test]
async fn a_preflight_carries_the_nonce_and_nothing_of_the_caller() {
    let (address, seen) = recording_server(|_| http::Response::new(Full::default())).await;
    let request = Request::post(format!("http://{address}/secret?token=1"))
        .header("authorization", "Bearer secret")
        .header("cookie", "session=secret")
        .header("x-anything", "secret")
        .body(Full::from("a secret body"))
        .unwrap();
    let error = layer(&MockTee::new()).layer(http1()).oneshot(request).await.unwrap_err();
    assert_eq!(kind(&*error), Some(ErrorKind::NoReport { status: 200 }));

    let seen = seen.lock().unwrap();
    let [preflight] = seen.as_slice() else { panic!("exactly one request reached the server: {seen:?}") };
    assert_eq!((preflight.method.as_str(), preflight.uri.path()), ("GET", WELL_KNOWN_PATH));
    assert_eq!(preflight.uri.query(), None);
    assert!(preflight.body.is_empty());
    let mut names: Vec<_> = preflight.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["attestation-nonce", "host"]);
    let nonce = preflight.headers["attestation-nonce"].to_str().unwrap();
    assert!(!nonce.contains("have"), "a preflight never lists keys: {nonce}");
}

#[tokio::test]
async fn the_connection_is_kept_after_the_servers_own_refusal() {
    let tee = MockTee::new();
    let address = echo_server(tee.provider()).await;
    let mut connection = {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    };
    for (nonce, status) in [(":AAAA:", StatusCode::BAD_REQUEST), ("", StatusCode::BAD_REQUEST)] {
        connection.ready().await.unwrap();
        let request = Request::get("/x").header("host", "localhost").header("attestation-nonce", nonce);
        let response = connection.send_request(request.body(Full::<bytes::Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(text(response).await.contains("nonce"));
    }
    connection.ready().await.unwrap();
    let request = Request::get("/x").header("host", "localhost").body(Full::default()).unwrap();
    assert_eq!(text(connection.send_request(request).await.unwrap()).await, "GET /x");
}

#[tokio::test]
async fn a_large_body_streams_through_both_layers() {
    let tee = MockTee::new();
    let app = Router::new()
        .route("/length", post(|body: axum::body::Bytes| async move { body.len().to_string() }))
        .layer(axum::extract::DefaultBodyLimit::disable());
    let address = serve(ReportLayer::new(attester(tee.provider()).await).layer(app)).await;
    let mut client = layer(&tee).layer(http2());
    let body = vec![7; 8 << 20];
    let request = Request::post(format!("http://{address}/length")).body(Full::from(body)).unwrap();
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(text(response).await, (8 << 20).to_string());
}

#[tokio::test]
async fn clones_share_trust() {
    let tee = MockTee::new();
    let provider = tee.provider();
    let counter = Arc::new(provider.clone());
    let address = echo_server(provider).await;
    let client = layer(&tee).layer(http2());
    client.clone().oneshot(get(address, "/")).await.unwrap();
    let made = counter.reports();
    for _ in 0..5 {
        client.clone().oneshot(get(address, "/")).await.unwrap();
    }
    assert_eq!(counter.reports(), made, "known keys need no further report");
}
