//! Collateral kept in memory, fetched once for all who ask.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::Mutex as AsyncMutex;

use super::{Collateral, CollateralError, CollateralErrorKind, CollateralSource, PlatformId};

/// Most platforms that are kept; one set has some 15 KiB.
const CAPACITY: usize = 256;
/// How long before its end collateral is renewed: Intel publishes new collateral days before.
const RENEW_BEFORE: Duration = Duration::from_secs(86_400);
/// How long a failure is remembered.
const FAILURE_TTL: Duration = Duration::from_secs(30);

/// Keeps the collateral of up to 256 platforms until a day before its `nextUpdate`.
///
/// Whoever asks while another fetches for the same platform waits for that fetch. A failure is remembered for 30 s, so
/// that a source that is down is not asked for every quote; while renewing fails, collateral that is still valid goes on
/// being used.
#[derive(Debug)]
pub struct MemoryCollateral<S> {
    source: S,
    slots: Mutex<HashMap<PlatformId, Arc<AsyncMutex<Slot>>>>,
}

#[derive(Default)]
struct Slot {
    kept: Option<(Arc<Collateral>, SystemTime)>,
    failed: Option<(CollateralError, SystemTime)>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("kept", &self.kept.is_some()).field("failed", &self.failed).finish()
    }
}

impl<S> MemoryCollateral<S> {
    /// Keeps what `source` supplies.
    pub fn new(source: S) -> Self {
        Self { source, slots: Mutex::default() }
    }

    /// The source behind it.
    pub fn get_ref(&self) -> &S {
        &self.source
    }

    fn slot(&self, platform: &PlatformId) -> Arc<AsyncMutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if !slots.contains_key(platform) && slots.len() >= CAPACITY {
            // Only genuine platforms get here, so that no stranger can push others out; any victim will do.
            let victim = slots.keys().next().copied();
            victim.map(|victim| slots.remove(&victim));
        }
        Arc::clone(slots.entry(*platform).or_default())
    }
}

#[async_trait]
impl<S: CollateralSource> CollateralSource for MemoryCollateral<S> {
    async fn collateral(&self, platform: &PlatformId, now: SystemTime) -> Result<Arc<Collateral>, CollateralError> {
        let slot = self.slot(platform);
        let mut slot = slot.lock().await;
        let valid = slot.kept.clone().filter(|(_, end)| now < *end);
        if let Some((collateral, end)) = &valid
            && now + RENEW_BEFORE < *end
        {
            return Ok(Arc::clone(collateral));
        }
        let recent = slot.failed.clone().filter(|(_, at)| now < *at + FAILURE_TTL);
        let outcome = match recent {
            Some((error, _)) => Err(error),
            None => self.source.collateral(platform, now).await.and_then(|collateral| {
                let end = collateral.next_update().ok_or_else(|| {
                    CollateralError::new(CollateralErrorKind::Invalid, "it does not say when it must be replaced")
                })?;
                Ok((collateral, end))
            }),
        };
        match outcome {
            Ok((collateral, end)) => {
                *slot = Slot { kept: Some((Arc::clone(&collateral), end)), failed: None };
                Ok(collateral)
            }
            Err(error) => {
                let since = slot.failed.take().map(|(_, at)| at).filter(|at| now < *at + FAILURE_TTL);
                slot.failed = Some((error.clone(), since.unwrap_or(now)));
                valid.map(|(collateral, _)| collateral).ok_or(error)
            }
        }
    }
}
