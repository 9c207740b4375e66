//! hyper over HTTP/1.1 and HTTP/2, reqwest, and layers around and below.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::seal::client::CarrierRequestBody;
use tower_attest::seal::server::UnsealedBody;
use tower_attest::seal::{SealLayer, UnsealLayer};
use tower_attest::{BoxError, ReportLayer, Strength, VerifiedReport};

use crate::support::attester;

/// Echoes path and body.
async fn serve(tee: &MockTee) -> SocketAddr {
    let attester = attester(tee, |builder| builder).await;
    let echo = service_fn(|request: Request<UnsealedBody<Incoming>>| async move {
        let line = format!("{} {}", request.method(), request.uri().path());
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(format!("{line} {}", body.len())))))
    });
    let unseal = UnsealLayer::new(attester.clone()).unwrap();
    let service = ReportLayer::new(attester).layer(unseal.layer(echo));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

fn request(address: SocketAddr) -> Request<Full<Bytes>> {
    Request::post(format!("http://{address}/prove")).body(Full::new(Bytes::from(vec![1; 100_000]))).unwrap()
}

async fn text<B: http_body::Body<Error: std::fmt::Debug>>(body: B) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn hyper_carries_sealed_requests_over_both_versions() {
    for http2 in [false, true] {
        let tee = MockTee::new();
        let address = serve(&tee).await;
        let transport =
            Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<CarrierRequestBody<Full<Bytes>>>();
        let client = SealLayer::new(tee.verifier()).name("prover.example").layer(transport);
        for _ in 0..2 {
            let mut request = request(address);
            *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
            let response = client.clone().oneshot(request).await.unwrap();
            assert_eq!(VerifiedReport::of(&response).unwrap().strength(), Strength::Sealed);
            assert_eq!(text(response.into_body()).await, "POST /prove 100000");
        }
        let get = Request::get(format!("http://{address}/status")).body(Full::default()).unwrap();
        assert_eq!(text(client.oneshot(get).await.unwrap().into_body()).await, "GET /status 0");
    }
}

#[tokio::test]
async fn reqwest_carries_sealed_requests() {
    let tee = MockTee::new();
    let address = serve(&tee).await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let transport = service_fn(move |request: Request<CarrierRequestBody<Full<Bytes>>>| {
        let client = client.clone();
        async move {
            let request = request.map(reqwest::Body::wrap).try_into()?;
            Ok::<_, BoxError>(Response::<reqwest::Body>::from(client.execute(request).await?))
        }
    });
    let client = ServiceBuilder::new().layer(SealLayer::new(tee.verifier())).service(transport);
    let response = client.oneshot(request(address)).await.unwrap();
    assert_eq!(text(response.into_body()).await, "POST /prove 100000");
}

#[tokio::test]
async fn the_two_layers_do_not_stack() {
    use tower_attest::AttestLayer;
    let tee = MockTee::new();
    let address = serve(&tee).await;
    let transport = Client::builder(TokioExecutor::new()).build_http::<CarrierRequestBody<Full<Bytes>>>();
    let attested = AttestLayer::new(tee.verifier()).accept_presence().layer(transport);
    let sealed = SealLayer::new(tee.verifier()).layer(attested);
    // The inner layer replaces the nonce by its own, so that the outer one cannot verify: they do not stack.
    assert!(sealed.oneshot(request(address)).await.is_err());
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn over_an_attested_channel_sealed_responses_are_bound_to_it() {
    use tower_attest::tls::{AttestedChannel, Tls, TlsListener};

    use crate::prover::HashProver;
    use crate::prover::api::ProveRequest;
    use crate::prover::api::prover_client::ProverClient;
    use crate::prover::api::prover_server::ProverServer;

    let tee = MockTee::new();
    let attester = attester(&tee, |builder| builder.names(["localhost"])).await;
    let tls = Tls::self_signed("localhost").unwrap();
    let listener = TlsListener::bind("127.0.0.1:0", tls.clone()).await.unwrap();
    let uri = format!("https://localhost:{}", listener.local_addr().port()).parse().unwrap();
    let server = tonic::transport::Server::builder()
        .layer(ReportLayer::new(attester.clone()))
        .layer(UnsealLayer::new(attester).unwrap().sealed_only())
        .add_service(ProverServer::new(HashProver));
    tokio::spawn(server.serve_with_incoming(listener.incoming()));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(tls.certificate().unwrap().clone()).unwrap();
    let channel = AttestedChannel::builder(uri, tee.verifier()).roots(roots).connect().await.unwrap();
    let mut client = ProverClient::new(SealLayer::<axum::body::Body>::new(tee.verifier()).layer(channel));
    let reply = client.prove(ProveRequest::default()).await.unwrap();
    let report = VerifiedReport::of(&reply).unwrap();
    assert!(report.strength() == Strength::Sealed && report.channel_bound());
}
