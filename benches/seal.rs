//! What sealing costs: calls of 1 KiB and echoed streams of 1 MiB, beside the same stack unsealed.
//!
//! `cargo bench --all-features --bench seal`
//!
//! The comparison is paired: the stacks run interleaved in one process, batch by batch, and each round of batches gives one
//! ratio. One server takes all: without a nonce it only passes requests on, with one it signs, and what is sealed it opens.

#![allow(missing_docs, clippy::unwrap_used, clippy::as_conversions, clippy::indexing_slicing)]

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::seal::server::UnsealedBody;
use tower_attest::seal::{SealLayer, UnsealLayer};
use tower_attest::{AttestLayer, Attester, BoxError, ReportLayer};

const ROUNDS: usize = 30;

/// Echoes request bodies, over HTTP/2 on loopback.
async fn serve(tee: &MockTee) -> String {
    let attester = Attester::builder(tee.provider()).name("localhost").seal().start().await.unwrap();
    let echo = service_fn(|request: Request<UnsealedBody<Incoming>>| async move {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let unseal = UnsealLayer::new(attester.clone()).unwrap();
    let service = ReportLayer::new(attester).layer(unseal.layer(echo));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    format!("http://{address}/echo")
}

fn transport() -> Client<HttpConnector, Body> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http2_only(true).build(connector)
}

/// 1 KiB at once.
fn small() -> Body {
    Body::from(vec![7; 1024])
}

/// 1 MiB in pieces of 64 KiB.
fn large() -> Body {
    let pieces = (0..16).map(|_| Ok::<_, BoxError>(http_body::Frame::data(Bytes::from(vec![7; 64 * 1024]))));
    Body::new(StreamBody::new(tokio_stream::iter(pieces.collect::<Vec<_>>())))
}

/// The time for `calls` calls, one after the other, each read to its end.
async fn batch<S, B>(client: &S, uri: &str, body: fn() -> Body, calls: usize) -> Duration
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: std::fmt::Debug,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let start = Instant::now();
    for _ in 0..calls {
        let request = Request::post(uri).body(body()).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        assert!(response.into_body().collect().await.unwrap().to_bytes().len() >= 1024);
    }
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn compare(what: &str, uri: &str, tee: &MockTee, body: fn() -> Body, calls: usize) {
    let plain = transport();
    let attested = AttestLayer::new(tee.verifier()).accept_presence().layer(transport());
    let sealed = SealLayer::new(tee.verifier()).layer(transport());
    let (mut against_plain, mut against_attested, mut times) = (vec![], vec![], vec![]);
    for round in 0..=ROUNDS {
        let plain = batch(&plain, uri, body, calls).await.as_secs_f64();
        let attested = batch(&attested, uri, body, calls).await.as_secs_f64();
        let sealed = batch(&sealed, uri, body, calls).await.as_secs_f64();
        // The first round warms up.
        if round > 0 {
            against_plain.push(plain / sealed);
            against_attested.push(attested / sealed);
            times.push([plain, attested, sealed].map(|time| time / calls as f64 * 1e6));
        }
    }
    let time = |at: usize| median(times.iter().map(|times| times[at]).collect());
    println!(
        "{what}: plain {:.0} µs, attested {:.0} µs, sealed {:.0} µs; sealed does {:.3} × plain, {:.3} × attested",
        time(0),
        time(1),
        time(2),
        median(against_plain),
        median(against_attested)
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let tee = MockTee::new();
        let uri = serve(&tee).await;
        compare("1 KiB echoed", &uri, &tee, small, 200).await;
        compare("1 MiB streamed and echoed", &uri, &tee, large, 10).await;
    });
}
