//! Intel's Provisioning Certification Service v4, or a PCCS, over any tower HTTP service.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Empty, Limited};
use tower_service::Service;

use super::{
    Collateral, CollateralError, CollateralErrorKind, CollateralSource, MAX_PART_LEN, PcsResponses, PlatformId,
};
use crate::error::BoxError;
use crate::platform::hex::hex_bytes;
use crate::report::Hex;
use crate::time::{Clock, SystemClock};

const INTEL: &str = "https://api.trustedservices.intel.com";
const ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

/// A client of Intel's PCS v4, or of a PCCS, which speaks the same URLs.
///
/// Four requests fetch one platform's collateral; the issuer chains come from the response headers. The service `S` is
/// cloned for each request and must not follow redirects. Its bounds:
/// `Service<http::Request<http_body_util::Empty<Bytes>>, Response = http::Response<B>> + Clone + Send`, with a `Send`
/// future, errors and a body that become a [`BoxError`].
///
/// A response may have 1 MiB; the whole fetch may take 10 s ([`with_timeout`](Self::with_timeout)). Nothing is kept:
/// put [`MemoryCollateral`](super::MemoryCollateral) around it.
pub struct PcsClient<S> {
    service: Mutex<S>,
    base_url: Arc<str>,
    root_crl_url: Arc<str>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl<S> PcsClient<S> {
    /// A client of Intel's own service over `service`.
    pub fn new(service: S) -> Self {
        Self {
            service: Mutex::new(service),
            base_url: INTEL.into(),
            root_crl_url: ROOT_CRL.into(),
            timeout: Duration::from_secs(10),
            clock: Arc::new(SystemClock),
        }
    }

    /// Asks a PCCS instead, such as `https://pccs.internal:8081`, also for the root's CRL (`…/rootcacrl`, in
    /// hexadecimal). Plain HTTP is as safe as HTTPS here, apart from who sees which platforms are asked for: what comes
    /// back counts only if Intel signed it.
    #[must_use]
    pub fn with_pccs(mut self, url: &str) -> Self {
        let url = url.trim_end_matches('/');
        self.base_url = url.into();
        self.root_crl_url = format!("{url}/sgx/certification/v4/rootcacrl").into();
        self
    }

    /// Limits one fetch as a whole.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Takes time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl<S, B> PcsClient<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    async fn fetch(&self, platform: &PlatformId) -> Result<Collateral, CollateralError> {
        let base = &self.base_url;
        let tcb = self.get(&format!("{base}/tdx/certification/v4/tcb?fmspc={}", Hex(&platform.fmspc))).await?;
        let qe = self.get(&format!("{base}/tdx/certification/v4/qe/identity")).await?;
        let ca = platform.ca.as_str();
        let crl = self.get(&format!("{base}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der")).await?;
        let root_crl = self.get(&self.root_crl_url).await?;
        Collateral::from_pcs(PcsResponses {
            tcb_info: &tcb.body,
            tcb_info_issuer_chain: &tcb.chain(&["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"])?,
            qe_identity: &qe.body,
            qe_identity_issuer_chain: &qe.chain(&["sgx-enclave-identity-issuer-chain"])?,
            pck_crl: &der(&crl.body),
            pck_crl_issuer_chain: &crl.chain(&["sgx-pck-crl-issuer-chain"])?,
            root_ca_crl: &der(&root_crl.body),
        })
        .map_err(|error| CollateralError::new(CollateralErrorKind::Invalid, error.to_string()).with_source(error))
    }

    async fn get(&self, uri: &str) -> Result<Answer, CollateralError> {
        let request = Request::get(uri).body(Empty::new()).map_err(|error| {
            CollateralError::new(CollateralErrorKind::Invalid, format!("{uri} is not a URL")).with_source(error)
        })?;
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let broken = |error: S::Error| {
            CollateralError::new(CollateralErrorKind::Unavailable, format!("GET {uri} failed")).with_source(error)
        };
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(broken)?;
        let response = service.call(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let kind = match head.status {
            StatusCode::OK => None,
            StatusCode::NOT_FOUND => Some(CollateralErrorKind::NotFound),
            StatusCode::TOO_MANY_REQUESTS => Some(CollateralErrorKind::Unavailable),
            status if status.is_server_error() => Some(CollateralErrorKind::Unavailable),
            _ => Some(CollateralErrorKind::Invalid),
        };
        if let Some(kind) = kind {
            return Err(CollateralError::new(kind, format!("GET {uri}: expected status 200, found {}", head.status)));
        }
        let body = Limited::new(body, MAX_PART_LEN).collect().await.map_err(|error| {
            let message = format!("GET {uri}: the body broke off or is over {MAX_PART_LEN} bytes");
            CollateralError::new(CollateralErrorKind::Unavailable, message).with_source(error)
        })?;
        let mut body = body.aggregate();
        Ok(Answer { uri: uri.to_owned(), headers: head.headers, body: body.copy_to_bytes(body.remaining()) })
    }
}

struct Answer {
    uri: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// The percent-decoded PEM in the first of these headers that is there.
    fn chain(&self, names: &[&str]) -> Result<String, CollateralError> {
        let header = names.iter().find_map(|name| self.headers.get(*name));
        header.and_then(|value| percent_decoded(value.as_bytes())).ok_or_else(|| {
            let message = format!("GET {}: expected a percent-encoded chain in the header {:?}", self.uri, names);
            CollateralError::new(CollateralErrorKind::Invalid, message)
        })
    }
}

/// A CRL as DER: a PCCS may write it in hexadecimal.
fn der(body: &Bytes) -> Vec<u8> {
    let text = std::str::from_utf8(body).ok().map(str::trim);
    text.and_then(hex_bytes).unwrap_or_else(|| body.to_vec())
}

fn percent_decoded(text: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            decoded.extend(hex_bytes(std::str::from_utf8(digits).ok()?)?);
            rest = after;
        } else {
            decoded.push(*byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[async_trait]
impl<S, B> CollateralSource for PcsClient<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    async fn collateral(&self, platform: &PlatformId, _: SystemTime) -> Result<Arc<Collateral>, CollateralError> {
        let mut timer = self.clock.sleep(self.timeout);
        let mut fetch = std::pin::pin!(self.fetch(platform));
        poll_fn(|cx| match fetch.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome.map(Arc::new)),
            Poll::Pending => timer.as_mut().poll(cx).map(|()| {
                let message = format!("no answer from {} within {:?}", self.base_url, self.timeout);
                Err(CollateralError::new(CollateralErrorKind::Unavailable, message))
            }),
        })
        .await
    }
}

impl<S> fmt::Debug for PcsClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcsClient").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}
