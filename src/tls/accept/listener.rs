//! Accepts TCP connections, makes the handshakes side by side, and hands out the connections that completed theirs.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::pem::PemFiles;
use super::stream::TlsStream;
use super::tls::{ACME_TLS_ALPN, Tls};
use crate::time::Sleep;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HANDSHAKES: usize = 256;
/// How long to wait after the system refused a connection for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A TCP listener with TLS. axum, tonic and hyper take it as the examples of [`tls`](crate::tls) show.
///
/// At most 256 handshakes run at once, each for at most 10 seconds; further connections wait in the system's queue.
/// Handshakes run on tasks of their own and do not wait for one another. Dropping the listener ends those that run.
pub struct TlsListener {
    tcp: Option<TcpListener>,
    local_addr: SocketAddr,
    settings: Settings,
    handshake_timeout: Duration,
    max_handshakes: usize,
    handshakes: JoinSet<Option<(TlsStream, SocketAddr)>>,
    pause: Option<Sleep>,
    counters: Arc<Counters>,
    drain: Arc<watch::Sender<bool>>,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What a handshake needs.
#[derive(Clone)]
struct Settings {
    config: Arc<ServerConfig>,
    challenges: Option<Arc<ServerConfig>>,
    files: Option<Arc<PemFiles>>,
}

#[derive(Debug, Default)]
struct Counters {
    completed: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    challenges: AtomicU64,
}

/// How a listener's handshakes ended since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// Handshakes that completed.
    pub completed: u64,
    /// Handshakes that failed: another TLS version, no common protocol, a client certificate that was refused, noise.
    pub failed: u64,
    /// Handshakes that took longer than the timeout.
    pub timed_out: u64,
    /// TLS-ALPN-01 validations that were answered. None of them is among those that completed.
    pub challenges: u64,
}

impl TlsListener {
    /// Listens on `addr`.
    ///
    /// # Errors
    ///
    /// The system's, if the address cannot be used; `InvalidInput` if the settings cannot work.
    pub async fn bind(addr: impl ToSocketAddrs, tls: Tls) -> io::Result<Self> {
        Self::from_tcp(TcpListener::bind(addr).await?, tls)
    }

    /// Listens on a socket of one's own.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn from_tcp(tcp: TcpListener, tls: Tls) -> io::Result<Self> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let (drain, mut seen) = watch::channel(false);
        Ok(Self {
            local_addr: tcp.local_addr()?,
            tcp: Some(tcp),
            settings: Settings {
                config: tls.server_config().map_err(invalid)?,
                challenges: tls.challenge_config().map_err(invalid)?,
                files: tls.files(),
            },
            handshake_timeout: HANDSHAKE_TIMEOUT,
            max_handshakes: MAX_HANDSHAKES,
            handshakes: JoinSet::new(),
            pause: None,
            counters: Arc::default(),
            drain: Arc::new(drain),
            draining: Box::pin(async move {
                if seen.wait_for(|draining| *draining).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }),
        })
    }

    /// How long one handshake may take. Default: 10 seconds.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How many handshakes may run at once, at least one. Default: 256.
    #[must_use]
    pub fn max_handshakes(mut self, max: usize) -> Self {
        self.max_handshakes = max.max(1);
        self
    }

    /// The address that this listener is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle that reads counters and starts the drain, from any task.
    pub fn handle(&self) -> ListenerHandle {
        ListenerHandle { counters: Arc::clone(&self.counters), drain: Arc::clone(&self.drain) }
    }

    /// The next connection whose handshake is complete, or `None` once the listener has drained. Failed handshakes are
    /// counted, logged at debug level (`tls handshake failed`) and skipped. Cancelling the future loses no connection.
    pub async fn accept(&mut self) -> Option<(TlsStream, SocketAddr)> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// A stream of connections, as tonic's `serve_with_incoming` takes it. It ends once the listener has drained.
    pub fn incoming(self) -> TlsIncoming {
        TlsIncoming { listener: self }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<(TlsStream, SocketAddr)>> {
        if self.tcp.is_some() && self.draining.as_mut().poll(cx).is_ready() {
            self.tcp = None;
        }
        loop {
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(accepted)))) => return Poll::Ready(Some(accepted)),
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) if self.tcp.is_none() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => {}
            }
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let Some(tcp) = self.tcp.as_ref().filter(|_| self.handshakes.len() < self.max_handshakes) else {
                return Poll::Pending;
            };
            match std::task::ready!(tcp.poll_accept(cx)) {
                Ok((stream, addr)) => self.start(stream, addr),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "tcp accept failed");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }

    fn start(&mut self, stream: TcpStream, addr: SocketAddr) {
        let (settings, counters) = (self.settings.clone(), Arc::clone(&self.counters));
        let timeout = self.handshake_timeout;
        self.handshakes.spawn(async move {
            let outcome = tokio::time::timeout(timeout, handshake(settings, stream, addr)).await;
            let counter = match &outcome {
                Ok(Ok(Some(_))) => &counters.completed,
                Ok(Ok(None)) => &counters.challenges,
                Ok(Err(error)) => {
                    tracing::debug!(%addr, %error, "tls handshake failed");
                    &counters.failed
                }
                Err(_) => {
                    tracing::debug!(%addr, "tls handshake timed out");
                    &counters.timed_out
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
            Some((outcome.ok()?.ok()??, addr))
        });
    }
}

/// `None` for a CA's validation, which ends with its handshake.
async fn handshake(settings: Settings, stream: TcpStream, addr: SocketAddr) -> io::Result<Option<TlsStream>> {
    stream.set_nodelay(true)?;
    if let Some(files) = settings.files {
        tokio::task::spawn_blocking(move || files.refresh()).await.map_err(io::Error::other)?;
    }
    let stream = match settings.challenges {
        None => TlsAcceptor::from(settings.config).accept(stream).await?,
        Some(challenges) => {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            if validates(&start.client_hello()) {
                start.into_stream(challenges).await?.shutdown().await?;
                return Ok(None);
            }
            start.into_stream(settings.config).await?
        }
    };
    TlsStream::new(stream, addr).map(Some).map_err(io::Error::other)
}

/// A CA offers `acme-tls/1` and nothing else (RFC 8737, section 3).
fn validates(hello: &ClientHello<'_>) -> bool {
    let mut protocols = hello.alpn().into_iter().flatten();
    protocols.next() == Some(ACME_TLS_ALPN) && protocols.next().is_none()
}

/// Errors of a connection that its peer gave up, as opposed to those of the listening socket.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener")
            .field("local_addr", &self.local_addr)
            .field("handshakes", &self.handshakes.len())
            .field("draining", &self.tcp.is_none())
            .finish_non_exhaustive()
    }
}

/// Reads a listener's counters and starts its drain. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ListenerHandle {
    counters: Arc<Counters>,
    drain: Arc<watch::Sender<bool>>,
}

impl ListenerHandle {
    /// How the handshakes ended so far.
    pub fn stats(&self) -> ListenerStats {
        ListenerStats {
            completed: self.counters.completed.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
            timed_out: self.counters.timed_out.load(Ordering::Relaxed),
            challenges: self.counters.challenges.load(Ordering::Relaxed),
        }
    }

    /// Closes the listening socket. Handshakes that run are finished and handed out, then
    /// [`accept`](TlsListener::accept) answers `None`. Connections already handed out are the server's to finish.
    pub fn drain(&self) {
        self.drain.send_replace(true);
    }
}

/// What [`TlsListener::incoming`] returns.
#[derive(Debug)]
pub struct TlsIncoming {
    listener: TlsListener,
}

impl Stream for TlsIncoming {
    type Item = io::Result<TlsStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener.poll_accept(cx).map(|accepted| accepted.map(|(stream, _)| Ok(stream)))
    }
}

/// After a drain axum's `accept` waits for ever: end the server through its own `with_graceful_shutdown`.
#[cfg(feature = "axum")]
impl axum::serve::Listener for TlsListener {
    type Io = TlsStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TlsStream, SocketAddr) {
        match TlsListener::accept(self).await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }
}
