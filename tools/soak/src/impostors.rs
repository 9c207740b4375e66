//! Servers that nobody may believe, and clients that try them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_attest::seal::SealLayer;
use tower_attest::tls::{AttestedChannel, Tls, TlsListener};
use tower_attest::{AttestLayer, BoxError};

use crate::clients::{Target, post as exchange, transport};
use crate::faults::between;
use crate::server::{NAME, Server, answer};
use crate::tally::Tally;

/// What an impostor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Impostor {
    /// Answers rightly, and attests nothing.
    Unattested,
    /// A relay in front of a genuine server that puts the report of an earlier response on each.
    Replay,
    /// A relay that ends TLS with a certificate that the client accepts.
    Middle,
    /// The carrier of sealed requests, which answers itself now and then, and damages what it carries.
    Carrier,
    /// A genuine server that runs another program.
    OtherProgram,
}

impl Impostor {
    pub(crate) const ALL: [Self; 5] = [Self::Unattested, Self::Replay, Self::Middle, Self::Carrier, Self::OtherProgram];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unattested => "impostor: attests nothing",
            Self::Replay => "impostor: replays a report",
            Self::Middle => "impostor: in the middle of TLS",
            Self::Carrier => "impostor: damages what is sealed",
            Self::OtherProgram => "impostor: another program",
        }
    }
}

type Forwarder = Client<HttpConnector, Body>;

/// Tries one impostor in front of, or in place of, `target`'s server until the soak ends. `other` runs another program.
pub(crate) async fn try_for_ever(
    impostor: Impostor,
    target: Target,
    other: Arc<Server>,
    tally: Arc<Tally>,
) -> Result<(), BoxError> {
    let genuine = target.server.plain;
    let mut roots = target.server.roots.clone();
    let address = match impostor {
        Impostor::Unattested => {
            let echo = async move |body: Bytes| answer(&body);
            plain(Router::new().route("/answer", post(echo))).await?
        }
        Impostor::Replay => plain(relay(genuine, Damage::OldReport(Arc::default()))).await?,
        Impostor::Carrier => plain(relay(genuine, Damage::Body)).await?,
        Impostor::OtherProgram => other.plain,
        Impostor::Middle => {
            let (address, its) = ending_tls(relay(genuine, Damage::None)).await?;
            roots = its;
            address
        }
    };
    loop {
        let verifier = (target.verifiers)();
        for _ in 0..100 {
            let uri = |scheme: &str, host: &str| -> Uri {
                format!("{scheme}://{host}:{}/answer", address.port()).parse().expect("an address")
            };
            let (http, https) = (uri("http", "127.0.0.1"), uri("https", NAME));
            let outcome = match impostor {
                Impostor::Middle => {
                    let channel = AttestedChannel::builder(https.clone(), Arc::clone(&verifier)).roots(roots.clone());
                    exchange(channel.connect_lazy()?, &https, &target.measurement).await
                }
                Impostor::Carrier => {
                    let seal = SealLayer::new(Arc::clone(&verifier)).name(NAME);
                    exchange(seal.layer(transport::<Body>(false)), &http, &target.measurement).await
                }
                _ => {
                    let attest = AttestLayer::new(Arc::clone(&verifier)).accept_presence().name(NAME);
                    exchange(attest.layer(transport::<Full<Bytes>>(false)), &http, &target.measurement).await
                }
            };
            tally.impostor(impostor.name(), &outcome);
            tokio::time::sleep(between(5, 20)).await;
        }
    }
}

/// What a relay does to answers of `/answer` and of sealed requests.
#[derive(Clone)]
enum Damage {
    None,
    /// The report of an earlier response, or none where there was no earlier one.
    OldReport(Arc<Mutex<Option<HeaderValue>>>),
    /// One bit of the body.
    Body,
}

fn relay(to: SocketAddr, damage: Damage) -> Router {
    let client: Forwarder = Client::builder(TokioExecutor::new()).build_http();
    Router::new().fallback_service(service_fn(move |request: Request<Body>| {
        let (client, damage) = (client.clone(), damage.clone());
        async move {
            let failed =
                |_| Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::empty()).expect("a response");
            Ok::<_, Infallible>(forward(client, to, damage, request).await.unwrap_or_else(failed))
        }
    }))
}

async fn forward(
    client: Forwarder,
    to: SocketAddr,
    damage: Damage,
    mut request: Request<Body>,
) -> Result<Response<Body>, BoxError> {
    let path = request.uri().path().to_owned();
    *request.uri_mut() = format!("http://{to}{path}").parse()?;
    *request.version_mut() = http::Version::HTTP_11;
    let evidence = request.method() == http::Method::GET;
    let mut response = client.request(request).await?.map(Body::new);
    if evidence {
        return Ok(response);
    }
    match damage {
        Damage::None => Ok(response),
        Damage::OldReport(last) => {
            let now = response.headers_mut().remove("attestation-report");
            let before = std::mem::replace(&mut *last.lock().expect("no panic while it is held"), now);
            if let Some(before) = before {
                response.headers_mut().insert("attestation-report", before);
            }
            Ok(response)
        }
        Damage::Body => {
            let (parts, body) = response.into_parts();
            let mut bytes = axum::body::to_bytes(body, 1 << 20).await?.to_vec();
            let at = fastrand::usize(..bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << fastrand::u8(0..8);
            }
            Ok(Response::from_parts(parts, Body::from(bytes)))
        }
    }
}

async fn plain(app: Router) -> Result<SocketAddr, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(app.clone());
            let serving = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { serving.serve_connection(TokioIo::new(stream), service).await.ok() });
        }
    });
    Ok(address)
}

async fn ending_tls(app: Router) -> Result<(SocketAddr, RootCertStore), BoxError> {
    let tls = Tls::self_signed(NAME)?;
    let mut roots = RootCertStore::empty();
    roots.add(tls.certificate().ok_or("a self-signed certificate")?.clone())?;
    let mut listener = TlsListener::bind("127.0.0.1:0", tls).await?;
    let address = listener.local_addr();
    tokio::spawn(async move {
        while let Some((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(app.clone());
            let serving = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { serving.serve_connection(TokioIo::new(stream), service).await.ok() });
        }
    });
    Ok((address, roots))
}
