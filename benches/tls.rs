//! What an attested channel costs: per call beside the same stack with plain rustls, and per new connection.
//!
//! `cargo bench --all-features --bench tls`
//!
//! The comparison is paired: both stacks run interleaved in one process, batch by batch, and each pair of batches gives
//! one ratio. Criterion then times the stages of a new connection.

#![allow(missing_docs, clippy::unwrap_used, clippy::as_conversions, clippy::indexing_slicing)]
#![allow(unreachable_pub, reason = "the prover serves several examples")]

#[path = "../examples/support/prover.rs"]
#[allow(dead_code, reason = "this bench serves on a listener of its own")]
mod prover;

use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use hyper_util::rt::TokioIo;
use prover::HashProver;
use prover::api::ProveRequest;
use prover::api::prover_client::ProverClient;
use prover::api::prover_server::ProverServer;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower_attest::mock::MockTee;
use tower_attest::tls::{AttestedChannel, Tls, TlsListener};
use tower_attest::{Attester, ReportLayer};

struct Bench {
    runtime: Runtime,
    tee: MockTee,
    tls: Tls,
    port: u16,
}

fn setup() -> Bench {
    let runtime = Runtime::new().unwrap();
    let (tee, tls) = (MockTee::new(), Tls::self_signed("localhost").unwrap());
    let port = runtime.block_on(async {
        let attester = Attester::builder(tee.provider()).name("localhost").start().await.unwrap();
        let listener = TlsListener::bind("127.0.0.1:0", tls.clone()).await.unwrap();
        let port = listener.local_addr().port();
        tokio::spawn(
            tonic::transport::Server::builder()
                .layer(ReportLayer::new(attester))
                .add_service(ProverServer::new(HashProver))
                .serve_with_incoming(listener.incoming()),
        );
        port
    });
    Bench { runtime, tee, tls, port }
}

impl Bench {
    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.tls.certificate().unwrap().clone()).unwrap();
        roots
    }

    fn config(&self) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }

    async fn attested(&self) -> AttestedChannel {
        let uri = format!("https://localhost:{}", self.port).parse().unwrap();
        AttestedChannel::builder(uri, self.tee.verifier()).roots(self.roots()).alpn(["h2"]).connect().await.unwrap()
    }

    /// tonic's own channel over rustls: the same server, the same TLS, no attestation.
    async fn plain(&self) -> Channel {
        let (config, port) = (self.config(), self.port);
        let connector = tower::service_fn(move |_| {
            let connector = TlsConnector::from(Arc::clone(&config));
            async move {
                let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
                tcp.set_nodelay(true)?;
                let name = ServerName::try_from("localhost").unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
            }
        });
        Endpoint::new(format!("http://localhost:{port}")).unwrap().connect_with_connector(connector).await.unwrap()
    }
}

/// Calls per second of eight callers, each `calls` times.
async fn throughput<S>(client: &ProverClient<S>, calls: u32) -> f64
where
    ProverClient<S>: Clone + Send + 'static,
    S: tonic::client::GrpcService<tonic::body::Body> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tonic::codegen::StdError>,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    let start = Instant::now();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                for _ in 0..calls {
                    client.prove(ProveRequest { program: vec![1; 16], witness: vec![2; 64] }).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    f64::from(8 * calls) / start.elapsed().as_secs_f64()
}

/// Prints the ratio with its interval: the median of the pairs, and the order statistics that hold it with 95 %.
fn unary(_: &mut Criterion) {
    const PAIRS: usize = 60;
    let bench = setup();
    let mut ratios = bench.runtime.block_on(async {
        let (attested, plain) = (ProverClient::new(bench.attested().await), ProverClient::new(bench.plain().await));
        throughput(&attested, 20).await;
        throughput(&plain, 20).await;
        let mut ratios = Vec::new();
        for pair in 0..PAIRS {
            let (with, without) = if pair % 2 == 0 {
                let with = throughput(&attested, 20).await;
                (with, throughput(&plain, 20).await)
            } else {
                let without = throughput(&plain, 20).await;
                (throughput(&attested, 20).await, without)
            };
            ratios.push(with / without);
        }
        ratios
    });
    ratios.sort_by(f64::total_cmp);
    let spread = (0.98 * (PAIRS as f64).sqrt()).ceil() as usize;
    println!(
        "tonic unary, attested channel / plain rustls: {:.3} (95 %: {:.3} to {:.3}, {PAIRS} interleaved pairs)",
        ratios[PAIRS / 2],
        ratios[PAIRS / 2 - spread],
        ratios[PAIRS / 2 + spread],
    );
}

/// A new connection, each line with all that comes before it.
fn connection(c: &mut Criterion) {
    let bench = setup();
    let mut group = c.benchmark_group("new connection");
    group.sample_size(30);
    group.bench_function("1 tcp", |b| {
        b.to_async(&bench.runtime).iter(|| async { TcpStream::connect(("127.0.0.1", bench.port)).await.unwrap() });
    });
    let config = bench.config();
    group.bench_function("2 tls", |b| {
        b.to_async(&bench.runtime).iter(|| async {
            let tcp = TcpStream::connect(("127.0.0.1", bench.port)).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(Arc::clone(&config)).connect(name, tcp).await.unwrap()
        });
    });
    group.bench_function("3 http/2 (tonic over plain rustls)", |b| {
        b.to_async(&bench.runtime).iter(|| bench.plain());
    });
    group.bench_function("4 evidence, fetched and verified (attested)", |b| {
        b.to_async(&bench.runtime).iter(|| bench.attested());
    });
    group.finish();
}

criterion_group!(benches, unary, connection);
criterion_main!(benches);
