//! Key epochs: keys made in this process, renewed after an epoch, kept for a grace period and for as long as a
//! response that they sign is on its way.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

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
    pub(super) config: Option<[u8; 32]>,
    pub(super) route: Option<String>,
    pub(super) epoch: Duration,
    pub(super) grace: Duration,
}

/// The current keys, and the previous ones while their grace lasts.
#[derive(Debug)]
pub(super) struct KeyRing {
    settings: KeySettings,
    instance: [u8; 16],
    ring: ArcSwap<Ring>,
    rotation: Mutex<()>,
}

#[derive(Debug)]
struct Ring {
    current: Arc<KeyEpoch>,
    previous: Option<Arc<KeyEpoch>>,
}

impl KeyRing {
    /// # Errors
    ///
    /// The document's error if it, or that of a far later epoch, cannot be written.
    pub(super) fn new(settings: KeySettings, now: Now) -> Result<Self, KeyDocumentError> {
        let instance = crypto::random();
        make(&settings, instance, LAST_EPOCH, now)?;
        let current = Arc::new(make(&settings, instance, 1, now)?);
        let ring = ArcSwap::from_pointee(Ring { current, previous: None });
        Ok(Self { settings, instance, ring, rotation: Mutex::new(()) })
    }

    /// The keys for new evidence.
    pub(super) fn current(&self, now: Now) -> Arc<KeyEpoch> {
        self.refresh(now);
        Arc::clone(&self.ring.load().current)
    }

    /// The keys that sign the response to a client that trusts the keys in `have`, and whether it trusts them.
    pub(super) fn select(&self, have: &[KeysDigest], now: Now) -> (Arc<KeyEpoch>, bool) {
        self.refresh(now);
        let ring = self.ring.load();
        if have.contains(ring.current.digest()) {
            return (Arc::clone(&ring.current), true);
        }
        match &ring.previous {
            Some(previous) if have.contains(previous.digest()) => (Arc::clone(previous), true),
            _ => (Arc::clone(&ring.current), false),
        }
    }

    /// Makes new keys if the epoch is over, and drops the previous ones if their grace is.
    pub(super) fn refresh(&self, now: Now) {
        if self.is_fresh(&self.ring.load(), now) {
            return;
        }
        let _rotation = self.rotation.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = self.ring.load_full();
        if self.is_fresh(&ring, now) {
            return;
        }
        let next = if elapsed(ring.current.began, now) < self.settings.epoch {
            Ring { current: Arc::clone(&ring.current), previous: None }
        } else {
            let epoch = ring.current.document.fields().epoch + 1;
            match make(&self.settings, self.instance, epoch, now) {
                Ok(keys) => {
                    tracing::info!(
                        name: "attest.keys_rotated", target: "tower_attest::server",
                        epoch, digest = ?keys.digest(), "new signing keys"
                    );
                    Ring { current: Arc::new(keys), previous: Some(Arc::clone(&ring.current)) }
                }
                // A document with the longest epoch number was written at start, so this one can be.
                Err(error) => {
                    tracing::error!(
                        name: "attest.keys_kept", target: "tower_attest::server",
                        %error, "no new signing keys"
                    );
                    return;
                }
            }
        };
        self.ring.store(Arc::new(next));
    }

    /// How long until [`refresh`](Self::refresh) has something to do.
    pub(super) fn next_refresh(&self, now: Now) -> Duration {
        let ring = self.ring.load();
        let age = elapsed(ring.current.began, now);
        let due = if ring.previous.is_some() { self.settings.grace } else { self.settings.epoch };
        due.saturating_sub(age)
    }

    fn is_fresh(&self, ring: &Ring, now: Now) -> bool {
        let age = elapsed(ring.current.began, now);
        age < self.settings.epoch && (ring.previous.is_none() || age < self.settings.grace)
    }
}

fn make(settings: &KeySettings, instance: [u8; 16], epoch: u64, began: Now) -> Result<KeyEpoch, KeyDocumentError> {
    let key = SigningKey::generate();
    let document = KeyDocument::build(KeyDocumentFields {
        instance,
        epoch,
        names: settings.names.clone(),
        sign: key.public_key(),
        config: settings.config,
        seal: None,
        route: settings.route.clone(),
    })?;
    Ok(KeyEpoch { document, key, began })
}

/// Time that has passed by whichever clock says more: a machine that slept, or whose wall clock was set, renews its keys
/// early rather than late.
fn elapsed(from: Now, to: Now) -> Duration {
    let wall = to.wall.duration_since(from.wall).unwrap_or_default();
    to.monotonic.saturating_sub(from.monotonic).max(wall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Clock, ManualClock};

    const HOUR: Duration = Duration::from_secs(3600);
    const GRACE: Duration = Duration::from_secs(300);
    const SECOND: Duration = Duration::from_secs(1);

    fn ring(clock: &ManualClock) -> KeyRing {
        let settings =
            KeySettings { names: vec!["a.example".into()], config: None, route: None, epoch: HOUR, grace: GRACE };
        KeyRing::new(settings, clock.now()).unwrap()
    }

    #[test]
    fn keys_are_renewed_when_their_epoch_is_over_and_not_before() {
        let clock = ManualClock::new();
        let ring = ring(&clock);
        let first = ring.current(clock.now());
        clock.advance(HOUR - SECOND);
        assert_eq!(ring.current(clock.now()).digest(), first.digest());
        assert_eq!(ring.next_refresh(clock.now()), SECOND);
        clock.advance(SECOND);
        let second = ring.current(clock.now());
        assert_ne!(second.digest(), first.digest());
        assert_ne!(second.document().fields().sign, first.document().fields().sign);
        assert_eq!(second.document().fields().instance, first.document().fields().instance);
        assert_eq!((first.document().fields().epoch, second.document().fields().epoch), (1, 2));
    }

    #[test]
    fn previous_keys_sign_while_have_names_only_them_and_their_grace_lasts() {
        let clock = ManualClock::new();
        let ring = ring(&clock);
        let first = *ring.current(clock.now()).digest();
        clock.advance(HOUR);
        let second = *ring.current(clock.now()).digest();
        let stranger = KeysDigest::from_bytes([9; 32]);
        let select = |have: &[KeysDigest]| {
            let (keys, trusted) = ring.select(have, clock.now());
            (*keys.digest(), trusted)
        };
        assert_eq!(select(&[stranger, first]), (first, true));
        assert_eq!(select(&[first, second]), (second, true));
        assert_eq!(select(&[stranger]), (second, false));
        assert_eq!(select(&[]), (second, false));
        clock.advance(GRACE - SECOND);
        assert_eq!(select(&[first]), (first, true));
        assert_eq!(ring.next_refresh(clock.now()), SECOND);
        clock.advance(SECOND);
        assert_eq!(select(&[first]), (second, false));
        assert_eq!(ring.next_refresh(clock.now()), HOUR - GRACE);
    }

    #[test]
    fn keys_out_of_grace_are_gone_unless_a_response_still_needs_them() {
        let clock = ManualClock::new();
        let ring = ring(&clock);
        let in_flight = ring.current(clock.now());
        let idle = Arc::downgrade(&in_flight);
        clock.advance(HOUR);
        ring.refresh(clock.now());
        clock.advance(GRACE);
        ring.refresh(clock.now());
        assert!(idle.upgrade().is_some(), "the response in flight holds them");
        drop(in_flight);
        assert!(idle.upgrade().is_none());
    }

    #[test]
    fn a_wall_clock_that_jumps_ahead_renews_and_one_that_goes_back_does_not() {
        let clock = ManualClock::new();
        let ring = ring(&clock);
        let first = *ring.current(clock.now()).digest();
        let wall = clock.now().wall;
        clock.set_wall(wall - 2 * HOUR);
        assert_eq!(*ring.current(clock.now()).digest(), first);
        clock.set_wall(wall + HOUR);
        assert_ne!(*ring.current(clock.now()).digest(), first);
    }

    #[test]
    fn a_document_that_would_outgrow_its_limit_in_a_later_epoch_is_refused_at_once() {
        let clock = ManualClock::new();
        let now = clock.now();
        let fits = |names: usize, rest: usize| {
            let mut names = vec!["a".repeat(40); names];
            names.push("b".repeat(rest));
            make(&KeySettings { names, config: None, route: None, epoch: HOUR, grace: GRACE }, [0; 16], 1, now)
        };
        // The largest document of epoch 1 that still fits.
        let names = (1..).find(|names| fits(*names + 1, 1).is_err()).unwrap();
        let rest = (1..).find(|rest| fits(names, *rest + 1).is_err()).unwrap();
        let mut all = vec!["a".repeat(40); names];
        all.push("b".repeat(rest));
        let settings = KeySettings { names: all, config: None, route: None, epoch: HOUR, grace: GRACE };
        assert!(KeyRing::new(settings, now).is_err());
    }

    #[test]
    fn no_private_key_is_in_debug_output() {
        let clock = ManualClock::new();
        let text = format!("{:?}", ring(&clock));
        assert!(text.contains("KeyEpoch") && !text.contains("SigningKey"), "{text}");
    }
}
