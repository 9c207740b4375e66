//! What both layers add to whole stacks: tonic unary and axum, over loopback and in memory, alone and with 64 in flight.
//!
//! `cargo bench --all-features --bench stacks`
//!
//! The four ways of each stack run in turn, batch by batch, in one process; both ends share its two threads. HTTP/2 throughout,
//! one connection. "Cold" draws up a client that believes nothing for each request, so that each asks for evidence first.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::as_conversions, clippy::indexing_slicing)]

#[path = "support/interleaved.rs"]
mod interleaved;
#[path = "../examples/support/prover.rs"]
#[allow(dead_code, reason = "this bench serves on transports of its own")]
mod prover;

use std::future::Future;

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use interleaved::Variants;
use prover::HashProver;
use prover::api::ProveRequest;
use prover::api::prover_client::ProverClient;
use prover::api::prover_server::ProverServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::{AttestLayer, Attester, BoxError, ReportLayer};

const ROUNDS: usize = 40;
const IN_FLIGHT: [usize; 2] = [1, 64];
const URI: &str = "http://localhost/prove";

#[derive(Clone, Copy, Debug)]
enum Transport {
    Loopback,
    Memory,
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let tee = MockTee::new();
    let attester = runtime.block_on(Attester::builder(tee.provider()).name("localhost").start()).unwrap();
    let layer = AttestLayer::new(tee.verifier()).accept_presence().name("localhost");
    for transport in [Transport::Memory, Transport::Loopback] {
        let (plain, signed) = runtime.block_on(async {
            (axum_client(transport, None).await, axum_client(transport, Some(attester.clone())).await)
        });
        let warm = layer.layer(signed.clone());
        for in_flight in IN_FLIGHT {
            let (plain, signed, warm) = (plain.clone(), signed.clone(), warm.clone());
            let (layer, cold) = (layer.clone(), signed.clone());
            Variants::new(format!("axum, {transport:?}, {in_flight} in flight"))
                .variant("no layers", move || many(in_flight, plain.clone(), call))
                .variant("server layer, no nonce", move || many(in_flight, signed.clone(), call))
                .variant("warm", move || many(in_flight, warm.clone(), call))
                .variant("cold", move || {
                    let (layer, cold) = (layer.clone(), cold.clone());
                    many(in_flight, (), move |()| call(layer.layer(cold.clone())))
                })
                .run(&runtime, ROUNDS);
        }
        let (plain, signed) = runtime.block_on(async {
            (tonic_channel(transport, None).await, tonic_channel(transport, Some(attester.clone())).await)
        });
        let warm = layer.layer(signed.clone());
        for in_flight in IN_FLIGHT {
            let (plain, signed, warm) = (plain.clone(), signed.clone(), warm.clone());
            let (layer, cold) = (layer.clone(), signed.clone());
            Variants::new(format!("tonic unary, {transport:?}, {in_flight} in flight"))
                .variant("no layers", move || many(in_flight, plain.clone(), prove))
                .variant("server layer, no nonce", move || many(in_flight, signed.clone(), prove))
                .variant("warm", move || many(in_flight, warm.clone(), prove))
                .variant("cold", move || {
                    let (layer, cold) = (layer.clone(), cold.clone());
                    many(in_flight, (), move |()| prove(layer.layer(cold.clone())))
                })
                .run(&runtime, ROUNDS);
        }
    }
}

/// Makes a batch of requests, so many at once.
async fn many<S, F>(in_flight: usize, service: S, one: impl Fn(S) -> F + Clone + Send + 'static) -> usize
where
    S: Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let each = 64 / in_flight;
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let (service, one) = (service.clone(), one.clone());
        callers.spawn(async move {
            for _ in 0..each {
                one(service.clone()).await;
            }
        });
    }
    callers.join_all().await;
    in_flight * each
}

async fn call<S, B>(service: S)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: std::fmt::Debug>,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let request = Request::post(URI).body(Full::from("witness")).unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "witness");
}

async fn prove<S>(service: S)
where
    S: tonic::client::GrpcService<tonic::body::Body>,
    S::Error: Into<tonic::codegen::StdError>,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    ProverClient::new(service).prove(ProveRequest::default()).await.unwrap();
}

/// Both ends of one connection.
async fn loopback() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}

type HttpClient = tower::util::BoxCloneSyncService<Request<Full<Bytes>>, Response<Incoming>, BoxError>;

async fn axum_client(transport: Transport, attester: Option<Attester>) -> HttpClient {
    match transport {
        Transport::Loopback => {
            let (client, server) = loopback().await;
            axum_over(client, server, attester).await
        }
        Transport::Memory => {
            let (client, server) = tokio::io::duplex(64 * 1024);
            axum_over(client, server, attester).await
        }
    }
}

async fn axum_over<I>(client: I, server: I, attester: Option<Attester>) -> HttpClient
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = Router::new().route("/prove", post(|body: Bytes| async move { body }));
    match attester {
        Some(attester) => serve(server, ReportLayer::new(attester).layer(router)),
        None => serve(server, router),
    }
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    HttpClient::new(service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await.map_err(BoxError::from) }
    }))
}

fn serve<I, S, B>(io: I, service: S)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = std::convert::Infallible, Future: Send>,
    S: Clone + Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(service)),
    );
}

async fn tonic_channel(transport: Transport, attester: Option<Attester>) -> Channel {
    match transport {
        Transport::Loopback => {
            let (client, server) = loopback().await;
            tonic_over(client, server, attester).await
        }
        Transport::Memory => {
            let (client, server) = tokio::io::duplex(64 * 1024);
            tonic_over(client, server, attester).await
        }
    }
}

async fn tonic_over<I>(client: I, server: I, attester: Option<Attester>) -> Channel
where
    I: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server));
    let prover = ProverServer::new(HashProver);
    match attester {
        Some(attester) => {
            let server = Server::builder().layer(ReportLayer::new(attester)).add_service(prover);
            tokio::spawn(server.serve_with_incoming(incoming));
        }
        None => {
            tokio::spawn(Server::builder().add_service(prover).serve_with_incoming(incoming));
        }
    }
    let mut client = Some(TokioIo::new(client));
    let connector = service_fn(move |_| {
        let connection = client.take().ok_or_else(|| std::io::Error::other("one connection is all there is"));
        async move { connection }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
}
