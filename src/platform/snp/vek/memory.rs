//! Certificates kept in memory, with one fetch for all who want the same one.

use std::fmt;
use std::time::Duration;
use std::{num::NonZeroUsize, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use quick_cache::sync::Cache;

use super::{EndorsementError, VekId, VekRequest, VekSource};
use crate::platform::endorser::Failures;
use crate::time::Clock;

/// Keeps the certificates of another source in memory, by product, chip id and reported TCB.
///
/// However many ask for one certificate at the same time, the source below is asked once. Only a certificate that
/// passes the verifier's check is kept; one that no longer passes (it has expired) is fetched anew. A failure is
/// remembered for a while too, apart from the certificates, so that made-up chip ids push no real one out:
///
/// | failure | remembered for |
/// |---|---|
/// | not found, refused | [`with_negative_ttl`](Self::with_negative_ttl), 60 s |
/// | rate limited | as long as the source says, at most 5 min |
/// | unavailable | 1 s |
///
/// Default capacity: 1 024 certificates (about 1.3 KiB each, never more than 16 KiB) and as many failures.
pub struct MemoryVeks<S> {
    source: S,
    found: Cache<VekId, Bytes>,
    failed: Failures<VekId>,
}

const CAPACITY: usize = 1024;

impl<S> MemoryVeks<S> {
    /// Keeps what `source` finds.
    pub fn new(source: S) -> Self {
        Self { source, found: Cache::new(CAPACITY), failed: Failures::new(CAPACITY) }
    }

    /// How many certificates, and how many failures, are kept at most.
    #[must_use]
    pub fn with_capacity(mut self, certificates: NonZeroUsize) -> Self {
        self.found = Cache::new(certificates.get());
        self.failed.set_capacity(certificates.get());
        self
    }

    /// How long a certificate that was not found, or was refused, is not asked for again.
    #[must_use]
    pub fn with_negative_ttl(mut self, ttl: Duration) -> Self {
        self.failed.ttl = ttl;
        self
    }

    /// Takes time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.failed.clock = Arc::new(clock);
        self
    }

    /// The source below.
    pub fn get_ref(&self) -> &S {
        &self.source
    }
}

impl<S: VekSource> MemoryVeks<S> {
    async fn fetch(&self, request: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
        let der = self.source.vek(request).await?;
        request.check(&der)?;
        Ok(der)
    }
}

#[async_trait]
impl<S: VekSource> VekSource for MemoryVeks<S> {
    async fn vek(&self, request: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
        let id = request.id();
        loop {
            // Whoever gets the guard fetches; the others wait here. A guard that is dropped (failure, cancellation) passes
            // to the next of them.
            let guard = match self.found.get_value_or_guard_async(&id).await {
                Ok(der) => match request.check(&der) {
                    Ok(()) => return Ok(der),
                    Err(_) => {
                        self.found.remove_if(&id, |kept| *kept == der);
                        continue;
                    }
                },
                Err(guard) => guard,
            };
            if let Some(error) = self.failed.remembered(&id) {
                return Err(error);
            }
            return match self.fetch(request).await {
                Ok(der) => {
                    // Fails where the entry was removed meanwhile: the certificate is then just not kept.
                    let _ = guard.insert(der.clone());
                    Ok(der)
                }
                Err(error) => {
                    self.failed.remember(id, error.clone());
                    Err(error)
                }
            };
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for MemoryVeks<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryVeks")
            .field("source", &self.source)
            .field("certificates", &self.found.len())
            .field("failures", &self.failed.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::platform::endorser::EndorsementErrorKind;
    use crate::platform::snp::{Product, RawTcb};
    use crate::time::ManualClock;
    use crate::verifier::{VerifyError, VerifyErrorKind};

    /// Answers with `answer` as often as its gate has permits.
    #[derive(Debug)]
    struct Scripted {
        answer: Mutex<Result<Bytes, EndorsementError>>,
        gate: Semaphore,
        asked: AtomicUsize,
    }

    impl Scripted {
        fn new(answer: Result<&'static [u8], EndorsementErrorKind>) -> Self {
            let answer = answer.map(Bytes::from_static).map_err(|kind| EndorsementError::new(kind, "scripted"));
            Self { answer: Mutex::new(answer), gate: Semaphore::new(1000), asked: AtomicUsize::new(0) }
        }
    }

    #[async_trait]
    impl VekSource for Scripted {
        async fn vek(&self, _: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
            self.asked.fetch_add(1, SeqCst);
            self.gate.acquire().await.unwrap().forget();
            self.answer.lock().unwrap().clone()
        }
    }

    fn good(der: &[u8]) -> Result<(), VerifyError> {
        if der == b"good" { Ok(()) } else { Err(VerifyError::new(VerifyErrorKind::Mismatch, "another chip")) }
    }

    fn id(chip: u8) -> VekId {
        VekId::new(Product::Milan, [chip; 64], RawTcb::default()).unwrap()
    }

    fn request(chip: u8) -> VekRequest<'static> {
        VekRequest::of(id(chip), &good)
    }

    fn asked(cache: &MemoryVeks<Scripted>) -> usize {
        cache.get_ref().asked.load(SeqCst)
    }

    #[tokio::test]
    async fn a_certificate_is_fetched_once_and_kept_by_chip() {
        let cache = MemoryVeks::new(Scripted::new(Ok(b"good")));
        for _ in 0..3 {
            assert_eq!(cache.vek(&request(1)).await.unwrap(), &b"good"[..]);
        }
        assert_eq!(asked(&cache), 1);
        cache.vek(&request(2)).await.unwrap();
        assert_eq!(asked(&cache), 2);
    }

    async fn ask_together(cache: &Arc<MemoryVeks<Scripted>>) -> Vec<Result<Bytes, EndorsementError>> {
        cache.get_ref().gate.forget_permits(1000);
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let cache = Arc::clone(cache);
                tokio::spawn(async move { cache.vek(&request(1)).await })
            })
            .collect();
        tokio::task::yield_now().await;
        cache.get_ref().gate.add_permits(1);
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.unwrap());
        }
        results
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_fetch() {
        let cache = Arc::new(MemoryVeks::new(Scripted::new(Ok(b"good"))));
        assert!(ask_together(&cache).await.iter().all(Result::is_ok));
        assert_eq!(asked(&cache), 1);
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_failure() {
        let cache = Arc::new(MemoryVeks::new(Scripted::new(Err(EndorsementErrorKind::NotFound))));
        for result in ask_together(&cache).await {
            assert_eq!(result.unwrap_err().kind(), EndorsementErrorKind::NotFound);
        }
        assert_eq!(asked(&cache), 1);
    }

    #[tokio::test]
    async fn a_cancelled_leader_leaves_the_fetch_to_the_next() {
        let cache = Arc::new(MemoryVeks::new(Scripted::new(Ok(b"good"))));
        cache.get_ref().gate.forget_permits(1000);
        let leader = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.vek(&request(1)).await }
        });
        tokio::task::yield_now().await;
        let next = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.vek(&request(1)).await }
        });
        tokio::task::yield_now().await;
        leader.abort();
        cache.get_ref().gate.add_permits(1);
        assert!(next.await.unwrap().is_ok());
        assert_eq!(asked(&cache), 2);
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_its_time_and_no_longer() {
        let second = Duration::from_secs(1);
        let retry_after = 30 * second;
        for (kind, ttl) in [
            (EndorsementErrorKind::NotFound, 60 * second),
            (EndorsementErrorKind::Refused, 60 * second),
            (EndorsementErrorKind::Unavailable, second),
            (EndorsementErrorKind::RateLimited { retry_after }, retry_after),
        ] {
            let clock = ManualClock::new();
            let cache = MemoryVeks::new(Scripted::new(Err(kind))).with_clock(clock.clone());
            cache.vek(&request(1)).await.unwrap_err();
            clock.advance(ttl - Duration::from_millis(1));
            let error = cache.vek(&request(1)).await.unwrap_err();
            if let EndorsementErrorKind::RateLimited { retry_after } = error.kind() {
                assert_eq!(retry_after, Duration::from_millis(1));
            } else {
                assert_eq!(error.kind(), kind);
            }
            assert_eq!(asked(&cache), 1, "{kind:?}");
            clock.advance(Duration::from_millis(1));
            cache.vek(&request(1)).await.unwrap_err();
            assert_eq!(asked(&cache), 2, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_certificate_that_fails_the_check_is_not_kept() {
        let clock = ManualClock::new();
        let cache = MemoryVeks::new(Scripted::new(Ok(b"evil"))).with_clock(clock.clone());
        let error = cache.vek(&request(1)).await.unwrap_err();
        assert_eq!(VerifyError::from(error).kind(), VerifyErrorKind::Mismatch);
        assert_eq!(cache.found.len(), 0);
        *cache.get_ref().answer.lock().unwrap() = Ok(Bytes::from_static(b"good"));
        cache.vek(&request(1)).await.unwrap_err();
        assert_eq!(asked(&cache), 1, "the refusal is remembered");
        clock.advance(Duration::from_secs(60));
        cache.vek(&request(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_kept_certificate_that_no_longer_passes_is_fetched_anew() {
        let cache = MemoryVeks::new(Scripted::new(Ok(b"good")));
        cache.vek(&request(1)).await.unwrap();
        *cache.get_ref().answer.lock().unwrap() = Ok(Bytes::from_static(b"renewed"));
        let renewed = |der: &[u8]| {
            if der == b"renewed" { Ok(()) } else { Err(VerifyError::new(VerifyErrorKind::Endorsement, "expired")) }
        };
        let later = VekRequest::of(id(1), &renewed);
        assert_eq!(cache.vek(&later).await.unwrap(), &b"renewed"[..]);
        assert_eq!(asked(&cache), 2);
    }

    #[tokio::test]
    async fn certificates_and_failures_are_bounded() {
        let four = NonZeroUsize::new(4).unwrap();
        let cache = MemoryVeks::new(Scripted::new(Ok(b"good"))).with_capacity(four);
        for chip in 1..=100 {
            cache.vek(&request(chip)).await.unwrap();
        }
        assert!(cache.found.len() <= 4, "{}", cache.found.len());
        let cache = MemoryVeks::new(Scripted::new(Err(EndorsementErrorKind::NotFound))).with_capacity(four);
        for chip in 1..=100 {
            cache.vek(&request(chip)).await.unwrap_err();
        }
        assert!(cache.failed.len() <= 4, "{}", cache.failed.len());
    }

    #[tokio::test]
    async fn failures_push_no_certificate_out() {
        let cache = MemoryVeks::new(Scripted::new(Ok(b"good"))).with_capacity(NonZeroUsize::new(4).unwrap());
        cache.vek(&request(1)).await.unwrap();
        *cache.get_ref().answer.lock().unwrap() = Err(EndorsementError::new(EndorsementErrorKind::NotFound, "made up"));
        for chip in 2..=100 {
            cache.vek(&request(chip)).await.unwrap_err();
        }
        cache.vek(&request(1)).await.unwrap();
    }
}
