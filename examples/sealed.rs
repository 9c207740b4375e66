//! A sealed request as a balancer sees it and as the server sees it, side by side.
//!
//! `cargo run --all-features --example sealed`

use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request as AxumRequest;
use axum::routing::post;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{ServiceBuilder, ServiceExt};
use tower_attest::mock::MockTee;
use tower_attest::seal::{SealLayer, SealedRequest, UnsealLayer};
use tower_attest::{Attester, ReportLayer, VerifiedReport};

type BoxError = Box<dyn Error + Send + Sync>;
type Log = Arc<Mutex<String>>;

/// The program in the TEE: it writes down what reaches it, and answers with the length of the witness.
fn app(log: Log) -> Router {
    let prove = async move |request: AxumRequest| {
        let sealed = request.extensions().get::<SealedRequest>().is_some();
        let (parts, body) = request.into_parts();
        // A body that was cut off or altered on the way is an error, never a short witness.
        let witness = body.collect().await.map_err(|_| StatusCode::BAD_REQUEST)?.to_bytes();
        let view = format!(
            "{} {}\nauthorization: {:?}\nsealed: {sealed}\nbody: {witness:?}\n",
            parts.method,
            parts.uri,
            parts.headers.get("authorization"),
        );
        if let Ok(mut log) = log.lock() {
            log.push_str(&view);
        }
        Ok::<_, StatusCode>(format!("proof over {} bytes", witness.len()))
    };
    Router::new().route("/prove", post(prove))
}

/// Serves in plaintext, as workers behind a balancer do.
async fn serve(attester: Attester, app: Router) -> Result<SocketAddr, BoxError> {
    let service = ServiceBuilder::new()
        .layer(ReportLayer::new(attester.clone()))
        .layer(UnsealLayer::new(attester)?.sealed_only())
        .service(app);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

/// Stands for whatever ends TLS in front of the server: it reads every byte that the client sends.
async fn balancer(server: SocketAddr, log: Log) -> Result<SocketAddr, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(server).await else { continue };
            let ((mut from, mut to), (mut back_from, mut back_to)) = (client.into_split(), server.into_split());
            std::mem::swap(&mut to, &mut back_to);
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = from.read(&mut buffer).await {
                    let bytes = buffer.get(..read).unwrap_or_default();
                    if let Ok(mut log) = log.lock() {
                        log.push_str(&bytes.escape_ascii().to_string());
                    }
                    if to.write_all(bytes).await.is_err() {
                        break;
                    }
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut back_from, &mut back_to).await });
        }
    });
    Ok(address)
}

/// The last request in the balancer's log, one field a line.
fn last_request(log: &str) -> String {
    let start = log.rfind("POST ").unwrap_or(0);
    log.get(start..).unwrap_or_default().replace("\\r\\n", "\n")
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (seen_by_server, seen_by_balancer) = (Log::default(), Log::default());
    let tee = MockTee::new();
    let attester = Attester::builder(tee.provider()).name("localhost").seal().route("tee-1").start().await?;
    let server = serve(attester, app(Arc::clone(&seen_by_server))).await?;
    let balancer = balancer(server, Arc::clone(&seen_by_balancer)).await?;

    let transport = Client::builder(TokioExecutor::new()).build_http::<axum::body::Body>();
    let client = ServiceBuilder::new().layer(SealLayer::new(tee.verifier()).name("localhost")).service(transport);
    let request = Request::post(format!("http://{balancer}/prove?circuit=balance"))
        .header("authorization", "Bearer 1234")
        .body(Full::new(Bytes::from("my secret witness")))?;
    let response: Response<_> = client.oneshot(request).await?;
    let who = VerifiedReport::of(&response).cloned().ok_or("no verified report")?;
    let proof = response.into_body().collect().await?.to_bytes();

    let view = seen_by_balancer.lock().map_err(|_| "a task panicked")?.clone();
    println!("── the balancer's view ──\n{}\n", last_request(&view));
    println!("── the server's view ──\n{}", seen_by_server.lock().map_err(|_| "a task panicked")?);
    println!("── the client's view ──\n{proof:?}: strength {}, platform {}", who.strength(), who.platform());
    for secret in ["secret witness", "/prove", "circuit", "1234"] {
        if view.contains(secret) {
            return Err(format!("the balancer has read {secret:?}").into());
        }
    }
    Ok(())
}
