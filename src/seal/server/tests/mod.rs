mod open;
mod refuse;
mod stacks;
mod stream;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::error::BoxError;
use crate::mock::{MockProvider, MockTee};
use crate::protocol::{ATTESTATION_KEYS, KeyDocument, KeysHeader, SEALED_PATH, SEALED_REQUEST};
use crate::seal::config::KeyConfig;
use crate::seal::framing::{Opener, ResponseKey, Sealer};
use crate::seal::message::{Decoder, Event, OpenBody, SealBody, request_head};
use crate::time::ManualClock;
use crate::{Attester, AttesterBuilder};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

type Body = UnsyncBoxBody<Bytes, BoxError>;
type App = BoxCloneService<Request<UnsealedBody<Body>>, Response<Body>, BoxError>;
type Reply = Response<SealedBody<Body>>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that is fed, frame by frame, and ends when its sender is dropped.
fn fed() -> (tokio::sync::mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    (sender, StreamBody::new(stream).boxed_unsync())
}

/// What the inner service saw.
#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    sealed: Option<SealedRequest>,
    info: bool,
    said_empty: bool,
    exact: Option<u64>,
    body: Result<(Bytes, Option<HeaderMap>), String>,
}

/// A server with its hardware and its clock, and all that its application saw.
struct Server {
    attester: Attester,
    provider: MockProvider,
    clock: ManualClock,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    async fn start_with(setting: impl FnOnce(AttesterBuilder) -> AttesterBuilder) -> Self {
        let (provider, clock) = (MockTee::new().provider(), ManualClock::new());
        let builder = Attester::builder(provider.clone()).name("prover.example").clock(clock.clone()).seal();
        let attester = setting(builder).start().await.unwrap();
        Self { attester, provider, clock, seen: Arc::default() }
    }

    fn layer(&self) -> UnsealLayer {
        UnsealLayer::new(self.attester.clone()).unwrap()
    }

    /// Sends one request through the layer to an application that records it, see [`answer`].
    async fn send(&self, request: Request<Body>) -> Reply {
        self.send_by(self.layer(), request).await
    }

    async fn send_by(&self, layer: UnsealLayer, request: Request<Body>) -> Reply {
        layer.layer(self.application()).oneshot(request).await.unwrap()
    }

    fn application(&self) -> App {
        let seen = Arc::clone(&self.seen);
        BoxCloneService::new(service_fn(move |request: Request<UnsealedBody<Body>>| {
            let seen = Arc::clone(&seen);
            let (parts, body) = request.into_parts();
            let (said_empty, exact) =
                (http_body::Body::is_end_stream(&body), http_body::Body::size_hint(&body).exact());
            let body = body.boxed_unsync();
            async move {
                let response = answer(&parts);
                let body = body.collect().await.map_err(|error| error.to_string()).map(|collected| {
                    let trailers = collected.trailers().cloned();
                    (collected.to_bytes(), trailers)
                });
                seen.lock().unwrap().push(Seen {
                    method: parts.method,
                    uri: parts.uri,
                    version: parts.version,
                    headers: parts.headers,
                    sealed: parts.extensions.get().copied(),
                    info: parts.extensions.get::<crate::ConnectionInfo>().is_some(),
                    said_empty,
                    exact,
                    body,
                });
                Ok(response)
            }
        }))
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn client(&self) -> Client {
        Client::of(&self.attester.key_document())
    }
}

/// The application: `application` with the status in the field `want`, or one of some paths.
fn answer(parts: &http::request::Parts) -> Response<Body> {
    let mut response = Response::new(full("application"));
    response.headers_mut().insert("x-inner", "1".parse().unwrap());
    response.headers_mut().insert("attestation-report", "forged".parse().unwrap());
    if let Some(status) = parts.headers.get("want") {
        *response.status_mut() = StatusCode::from_bytes(status.as_bytes()).unwrap();
    }
    match parts.uri.path() {
        "/large" => drop(response.headers_mut().insert("x-large", "x".repeat(70_000).parse().unwrap())),
        "/trailers" => {
            let trailers = HeaderMap::from_iter([("x-end".parse().unwrap(), "2".parse().unwrap())]);
            let frames = [Frame::data(Bytes::from_static(b"content")), Frame::trailers(trailers)];
            *response.body_mut() = StreamBody::new(tokio_stream::iter(frames.map(Ok))).boxed_unsync();
        }
        _ => {}
    }
    response
}

/// A client by hand: what it sends can be spoilt.
#[derive(Clone)]
struct Client {
    keys: crate::KeysDigest,
    config: KeyConfig,
}

impl Client {
    fn of(document: &KeyDocument) -> Self {
        let config = KeyConfig::try_from(document.fields().seal.as_ref().unwrap()).unwrap();
        Self { keys: *document.digest(), config }
    }

    /// The request outside.
    fn outer(&self, body: impl Into<Body>) -> Request<Body> {
        let request = Request::post(SEALED_PATH).header("content-type", SEALED_REQUEST);
        request.header(ATTESTATION_KEYS, KeysHeader { keys: self.keys }.to_value()).body(body.into()).unwrap()
    }

    fn seal(&self, request: Request<Body>) -> (Request<Body>, ResponseKey) {
        let (parts, body) = request.into_parts();
        let (sealer, key) = Sealer::request(&self.config).unwrap();
        let body = SealBody::new(sealer, request_head(&parts).unwrap(), body);
        (self.outer(body.boxed_unsync()), key)
    }

    /// Sealed chunks by hand; the first begins with the header, the last ends the message.
    fn chunks(&self, plaintexts: &[&[u8]]) -> (Vec<Vec<u8>>, ResponseKey) {
        let (mut sealer, key) = Sealer::request(&self.config).unwrap();
        let mut chunks = vec![];
        for (number, mut text) in plaintexts.iter().copied().enumerate() {
            let mut plaintext = sealer.plaintext(text.len());
            plaintext.put(&mut text);
            chunks.push(sealer.seal(plaintext, number + 1 == plaintexts.len()).unwrap().to_vec());
        }
        (chunks, key)
    }

    /// A `POST /prove` in four chunks: head, `first`, `second`, end.
    fn prove(&self) -> (Vec<Vec<u8>>, ResponseKey) {
        let head = head(Method::POST, "https://prover.example/prove");
        self.chunks(&[&head, b"\x05first", b"\x06second", END])
    }

    async fn send(&self, server: &Server, request: Request<Body>) -> Response<(Bytes, Option<HeaderMap>)> {
        let (request, key) = self.seal(request);
        open(server.send(request).await, key).await
    }
}

/// The end of content, and no trailers.
const END: &[u8] = &[0, 0];

fn head(method: Method, uri: &str) -> Vec<u8> {
    request_head(&Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0).unwrap().to_vec()
}

/// Opens a response, which must be one that is sealed.
async fn open(response: Reply, key: ResponseKey) -> Response<(Bytes, Option<HeaderMap>)> {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "message/ohttp-chunked-res");
    let (parts, mut body) = head_of(response.into_body(), key).await;
    let mut content = vec![];
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_data() {
            Ok(data) => content.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Response::from_parts(parts, (content.into(), trailers))
}

/// Opens the head of a response.
async fn head_of<B>(body: B, key: ResponseKey) -> (http::response::Parts, OpenBody<B>)
where
    B: http_body::Body + Unpin,
    B::Error: Into<BoxError>,
{
    let mut body = OpenBody::new(body, Opener::response(key), Decoder::response(), |error| format!("{error:?}").into());
    let event = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_head(cx)).await;
    match event.unwrap() {
        Event::Response(parts) => (parts, body),
        other => panic!("{other:?}"),
    }
}

fn post(uri: &str, body: Body) -> Request<Body> {
    Request::post(uri).body(body).unwrap()
}

/// The problem in a response in the clear.
async fn problem(response: Reply) -> (u16, String, serde_json::Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["status"], status);
    (status, problem["code"].as_str().unwrap().to_owned(), problem)
}

async fn code(response: Reply) -> (u16, String) {
    let (status, code, _) = problem(response).await;
    (status, code)
}

/// The problem in a sealed response.
async fn sealed_code(response: Reply, key: ResponseKey) -> (u16, String) {
    let opened = open(response, key).await;
    assert_eq!(opened.headers()["content-type"], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_slice(&opened.body().0).unwrap();
    (opened.status().as_u16(), problem["code"].as_str().unwrap().to_owned())
}
