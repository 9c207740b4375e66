//! What an HTTP response of an endorser means.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{EndorsementError, EndorsementErrorKind};
use crate::error::BoxError;

/// Why one attempt brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// Asking again brings the same.
    Final(EndorsementError),
    /// Asking again, after `retry_after` where the server names it, may help.
    Passing { error: EndorsementError, retry_after: Option<Duration> },
}

impl Failure {
    pub(super) fn passing(error: EndorsementError) -> Self {
        Self::Passing { error, retry_after: None }
    }
}

/// A response with status 200.
#[derive(Debug)]
pub(crate) struct Answer {
    #[cfg_attr(not(feature = "tdx"), expect(dead_code, reason = "Intel alone puts issuer chains into headers"))]
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A 200 with a body of at most `limit` bytes.
pub(super) async fn read<B>(
    response: Response<B>,
    uri: &str,
    limit: usize,
    longest_pause: Duration,
    now: SystemTime,
) -> Result<Answer, Failure>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let (head, body) = response.into_parts();
    judge(head.status, &head.headers, uri, longest_pause, now)?;
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(Answer { headers: head.headers, body: body.to_bytes() }),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("expected at most {limit} bytes from {uri}, found more");
            Err(Failure::Final(EndorsementError::new(EndorsementErrorKind::Refused, message)))
        }
        Err(error) => {
            let message = format!("the body of {uri} broke off");
            Err(Failure::passing(EndorsementError::with_source(EndorsementErrorKind::Unavailable, message, error)))
        }
    }
}

fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    uri: &str,
    longest_pause: Duration,
    now: SystemTime,
) -> Result<(), Failure> {
    let error =
        |kind| EndorsementError::new(kind, format!("expected status 200 from {uri}, found {}", status.as_u16()));
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Failure::Final(error(EndorsementErrorKind::NotFound))),
        StatusCode::TOO_MANY_REQUESTS => {
            let asked = retry_after(headers, now).map(|pause| pause.min(longest_pause));
            let kind =
                EndorsementErrorKind::RateLimited { retry_after: asked.unwrap_or(DEFAULT_PAUSE.min(longest_pause)) };
            Err(Failure::Passing { error: error(kind), retry_after: asked.or(Some(DEFAULT_PAUSE)) })
        }
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => Err(Failure::Passing {
            error: error(EndorsementErrorKind::Unavailable),
            retry_after: retry_after(headers, now),
        }),
        status if status.is_redirection() => {
            let message =
                format!("expected status 200 from {uri}, found {} (redirects are not followed)", status.as_u16());
            Err(Failure::Final(EndorsementError::new(EndorsementErrorKind::Refused, message)))
        }
        _ => Err(Failure::Final(error(EndorsementErrorKind::Refused))),
    }
}

/// The pause after a 429 that names none.
const DEFAULT_PAUSE: Duration = Duration::from_secs(10);

/// `Retry-After` (RFC 9110, section 10.2.3) as seconds or as a date; nothing where it is neither.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(value: &str) -> Option<Duration> {
        let now = httpdate::parse_http_date("Thu, 26 Nov 2026 12:00:00 GMT").unwrap();
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())]);
        retry_after(&headers, now)
    }

    async fn judged(status: u16) -> Result<Bytes, Failure> {
        let response = Response::builder().status(status).body(http_body_util::Full::<Bytes>::default()).unwrap();
        read(response, "u", 100, Duration::MAX, SystemTime::UNIX_EPOCH).await.map(|answer| answer.body)
    }

    #[tokio::test]
    async fn answers_that_will_stay_the_same_are_final() {
        for (status, expected) in [
            (404, EndorsementErrorKind::NotFound),
            (410, EndorsementErrorKind::NotFound),
            (204, EndorsementErrorKind::Refused),
            (206, EndorsementErrorKind::Refused),
            (301, EndorsementErrorKind::Refused),
            (302, EndorsementErrorKind::Refused),
            (308, EndorsementErrorKind::Refused),
            (400, EndorsementErrorKind::Refused),
            (401, EndorsementErrorKind::Refused),
            (403, EndorsementErrorKind::Refused),
        ] {
            let outcome = judged(status).await;
            assert!(
                matches!(&outcome, Err(Failure::Final(error)) if error.kind() == expected),
                "{status}: {outcome:?}"
            );
        }
    }

    #[tokio::test]
    async fn server_errors_and_request_timeouts_may_pass() {
        for status in [408, 500, 502, 503, 504, 599] {
            let outcome = judged(status).await;
            let unavailable = EndorsementErrorKind::Unavailable;
            assert!(matches!(&outcome, Err(Failure::Passing { error, .. }) if error.kind() == unavailable), "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        assert_eq!(pause("120"), Some(Duration::from_secs(120)));
        assert_eq!(pause("0"), Some(Duration::ZERO));
        assert_eq!(pause("99999999999999999999999"), Some(Duration::MAX));
        assert_eq!(pause("Thu, 26 Nov 2026 12:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(pause("Thu, 26 Nov 2026 11:00:00 GMT"), Some(Duration::ZERO));
        for value in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(pause(value), None, "{value:?}");
        }
    }
}
