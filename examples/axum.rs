//! An axum service behind `ReportLayer`, called by an attesting client over HTTP/1.1; and a client that knows nothing.
//!
//! `cargo run --all-features --example axum`

use std::error::Error;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Layer, ServiceExt};
use tower_attest::mock::MockTee;
use tower_attest::{AttestLayer, Attester, ReportLayer, VerifiedReport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let tee = MockTee::new();
    let attester = Attester::builder(tee.provider()).name("localhost").start().await?;

    // `ReportLayer` wraps the finished router, so that the path it signs is the path that was asked for.
    let api = Router::new().route("/echo", post(|body: String| async move { format!("echo: {body}") }));
    let app =
        Router::new().route("/hello", get(|| async { "hello" })).nest("/api", api).layer(ReportLayer::new(attester));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let plain = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let attesting = AttestLayer::new(tee.verifier()).accept_presence().name("localhost").layer(plain.clone());

    let request = Request::post(format!("http://{address}/api/echo")).body(Full::from("a secret"))?;
    let response = attesting.clone().oneshot(request).await?;
    let who = VerifiedReport::of(&response).cloned().ok_or("no verified report")?;
    let body = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    println!("attested   {:?}: platform {}, strength {}", body, who.platform(), who.strength());
    if body != "echo: a secret" {
        return Err("unexpected body".into());
    }

    let response = plain.request(Request::get(format!("http://{address}/hello")).body(Full::default())?).await?;
    println!("unaware    status {}, no report asked for and none given", response.status());
    if response.headers().contains_key("attestation-report") {
        return Err("a report that nobody asked for".into());
    }

    let stranger = AttestLayer::new(MockTee::new().verifier()).accept_presence().layer(plain);
    let request = Request::get(format!("http://{address}/hello")).body(Full::default())?;
    match stranger.oneshot(request).await {
        Ok(_) => return Err("a verifier that trusts another root must refuse".into()),
        Err(error) => println!("refused    {error}"),
    }
    Ok(())
}
