//! Intel's Provisioning Certification Service v4, or a PCCS, over any tower HTTP service.

#[cfg(all(test, feature = "sim"))]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::Empty;
use tower_service::Service;

use super::{Collateral, CollateralRequest, CollateralSource, MAX_PART_LEN, PcsResponses, PlatformId};
use crate::error::BoxError;
use crate::platform::endorser::{
    Deadline, EndorsementError, EndorsementErrorKind, Endorser, base_url, endorser_settings,
};
use crate::platform::hex::hex_bytes;
use crate::report::Hex;

const INTEL: &str = "https://api.trustedservices.intel.com";
const ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

/// A client of Intel's PCS v4, or of a PCCS, which speaks the same URLs.
///
/// Four requests fetch one platform's collateral; the issuer chains come from the response headers. The service `S` is
/// cloned for each request. Its bounds:
/// `Service<http::Request<http_body_util::Empty<Bytes>>, Response = http::Response<B>> + Clone + Send`, with a `Send`
/// future, errors and a body that become a [`BoxError`]. It must not follow redirects; this client refuses one.
///
/// | setting | default |
/// |---|---|
/// | [`with_pccs`](Self::with_pccs) | Intel's own service |
/// | [`with_timeout`](Self::with_timeout): one call, all its requests with their attempts and pauses | 10 s |
/// | [`with_attempts`](Self::with_attempts) of one request, after 429, 5xx or a broken connection | 3 |
/// | [`with_longest_pause`](Self::with_longest_pause), also of a `Retry-After` | 5 min |
/// | [`with_max_in_flight`](Self::with_max_in_flight) requests at once | 8 |
///
/// A response may have 1 MiB; reading ends where the body grows larger.
///
/// After a failure nothing is sent for a while, by any caller: for `Retry-After` where the server names it, else for a
/// back-off that starts at half a second and doubles. A call whose time does not reach so far fails at once. Nothing is
/// kept: put [`MemoryCollateral`](super::MemoryCollateral) around it.
pub struct PcsClient<S> {
    endorser: Endorser<S>,
    base_url: Arc<str>,
    root_crl_url: Arc<str>,
}

impl<S> PcsClient<S> {
    /// A client of Intel's own service over `service`.
    pub fn new(service: S) -> Self {
        Self { endorser: Endorser::new(service), base_url: INTEL.into(), root_crl_url: ROOT_CRL.into() }
    }

    /// Asks a PCCS instead, such as `https://pccs.internal:8081`, also for the root's CRL (`…/rootcacrl`, in
    /// hexadecimal). Plain HTTP is as safe as HTTPS here, apart from who sees which platforms are asked for: what comes
    /// back counts only if Intel signed it.
    ///
    /// # Errors
    ///
    /// `Configuration` where `url` is not `http` or `https` with a host, or has a query.
    pub fn with_pccs(mut self, url: &str) -> Result<Self, EndorsementError> {
        let url = base_url(url, "https://pccs.internal:8081")?;
        self.root_crl_url = format!("{url}/sgx/certification/v4/rootcacrl").into();
        self.base_url = url.into();
        Ok(self)
    }

    endorser_settings!();

    /// The URL before `/tdx/certification/v4` and `/sgx/certification/v4`, without a slash at its end.
    pub fn base_url(&self) -> &str {
        &self.base_url
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
    async fn fetch(&self, platform: &PlatformId) -> Result<Collateral, EndorsementError> {
        let (base, deadline) = (&self.base_url, self.endorser.deadline());
        let url = format!("{base}/tdx/certification/v4/tcb?fmspc={}", Hex(&platform.fmspc));
        let tcb = self.get(url, deadline).await?;
        let qe = self.get(format!("{base}/tdx/certification/v4/qe/identity"), deadline).await?;
        let ca = platform.ca.as_str();
        let crl = self.get(format!("{base}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"), deadline).await?;
        let root_crl = self.get(self.root_crl_url.to_string(), deadline).await?;
        Collateral::from_pcs(PcsResponses {
            tcb_info: &tcb.body,
            tcb_info_issuer_chain: &tcb.chain(&["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"])?,
            qe_identity: &qe.body,
            qe_identity_issuer_chain: &qe.chain(&["sgx-enclave-identity-issuer-chain"])?,
            pck_crl: &der(&crl.body),
            pck_crl_issuer_chain: &crl.chain(&["sgx-pck-crl-issuer-chain"])?,
            root_ca_crl: &der(&root_crl.body),
        })
        .map_err(|error| {
            let message = format!("collateral for {platform} from {base}: {error}");
            EndorsementError::with_source(EndorsementErrorKind::Refused, message, error)
        })
    }

    async fn get(&self, url: String, deadline: Deadline) -> Result<Part, EndorsementError> {
        let answer = self.endorser.get(&url, MAX_PART_LEN, deadline).await?;
        Ok(Part { url, headers: answer.headers, body: answer.body })
    }
}

/// One response.
struct Part {
    url: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Part {
    /// The percent-decoded PEM in the first of these headers that is there.
    fn chain(&self, names: &[&str]) -> Result<String, EndorsementError> {
        let header = names.iter().find_map(|name| self.headers.get(*name));
        header.and_then(|value| percent_decoded(value.as_bytes())).ok_or_else(|| {
            let message = format!("GET {}: expected a percent-encoded chain in the header {:?}", self.url, names);
            EndorsementError::new(EndorsementErrorKind::Refused, message)
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
    async fn collateral(&self, request: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        self.fetch(&request.platform()).await.map(Arc::new)
    }
}

impl<S> fmt::Debug for PcsClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcsClient").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}
