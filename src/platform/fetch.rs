//! A ready HTTPS client for AMD's KDS and Intel's PCS, where the application has none of its own to offer.
//!
//! ```
//! # #[cfg(feature = "snp")] {
//! use tower_attest::platform::fetch::HttpsClient;
//! use tower_attest::platform::snp::vek::{KdsClient, MemoryVeks};
//!
//! // Nothing is connected to before the first report that comes without its certificate.
//! let source = MemoryVeks::new(KdsClient::new(HttpsClient::new()));
//! assert_eq!(source.get_ref().base_url(), "https://kdsintf.amd.com");
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// An HTTP/1.1 client over TLS 1.2 or 1.3 (rustls, aws-lc-rs) and, for a mirror with an `http` URL, without TLS.
///
/// It follows no redirect, keeps no cookie, uses no proxy and has no timeout of its own: who calls it limits time and
/// size. Clones share their connections; one idle connection per host is kept for 30 s. It takes requests with and
/// without a body.
#[derive(Clone)]
pub struct HttpsClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpsClient {
    /// A client that trusts Mozilla's certificate authorities, as they were when this crate was built.
    pub fn new() -> Self {
        Self::with_roots(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// A client that trusts `roots` alone.
    #[expect(clippy::expect_used, reason = "fails only for a provider without suites, and aws-lc-rs has them")]
    pub fn with_roots(roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .expect("the provider supports both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        Self { client }
    }
}

impl Default for HttpsClient {
    fn default() -> Self {
        Self::new()
    }
}

impl Service<Request<Empty<Bytes>>> for HttpsClient {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> ResponseFuture {
        self.client.request(request.map(|_| Full::default()))
    }
}

impl Service<Request<Full<Bytes>>> for HttpsClient {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> ResponseFuture {
        self.client.request(request)
    }
}

impl fmt::Debug for HttpsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsClient").finish_non_exhaustive()
    }
}
