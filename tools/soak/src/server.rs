//! Genuine servers: plaintext and TLS on one router, restarted and cut off at will while their ports stay.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::routing::post;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::util::{BoxCloneSyncService, MapResponse};
use tower::{Layer, ServiceBuilder};
use tower_attest::seal::UnsealLayer;
use tower_attest::tls::{ConnectionInfoLayer, Tls, TlsListener};
use tower_attest::{Attester, BoxError, ReportLayer, ReportProvider};

use crate::cuttable::Cuttable;
use crate::faults::{Device, FaultyDevice, SteppedClock, between};
use crate::grpc;

pub(crate) const NAME: &str = "localhost";
/// Keys live this long, and a moment more after their successors have come.
const EPOCH: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(5);
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) type App = BoxCloneSyncService<http::Request<Incoming>, http::Response<axum::body::Body>, Infallible>;

/// One genuine server.
pub(crate) struct Server {
    pub(crate) title: &'static str,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) roots: RootCertStore,
    pub(crate) device: watch::Sender<Device>,
    pub(crate) clock: SteppedClock,
    provider: Arc<dyn ReportProvider>,
    app: Arc<ArcSwap<App>>,
    /// Changes when all connections are to break.
    cut: watch::Sender<u64>,
}

/// What the service answers: the request, backwards. A client can tell it from anything that was not computed.
pub(crate) fn answer(request: &[u8]) -> Vec<u8> {
    request.iter().rev().copied().collect()
}

async fn app(provider: Arc<dyn ReportProvider>, clock: SteppedClock) -> Result<App, BoxError> {
    let attester = Attester::builder(provider)
        .name(NAME)
        .seal()
        .epoch(EPOCH)
        .grace(GRACE)
        .report_timeout(REPORT_TIMEOUT)
        .clock(clock)
        .start()
        .await?;
    let echo = async move |body: bytes::Bytes| answer(&body);
    let routes = Router::new().route("/answer", post(echo)).merge(grpc::routes());
    let service = ServiceBuilder::new()
        .layer(ReportLayer::new(attester.clone()))
        .layer(UnsealLayer::new(attester)?)
        .service(routes);
    Ok(BoxCloneSyncService::new(MapResponse::new(service, |response: http::Response<_>| {
        response.map(axum::body::Body::new)
    })))
}

impl Server {
    pub(crate) async fn start(title: &'static str, hardware: impl ReportProvider + 'static) -> Result<Self, BoxError> {
        let (device, provider) = FaultyDevice::new(hardware);
        let provider: Arc<dyn ReportProvider> = Arc::new(provider);
        let clock = SteppedClock::default();
        let running = app(Arc::clone(&provider), clock.clone()).await?;
        let running = Arc::new(ArcSwap::from_pointee(running));
        let (cut, _) = watch::channel(0);

        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        let plain = tcp.local_addr()?;
        let (served, cuts) = (Arc::clone(&running), cut.subscribe());
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                // Without it a head and its body are 40 ms apart: Nagle's algorithm against delayed acknowledgements.
                let _ = stream.set_nodelay(true);
                let app = App::clone(&served.load());
                tokio::spawn(connection(stream, app, cuts.clone()));
            }
        });

        let tls = Tls::self_signed(NAME)?;
        let mut roots = RootCertStore::empty();
        roots.add(tls.certificate().ok_or("a self-signed certificate")?.clone())?;
        let mut listener = TlsListener::bind("127.0.0.1:0", tls).await?;
        let address = listener.local_addr();
        let (served, cuts) = (Arc::clone(&running), cut.subscribe());
        tokio::spawn(async move {
            while let Some((stream, _)) = listener.accept().await {
                let info = ConnectionInfoLayer::new(stream.info().clone());
                let app = BoxCloneSyncService::new(info.layer(App::clone(&served.load())));
                tokio::spawn(connection(stream, app, cuts.clone()));
            }
        });
        Ok(Self { title, plain, tls: address, roots, device, clock, provider, app: running, cut })
    }

    /// Ends every connection in the middle of whatever it does.
    pub(crate) fn cut_off(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// A new process as far as clients can tell: new keys, and every connection ends. Hardware must answer.
    pub(crate) async fn restart(&self) -> Result<(), BoxError> {
        let next = app(Arc::clone(&self.provider), self.clock.clone()).await?;
        self.app.store(Arc::new(next));
        self.cut_off();
        Ok(())
    }

    /// One random fault, from its beginning to its end.
    pub(crate) async fn fault(&self) -> &'static str {
        match fastrand::u8(0..7) {
            0 => self.device_for(Device::Hanging, between(500, 3_000), "device hung").await,
            1 => self.device_for(Device::Failing, between(300, 2_000), "device failed").await,
            2 | 3 => self.device_for(Device::Slow(between(20, 400)), between(1_000, 3_000), "device slow").await,
            4 => {
                self.cut_off();
                "connections cut"
            }
            5 => {
                self.clock.set(fastrand::i64(-10_800..10_800));
                tokio::time::sleep(between(500, 3_000)).await;
                self.clock.set(0);
                "server's clock stepped, and back"
            }
            _ => match self.restart().await {
                Ok(()) => "restarted",
                Err(_) => "restart failed",
            },
        }
    }

    async fn device_for(&self, mode: Device, time: Duration, what: &'static str) -> &'static str {
        self.device.send_replace(mode);
        tokio::time::sleep(time).await;
        self.device.send_replace(Device::Healthy);
        what
    }
}

async fn connection<I>(io: I, app: App, cuts: watch::Receiver<u64>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let builder = auto::Builder::new(TokioExecutor::new());
    // How a connection ends is what its client sees.
    let _ = builder.serve_connection(TokioIo::new(Cuttable::new(io, cuts)), TowerToHyperService::new(app)).await;
}
