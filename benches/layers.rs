//! What both layers cost per request, beside the same stack without them and beside the bare signatures.
//!
//! `cargo bench --all-features --bench layers`

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../examples/support/prover.rs"]
mod prover;

use std::convert::Infallible;
use std::hint::black_box;
use std::net::SocketAddr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use http_body_util::Full;
use prover::api::ProveRequest;
use prover::api::prover_client::ProverClient;
use prover::api::prover_server::ProverServer;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::{AttestLayer, Attester, ReportLayer};

type InMemory = Request<Full<Bytes>>;

fn handler()
-> impl Service<InMemory, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone + Send + 'static {
    service_fn(|request: InMemory| async move { Ok(Response::new(request.into_body())) })
}

fn request() -> InMemory {
    Request::post("http://localhost/prover.v1.Prover/Prove").body(Full::from("witness")).unwrap()
}

/// No sockets: client layer, server layer, handler. What is left is the layers' own cost.
fn in_memory(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let tee = MockTee::new();
    let attester = runtime.block_on(Attester::builder(tee.provider()).name("localhost").start()).unwrap();
    let mut group = c.benchmark_group("in_memory");

    let key = Ed25519KeyPair::generate().unwrap();
    let message = [7; 171];
    group.bench_function("ed25519_sign_and_verify", |b| {
        b.iter(|| {
            let signature = key.sign(black_box(&message));
            UnparsedPublicKey::new(&ED25519, key.public_key().as_ref()).verify(&message, signature.as_ref()).unwrap();
        });
    });
    let plain = handler();
    group.bench_function("no_layers", |b| {
        b.to_async(&runtime).iter_batched(request, |r| plain.clone().oneshot(r), BatchSize::SmallInput);
    });
    let server = ReportLayer::new(attester).layer(handler());
    group.bench_function("server_layer_without_nonce", |b| {
        b.to_async(&runtime).iter_batched(request, |r| server.clone().oneshot(r), BatchSize::SmallInput);
    });
    let warm = AttestLayer::new(tee.verifier()).accept_presence().layer(server.clone());
    group.bench_function("warm", |b| {
        b.to_async(&runtime).iter_batched(request, |r| warm.clone().oneshot(r), BatchSize::SmallInput);
    });
    group.bench_function("cold", |b| {
        let cold = || AttestLayer::new(tee.verifier()).accept_presence().layer(server.clone());
        b.to_async(&runtime).iter_batched(|| (cold(), request()), |(s, r)| s.oneshot(r), BatchSize::SmallInput);
    });
    group.finish();
}

async fn connect(address: SocketAddr) -> Channel {
    Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn serve_without_layers() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(ProverServer::new(prover::HashProver));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// tonic unary over loopback.
fn loopback(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let tee = MockTee::new();
    let (plain, attested) = runtime.block_on(async {
        let attester = Attester::builder(tee.provider()).name("localhost").start().await.unwrap();
        (connect(serve_without_layers().await).await, connect(prover::serve(attester).await.unwrap()).await)
    });
    let mut group = c.benchmark_group("tonic_unary");
    let client = ProverClient::new(plain);
    group.bench_function("no_layers", |b| {
        b.to_async(&runtime).iter(|| {
            let mut client = client.clone();
            async move { client.prove(ProveRequest::default()).await.unwrap() }
        });
    });
    let client = ProverClient::new(AttestLayer::new(tee.verifier()).accept_presence().layer(attested.clone()));
    group.bench_function("warm", |b| {
        b.to_async(&runtime).iter(|| {
            let mut client = client.clone();
            async move { client.prove(ProveRequest::default()).await.unwrap() }
        });
    });
    group.bench_function("cold", |b| {
        b.to_async(&runtime).iter(|| {
            let layer = AttestLayer::new(tee.verifier()).accept_presence();
            let mut client = ProverClient::new(layer.layer(attested.clone()));
            async move { client.prove(ProveRequest::default()).await.unwrap() }
        });
    });
    group.finish();
}

criterion_group!(benches, in_memory, loopback);
criterion_main!(benches);
