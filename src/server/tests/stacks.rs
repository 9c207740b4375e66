//! The layer under tonic, axum and plain hyper, over loopback sockets.

use std::net::SocketAddr;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// One request over HTTP/2, as gRPC clients send it, or over HTTP/1.1.
async fn over(address: SocketAddr, h2: bool, request: Request<Body>) -> Response<Bytes> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let response = if h2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

/// What every stack must do: sign the application's answer, answer the endpoint, refuse a malformed nonce.
async fn assert_attested(server: &Server, address: SocketAddr, h2: bool, path: &str) {
    let uri = |path: &str| if h2 { format!("http://{address}{path}") } else { path.to_owned() };
    let fake = |response: &Response<Bytes>| {
        let mut reply = Reply::new(ReportBody::default());
        (*reply.status_mut(), *reply.headers_mut()) = (response.status(), response.headers().clone());
        reply
    };
    let app = asked(Method::POST, &uri(path));
    let response = over(address, h2, app.request()).await;
    assert!(server.signed(&fake(&response), &app).evidence.is_some());

    let endpoint = asked(Method::GET, &uri(WELL_KNOWN_PATH));
    let response = over(address, h2, endpoint.request()).await;
    server.signed(&fake(&response), &endpoint);
    let evidence = Evidence::from_json(response.body(), &[Platform::MOCK]).unwrap();
    server.assert_fresh(&evidence, &endpoint).await;

    let mut malformed = plain(Method::POST, &uri(path));
    malformed.headers_mut().insert(ATTESTATION_NONCE, "x".parse().unwrap());
    malformed.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let response = over(address, h2, malformed).await;
    assert_eq!((response.status(), &response.headers()["grpc-status"]), (StatusCode::OK, &"3".parse().unwrap()));
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn under_tonic() {
    let server = Server::start().await;
    let (listener, address) = listen().await;
    let (_, health) = tonic_health::server::health_reporter();
    let serving = tonic::transport::Server::builder()
        .layer(server.layer())
        .add_service(health)
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    tokio::spawn(serving);
    assert_attested(&server, address, true, "/grpc.health.v1.Health/Check").await;
    assert_attested(&server, address, true, "/no.such.Service/Method").await;
}

#[tokio::test]
async fn under_axum_with_one_state_for_all_routes() {
    let server = Server::start().await;
    let (listener, address) = listen().await;
    let router = axum::Router::new()
        .route("/a", axum::routing::post(async || "a"))
        .nest("/nested", axum::Router::new().route("/b", axum::routing::any(async || "b")))
        .layer(server.layer());
    tokio::spawn(async move { axum::serve(listener, router).await });
    for h2 in [false, true] {
        for path in ["/a", "/nested/b?x=%20", "/none"] {
            assert_attested(&server, address, h2, path).await;
        }
    }
}

#[tokio::test]
async fn around_a_whole_axum_router() {
    let server = Server::start().await;
    let (listener, address) = listen().await;
    let router = axum::Router::new().nest("/api", axum::Router::new().route("/x", axum::routing::any(async || "x")));
    let whole = axum::Router::new().fallback_service(ServiceBuilder::new().layer(server.layer()).service(router));
    tokio::spawn(async move { axum::serve(listener, whole).await });
    assert_attested(&server, address, false, "/api/x").await;
    assert_attested(&server, address, false, "/none").await;
}

#[tokio::test]
async fn under_plain_hyper() {
    let server = Server::start().await;
    let (listener, address) = listen().await;
    let application =
        service_fn(async |_: Request<hyper::body::Incoming>| Ok::<_, Infallible>(Response::new(Body::from("x"))));
    let service = ServiceBuilder::new().layer(server.layer()).service(application);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await.unwrap();
            });
        }
    });
    for h2 in [false, true] {
        assert_attested(&server, address, h2, "/").await;
    }
}
