use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::platform::endorser::testing::PausedClock;
use crate::time::ManualClock;
use crate::verifier::{VerifyError, VerifyErrorKind};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Notes when it was asked, in seconds since the start, and answers in turn; the last answer stays.
#[derive(Debug)]
struct Scripted {
    start: Instant,
    asked: Mutex<Vec<u64>>,
    answers: Mutex<Vec<Result<&'static [u8], EndorsementErrorKind>>>,
}

impl Scripted {
    fn new(answers: &[Result<&'static [u8], EndorsementErrorKind>]) -> Arc<Self> {
        let answers = Mutex::new(answers.iter().rev().copied().collect());
        Arc::new(Self { start: Instant::now(), asked: Mutex::default(), answers })
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl CrlSource for Scripted {
    async fn crl(&self, _: &CrlRequest<'_>) -> Result<Bytes, EndorsementError> {
        self.asked.lock().unwrap().push(self.start.elapsed().as_secs());
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop().unwrap() } else { answers[0] };
        answer.map(Bytes::from_static).map_err(|kind| EndorsementError::new(kind, "scripted"))
    }
}

/// Accepts `good`, which then serves for `lifetime`.
struct Sink {
    lifetime: Duration,
    taken: Mutex<Vec<Product>>,
}

impl Sink {
    fn new(lifetime: Duration) -> Arc<Self> {
        Arc::new(Self { lifetime, taken: Mutex::default() })
    }
}

impl CrlSink for Sink {
    fn renew_crl(&self, product: Product, crl: &[u8], now: SystemTime) -> Result<SystemTime, VerifyError> {
        if crl != b"good" {
            return Err(VerifyError::new(VerifyErrorKind::Endorsement, "no CRL"));
        }
        self.taken.lock().unwrap().push(product);
        Ok(now + self.lifetime)
    }
}

fn refresher(source: &Arc<Scripted>) -> CrlRefresher<Arc<Scripted>> {
    CrlRefresher::new(Arc::clone(source), [Product::Milan]).with_clock(PausedClock::starting_at(0))
}

#[tokio::test(start_paused = true)]
async fn a_list_is_renewed_at_half_its_time_or_each_interval() {
    for (lifetime, interval) in [(10 * HOUR, 5 * HOUR), (365 * 24 * HOUR, 24 * HOUR)] {
        let (source, sink) = (Scripted::new(&[Ok(b"good")]), Sink::new(lifetime));
        let refresh = refresher(&source).spawn(&sink);
        refresh.first_round().await.unwrap();
        tokio::time::sleep(interval + Duration::from_secs(1)).await;
        assert_eq!(source.asked(), [0, interval.as_secs()]);
        assert_eq!(*sink.taken.lock().unwrap(), [Product::Milan; 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_about_to_end_is_asked_for_once_a_minute_at_most() {
    let (source, sink) = (Scripted::new(&[Ok(b"good")]), Sink::new(Duration::ZERO));
    let _refresh = refresher(&source).spawn(&sink);
    tokio::time::sleep(Duration::from_secs(121)).await;
    assert_eq!(source.asked(), [0, 60, 120]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_with_growing_pauses_and_told() {
    let source = Scripted::new(&[Err(EndorsementErrorKind::Unavailable), Ok(b"evil"), Ok(b"good")]);
    let sink = Sink::new(1000 * HOUR);
    let refresh = refresher(&source).spawn(&sink);
    assert_eq!(refresh.first_round().await.unwrap_err().kind(), EndorsementErrorKind::Unavailable);
    tokio::time::sleep(Duration::from_secs(61)).await;
    let states = refresh.states();
    assert_eq!(states[0].error().unwrap().kind(), EndorsementErrorKind::Refused);
    assert_eq!((states[0].tries(), states[0].next_update()), (2, None));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(source.asked(), [0, 60, 180]);
    let states = refresh.states();
    assert!(states[0].error().is_none() && states[0].next_update().is_some());
}

#[tokio::test(start_paused = true)]
async fn pauses_after_failures_grow_to_an_hour_and_no_further() {
    let source = Scripted::new(&[Err(EndorsementErrorKind::NotFound)]);
    let sink = Sink::new(HOUR);
    let _refresh = refresher(&source).spawn(&sink);
    tokio::time::sleep(24 * HOUR).await;
    let asked = source.asked();
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses[..7], [60, 120, 240, 480, 960, 1920, 3600]);
    assert!(pauses[6..].iter().all(|pause| *pause == 3600), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_requested_pause_is_kept_up_to_the_interval() {
    for (retry_after, expected) in [(2 * HOUR, 2 * HOUR), (Duration::MAX, 24 * HOUR)] {
        let source = Scripted::new(&[Err(EndorsementErrorKind::RateLimited { retry_after }), Ok(b"good")]);
        let sink = Sink::new(1000 * HOUR);
        let _refresh = refresher(&source).spawn(&sink);
        tokio::time::sleep(expected + Duration::from_secs(1)).await;
        assert_eq!(source.asked(), [0, expected.as_secs()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_brings_the_renewal_forward() {
    let clock = ManualClock::new();
    let (source, sink) = (Scripted::new(&[Ok(b"good")]), Sink::new(1000 * HOUR));
    let refresh = CrlRefresher::new(Arc::clone(&source), [Product::Milan]).with_clock(clock.clone()).spawn(&sink);
    refresh.first_round().await.unwrap();
    clock.set_wall(clock.now().wall + 25 * HOUR);
    tokio::time::sleep(LONGEST_SLEEP + Duration::from_secs(1)).await;
    assert_eq!(source.asked().len(), 2, "the monotonic clock stood still");
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle() {
    let (source, sink) = (Scripted::new(&[Ok(b"good")]), Sink::new(HOUR));
    let refresh = refresher(&source).spawn(&sink);
    let other = refresh.clone();
    refresh.first_round().await.unwrap();
    drop(refresh);
    tokio::time::sleep(HOUR).await;
    let before = source.asked().len();
    assert!(before > 1, "a clone keeps it running");
    drop(other);
    tokio::time::sleep(100 * HOUR).await;
    assert_eq!(source.asked().len(), before);
    assert_eq!(Arc::strong_count(&source), 1, "the task has let go of its source");
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_sink_and_does_not_keep_it_alive() {
    let (source, sink) = (Scripted::new(&[Ok(b"good")]), Sink::new(HOUR));
    let refresh = refresher(&source).spawn(&sink);
    refresh.first_round().await.unwrap();
    assert_eq!(Arc::strong_count(&sink), 1);
    drop(sink);
    tokio::time::sleep(100 * HOUR).await;
    assert_eq!(source.asked(), [0]);
    assert_eq!(Arc::strong_count(&source), 1);
    assert!(refresh.first_round().await.is_ok(), "the last round stays known");
}

#[tokio::test(start_paused = true)]
async fn each_product_has_its_own_list_and_plan() {
    let source = Scripted::new(&[Ok(b"good"), Err(EndorsementErrorKind::Unavailable), Ok(b"good")]);
    let sink = Sink::new(1000 * HOUR);
    let refresher = CrlRefresher::new(Arc::clone(&source), [Product::Milan, Product::Genoa]);
    let refresh = refresher.with_clock(PausedClock::starting_at(0)).spawn(&sink);
    refresh.first_round().await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(source.asked(), [0, 0, 60], "Genoa alone is tried again");
    let taken: Vec<_> = refresh.states().iter().map(|state| (state.product(), state.tries())).collect();
    assert_eq!(taken, [(Product::Milan, 1), (Product::Genoa, 2)]);
}
