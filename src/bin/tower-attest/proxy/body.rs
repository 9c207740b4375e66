//! Bodies on their way through: counted, timed, their trailers cleaned, and otherwise as they came.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use pin_project::pin_project;
use tower_attest::BoxError;

use super::activity::{Activity, Expired, Timer};
use super::head::clean_trailers;
use super::meter::Measure;
use super::problem::Code;
use super::weight::fits_all;

/// A body of either direction.
pub(crate) type ProxyBody = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) fn empty() -> ProxyBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> ProxyBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Why a body is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    #[error("the request's body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the trailers are larger than HTTP/2 carries")]
    Trailers,
    #[error("the exchange took too long: {0:?}")]
    Expired(Expired),
}

/// A request's body, which may not be larger than its limit.
#[pin_project]
#[derive(Debug)]
pub(crate) struct RequestBody<B> {
    #[pin]
    inner: B,
    activity: Arc<Activity>,
    limit: Option<u64>,
    seen: u64,
}

impl<B> RequestBody<B> {
    pub(crate) fn new(inner: B, activity: Arc<Activity>, limit: Option<u64>) -> Self {
        Self { inner, activity, limit, seen: 0 }
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let Some(frame) = ready!(this.inner.poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into)?;
        this.activity.touch();
        let length = frame.data_ref().map_or(0, Bytes::len);
        *this.seen = this.seen.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        match *this.limit {
            Some(limit) if *this.seen > limit => {
                this.activity.set_too_large();
                Poll::Ready(Some(Err(Cut::TooLarge(limit).into())))
            }
            _ => Poll::Ready(Some(cleaned(frame))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body, which ends with an error when its exchange has passed a limit, and tells how it ended.
#[pin_project]
#[derive(Debug)]
pub(crate) struct ResponseBody<B> {
    #[pin]
    inner: B,
    activity: Arc<Activity>,
    timer: Timer,
    measure: Option<Measure>,
}

impl<B: Body> ResponseBody<B> {
    /// Without a measure where somebody else measures the exchange.
    pub(crate) fn new(inner: B, activity: Arc<Activity>, mut measure: Option<Measure>) -> Self {
        if let Some(measure) = measure.as_mut().filter(|_| inner.is_end_stream()) {
            measure.whole();
        }
        Self { inner, timer: Timer::new(Arc::clone(&activity)), activity, measure }
    }
}

/// Whoever reads a body may stop asking once it has said that it is at its end.
fn tell<E>(measure: &mut Measure, frame: Option<&Result<Frame<Bytes>, E>>, ended: bool, activity: &Activity) {
    match frame {
        Some(Err(_)) if activity.is_too_large() => measure.broke(Code::BodyTooLarge),
        Some(Err(_)) => measure.broke(Code::UpstreamBroke),
        Some(Ok(frame)) => {
            measure.passed(frame);
            if ended {
                measure.whole();
            }
        }
        None => measure.whole(),
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if let Poll::Ready(frame) = this.inner.as_mut().poll_frame(cx) {
            this.activity.touch();
            if let Some(measure) = this.measure {
                tell(measure, frame.as_ref(), this.inner.is_end_stream(), this.activity);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into).and_then(cleaned)));
        }
        let expired = ready!(Pin::new(this.timer).poll(cx));
        if let Some(measure) = this.measure {
            measure.broke(Code::Timeout);
        }
        Poll::Ready(Some(Err(Cut::Expired(expired).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn cleaned(mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
    if let Some(trailers) = frame.trailers_mut() {
        clean_trailers(trailers);
        if !fits_all(trailers) {
            return Err(Cut::Trailers.into());
        }
    }
    Ok(frame)
}

/// A body of which the first frame has been looked at.
#[pin_project]
struct Peeked<B> {
    first: Option<Frame<Bytes>>,
    #[pin]
    rest: B,
}

impl<B: Body<Data = Bytes, Error = BoxError>> Body for Peeked<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => this.rest.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}

/// Waits for a body's first frame, so that a body that turns out to be empty says so from the start.
///
/// gRPC's trailers-only replies must end with their head: grpcio takes a head that is followed by an empty frame for the
/// beginning of a reply, and misses the status in it.
pub(crate) async fn end_early(mut body: ProxyBody) -> Result<ProxyBody, BoxError> {
    match body.frame().await {
        None => Ok(empty()),
        Some(first) => Ok(Peeked { first: Some(first?), rest: body }.boxed_unsync()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn trailers_that_http2_makes_too_large_are_not_sent() {
        for (length, sent) in [(15_000, true), (30_000, false)] {
            let value = http::HeaderValue::from_bytes(&vec![0xff; length]).unwrap();
            let trailers = http::HeaderMap::from_iter([(http::HeaderName::from_static("x-a"), value)]);
            assert_eq!(cleaned(Frame::trailers(trailers)).is_ok(), sent, "{length}");
        }
    }

    /// Chunks of 4 bytes.
    struct Chunks(usize);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"four")))))
        }
    }

    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_passes_up_to_its_limit_and_not_a_byte_further() {
        for (limit, passes) in [(Some(8), true), (Some(7), false), (Some(0), false), (None, true)] {
            let activity = Activity::start(None, None);
            let collected = RequestBody::new(Chunks(2), Arc::clone(&activity), limit).collect().await;
            assert_eq!((collected.is_ok(), activity.is_too_large()), (passes, !passes), "{limit:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_upstream_is_cut_off_and_a_busy_client_keeps_it_alive() {
        let second = Duration::from_secs(1);
        let activity = Activity::start(Some(10 * second), None);
        let mut body = ResponseBody::new(Silent, Arc::clone(&activity), None);
        assert!(tokio::time::timeout(9 * second, body.frame()).await.is_err());
        assert!(RequestBody::new(Chunks(1), activity, None).frame().await.unwrap().is_ok());
        assert!(tokio::time::timeout(9 * second, body.frame()).await.is_err());
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Cut::Expired(Expired::Idle(10 * second))));
    }

    #[tokio::test]
    async fn a_body_that_turns_out_to_be_empty_says_so_and_another_loses_nothing() {
        let unknown = |chunks| Chunks(chunks).boxed_unsync();
        assert!(!unknown(0).is_end_stream());
        assert!(end_early(unknown(0)).await.unwrap().is_end_stream());
        let body = end_early(unknown(2)).await.unwrap();
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "fourfour");
    }

    #[tokio::test]
    async fn trailers_lose_what_a_head_would_have_lost_in_both_directions() {
        let body = || {
            let names = ["attestation-result", "x-forwarded-for", "x-sum"];
            let trailers = names.map(|name| (name.parse().unwrap(), "1".parse().unwrap())).into_iter().collect();
            empty().with_trailers(std::future::ready(Some(Ok(trailers))))
        };
        let activity = Activity::start(None, None);
        let asked = RequestBody::new(body(), Arc::clone(&activity), None).collect().await.unwrap();
        let answered = ResponseBody::new(body(), activity, None).collect().await.unwrap();
        for collected in [asked, answered] {
            let names: Vec<_> = collected.trailers().unwrap().keys().map(|name| name.as_str()).collect();
            assert_eq!(names, ["x-sum"]);
        }
    }

    #[test]
    fn the_length_of_a_body_stays_known() {
        let activity = Activity::start(None, None);
        let body = RequestBody::new(full("abc"), Arc::clone(&activity), Some(9));
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(ResponseBody::new(empty(), activity, None).is_end_stream());
    }
}
