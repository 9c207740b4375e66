//! Servers that record what reaches them, and relays between a client and such a server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tower::{Layer, Service, ServiceExt};
use tower_attest::mock::{MockProvider, MockTee};
use tower_attest::tls::{
    AttestedChannel, BindingConnector, ChannelBody, ChannelBuilder, ChannelError, ConnectionInfoLayer, Tls,
    TlsListener, TlsStream,
};
use tower_attest::{Attester, BoxError, ReportLayer};

pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) const WELL_KNOWN: &str = "/.well-known/tower-attest";

pub(crate) fn body(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

/// A request as it reached a server, whoever answered it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) connection: usize,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

/// What reached a server: requests, and the decrypted bytes of each connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    requests: Arc<Mutex<Vec<Seen>>>,
    bytes: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Record {
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|seen| seen.path).collect()
    }

    pub(crate) fn preflights(&self) -> usize {
        self.paths().iter().filter(|path| *path == WELL_KNOWN).count()
    }

    pub(crate) fn applications(&self) -> usize {
        self.paths().len() - self.preflights()
    }

    pub(crate) fn connections(&self) -> usize {
        self.bytes.lock().unwrap().len()
    }

    /// The decrypted bytes that the client sent on a connection.
    pub(crate) fn bytes(&self, connection: usize) -> Vec<u8> {
        self.bytes.lock().unwrap()[connection].clone()
    }

    fn open(&self) -> usize {
        let mut bytes = self.bytes.lock().unwrap();
        bytes.push(Vec::new());
        bytes.len() - 1
    }
}

/// Decrypted IO that records what is read.
struct Recording<T> {
    io: T,
    record: Record,
    connection: usize,
}

impl<T: AsyncRead + Unpin> AsyncRead for Recording<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = buf.filled()[before..].to_vec();
        self.record.bytes.lock().unwrap()[self.connection].extend(read);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Recording<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// An HTTP server behind a [`TlsListener`]. It ends when dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) record: Record,
    closing: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        self.task.abort();
    }
}

impl Server {
    pub(crate) fn uri(&self) -> Uri {
        format!("https://localhost:{}", self.addr.port()).parse().unwrap()
    }

    /// Serves `service` on each connection, with its `ConnectionInfo` in the extensions.
    pub(crate) async fn serve<S>(addr: SocketAddr, tls: Tls, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = BoxError> + Clone + Send + 'static,
        S::Future: Send,
    {
        let mut listener = TlsListener::bind(addr, tls).await.unwrap();
        let (addr, record) = (listener.local_addr(), Record::default());
        let (closing, closed) = watch::channel(false);
        let task = tokio::spawn({
            let record = record.clone();
            async move {
                while let Some((stream, _)) = listener.accept().await {
                    let connection = serve_connection(stream, service.clone(), record.clone());
                    let mut closed = closed.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = connection => {}
                            _ = closed.wait_for(|closed| *closed) => {}
                        }
                    });
                }
            }
        });
        Self { addr, record, closing, task }
    }

    /// Ends every connection at once; the listener goes on.
    pub(crate) async fn stop(self) -> SocketAddr {
        let addr = self.addr;
        drop(self);
        while tokio::net::TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        addr
    }
}

async fn serve_connection<S>(stream: TlsStream, service: S, record: Record)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let connection = record.open();
    let info = stream.info().clone();
    let io = TokioIo::new(Recording { io: stream, record: record.clone(), connection });
    let service = ConnectionInfoLayer::new(info).layer(service);
    let recording = tower::service_fn(move |request: Request<Incoming>| {
        record.requests.lock().unwrap().push(Seen {
            connection,
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            headers: request.headers().clone(),
        });
        service.clone().oneshot(request)
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(io, TowerToHyperService::new(recording)).await;
}

/// An attested server: its machine, and what it serves.
pub(crate) struct Attested {
    pub(crate) server: Server,
    pub(crate) provider: MockProvider,
    pub(crate) tls: Tls,
    pub(crate) feed: Feed,
}

/// Feeds the body of `/stream`.
pub(crate) type Feed = Arc<Mutex<Option<mpsc::Sender<Bytes>>>>;

impl Attested {
    pub(crate) async fn start(tee: &MockTee) -> Self {
        Self::start_at(tee, ([127, 0, 0, 1], 0).into(), Tls::self_signed("localhost").unwrap(), |layer| layer).await
    }

    pub(crate) async fn start_at(
        tee: &MockTee,
        addr: SocketAddr,
        tls: Tls,
        settings: impl FnOnce(ReportLayer) -> ReportLayer,
    ) -> Self {
        let provider = tee.provider();
        let attester = Attester::builder(provider.clone()).name("localhost").start().await.unwrap();
        let feed = Feed::default();
        let app = application(feed.clone());
        let service = settings(ReportLayer::new(attester))
            .layer(app)
            .map_response(|response: Response<_>| response.map(|body| body.map_err(Into::into).boxed_unsync()));
        let server = Server::serve(addr, tls.clone(), service).await;
        Self { server, provider, tls, feed }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.server.record
    }

    /// A builder of a channel that trusts this server's certificate.
    pub(crate) fn builder(&self, tee: &MockTee) -> ChannelBuilder {
        AttestedChannel::builder(self.server.uri(), tee.verifier()).roots(roots(&self.tls))
    }
}

pub(crate) fn roots(tls: &Tls) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(tls.certificate().unwrap().clone()).unwrap();
    roots
}

fn application(
    feed: Feed,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<Body>, BoxError>> + Send,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |request: Request<Incoming>| {
        let feed = feed.clone();
        async move {
            Ok::<_, BoxError>(match request.uri().path() {
                "/redirect" => Response::builder()
                    .status(StatusCode::FOUND)
                    .header("location", "https://localhost/elsewhere")
                    .body(body(""))?,
                "/stream" => {
                    let (sender, receiver) = mpsc::channel(16);
                    *feed.lock().unwrap() = Some(sender);
                    Response::new(Fed(receiver).map_err(|never: Infallible| match never {}).boxed_unsync())
                }
                "/echo" => Response::new(request.into_body().map_err(Into::into).boxed_unsync()),
                _ => Response::new(body("ok")),
            })
        }
    })
}

struct Fed(mpsc::Receiver<Bytes>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(http_body::Frame::data(data))))
    }
}

/// What a relay does to requests and responses on their way.
#[derive(Clone, Default)]
pub(crate) struct Tamper {
    pub(crate) request: Option<fn(&mut HeaderMap)>,
    pub(crate) response: Option<fn(&mut HeaderMap)>,
}

/// A man in the middle: ends TLS with `tls`, forwards each request to `upstream` over a connection of its own.
pub(crate) async fn relay(tls: Tls, upstream: &Attested, tamper: Tamper) -> Server {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let connector = BindingConnector::roots(http, roots(&upstream.tls)).unwrap();
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    let origin = upstream.server.uri();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let (client, origin, tamper) = (client.clone(), origin.clone(), tamper.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            let mut uri = origin.into_parts();
            uri.path_and_query = parts.uri.path_and_query().cloned();
            parts.uri = Uri::from_parts(uri)?;
            parts.version = http::Version::HTTP_11;
            parts.extensions.clear();
            if let Some(tamper) = tamper.request {
                tamper(&mut parts.headers);
            }
            let body = body.map_err(Into::into).boxed_unsync();
            let (mut parts, body) = client.request(Request::from_parts(parts, body)).await?.into_parts();
            parts.version = http::Version::HTTP_11;
            if let Some(tamper) = tamper.response {
                tamper(&mut parts.headers);
            }
            Ok::<_, BoxError>(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
        }
    });
    Server::serve(([127, 0, 0, 1], 0).into(), tls, service).await
}

/// Sends a `GET`.
pub(crate) async fn get(channel: &AttestedChannel, path: &str) -> Result<Response<ChannelBody>, BoxError> {
    channel.clone().oneshot(Request::get(path).body(Full::<Bytes>::default()).unwrap()).await
}

pub(crate) async fn text(response: Response<ChannelBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The channel error that must stand in an error's chain.
pub(crate) fn channel_error(error: &BoxError) -> ChannelError {
    ChannelError::of(&**error).unwrap_or_else(|| panic!("no channel error in {error:?}")).clone()
}

/// Lets everything that can happen happen.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Waits for a condition that other tasks bring about.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A connector that counts how often it was asked, and asks TCP.
#[derive(Clone)]
pub(crate) struct Counted {
    pub(crate) attempts: Arc<AtomicUsize>,
}

impl Service<Uri> for Counted {
    type Response = TokioIo<tokio::net::TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let port = uri.port_u16().unwrap();
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map(TokioIo::new)
        })
    }
}
