//! Servers, clients and relays that the tests share. Everything is in process; a relay is a closure between the two layers.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, StreamBody};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::seal::{Seal, SealLayer, UnsealLayer};
use tower_attest::{AttestError, Attester, AttesterBuilder, BoxError, ErrorKind, ReportLayer};

/// The body type of the transport between client and server.
pub(crate) type Wire = axum::body::Body;
/// An HTTP service as a client sees it. One that names its future, so that `async` blocks around it stay `Send`.
#[derive(Clone)]
pub(crate) struct Transport(Arc<dyn Fn(Request<Wire>) -> Reply + Send + Sync>);
pub(crate) type Reply = Pin<Box<dyn Future<Output = Result<Response<Wire>, BoxError>> + Send>>;
/// The body type of the application.
pub(crate) type Body = axum::body::Body;
pub(crate) type Client = Seal<Transport, Wire>;

pub(crate) const SEALED: &str = "/.well-known/tower-attest/sealed";

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Body::from(bytes.into())
}

/// A body of these frames, each as it is.
pub(crate) fn frames(frames: impl IntoIterator<Item = Bytes>) -> Wire {
    let frames: Vec<_> = frames.into_iter().map(|frame| Ok::<_, BoxError>(http_body::Frame::data(frame))).collect();
    Wire::new(StreamBody::new(tokio_stream::iter(frames)))
}

/// All that a body holds, or how it broke off.
pub(crate) async fn bytes<B>(body: B) -> Result<Bytes, BoxError>
where
    B: http_body::Body<Error: Into<BoxError>>,
{
    body.collect().await.map(http_body_util::Collected::to_bytes).map_err(Into::into)
}

/// What the application saw.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Result<Bytes, String>,
}

/// A server that takes sealed requests, and answers each with its own body.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) attester: Attester,
    pub(crate) transport: Transport,
    seen: Arc<Mutex<Vec<Seen>>>,
}

pub(crate) async fn attester(tee: &MockTee, settings: impl FnOnce(AttesterBuilder) -> AttesterBuilder) -> Attester {
    settings(Attester::builder(tee.provider()).name("prover.example").seal()).start().await.unwrap()
}

impl Server {
    pub(crate) async fn start(tee: &MockTee) -> Self {
        Self::start_with(tee, |builder| builder).await
    }

    pub(crate) async fn start_with(tee: &MockTee, settings: impl FnOnce(AttesterBuilder) -> AttesterBuilder) -> Self {
        let attester = attester(tee, settings).await;
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let log = Arc::clone(&seen);
        let app = service_fn(move |request: Request<_>| {
            let log = Arc::clone(&log);
            async move {
                let (parts, body) = request.into_parts();
                let body = bytes::<tower_attest::seal::server::UnsealedBody<Wire>>(body).await;
                let body = body.map_err(|error| error.to_string());
                let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
                log.lock().unwrap().push(Seen { method, uri, headers, body: body.clone() });
                let response =
                    Response::builder().header("x-inner", "secret").status(if body.is_ok() { 200 } else { 500 });
                Ok::<_, BoxError>(response.body(full(body.unwrap_or_default())).unwrap())
            }
        });
        let transport = transport(&attester, app);
        Self { attester, transport, seen }
    }

    /// Takes what the application saw.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Both layers around an application, as a client sees it.
pub(crate) fn transport<S>(attester: &Attester, app: S) -> Transport
where
    S: Service<Request<tower_attest::seal::server::UnsealedBody<Wire>>, Response = Response<Body>, Error = BoxError>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let unseal = UnsealLayer::new(attester.clone()).unwrap().sealed_only();
    let service = ReportLayer::new(attester.clone()).layer(unseal.layer(app));
    erase(service)
}

pub(crate) fn erase<S, B>(service: S) -> Transport
where
    S: Service<Request<Wire>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let service = service.map_response(|response: Response<B>| response.map(Wire::new)).map_err(Into::into);
    Transport::new(move |request| service.clone().oneshot(request))
}

impl Transport {
    pub(crate) fn new<R>(send: impl Fn(Request<Wire>) -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = Result<Response<Wire>, BoxError>> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(send(request))))
    }

    pub(crate) fn send(&self, request: Request<Wire>) -> Reply {
        (self.0)(request)
    }
}

impl Service<Request<Wire>> for Transport {
    type Response = Response<Wire>;
    type Error = BoxError;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Wire>) -> Reply {
        self.send(request)
    }
}

/// A relay in front of a server: what it does with sealed requests. Everything else passes.
pub(crate) fn relay<F, R>(server: &Transport, act: F) -> Transport
where
    F: Fn(Request<Wire>, Transport) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response<Wire>, BoxError>> + Send + 'static,
{
    let server = server.clone();
    Transport::new(move |request| -> Reply {
        if request.uri().path() == SEALED { Box::pin(act(request, server.clone())) } else { server.send(request) }
    })
}

/// Sends each request to the server that `choose` names by the number of sealed requests so far.
pub(crate) fn balance(servers: Vec<Transport>, choose: impl Fn(usize) -> usize + Send + Sync + 'static) -> Transport {
    let sent = AtomicUsize::new(0);
    Transport::new(move |request| {
        let number = match request.uri().path() {
            SEALED => sent.fetch_add(1, Ordering::SeqCst),
            _ => sent.load(Ordering::SeqCst),
        };
        servers[choose(number)].send(request)
    })
}

pub(crate) fn client(tee: &MockTee, transport: Transport) -> Client {
    SealLayer::new(tee.verifier()).name("prover.example").layer(transport)
}

pub(crate) fn post(body: impl Into<Bytes>) -> Request<Body> {
    Request::post("https://prover.example/prove?fast=1").header("authorization", "Bearer t").body(full(body)).unwrap()
}

/// Calls, and reads the response whole.
pub(crate) async fn call(client: &Client, request: Request<Body>) -> Result<Response<Bytes>, BoxError> {
    let (parts, body) = client.clone().oneshot(request).await?.into_parts();
    Ok(Response::from_parts(parts, bytes(body).await?))
}

/// The kind of the `AttestError` in an error's chain.
pub(crate) fn kind(error: &BoxError) -> Option<ErrorKind> {
    let mut next = Some(&**error as &(dyn std::error::Error + 'static));
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<AttestError>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}

/// The frames of a body, for a relay to play with.
pub(crate) async fn pieces(body: Wire) -> Vec<Bytes> {
    let mut body = body;
    let mut pieces = vec![];
    while let Some(frame) = body.frame().await {
        pieces.extend(frame.unwrap().into_data());
    }
    assert!(body.is_end_stream() || !pieces.is_empty());
    pieces
}
