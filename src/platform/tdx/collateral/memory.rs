//! Collateral kept in memory, fetched once for all who ask.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use quick_cache::sync::Cache;

use super::{Collateral, CollateralRequest, CollateralSource, PlatformId};
use crate::platform::endorser::{EndorsementError, EndorsementErrorKind, Failures};
use crate::time::Clock;

/// Most platforms that are kept; one set has some 15 KiB.
const CAPACITY: usize = 256;
/// How long before its end collateral is renewed by those who ask for it.
const RENEW_BEFORE: Duration = Duration::from_secs(86_400);

/// Keeps the collateral of another source in memory, by platform.
///
/// However many ask for one platform at the same time, the source below is asked once. Only a set that passes the
/// verifier's check is kept; one that no longer passes (it has ended, or the policy's floor has risen) is fetched anew.
/// In the last day before its end, or for a platform whose TCB it does not know, one of those who ask for it renews it, while
/// the others go on with the set at hand, and so do all while renewing fails. A [`CollateralRefresher`](super::CollateralRefresher) renews earlier, in the
/// background.
///
/// A failure is remembered for a while too:
///
/// | failure | remembered for |
/// |---|---|
/// | not found, refused, nothing newer yet | [`with_negative_ttl`](Self::with_negative_ttl), 60 s |
/// | rate limited | as long as the source says, at most 5 min |
/// | unavailable | 1 s |
///
/// Default capacity: 256 platforms and as many failures.
pub struct MemoryCollateral<S> {
    source: S,
    kept: Cache<PlatformId, Kept>,
    failed: Failures<PlatformId>,
    /// The platforms that are being renewed, each with a lock that is held meanwhile.
    renewing: Mutex<HashMap<PlatformId, Arc<tokio::sync::Mutex<()>>>>,
}

/// What is kept of one platform.
#[derive(Clone)]
struct Kept {
    /// The set that passed the last check.
    current: Arc<Collateral>,
    /// A newer one, fetched in the background, that no verifier has judged yet.
    next: Option<Arc<Collateral>>,
}

impl<S> MemoryCollateral<S> {
    /// Keeps what `source` supplies.
    pub fn new(source: S) -> Self {
        Self { source, kept: Cache::new(CAPACITY), failed: Failures::new(CAPACITY), renewing: Mutex::default() }
    }

    /// Of how many platforms collateral, and failures, are kept at most.
    #[must_use]
    pub fn with_capacity(mut self, platforms: NonZeroUsize) -> Self {
        self.kept = Cache::new(platforms.get());
        self.failed.set_capacity(platforms.get());
        self
    }

    /// How long collateral that was not found, or was refused, is not asked for again.
    #[must_use]
    pub fn with_negative_ttl(mut self, ttl: Duration) -> Self {
        self.failed.ttl = ttl;
        self
    }

    /// Takes time from `clock`. Whether collateral has ended is judged at the time of each request.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.failed.clock = Arc::new(clock);
        self
    }

    /// The source behind it.
    pub fn get_ref(&self) -> &S {
        &self.source
    }

    /// Each platform whose collateral is kept, and when that ends.
    pub(super) fn platforms(&self) -> Vec<(PlatformId, Option<SystemTime>)> {
        let end = |kept: Kept| kept.next.unwrap_or(kept.current).next_update();
        self.kept.iter().map(|(platform, kept)| (platform, end(kept))).collect()
    }

    /// The set of `platform` that passes the check, and its end; a newer one where the background has brought it.
    fn judged(&self, request: &CollateralRequest<'_>, kept: Kept) -> Option<(Arc<Collateral>, SystemTime)> {
        let platform = request.platform();
        if let Some(next) = kept.next {
            match request.check(&next) {
                Ok(end) => {
                    self.kept.insert(platform, Kept { current: Arc::clone(&next), next: None });
                    return Some((next, end));
                }
                Err(error) => {
                    tracing::warn!(%platform, %error, "tdx.collateral.refused");
                    self.kept.insert(platform, Kept { current: Arc::clone(&kept.current), next: None });
                }
            }
        }
        request.check(&kept.current).ok().map(|end| (kept.current, end))
    }

    fn renewing(&self) -> MutexGuard<'_, HashMap<PlatformId, Arc<tokio::sync::Mutex<()>>>> {
        self.renewing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: CollateralSource> MemoryCollateral<S> {
    async fn fetch(&self, request: &CollateralRequest<'_>) -> Result<(Arc<Collateral>, SystemTime), EndorsementError> {
        let outcome = async {
            let collateral = self.source.collateral(request).await?;
            let end = request.check(&collateral)?;
            Ok((collateral, end))
        };
        let remember = |error: &EndorsementError| self.failed.remember(request.platform(), error.clone());
        outcome.await.inspect_err(remember)
    }

    /// Fetches the set after `current`, for the next verifier that asks to judge. Returns the end of what there is now.
    pub(super) async fn prefetch(&self, request: &CollateralRequest<'_>) -> Result<SystemTime, EndorsementError> {
        let (next, end) = self.fetch(request).await?;
        if let Some(kept) = self.kept.get(&request.platform())
            && kept.current != next
        {
            self.kept.insert(request.platform(), Kept { next: Some(next), ..kept });
        }
        Ok(end)
    }

    /// A set that ends later than `end`, unless someone else fetches one or that has just failed. Who cannot do with the set
    /// at hand waits for that someone.
    async fn renewed(&self, request: &CollateralRequest<'_>, end: SystemTime) -> Option<Arc<Collateral>> {
        let platform = request.platform();
        if self.failed.remembered(&platform).is_some() {
            return None;
        }
        let turn = Arc::clone(self.renewing().entry(platform).or_default());
        let Ok(_turn) = turn.try_lock() else {
            if !request.wants_newer() {
                return None;
            }
            drop(turn.lock().await);
            let kept = self.kept.get(&platform)?;
            return self.judged(request, kept).map(|(judged, _)| judged);
        };
        let _renewing = Renewing { memory: self, platform };
        match self.fetch(request).await {
            Ok((newer, until)) if until > end => {
                self.kept.insert(platform, Kept { current: Arc::clone(&newer), next: None });
                Some(newer)
            }
            Ok(_) => {
                let message = format!("the source has nothing newer for {platform} yet");
                self.failed.remember(platform, EndorsementError::new(EndorsementErrorKind::NotFound, message));
                None
            }
            Err(error) => {
                tracing::warn!(%platform, %error, "tdx.collateral.not_renewed");
                None
            }
        }
    }
}

/// Gives way to the next who wants to renew, also where renewing was given up.
struct Renewing<'a, S> {
    memory: &'a MemoryCollateral<S>,
    platform: PlatformId,
}

impl<S> Drop for Renewing<'_, S> {
    fn drop(&mut self) {
        self.memory.renewing().remove(&self.platform);
    }
}

#[async_trait]
impl<S: CollateralSource> CollateralSource for MemoryCollateral<S> {
    async fn collateral(&self, request: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        let platform = request.platform();
        loop {
            // Whoever gets the guard fetches; the others wait here. A guard that is dropped (failure, cancellation) passes
            // to the next of them.
            let guard = match self.kept.get_value_or_guard_async(&platform).await {
                Ok(kept) => {
                    let current = Arc::clone(&kept.current);
                    let Some((judged, end)) = self.judged(request, kept) else {
                        self.kept.remove_if(&platform, |there| Arc::ptr_eq(&there.current, &current));
                        continue;
                    };
                    let soon = request.now().checked_add(RENEW_BEFORE).is_none_or(|soon| end <= soon);
                    if !soon && !request.wants_newer() {
                        return Ok(judged);
                    }
                    return Ok(self.renewed(request, end).await.unwrap_or(judged));
                }
                Err(guard) => guard,
            };
            if let Some(error) = self.failed.remembered(&platform) {
                return Err(error);
            }
            let (collateral, _) = self.fetch(request).await?;
            // Fails where the entry was removed meanwhile: the set is then just not kept.
            let _ = guard.insert(Kept { current: Arc::clone(&collateral), next: None });
            return Ok(collateral);
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for MemoryCollateral<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCollateral")
            .field("source", &self.source)
            .field("platforms", &self.kept.len())
            .field("failures", &self.failed.len())
            .finish_non_exhaustive()
    }
}
