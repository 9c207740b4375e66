//! AMD's Key Distribution Service, over any tower HTTP service.

mod url;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Empty;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tower_service::Service;

use super::{CrlRequest, CrlSource, EndorsementError, EndorsementErrorKind, VekRequest, VekSource};
use crate::error::BoxError;
use crate::platform::endorser::{Endorser, base_url, endorser_settings};
use crate::platform::snp::{MAX_CERTIFICATE, MAX_CRL, Product, VekKind};

/// A client of AMD's Key Distribution Service, or of a mirror that speaks the same URLs.
///
/// The service `S` is cloned for each request. Its bounds:
/// `Service<http::Request<http_body_util::Empty<Bytes>>, Response = http::Response<B>> + Clone + Send`, with a
/// `Send` future, errors and a body that become a [`BoxError`]. It must not follow redirects (hyper-util's client does
/// not); this client refuses one. Caching, connection pools and proxies belong into `S` or around this client.
///
/// | setting | default |
/// |---|---|
/// | [`with_base_url`](Self::with_base_url) | `https://kdsintf.amd.com` |
/// | [`with_timeout`](Self::with_timeout): one call, with its attempts and pauses | 10 s |
/// | [`with_attempts`](Self::with_attempts) in one call, after 429, 5xx or a broken connection | 3 |
/// | [`with_longest_pause`](Self::with_longest_pause), also of a `Retry-After` | 5 min |
/// | [`with_max_in_flight`](Self::with_max_in_flight) requests at once | 8 |
///
/// A certificate may have 16 KiB and a CRL 1 MiB; reading ends where the body grows larger. The content type is not
/// looked at: what counts is whether the bytes pass the verifier's checks.
///
/// After a failure nothing is sent for a while, by any caller: for `Retry-After` where the server names it, else for a
/// back-off that starts at half a second and doubles. A call whose time does not reach so far fails at once.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use bytes::Bytes;
/// use http_body_util::{Empty, Full};
/// use tower_attest::platform::snp::vek::KdsClient;
///
/// # #[derive(Clone)] struct MyClient;
/// # impl tower_service::Service<http::Request<Empty<Bytes>>> for MyClient {
/// #     type Response = http::Response<Full<Bytes>>;
/// #     type Error = std::convert::Infallible;
/// #     type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
/// #         std::task::Poll::Ready(Ok(()))
/// #     }
/// #     fn call(&mut self, _: http::Request<Empty<Bytes>>) -> Self::Future { unreachable!() }
/// # }
/// // Any `Service<http::Request<Empty<Bytes>>>`: hyper-util's client, a stack of tower layers, a stand-in.
/// let kds = KdsClient::new(MyClient).with_base_url("http://kds-mirror.internal:8080")?;
/// assert_eq!(kds.base_url(), "http://kds-mirror.internal:8080");
/// # Ok::<(), tower_attest::platform::snp::vek::EndorsementError>(())
/// ```
pub struct KdsClient<S> {
    endorser: Endorser<S>,
    base_url: Arc<str>,
}

impl<S> KdsClient<S> {
    /// A client of AMD's own service over `service`.
    pub fn new(service: S) -> Self {
        Self { endorser: Endorser::new(service), base_url: Arc::from(url::AMD) }
    }

    /// Asks a mirror instead: `http` or `https`, a host, and perhaps a path that stands before `/vcek/v1`.
    ///
    /// Plain HTTP is as safe as HTTPS here, apart from who sees which chip is asked for: what comes back counts only if
    /// AMD signed it.
    ///
    /// # Errors
    ///
    /// `Configuration` where `url` is no such URL or has a query.
    pub fn with_base_url(mut self, url: &str) -> Result<Self, EndorsementError> {
        self.base_url = base_url(url, url::AMD)?.into();
        Ok(self)
    }

    endorser_settings!();

    /// The URL before `/vcek/v1`, without a slash at its end.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }
}

impl<S, B> KdsClient<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// The certificates (DER) that stand between a VEK of `kind` and AMD's root, and that root: ASK or ASVK, then ARK.
    ///
    /// For inspection: verification uses the certificates that this crate pins, and none that came over a network.
    ///
    /// # Errors
    ///
    /// As [`VekSource::vek`]; `Refused` where the answer (PEM, at most 16 KiB) is not one or more certificates.
    pub async fn cert_chain(&self, product: Product, kind: VekKind) -> Result<Vec<Bytes>, EndorsementError> {
        let path = url::cert_chain(product, kind);
        let pem = self.get(&path, MAX_CERTIFICATE).await?;
        let certificates: Result<Vec<Bytes>, _> = CertificateDer::pem_slice_iter(&pem)
            .map(|certificate| certificate.map(|der| Bytes::copy_from_slice(&der)))
            .collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) => {
                let message = format!("expected certificates in PEM from {path}, found none");
                Err(EndorsementError::new(EndorsementErrorKind::Refused, message))
            }
            Err(error) => {
                let message = format!("expected certificates in PEM from {path}");
                let error = BoxError::from(format!("{error:?}"));
                Err(EndorsementError::with_source(EndorsementErrorKind::Refused, message, error))
            }
        }
    }

    /// The body behind `path`, at most `limit` bytes.
    async fn get(&self, path: &str, limit: usize) -> Result<Bytes, EndorsementError> {
        let url = format!("{}{path}", self.base_url);
        Ok(self.endorser.get(&url, limit, self.endorser.deadline()).await?.body)
    }
}

#[async_trait]
impl<S, B> VekSource for KdsClient<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    async fn vek(&self, request: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
        self.get(&url::vcek(&request.id()), MAX_CERTIFICATE).await
    }
}

#[async_trait]
impl<S, B> CrlSource for KdsClient<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    async fn crl(&self, request: &CrlRequest<'_>) -> Result<Bytes, EndorsementError> {
        self.get(&url::crl(request.product()), MAX_CRL).await
    }
}

impl<S> fmt::Debug for KdsClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KdsClient").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}
