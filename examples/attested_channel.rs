//! Know before you send: a gRPC call over an attested channel, and a man in the middle who gets nothing.
//!
//! Everything runs on loopback with a simulated SEV-SNP machine. The relay holds the server's own TLS key, the worst
//! case: WebPKI is satisfied, and only the evidence, which is bound to the TLS connection, gives it away.
//!
//! `cargo run --all-features --example attested_channel`

#![allow(unreachable_pub)]

#[path = "support/prover.rs"]
#[allow(dead_code, reason = "this example serves on a listener of its own")]
mod prover;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use prover::HashProver;
use prover::api::ProveRequest;
use prover::api::prover_client::ProverClient;
use prover::api::prover_server::ProverServer;
use rustls::RootCertStore;
use tower_attest::protocol::WELL_KNOWN_PATH;
use tower_attest::snp::sim::{SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::snp::{Product, SnpPolicy, SnpVerifier};
use tower_attest::tls::{AttestedChannel, BindingConnector, ChannelError, Tls, TlsListener};
use tower_attest::{Attester, BoxError, ReportLayer, VerifiedReport};

const NAME: &str = "localhost";
const PROGRAM: [u8; 48] = [0x11; 48];

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let amd = SimulatedAmd::new();
    let tls = Tls::self_signed(NAME)?;
    let server = serve(tls.clone()).await?;

    println!("An attested channel (gRPC over TLS 1.3 on loopback, simulated SEV-SNP)");
    let channel = builder(server, &tls, &amd)?.connect().await?;
    let mut client = ProverClient::new(channel);
    let reply = client.prove(secret()).await?;
    let who = VerifiedReport::of(&reply).ok_or("no verified report")?;
    println!("  measurement  {}", hex::encode(who.measurement()));
    for fact in ["product", "tcb", "chip"] {
        println!("  {fact:<12} {}", who.fact(fact).unwrap_or("-"));
    }
    println!("  strength     {} (the request was secret: {})", who.strength(), who.secret_before_send());
    println!("  proof        {}\n", hex::encode(&reply.get_ref().bytes));

    println!("A man in the middle that holds the server's own TLS key");
    let leaked = Arc::new(Leaked::default());
    let relay = relay(tls.clone(), server, Arc::clone(&leaked)).await?;
    let mut client = ProverClient::new(builder(relay, &tls, &amd)?.connect_lazy()?);
    let Err(status) = client.prove(secret()).await else { return Err("the relay was not refused".into()) };
    let error = ChannelError::of(&status).ok_or("not refused by the channel")?;
    println!("  refused      {:?}, at {}: {:?}", status.code(), error.stage(), error.kind());
    let (preflights, bytes) = (leaked.preflights.load(Ordering::SeqCst), leaked.bytes.load(Ordering::SeqCst));
    println!("  the relay saw {preflights} preflight and {bytes} request bytes");
    if bytes != 0 || preflights == 0 { Err("something of the request left".into()) } else { Ok(()) }
}

fn builder(to: SocketAddr, tls: &Tls, amd: &SimulatedAmd) -> Result<tower_attest::tls::ChannelBuilder> {
    let verifier = SnpVerifier::trusting_simulator(SnpPolicy::pin(PROGRAM), amd);
    let uri = format!("https://{NAME}:{}", to.port()).parse()?;
    Ok(AttestedChannel::builder(uri, verifier).roots(roots(tls)?))
}

fn roots(tls: &Tls) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(tls.certificate().ok_or("not self-signed")?.clone())?;
    Ok(roots)
}

fn secret() -> ProveRequest {
    ProveRequest { program: b"fibonacci".to_vec(), witness: b"a secret witness".to_vec() }
}

async fn serve(tls: Tls) -> Result<SocketAddr> {
    let provider = SimProvider::new(SimulatedGuest::new(Product::Genoa).with_measurement(PROGRAM));
    let attester = Attester::builder(provider).name(NAME).start().await?;
    let listener = TlsListener::bind("127.0.0.1:0", tls).await?;
    let address = listener.local_addr();
    tokio::spawn(
        tonic::transport::Server::builder()
            .layer(ReportLayer::new(attester))
            .add_service(ProverServer::new(HashProver))
            .serve_with_incoming(listener.incoming()),
    );
    Ok(address)
}

/// What reached the relay in the clear.
#[derive(Default)]
struct Leaked {
    preflights: AtomicUsize,
    /// Bytes of targets, fields and bodies of everything but preflights.
    bytes: AtomicUsize,
}

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Ends TLS, reads everything, and forwards it to the genuine server over a connection of its own.
async fn relay(tls: Tls, upstream: SocketAddr, leaked: Arc<Leaked>) -> Result<SocketAddr> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let connector = BindingConnector::roots(http, roots(&tls)?)?;
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    let mut listener = TlsListener::bind("127.0.0.1:0", tls).await?;
    let address = listener.local_addr();
    tokio::spawn(async move {
        while let Some((stream, _)) = listener.accept().await {
            let (client, leaked) = (client.clone(), Arc::clone(&leaked));
            let service = service_fn(move |request| forward(client.clone(), upstream, Arc::clone(&leaked), request));
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
    client: Client<BindingConnector<HttpConnector>, Body>,
    upstream: SocketAddr,
    leaked: Arc<Leaked>,
    request: Request<Incoming>,
) -> Result<Response<Body>> {
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    if target == WELL_KNOWN_PATH && body.is_end_stream() {
        leaked.preflights.fetch_add(1, Ordering::SeqCst);
    } else {
        let fields: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        leaked.bytes.fetch_add(target.len() + fields, Ordering::SeqCst);
    }
    let is_preflight = target == WELL_KNOWN_PATH;
    let body = body.map_frame(move |frame| {
        if let Some(data) = frame.data_ref().filter(|_| !is_preflight) {
            leaked.bytes.fetch_add(data.len(), Ordering::SeqCst);
        }
        frame
    });
    parts.uri = Uri::builder()
        .scheme("https")
        .authority(format!("{NAME}:{}", upstream.port()))
        .path_and_query(target)
        .build()?;
    parts.extensions.clear();
    let request = Request::from_parts(parts, body.map_err(Into::into).boxed_unsync());
    Ok(client.request(request).await?.map(|body| body.map_err(Into::into).boxed_unsync()))
}
