//! A man in the middle who holds the server's own TLS key: reads all that is not protected otherwise, and may take the
//! reports away. A balancer that ends TLS before several workers is the same by another name.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tower_attest::BoxError;
use tower_attest::protocol::{ATTESTATION_REPORT, WELL_KNOWN_PATH};
use tower_attest::tls::{BindingConnector, Tls, TlsListener};

use crate::setup::Setup;
use wallet::Result;

/// Which reports a relay takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strip {
    Nothing,
    /// Those of answers to calls; evidence passes.
    Answers,
    Everything,
}

/// What a relay has read of requests, preflights apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    Nothing,
    /// So many bytes, and nothing of the witness in clear.
    Ciphertext(usize),
    Witness,
}

/// The relay, where it forwards to, and all that it has read of requests, preflights apart.
#[derive(Clone)]
pub struct Relay {
    pub address: SocketAddr,
    workers: Arc<[(&'static str, SocketAddr)]>,
    turn: Arc<AtomicUsize>,
    strip: Strip,
    read: Arc<Mutex<Vec<u8>>>,
}

type Body = UnsyncBoxBody<Bytes, BoxError>;
type Upstream = Client<BindingConnector<HttpConnector>, Body>;

impl Relay {
    /// Listens on a free port of loopback and forwards to `workers`, known by their routes: sealed requests to the one whose
    /// route they name, others in turn. It takes the reports away that `strip` says.
    pub async fn start(setup: &Setup, workers: &[(&'static str, SocketAddr)], strip: Strip) -> Result<Self> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let connector = BindingConnector::roots(http, setup.roots()?)?;
        let client: Upstream = Client::builder(TokioExecutor::new()).build(connector);
        let mut listener = TlsListener::bind("127.0.0.1:0", Tls::pem(setup.certificate(), setup.key())?).await?;
        let (address, workers) = (listener.local_addr(), workers.into());
        let relay = Self { address, workers, turn: Arc::default(), strip, read: Arc::default() };
        let this = relay.clone();
        tokio::spawn(async move {
            while let Some((stream, _)) = listener.accept().await {
                let (this, client) = (this.clone(), client.clone());
                let service = service_fn(move |request| this.clone().forward(client.clone(), request));
                tokio::spawn(async move {
                    let connection = auto::Builder::new(TokioExecutor::new());
                    // A client that hangs up is no error of the relay's.
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(relay)
    }

    /// What it has read; `secret` is some of the witness.
    pub fn read(&self, secret: &[u8]) -> Read {
        let read = self.lock();
        match read.len() {
            0 => Read::Nothing,
            _ if read.windows(secret.len()).any(|window| window == secret) => Read::Witness,
            bytes => Read::Ciphertext(bytes),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self, headers: &HeaderMap) -> SocketAddr {
        let named =
            headers.get("attestation-route").and_then(|route| self.workers.iter().find(|(name, _)| route == name));
        let turn = || self.turn.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        named.unwrap_or_else(|| &self.workers[turn()]).1
    }

    async fn forward(
        self,
        client: Upstream,
        request: Request<Incoming>,
    ) -> std::result::Result<Response<Body>, BoxError> {
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let is_preflight = target == WELL_KNOWN_PATH;
        if !is_preflight {
            self.lock().extend_from_slice(target.as_bytes());
        }
        let (strip, worker) = (self.strip, self.worker(&parts.headers));
        let body = body.map_frame(move |frame| {
            if let Some(data) = frame.data_ref().filter(|_| !is_preflight) {
                self.lock().extend_from_slice(data);
            }
            frame
        });
        parts.uri = Uri::builder()
            .scheme("https")
            .authority(format!("localhost:{}", worker.port()))
            .path_and_query(target)
            .build()?;
        parts.extensions.clear();
        parts.headers.remove(http::header::HOST);
        let request = Request::from_parts(parts, body.map_err(Into::into).boxed_unsync());
        let mut response = client.request(request).await?;
        if strip == Strip::Everything || strip == Strip::Answers && !is_preflight {
            response.headers_mut().remove(ATTESTATION_REPORT);
        }
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}
