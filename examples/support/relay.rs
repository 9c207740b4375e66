//! A man in the middle on loopback: forwards HTTP/2 without TLS and tampers as told.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tower_attest::protocol::{ATTESTATION_NONCE, ATTESTATION_REPORT, Nonce, NonceHeader, WELL_KNOWN_PATH};

type Body = BoxBody<Bytes, hyper::Error>;

/// What the relay does to what passes through it.
#[derive(Clone)]
pub enum Attack {
    /// Removes the report from every response.
    Strip,
    /// Answers every call with the report of the first.
    Replay,
    /// Answers the evidence endpoint with another genuine server's evidence.
    KeysOfAnotherServer(SocketAddr),
    /// Asks for evidence with a nonce of its own.
    AnotherNonce,
    /// Replaces the message in a gRPC response.
    SwapBody(Bytes),
}

/// Listens on a free loopback port and forwards to `upstream`.
pub async fn start(upstream: SocketAddr, attack: Attack) -> io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let first_report = Arc::new(Mutex::new(None));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (client, attack, first_report) = (client.clone(), attack.clone(), Arc::clone(&first_report));
            let service = service_fn(move |request| {
                let (client, attack, first_report) = (client.clone(), attack.clone(), Arc::clone(&first_report));
                async move { Ok::<_, Infallible>(forward(client, upstream, attack, &first_report, request).await) }
            });
            tokio::spawn(async move {
                let connection = auto::Builder::new(TokioExecutor::new());
                // A client that hangs up is no error of the relay's.
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

async fn forward(
    client: Client<HttpConnector, Body>,
    upstream: SocketAddr,
    attack: Attack,
    first_report: &Mutex<Option<HeaderValue>>,
    request: Request<Incoming>,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let is_endpoint = parts.uri.path() == WELL_KNOWN_PATH;
    let to = match attack {
        Attack::KeysOfAnotherServer(other) if is_endpoint => other,
        _ => upstream,
    };
    if matches!(attack, Attack::AnotherNonce) && parts.headers.contains_key(ATTESTATION_NONCE) {
        parts.headers.insert(ATTESTATION_NONCE, NonceHeader::new(Nonce::from_bytes([0x42; 32])).to_value());
    }
    parts.uri = retarget(&parts.uri, to);
    let response = match client.request(Request::from_parts(parts, body.boxed())).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = Response::new(full(Bytes::from(error.to_string())));
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            return response;
        }
    };
    let (mut parts, body) = response.into_parts();
    match attack {
        Attack::Strip => {
            parts.headers.remove(ATTESTATION_REPORT);
        }
        Attack::Replay if !is_endpoint => {
            let mut first = first_report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match &*first {
                Some(report) => {
                    parts.headers.insert(ATTESTATION_REPORT, report.clone());
                }
                None => *first = parts.headers.get(ATTESTATION_REPORT).cloned(),
            }
        }
        Attack::SwapBody(message) if !is_endpoint => {
            parts.headers.remove(header::CONTENT_LENGTH);
            let Ok(collected) = body.collect().await else { return Response::from_parts(parts, full(message)) };
            let trailers = collected.trailers().cloned().unwrap_or_default();
            let swapped = Full::new(message).map_err(|never| match never {});
            return Response::from_parts(parts, swapped.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed());
        }
        _ => {}
    }
    Response::from_parts(parts, body.boxed())
}

fn retarget(uri: &Uri, to: SocketAddr) -> Uri {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    Uri::builder()
        .scheme("http")
        .authority(to.to_string())
        .path_and_query(target)
        .build()
        .expect("a request's own target is a valid target")
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
