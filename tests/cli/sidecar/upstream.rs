//! A service that knows nothing of attestation, and remembers what reached it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What the service saw.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    requests: Arc<Mutex<Vec<Parts>>>,
    /// Responses that are still being sent.
    running: Arc<AtomicUsize>,
    /// Chunks of `/endless`, whoever asked.
    chunks: Arc<AtomicUsize>,
    events: Arc<Mutex<Option<mpsc::Sender<Bytes>>>>,
}

impl Seen {
    pub(crate) fn requests(&self) -> Vec<Parts> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.uri.path().to_owned()).collect()
    }

    /// The fields of the last request.
    pub(crate) fn last(&self) -> HeaderMap {
        self.requests().last().unwrap().headers.clone()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Waits until no response without end moves any more.
    pub(crate) async fn stalled(&self) {
        let mut before = usize::MAX;
        while std::mem::replace(&mut before, self.chunks.load(Ordering::SeqCst)) != before {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }

    /// Sends an event to whoever listens to `/events`.
    pub(crate) async fn send(&self, event: &'static str) {
        let sender = self.events.lock().unwrap().clone().unwrap();
        sender.send(Bytes::from_static(event.as_bytes())).await.unwrap();
    }

    pub(crate) fn end_events(&self) {
        self.events.lock().unwrap().take();
    }
}

/// The service on a TCP port. It ends when dropped, with all its connections.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Seen,
    accept: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(addr: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
        let (addr, seen) = (listener.local_addr().unwrap(), Seen::default());
        let accept = tokio::spawn({
            let seen = seen.clone();
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(serve(stream, seen.clone()));
                }
            }
        });
        Self { addr, seen, accept }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

/// The service on a Unix socket.
pub(crate) fn unix(path: &Path) -> Seen {
    let (listener, seen) = (tokio::net::UnixListener::bind(path).unwrap(), Seen::default());
    let serving = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, serving.clone()));
        }
    });
    seen
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, seen: Seen) {
    let service = service_fn(move |request| {
        let seen = seen.clone();
        async move { answer(request, seen).await }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // A client that breaks off is no error of the service's.
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

async fn answer(mut request: Request<Incoming>, seen: Seen) -> Result<Answer, hyper::Error> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    seen.requests.lock().unwrap().push(parts.clone());
    let text = |text: String| Response::new(Full::from(text).boxed_unsync());
    Ok(match path.as_str() {
        "/version" => text(format!("{:?}", parts.version)),
        "/hang" => std::future::pending().await,
        "/teapot" => Response::builder().status(StatusCode::IM_A_TEAPOT).body(Empty::new().boxed_unsync()).unwrap(),
        "/rare-bytes" => Response::builder()
            .header("x-a", http::HeaderValue::from_bytes(&[0xff; 60_000]).unwrap())
            .body(Empty::new().boxed_unsync())
            .unwrap(),
        "/redirect" => {
            let location = format!("https://{}/version?a#b", parts.headers["host"].to_str().unwrap());
            Response::builder().status(302).header("location", location).body(Empty::new().boxed_unsync()).unwrap()
        }
        "/forged" => Response::builder()
            .header("attestation-result", "verified;strength=\"channel\"")
            .header("attestation-report", "v=1")
            .header("attestation-other", "forged")
            .header("connection", "x-private")
            .header("x-private", "1")
            .body(Empty::new().boxed_unsync())
            .unwrap(),
        "/trailers" => {
            let names = ["x-sum", "attestation-result", "attestation_report", "x-forwarded-for"];
            let trailers = HeaderMap::from_iter(names.map(|name| (name.parse().unwrap(), "42".parse().unwrap())));
            // Of unknown length: what has a length has no trailers in HTTP/1.1.
            let frames = [Frame::data(Bytes::from_static(b"body")), Frame::trailers(trailers)];
            let body = StreamBody::new(tokio_stream::iter(frames.map(Ok)));
            Response::builder().header("trailer", names.join(", ")).body(body.boxed_unsync()).unwrap()
        }
        "/events" => {
            let (sender, receiver) = mpsc::channel(1);
            *seen.events.lock().unwrap() = Some(sender);
            let body = Events::new(receiver, &seen.running);
            Response::builder().header("content-type", "text/event-stream").body(body.boxed_unsync()).unwrap()
        }
        "/endless" => {
            let (sender, receiver) = mpsc::channel(1);
            let chunks = Arc::clone(&seen.chunks);
            tokio::spawn(async move {
                while sender.send(Bytes::from_static(&[b'x'; 16384])).await.is_ok() {
                    chunks.fetch_add(1, Ordering::SeqCst);
                }
            });
            Response::new(Events::new(receiver, &seen.running).boxed_unsync())
        }
        "/socket" => {
            tokio::spawn(echo(upgrade));
            let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
            let response =
                Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
            response.header("sec-websocket-accept", accept).body(Empty::new().boxed_unsync()).unwrap()
        }
        _ => Response::new(Full::new(body.collect().await?.to_bytes()).boxed_unsync()),
    })
}

async fn echo(upgrade: hyper::upgrade::OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut io = TokioIo::new(upgraded);
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = io.read(&mut chunk).await {
        if io.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

/// Chunks as they come. Counted while it is being sent.
struct Events {
    receiver: mpsc::Receiver<Bytes>,
    running: Arc<AtomicUsize>,
}

impl Events {
    fn new(receiver: mpsc::Receiver<Bytes>, running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::SeqCst);
        Self { receiver, running: Arc::clone(running) }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.receiver.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
