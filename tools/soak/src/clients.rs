//! Clients of every kind, each with a stack of its own that it builds anew from time to time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tonic::client::GrpcService;
use tonic::transport::Endpoint;
use tower::{Layer, Service, ServiceExt};
use tower_attest::seal::SealLayer;
use tower_attest::tls::AttestedChannel;
use tower_attest::{AttestLayer, BoxError, ReportVerifier, VerifiedReport};

use crate::faults::{SteppedClock, between};
use crate::grpc::api::prover_client::ProverClient;
use crate::grpc::api::{ProveRequest, WitnessChunk};
use crate::server::{NAME, Server, answer};
use crate::tally::Outcome;

/// How many exchanges a stack serves: clients come and go, and each begins by believing nothing.
const EXCHANGES: usize = 400;
/// Longer than any fault lasts: who waits longer is forgotten.
const STUCK: Duration = Duration::from_secs(30);

/// Every kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    LayerHttp1,
    LayerHttp2,
    LayerGrpc,
    ChannelHttp1,
    ChannelHttp2,
    ChannelGrpc,
    SealedHttp1,
    SealedHttp2,
    SealedGrpc,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::LayerHttp1,
        Self::LayerHttp2,
        Self::LayerGrpc,
        Self::ChannelHttp1,
        Self::ChannelHttp2,
        Self::ChannelGrpc,
        Self::SealedHttp1,
        Self::SealedHttp2,
        Self::SealedGrpc,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LayerHttp1 => "layers, HTTP/1.1",
            Self::LayerHttp2 => "layers, HTTP/2",
            Self::LayerGrpc => "layers, gRPC",
            Self::ChannelHttp1 => "channel, HTTP/1.1",
            Self::ChannelHttp2 => "channel, HTTP/2",
            Self::ChannelGrpc => "channel, gRPC",
            Self::SealedHttp1 => "sealed, HTTP/1.1",
            Self::SealedHttp2 => "sealed, HTTP/2",
            Self::SealedGrpc => "sealed, gRPC",
        }
    }
}

/// Makes verifiers, each with nothing remembered.
pub(crate) type Verifiers = Arc<dyn Fn() -> Arc<dyn ReportVerifier> + Send + Sync>;

/// Whom a client talks to, and what it believes.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) server: Arc<Server>,
    pub(crate) verifiers: Verifiers,
    pub(crate) measurement: [u8; 48],
    pub(crate) clock: SteppedClock,
}

/// One client's life: some exchanges over one stack. `tell` says how each ended, and whether it was a second try.
pub(crate) async fn live(kind: Kind, target: &Target, tell: impl Fn(&Outcome, bool)) -> Result<(), BoxError> {
    let (plain, tls) =
        (format!("http://{}", target.server.plain), format!("https://{NAME}:{}", target.server.tls.port()));
    let verifier = (target.verifiers)();
    let attest = || AttestLayer::new(Arc::clone(&verifier)).accept_presence().name(NAME).clock(target.clock.clone());
    let channel = |alpn: &[&str]| {
        let uri: Uri = tls.parse().expect("an address");
        let builder = AttestedChannel::builder(uri, Arc::clone(&verifier)).roots(target.server.roots.clone());
        builder.alpn(alpn).clock(target.clock.clone()).connect_lazy()
    };
    match kind {
        Kind::LayerHttp1 | Kind::LayerHttp2 => {
            let service = attest().layer(transport::<Full<Bytes>>(kind == Kind::LayerHttp2));
            http(&service, &plain, target, tell).await;
        }
        Kind::SealedHttp1 | Kind::SealedHttp2 => {
            let layer = SealLayer::new(Arc::clone(&verifier)).name(NAME).clock(target.clock.clone());
            http(&layer.layer(transport::<Body>(kind == Kind::SealedHttp2)), &plain, target, tell).await;
        }
        Kind::ChannelHttp1 => http(&channel(&["http/1.1"])?, &tls, target, tell).await,
        Kind::ChannelHttp2 => http(&channel(&["h2"])?, &tls, target, tell).await,
        Kind::LayerGrpc => {
            let transport = Endpoint::from_shared(plain)?.connect_lazy();
            grpc(ProverClient::new(attest().layer(transport)), target, tell).await;
        }
        Kind::ChannelGrpc => grpc(ProverClient::new(attest().layer(channel(&["h2"])?)), target, tell).await,
        Kind::SealedGrpc => {
            let transport = Endpoint::from_shared(plain)?.connect_lazy();
            let layer = SealLayer::new(verifier).name(NAME).clock(target.clock.clone());
            grpc(ProverClient::new(layer.layer(transport)), target, tell).await;
        }
    }
    Ok(())
}

pub(crate) fn transport<B>(http2: bool) -> Client<HttpConnector, B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http2_only(http2).build(connector)
}

async fn http<S, B>(service: &S, base: &str, target: &Target, tell: impl Fn(&Outcome, bool))
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = BoxError> + Clone,
    B: http_body::Body<Error: Into<BoxError>>,
{
    let uri: Uri = format!("{base}/answer").parse().expect("an address");
    repeat(|| post(service.clone(), &uri, &target.measurement), tell).await;
}

/// One exchange over HTTP, and whether its answer is what a server computes.
pub(crate) async fn post<S, B>(service: S, uri: &Uri, measurement: &[u8; 48]) -> Outcome
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Error: Into<BoxError>>,
{
    let witness = witness();
    let request = Request::post(uri.clone()).body(Full::from(witness.clone())).expect("a request");
    let response = match service.oneshot(request).await {
        Ok(response) => response,
        Err(error) => return Outcome::of(&*error),
    };
    let (status, who) = (response.status(), VerifiedReport::of(&response).cloned());
    let body = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Outcome::of(&*error.into()),
    };
    match who {
        // A server that cannot serve says so, and signs it.
        Some(_) if status.is_server_error() => Outcome::NoAnswer,
        Some(who) if who.measurement() != measurement => Outcome::Wrong(format!("measurement of {who:?}")),
        Some(_) if status.is_success() && body == answer(&witness) => Outcome::Verified,
        Some(_) => Outcome::Wrong(format!("status {status}, {} bytes for {}", body.len(), witness.len())),
        None => Outcome::Wrong(format!("status {status} without a verified report")),
    }
}

async fn grpc<T>(client: ProverClient<T>, target: &Target, tell: impl Fn(&Outcome, bool))
where
    T: GrpcService<tonic::body::Body> + Clone,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
{
    repeat(|| call(client.clone(), &target.measurement), tell).await;
}

/// One call, unary or streaming in either direction.
async fn call<T>(mut client: ProverClient<T>, measurement: &[u8; 48]) -> Outcome
where
    T: GrpcService<tonic::body::Body>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
{
    let witness = witness();
    let request = ProveRequest { program: Vec::new(), witness: witness.to_vec() };
    let reply = match fastrand::u8(0..3) {
        0 => client.prove(request).await.map(|reply| (VerifiedReport::of(&reply).cloned(), reply.into_inner().bytes)),
        1 => {
            let chunks: Vec<_> = witness.chunks(256).map(|data| WitnessChunk { data: data.to_vec() }).collect();
            let reply = client.prove_chunked(tonic::codegen::tokio_stream::iter(chunks)).await;
            reply.map(|reply| (VerifiedReport::of(&reply).cloned(), reply.into_inner().bytes))
        }
        _ => progress(client, request).await,
    };
    match reply {
        Ok((Some(who), bytes)) if who.measurement() == measurement && bytes == answer(&witness) => Outcome::Verified,
        Ok((who, bytes)) => Outcome::Wrong(format!("{} bytes for {} of {who:?}", bytes.len(), witness.len())),
        Err(status) => Outcome::of(&status),
    }
}

async fn progress<T>(
    mut client: ProverClient<T>,
    request: ProveRequest,
) -> Result<(Option<VerifiedReport>, Vec<u8>), tonic::Status>
where
    T: GrpcService<tonic::body::Body>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
{
    let reply = client.prove_with_progress(request).await?;
    let who = VerifiedReport::of(&reply).cloned();
    let mut steps = reply.into_inner();
    let mut bytes = Vec::new();
    while let Some(step) = steps.message().await? {
        if let Some(proof) = step.proof {
            bytes = proof.bytes;
        }
    }
    Ok((who, bytes))
}

/// Exchanges one after the other; one that met new keys is tried again at once.
async fn repeat<F: Future<Output = Outcome>>(exchange: impl Fn() -> F, tell: impl Fn(&Outcome, bool)) {
    let bounded = || async {
        let stuck = |_| Outcome::Refused(format!("no end after {STUCK:?}"));
        tokio::time::timeout(STUCK, exchange()).await.unwrap_or_else(stuck)
    };
    for _ in 0..EXCHANGES {
        let mut outcome = bounded().await;
        tell(&outcome, false);
        if matches!(outcome, Outcome::NewKeys) {
            outcome = bounded().await;
            tell(&outcome, true);
        }
        if !matches!(outcome, Outcome::Verified) {
            tokio::time::sleep(between(20, 100)).await;
        }
    }
}

fn witness() -> Bytes {
    let length = fastrand::usize(1..2_048);
    Bytes::from_iter(std::iter::repeat_with(|| fastrand::u8(..)).take(length))
}
