use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

use super::*;
use crate::platform::endorser::testing::PausedClock;
use crate::platform::snp::{Product, RawTcb, vek::VekId};
use crate::verifier::VerifyError;

type TestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Answers the requests in turn with what `answer` makes of their number, counting from 0.
#[derive(Clone)]
struct Scripted {
    asked: Arc<AtomicUsize>,
    answer: fn(usize) -> Result<Response<TestBody>, BoxError>,
}

impl Service<Request<Empty<Bytes>>> for Scripted {
    type Response = Response<TestBody>;
    type Error = BoxError;
    type Future = Ready<Result<Response<TestBody>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        assert_eq!(request.method(), http::Method::GET);
        ready((self.answer)(self.asked.fetch_add(1, SeqCst)))
    }
}

fn body(content: impl Into<Bytes>) -> TestBody {
    Full::new(content.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn status(status: StatusCode) -> Response<TestBody> {
    Response::builder().status(status).body(body("a body that is not a certificate")).unwrap()
}

fn retry_after(status: StatusCode, value: &str) -> Response<TestBody> {
    Response::builder().status(status).header(header::RETRY_AFTER, value).body(body("")).unwrap()
}

fn kds(answer: fn(usize) -> Result<Response<TestBody>, BoxError>) -> KdsClient<Scripted> {
    KdsClient::new(Scripted { asked: Arc::default(), answer }).with_clock(PausedClock::starting_at(1_800_000_000))
}

fn asked(kds: &KdsClient<Scripted>) -> usize {
    kds.endorser.service().asked.load(SeqCst)
}

async fn ask<S>(kds: &KdsClient<S>) -> Result<Bytes, EndorsementError>
where
    KdsClient<S>: VekSource,
{
    fn accept(_: &[u8]) -> Result<(), VerifyError> {
        Ok(())
    }
    let id = VekId::new(Product::Milan, [1; 64], RawTcb::default()).unwrap();
    kds.vek(&VekRequest::of(id, &accept)).await
}

async fn kind<S>(kds: &KdsClient<S>) -> EndorsementErrorKind
where
    KdsClient<S>: VekSource,
{
    ask(kds).await.unwrap_err().kind()
}

#[tokio::test(start_paused = true)]
async fn passing_failures_are_asked_again_until_an_answer_comes() {
    let kds = kds(|attempt| match attempt {
        0 => Ok(status(StatusCode::SERVICE_UNAVAILABLE)),
        1 => Err("connection reset".into()),
        _ => Ok(Response::new(body("der"))),
    });
    assert_eq!(ask(&kds).await.unwrap(), "der");
    assert_eq!(asked(&kds), 3);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_limited() {
    let failing = || kds(|_| Ok(status(StatusCode::BAD_GATEWAY)));
    let kds = failing();
    assert_eq!(kind(&kds).await, EndorsementErrorKind::Unavailable);
    assert_eq!(asked(&kds), 3);
    let kds = failing().with_attempts(0);
    assert_eq!(kind(&kds).await, EndorsementErrorKind::Unavailable);
    assert_eq!(asked(&kds), 1);
}

#[tokio::test(start_paused = true)]
async fn final_answers_are_not_asked_again() {
    let kds = kds(|_| Ok(status(StatusCode::NOT_FOUND)));
    assert_eq!(kind(&kds).await, EndorsementErrorKind::NotFound);
    assert_eq!(asked(&kds), 1);
}

#[tokio::test(start_paused = true)]
async fn a_short_retry_after_is_waited_for() {
    let kds = kds(|attempt| match attempt {
        0 => Ok(retry_after(StatusCode::TOO_MANY_REQUESTS, "5")),
        _ => Ok(Response::new(body("der"))),
    });
    let start = tokio::time::Instant::now();
    assert_eq!(ask(&kds).await.unwrap(), "der");
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_long_retry_after_fails_at_once_and_silences_everyone_until_it_is_over() {
    let kds = kds(|attempt| match attempt {
        0 => Ok(retry_after(StatusCode::TOO_MANY_REQUESTS, "60")),
        _ => Ok(Response::new(body("der"))),
    });
    let minute = EndorsementErrorKind::RateLimited { retry_after: Duration::from_secs(60) };
    assert_eq!(kind(&kds).await, minute);
    tokio::time::advance(Duration::from_secs(20)).await;
    let remaining = EndorsementErrorKind::RateLimited { retry_after: Duration::from_secs(40) };
    assert_eq!(kind(&kds).await, remaining);
    assert_eq!(asked(&kds), 1, "nothing was sent in the pause");
    tokio::time::advance(Duration::from_secs(40)).await;
    assert_eq!(ask(&kds).await.unwrap(), "der");
}

#[tokio::test(start_paused = true)]
async fn an_absurd_retry_after_is_cut() {
    let kds = kds(|_| Ok(retry_after(StatusCode::TOO_MANY_REQUESTS, "99999999999999999999")));
    let longest = EndorsementErrorKind::RateLimited { retry_after: Duration::from_secs(300) };
    assert_eq!(kind(&kds).await, longest);
    assert_eq!(kind(&kds).await, longest);
    assert_eq!(asked(&kds), 1);
}

#[tokio::test(start_paused = true)]
async fn a_429_without_retry_after_pauses_all_the_same() {
    let kds = kds(|_| Ok(status(StatusCode::TOO_MANY_REQUESTS)));
    assert!(matches!(kind(&kds).await, EndorsementErrorKind::RateLimited { .. }));
    assert!(matches!(kind(&kds).await, EndorsementErrorKind::RateLimited { .. }));
    assert_eq!(asked(&kds), 1);
}

#[tokio::test(start_paused = true)]
async fn a_503_with_a_long_retry_after_is_an_outage_until_it_is_over() {
    let kds = kds(|_| Ok(retry_after(StatusCode::SERVICE_UNAVAILABLE, "60")));
    assert_eq!(kind(&kds).await, EndorsementErrorKind::Unavailable);
    assert_eq!(kind(&kds).await, EndorsementErrorKind::Unavailable);
    assert_eq!(asked(&kds), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_may_have_exactly_its_limit() {
    let kds_full = kds(|_| Ok(Response::new(body(vec![0; MAX_CERTIFICATE]))));
    assert_eq!(ask(&kds_full).await.unwrap().len(), MAX_CERTIFICATE);
    let kds = kds(|_| Ok(Response::new(body(vec![0; MAX_CERTIFICATE + 1]))));
    assert_eq!(kind(&kds).await, EndorsementErrorKind::Refused);
    assert_eq!(asked(&kds), 1);
}

/// Gives 1 KiB for ever, and counts how often.
struct Endless {
    given: Arc<AtomicUsize>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.given.fetch_add(1, SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1024])))))
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_body_is_left_as_soon_as_it_is_too_large() {
    let given = Arc::<AtomicUsize>::default();
    let endless = Arc::clone(&given);
    let service = tower::service_fn(move |_: Request<Empty<Bytes>>| {
        ready(Ok::<_, Infallible>(Response::new(Endless { given: Arc::clone(&endless) })))
    });
    assert_eq!(kind(&KdsClient::new(service)).await, EndorsementErrorKind::Refused);
    assert_eq!(given.load(SeqCst), MAX_CERTIFICATE / 1024 + 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_may_be_asked_for_again() {
    let kds = kds(|attempt| match attempt {
        0 => {
            let torn = http_body_util::StreamBody::new(tokio_stream::iter([
                Ok(Frame::data(Bytes::from_static(b"d"))),
                Err(BoxError::from("reset")),
            ]));
            Ok(Response::new(BodyExt::boxed_unsync(torn)))
        }
        _ => Ok(Response::new(body("der"))),
    });
    assert_eq!(ask(&kds).await.unwrap(), "der");
    assert_eq!(asked(&kds), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_timeout_and_the_silent_server_is_given_a_pause() {
    let calls = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&calls);
    let service = tower::service_fn(move |_: Request<Empty<Bytes>>| {
        counted.fetch_add(1, SeqCst);
        pending::<Result<Response<TestBody>, Infallible>>()
    });
    let kds = KdsClient::new(service)
        .with_clock(PausedClock::starting_at(1_800_000_000))
        .with_timeout(Duration::from_millis(200));
    assert_eq!(kind(&kds).await, EndorsementErrorKind::Unavailable);
    assert_eq!(kind(&kds).await, EndorsementErrorKind::Unavailable);
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_at_once_are_limited_and_the_rest_wait_only_so_long() {
    let calls = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&calls);
    let service = tower::service_fn(move |_: Request<Empty<Bytes>>| {
        counted.fetch_add(1, SeqCst);
        pending::<Result<Response<TestBody>, Infallible>>()
    });
    let kds =
        Arc::new(KdsClient::new(service).with_clock(PausedClock::starting_at(1_800_000_000)).with_max_in_flight(2));
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let kds = Arc::clone(&kds);
            tokio::spawn(async move { kind(&kds).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(calls.load(SeqCst), 2);
    for call in waiting {
        assert_eq!(call.await.unwrap(), EndorsementErrorKind::Unavailable);
    }
}

#[tokio::test(start_paused = true)]
async fn the_url_is_the_base_and_amds_path() {
    let service = tower::service_fn(|request: Request<Empty<Bytes>>| {
        ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(request.uri().to_string())))))
    });
    let kds = KdsClient::new(service);
    assert!(ask(&kds).await.unwrap().starts_with(b"https://kdsintf.amd.com/vcek/v1/Milan/0101"));
    let mirror = KdsClient::new(service).with_base_url("http://mirror.example:81/amd/").unwrap();
    assert!(ask(&mirror).await.unwrap().starts_with(b"http://mirror.example:81/amd/vcek/v1/Milan/0101"));
}
