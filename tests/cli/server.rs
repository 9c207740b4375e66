//! Servers in this process, on simulated hardware, for the binary to ask.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tower::util::BoxCloneService;
use tower::{ServiceBuilder, service_fn};
use tower_attest::platform::snp::sim::SimulatedGuest;
use tower_attest::seal::UnsealLayer;
use tower_attest::seal::server::UnsealedBody;
use tower_attest::tls::{ConnectionInfoLayer, Tls, TlsListener};
use tower_attest::{Attester, ConnectionInfo, ReportLayer, ReportProvider};

/// A server until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

/// How a server's connections end.
#[derive(Debug)]
pub(crate) enum Ends {
    /// In TLS of its own.
    Tls(Tls),
    /// In TLS that tells the server nothing, as behind a proxy that ends it.
    Terminated(Tls),
    /// In plain TCP.
    Plain,
}

type Layers = (ReportLayer, Option<UnsealLayer>);

/// What a simulated SNP server runs on.
pub(crate) fn provider(guest: SimulatedGuest) -> impl ReportProvider + 'static {
    tower_attest::platform::snp::sim::SimProvider::new(guest)
}

impl Server {
    /// A server that answers for `localhost` and 127.0.0.1 and runs with the configuration `5e…`.
    pub(crate) fn attested(provider: impl ReportProvider + 'static, ends: Ends) -> Self {
        Self::start(ends, async move || {
            let builder = Attester::builder(provider).names(["localhost", "127.0.0.1"]).config([0x5e; 32]);
            Some((ReportLayer::new(builder.start().await.unwrap()), None))
        })
    }

    /// The same, taking sealed requests.
    pub(crate) fn sealing(provider: impl ReportProvider + 'static, ends: Ends) -> Self {
        Self::start(ends, async move || {
            let builder = Attester::builder(provider).names(["localhost", "127.0.0.1"]).seal();
            let attester = builder.start().await.unwrap();
            Some((ReportLayer::new(attester.clone()), Some(UnsealLayer::new(attester).unwrap())))
        })
    }

    /// A server that attests nothing.
    pub(crate) fn unattested(ends: Ends) -> Self {
        Self::start(ends, async || None)
    }

    fn start(ends: Ends, layer: impl AsyncFnOnce() -> Option<Layers> + Send + 'static) -> Self {
        let (ready, address) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let layer = layer().await;
                let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(tcp.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = accept(tcp, ends, layer) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address: address.recv().unwrap(), stop: Some(stop) }
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.address.port())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

async fn accept(tcp: TcpListener, ends: Ends, layer: Option<Layers>) {
    let (tls, told) = match ends {
        Ends::Tls(tls) => (tls, true),
        Ends::Terminated(tls) => (tls, false),
        Ends::Plain => loop {
            let (stream, _) = tcp.accept().await.unwrap();
            tokio::spawn(answer(stream, None, layer.clone()));
        },
    };
    let mut listener = TlsListener::from_tcp(tcp, tls).unwrap();
    while let Some((stream, _)) = listener.accept().await {
        let info = told.then(|| stream.info().clone());
        tokio::spawn(answer(stream, info, layer.clone()));
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    info: Option<ConnectionInfo>,
    layer: Option<Layers>,
) {
    let app = service_fn(|_: Request<Incoming>| std::future::ready(not_here()));
    let opened = service_fn(|_: Request<UnsealedBody<Incoming>>| std::future::ready(not_here()));
    let server = auto::Builder::new(TokioExecutor::new());
    let (io, info) = (TokioIo::new(stream), ServiceBuilder::new().option_layer(info.map(ConnectionInfoLayer::new)));
    let _ = match layer {
        Some((report, Some(unseal))) => {
            let service = BoxCloneService::new(info.layer(report).layer(unseal).service(opened));
            server.serve_connection(io, TowerToHyperService::new(service)).await
        }
        Some((report, None)) => {
            server.serve_connection(io, TowerToHyperService::new(info.layer(report).service(app))).await
        }
        None => server.serve_connection(io, TowerToHyperService::new(info.service(app))).await,
    };
}

fn not_here() -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::builder().status(404).body(Full::new(Bytes::from_static(b"not here"))).unwrap())
}
