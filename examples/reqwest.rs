//! reqwest under `AttestLayer`: its client becomes a tower service over `http` types, and the layer goes on top.
//!
//! `cargo run --all-features --example reqwest`

use std::error::Error;

use axum::Router;
use axum::routing::post;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_attest::mock::MockTee;
use tower_attest::{AttestLayer, Attester, ReportLayer, VerifiedReport};

/// reqwest's client over `http::Request` and `http::Response`. Redirects are off: the signature covers one target.
fn transport() -> Result<
    impl Service<Request<reqwest::Body>, Response = Response<reqwest::Body>, Error = BoxError, Future: Send> + Clone,
    reqwest::Error,
> {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    Ok(ServiceBuilder::new().map_response(|response: reqwest::Response| Response::from(response)).service_fn(
        move |request: Request<reqwest::Body>| {
            let client = client.clone();
            async move { Ok::<_, BoxError>(client.execute(request.try_into()?).await?) }
        },
    ))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let tee = MockTee::new();
    let attester = Attester::builder(tee.provider()).name("localhost").start().await?;
    let app = Router::new()
        .route("/prompt", post(|prompt: String| async move { format!("{} characters", prompt.len()) }))
        .layer(ReportLayer::new(attester));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client = AttestLayer::new(tee.verifier()).accept_presence().name("localhost").layer(transport()?);
    let request = Request::post(format!("http://{address}/prompt")).body(reqwest::Body::from("a private prompt"))?;
    let response = client.oneshot(request).await?;
    let who = VerifiedReport::of(&response).cloned().ok_or("no verified report")?;
    let body = response.into_body().collect().await?.to_bytes();
    println!("{body:?}: verified, platform {}, strength {}", who.platform(), who.strength());
    if body != "16 characters" {
        return Err("unexpected body".into());
    }
    Ok(())
}
