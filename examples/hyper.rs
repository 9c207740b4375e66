//! A plain hyper server and client, without a framework: both layers around `service_fn`, over HTTP/2.
//!
//! `cargo run --all-features --example hyper`

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tower::{Layer, ServiceExt, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::{AttestLayer, Attester, ReportLayer, VerifiedReport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let tee = MockTee::new();
    let attester = Attester::builder(tee.provider()).name("localhost").start().await?;

    let handler = service_fn(|request: Request<Incoming>| async move {
        let body = format!("{} {}", request.method(), request.uri().path());
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
    });
    let service = ReportLayer::new(attester).layer(handler);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
            });
        }
    });

    let transport = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Full<Bytes>>();
    let client = AttestLayer::new(tee.verifier()).accept_presence().name("localhost").layer(transport);
    for path in ["/first", "/second"] {
        let response =
            client.clone().oneshot(Request::get(format!("http://{address}{path}")).body(Full::default())?).await?;
        let who = VerifiedReport::of(&response).cloned().ok_or("no verified report")?;
        let body = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
        println!("{body:?}: verified, measurement {}", hex::encode(who.measurement()));
        if body != format!("GET {path}") {
            return Err("unexpected body".into());
        }
    }
    Ok(())
}
