//! Key epochs: keys made in this process, renewed after an epoch, kept for a grace period; the signing key also for as
//! long as a response that it signs is on its way.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Stats;
#[cfg(feature = "seal")]
use super::sealing::{Opening, Sealing};
use crate::crypto::{self, SigningKey};
use crate::protocol::{KeyDocument, KeyDocumentError, KeyDocumentFields, KeysDigest, ResponseStatement};
use crate::time::Now;

/// The largest number that I-JSON can carry: a document with it is as long as any later one.
const LAST_EPOCH: u64 = (1 << 53) - 1;

/// One epoch's key with the document that names it. The key is wiped when the last holder drops it.
pub(crate) struct KeyEpoch {
    document: KeyDocument,
    key: SigningKey,
    began: Now,
}

impl KeyEpoch {
    pub(crate) fn document(&self) -> &KeyDocument {
        &self.document
    }

    pub(crate) fn digest(&self) -> &KeysDigest {
        self.document.digest()
    }

    /// Signs a response statement, which is all that this key ever signs.
    pub(crate) fn sign(&self, statement: &ResponseStatement<'_>) -> [u8; 64] {
        self.key.sign(&statement.encode())
    }
}

impl fmt::Debug for KeyEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEpoch").field("document", &self.document).finish_non_exhaustive()
    }
}

/// What every epoch's document has in common.
#[derive(Debug)]
pub(super) struct KeySettings {
    pub(super) names: Vec<String>,
    pub(super) route: Option<String>,
    /// How many sealed requests an epoch opens, if it opens any.
    #[cfg(feature = "seal")]
    pub(super) seal: Option<usize>,
    pub(super) epoch: Duration,
    pub(super) grace: Duration,
}

/// The current keys, and the previous ones while their grace lasts.
#[derive(Debug)]
pub(super) struct KeyRing {
    settings: KeySettings,
    instance: [u8; 16],
    ring: ArcSwap<Ring>,
    /// The configuration that new keys vouch for. Held while keys are replaced.
    rotation: Mutex<Option<[u8; 32]>>,
}

#[derive(Debug)]
struct Ring {
    current: Held,
    previous: Option<Held>,
}

/// One epoch while its time lasts.
#[derive(Debug, Clone)]
struct Held {
    keys: Arc<KeyEpoch>,
    /// Apart from the keys, which a response on its way may hold for longer: this goes with the ring.
    #[cfg(feature = "seal")]
    sealing: Option<Arc<Sealing>>,
}

impl Held {
    fn digest(&self) -> &KeysDigest {
        self.keys.digest()
    }
}

impl KeyRing {
    /// # Errors
    ///
    /// The document's error if it, or that of a far later epoch, cannot be written.
    pub(super) fn new(settings: KeySettings, config: Option<[u8; 32]>, now: Now) -> Result<Self, KeyDocumentError> {
        let instance = crypto::random();
        make(&settings, instance, LAST_EPOCH, config, now)?;
        let current = make(&settings, instance, 1, config, now)?;
        let ring = ArcSwap::from_pointee(Ring { current, previous: None });
        Ok(Self { settings, instance, ring, rotation: Mutex::new(config) })
    }

    /// Makes keys that vouch for another configuration, and gives up all others at once: they vouch for the one before.
    ///
    /// # Errors
    ///
    /// The document's error if it, or that of a far later epoch, cannot be written; nothing has changed then.
    pub(super) fn set_config(&self, config: [u8; 32], now: Now) -> Result<(), KeyDocumentError> {
        let mut rotation = self.rotation.lock().unwrap_or_else(PoisonError::into_inner);
        if *rotation == Some(config) {
            return Ok(());
        }
        make(&self.settings, self.instance, LAST_EPOCH, Some(config), now)?;
        let epoch = self.ring.load().current.keys.document.fields().epoch + 1;
        let current = make(&self.settings, self.instance, epoch, Some(config), now)?;
        tracing::info!(
            name: "attest.config_changed", target: "tower_attest::server",
            epoch, digest = ?current.digest(), "new signing keys, for another configuration"
        );
        *rotation = Some(config);
        self.ring.store(Arc::new(Ring { current, previous: None }));
        Ok(())
    }

    /// The keys for new evidence.
    pub(super) fn current(&self, now: Now) -> Arc<KeyEpoch> {
        self.refresh(now);
        Arc::clone(&self.ring.load().current.keys)
    }

    /// The keys that sign the response to a client that trusts the keys in `have`, and whether it trusts them.
    pub(super) fn select(&self, have: &[KeysDigest], now: Now) -> (Arc<KeyEpoch>, bool) {
        self.refresh(now);
        let ring = self.ring.load();
        if have.contains(ring.current.digest()) {
            return (Arc::clone(&ring.current.keys), true);
        }
        match &ring.previous {
            Some(previous) if have.contains(previous.digest()) => (Arc::clone(&previous.keys), true),
            _ => (Arc::clone(&ring.current.keys), false),
        }
    }

    /// Whether each epoch has a key to seal to.
    #[cfg(feature = "seal")]
    pub(super) fn seals(&self) -> bool {
        self.settings.seal.is_some()
    }

    /// Looks at what opens requests sealed to the keys with this digest. `None` if nothing does, or does any more.
    #[cfg(feature = "seal")]
    pub(super) fn sealing<T>(&self, digest: &KeysDigest, now: Now, look: impl FnOnce(&Sealing) -> T) -> Option<T> {
        self.refresh(now);
        let ring = self.ring.load();
        let held = [Some(&ring.current), ring.previous.as_ref()].into_iter().flatten();
        held.filter(|held| held.digest() == digest).find_map(|held| held.sealing.as_deref()).map(look)
    }

    /// Notes that a sealed request is about to be served. Keys that have no room to note another are given up at once:
    /// what could not be told from a repetition must not be opened. `None` if they already are.
    #[cfg(feature = "seal")]
    pub(super) fn open(&self, digest: &KeysDigest, encapsulated: &[u8; 32], now: Now) -> Option<Opening> {
        let opening = self.sealing(digest, now, |sealing| sealing.open(encapsulated))?;
        if matches!(opening, Opening::Last | Opening::Full) {
            self.give_up(digest, now);
        }
        Some(opening)
    }

    #[cfg(feature = "seal")]
    fn give_up(&self, digest: &KeysDigest, now: Now) {
        let rotation = self.rotation.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = self.ring.load_full();
        if ring.current.digest() == digest {
            if let Some(current) = self.next_epoch(&ring.current, *rotation, now) {
                tracing::warn!(
                    name: "attest.replay_cache_full", target: "tower_attest::server",
                    requests = self.settings.seal, "new keys before their time"
                );
                self.ring.store(Arc::new(Ring { current, previous: None }));
            }
        } else if ring.previous.as_ref().is_some_and(|previous| previous.digest() == digest) {
            self.ring.store(Arc::new(Ring { current: ring.current.clone(), previous: None }));
        }
    }

    /// Makes new keys if the epoch is over, and drops the previous ones if their grace is.
    pub(super) fn refresh(&self, now: Now) {
        if self.is_fresh(&self.ring.load(), now) {
            return;
        }
        let rotation = self.rotation.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = self.ring.load_full();
        if self.is_fresh(&ring, now) {
            return;
        }
        let KeySettings { epoch, grace, .. } = self.settings;
        let age = elapsed(ring.current.keys.began, now);
        let next = if age < epoch {
            Ring { current: ring.current.clone(), previous: None }
        } else {
            let Some(current) = self.next_epoch(&ring.current, *rotation, now) else { return };
            // Nobody may have asked for long.
            let previous = (age < epoch.saturating_add(grace)).then(|| ring.current.clone());
            Ring { current, previous }
        };
        self.ring.store(Arc::new(next));
    }

    fn next_epoch(&self, current: &Held, config: Option<[u8; 32]>, now: Now) -> Option<Held> {
        let epoch = current.keys.document.fields().epoch + 1;
        match make(&self.settings, self.instance, epoch, config, now) {
            Ok(next) => {
                tracing::info!(
                    name: "attest.keys_rotated", target: "tower_attest::server",
                    epoch, digest = ?next.digest(), "new signing keys"
                );
                Some(next)
            }
            // A document with the longest epoch number was written at start, so this one can be.
            Err(error) => {
                tracing::error!(
                    name: "attest.keys_kept", target: "tower_attest::server",
                    %error, "no new signing keys"
                );
                None
            }
        }
    }

    /// Adds how the current keys stand. Makes no new ones, so that looking changes nothing.
    pub(super) fn stats(&self, stats: Stats, now: Now) -> Stats {
        let ring = self.ring.load();
        let Held { keys, .. } = &ring.current;
        #[cfg(feature = "seal")]
        let (opened, opened_limit) = ring.current.sealing.as_ref().map_or((0, 0), |sealing| sealing.fill());
        #[cfg(not(feature = "seal"))]
        let (opened, opened_limit) = (0, 0);
        Stats {
            epoch: keys.document.fields().epoch,
            keys_age: elapsed(keys.began, now),
            keys_lifetime: self.settings.epoch,
            opened,
            opened_limit,
            ..stats
        }
    }

    /// How long until [`refresh`](Self::refresh) has something to do.
    pub(super) fn next_refresh(&self, now: Now) -> Duration {
        let ring = self.ring.load();
        let age = elapsed(ring.current.keys.began, now);
        let due = if ring.previous.is_some() { self.settings.grace } else { self.settings.epoch };
        due.saturating_sub(age)
    }

    fn is_fresh(&self, ring: &Ring, now: Now) -> bool {
        let age = elapsed(ring.current.keys.began, now);
        age < self.settings.epoch && (ring.previous.is_none() || age < self.settings.grace)
    }
}

fn make(
    settings: &KeySettings,
    instance: [u8; 16],
    epoch: u64,
    config: Option<[u8; 32]>,
    began: Now,
) -> Result<Held, KeyDocumentError> {
    let key = SigningKey::generate();
    #[cfg(feature = "seal")]
    let sealing = settings.seal.map(|replay_cache| Arc::new(Sealing::new(epoch, replay_cache)));
    #[cfg(feature = "seal")]
    let seal = sealing.as_ref().map(|sealing| sealing.config());
    #[cfg(not(feature = "seal"))]
    let seal = None;
    let document = KeyDocument::build(KeyDocumentFields {
        instance,
        epoch,
        names: settings.names.clone(),
        sign: key.public_key(),
        config,
        seal,
        route: settings.route.clone(),
    })?;
    Ok(Held {
        keys: Arc::new(KeyEpoch { document, key, began }),
        #[cfg(feature = "seal")]
        sealing,
    })
}

/// Time that has passed by whichever clock says more: a machine that slept, or whose wall clock was set, renews its keys
/// early rather than late.
fn elapsed(from: Now, to: Now) -> Duration {
    let wall = to.wall.duration_since(from.wall).unwrap_or_default();
    to.monotonic.saturating_sub(from.monotonic).max(wall)
}

#[cfg(test)]
mod tests;
