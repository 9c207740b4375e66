//! Servers and clients that the tests share.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tower::{Service, service_fn};
use tower_attest::mock::{MockProvider, MockTee};
use tower_attest::{AttestError, AttestLayer, Attester, BoxError, ErrorKind, ReportLayer};

pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn http1() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

pub(crate) fn http2() -> HttpClient {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

pub(crate) async fn attester(provider: impl tower_attest::ReportProvider + 'static) -> Attester {
    Attester::builder(provider).name("localhost").start().await.unwrap()
}

/// Serves any HTTP service on a free loopback port, HTTP/1.1 and HTTP/2.
pub(crate) async fn serve<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// An attested server that answers `METHOD path` to everything.
pub(crate) async fn echo_server(provider: MockProvider) -> SocketAddr {
    serve(tower::Layer::layer(&ReportLayer::new(attester(provider).await), echo())).await
}

pub(crate) fn echo() -> impl Service<
    Request<Incoming>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send,
> + Clone
+ Send
+ 'static {
    service_fn(|request: Request<Incoming>| async move {
        let line = format!("{} {}", request.method(), request.uri());
        Ok(Response::new(Full::new(Bytes::from(line))))
    })
}

/// What a server saw of one request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Records each request and answers with what `answer` says.
pub(crate) async fn recording_server(
    answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let address = serve(service_fn(move |request: Request<Incoming>| {
        let (log, answer) = (Arc::clone(&log), answer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let entry = Seen { method: parts.method, uri: parts.uri, headers: parts.headers, body };
            let response = answer(&entry);
            log.lock().unwrap().push(entry);
            Ok::<_, Infallible>(response)
        }
    }))
    .await;
    (address, seen)
}

pub(crate) fn layer(tee: &MockTee) -> AttestLayer {
    AttestLayer::new(tee.verifier()).accept_presence().name("localhost")
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://{address}{path}")).body(Full::default()).unwrap()
}

/// The kind of the `AttestError` in an error's chain.
pub(crate) fn kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    AttestError::of(error).map(AttestError::kind)
}

pub(crate) async fn text<B: http_body::Body<Error: std::fmt::Debug>>(response: Response<B>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}
