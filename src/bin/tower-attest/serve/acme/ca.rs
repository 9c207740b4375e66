//! The HTTP client by which the CA is asked: https alone, bounded in time and size.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tower_attest::BoxError;
use tower_attest::platform::fetch::HttpsClient;
use tower_service::Service;

/// One request and its answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A certificate chain has a few KiB.
const MAX_ANSWER: usize = 1 << 20;

/// Clones share connections, and what the CA last said of when to come again.
#[derive(Clone)]
pub(super) struct CaClient {
    https: HttpsClient,
    come_again: Arc<Mutex<Option<SystemTime>>>,
}

impl CaClient {
    pub(super) fn new(https: HttpsClient) -> Self {
        Self { https, come_again: Arc::default() }
    }

    /// When the CA wants to be asked again, if it has refused a request for now since the last call of this.
    pub(super) fn take_come_again(&self) -> Option<SystemTime> {
        self.come_again.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn exchange(mut self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, BoxError> {
        if request.uri().scheme_str() != Some("https") {
            return Err(format!("the CA's directory: expected https URLs, found {}", request.uri()).into());
        }
        let host = request.uri().host().unwrap_or_default().to_owned();
        let answered = tokio::time::timeout(TIMEOUT, async {
            let (mut parts, body) = request.into_parts();
            name_this_program(&mut parts.headers);
            let body = body.collect().await?.to_bytes();
            let response = self.https.call(Request::from_parts(parts, Full::new(body))).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok::<_, BoxError>(Response::from_parts(parts, body))
        });
        let response = answered.await.map_err(|_| format!("{host}: no answer within {TIMEOUT:?}"))??;
        self.judge(&host, response)
    }

    /// Keeps when to come again. An error without a problem document is none of the CA's application: a gateway's.
    fn judge(&self, host: &str, response: Response<Bytes>) -> Result<Response<Bytes>, BoxError> {
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                let at = come_again(response.headers(), SystemTime::now());
                *self.come_again.lock().unwrap_or_else(PoisonError::into_inner) = at;
            }
            let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
            if !kind.starts_with(b"application/problem+json") {
                return Err(format!("{host}: status {status}").into());
            }
        }
        Ok(response)
    }
}

impl fmt::Debug for CaClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaClient").finish_non_exhaustive()
    }
}

impl HttpClient for CaClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async move {
            let response: Result<_, Box<dyn StdError + Send + Sync>> = exchange.await;
            Ok(response.map_err(Error::Other)?.map(Full::new).into())
        })
    }
}

/// RFC 8555, section 6.1: the agent's own name, then the library's.
fn name_this_program(headers: &mut HeaderMap) {
    let library = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let agent = format!(concat!("tower-attest/", env!("CARGO_PKG_VERSION"), " {}"), library);
    if let Ok(agent) = HeaderValue::try_from(agent.trim_end()) {
        headers.insert(USER_AGENT, agent);
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds or a date.
fn come_again(headers: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let told = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            come_again(&headers, now).map(|at| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(told("120"), Some(1_120));
        assert_eq!(told("Thu, 01 Jan 1970 01:00:00 GMT"), Some(3_600));
        for text in ["soon", "-1", "18446744073709551615", ""] {
            assert_eq!(told(text), None, "{text:?}");
        }
        assert_eq!(come_again(&HeaderMap::new(), now), None);
    }

    #[test]
    fn an_error_page_is_named_by_its_status_and_keeps_when_to_come_again() {
        let client = CaClient::new(HttpsClient::new());
        let answer = |status: u16, kind: &'static str| {
            let response = Response::builder().status(status).header("content-type", kind).header("retry-after", "60");
            client.judge("ca.example", response.body(Bytes::new()).unwrap())
        };
        assert_eq!(answer(502, "text/html").unwrap_err().to_string(), "ca.example: status 502 Bad Gateway");
        assert_eq!(client.take_come_again(), None);
        assert!(answer(429, "application/problem+json").is_ok());
        assert!(client.take_come_again().is_some());
        assert!(answer(503, "text/html").is_err());
        assert!(client.take_come_again().is_some() && client.take_come_again().is_none());
        assert!(answer(200, "application/json").is_ok());
    }

    #[tokio::test]
    async fn a_directory_that_names_urls_without_tls_is_refused() {
        let client = CaClient::new(HttpsClient::new());
        let request = Request::get("http://127.0.0.1:9/new-order").body(BodyWrapper::default()).unwrap();
        let error = client.exchange(request).await.unwrap_err().to_string();
        assert!(error.contains("expected https URLs"), "{error}");
    }
}
