//! What an epoch needs to open sealed requests: a private key, and a record of the requests that it has opened.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::crypto::seal::X25519Key;
use crate::protocol::{KeyConfig, Suite};

/// One epoch's key to seal to. Made in this process, never stored, wiped when its time is over, whoever still signs
/// with the same epoch's other key.
pub(crate) struct Sealing {
    id: u8,
    key: X25519Key,
    opened: Opened,
}

impl Sealing {
    pub(super) fn new(epoch: u64, replay_cache: usize) -> Self {
        let [.., id] = epoch.to_be_bytes();
        Self { id, key: X25519Key::generate(), opened: Opened::new(replay_cache) }
    }

    /// What the key document says of it: both AEADs, the faster one on machines with AES instructions first.
    pub(super) fn config(&self) -> KeyConfig {
        let suites = vec![Suite::AES_128_GCM, Suite::CHACHA20_POLY1305];
        KeyConfig { id: self.id, public: *self.key.public(), suites }
    }

    /// The key's identifier in requests.
    pub(crate) fn id(&self) -> u8 {
        self.id
    }

    /// The private key.
    pub(crate) fn key(&self) -> &X25519Key {
        &self.key
    }

    /// How many requests it has opened, and how many it opens at most.
    pub(super) fn fill(&self) -> (usize, usize) {
        (self.opened.len(), self.opened.capacity)
    }

    /// Notes that the request with this encapsulated key is about to be served.
    pub(super) fn open(&self, encapsulated: &[u8; 32]) -> Opening {
        self.opened.insert(encapsulated)
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("id", &self.id).field("opened", &self.opened).finish_non_exhaustive()
    }
}

/// What the record says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Not seen before. It is now.
    First,
    /// The same, and there is no room for another.
    Last,
    /// Seen before.
    Repeated,
    /// Nobody can tell: no room to note it.
    Full,
}

/// The encapsulated keys of the requests that were opened, by their first 16 bytes.
///
/// Two requests of honest clients share those once in 2^64 requests. Somebody who wants a request of his own to collide with
/// another's would have to find a private key for a given half of a public key.
struct Opened {
    seen: Mutex<HashSet<[u8; 16]>>,
    capacity: usize,
}

impl Opened {
    fn new(capacity: usize) -> Self {
        Self { seen: Mutex::default(), capacity }
    }

    fn len(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn insert(&self, encapsulated: &[u8; 32]) -> Opening {
        // 32 bytes have a first half.
        let Some(half) = encapsulated.first_chunk::<16>() else { return Opening::Full };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_empty() {
            // All its memory at once: to grow is to move every entry while requests wait.
            seen.reserve(self.capacity);
        }
        if seen.contains(half) {
            Opening::Repeated
        } else if seen.len() >= self.capacity {
            Opening::Full
        } else {
            seen.insert(*half);
            if seen.len() < self.capacity { Opening::First } else { Opening::Last }
        }
    }
}

/// Which requests were opened is nobody's business; how many is.
impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("seen", &self.len()).field("capacity", &self.capacity).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_opened_once_and_none_without_a_record() {
        let sealing = Sealing::new(1, 3);
        assert_eq!(sealing.open(&[1; 32]), Opening::First);
        assert_eq!(sealing.open(&[1; 32]), Opening::Repeated);
        assert_eq!(sealing.open(&[2; 32]), Opening::First);
        assert_eq!(sealing.open(&[3; 32]), Opening::Last);
        assert_eq!(sealing.open(&[4; 32]), Opening::Full);
        for seen in 1..=3 {
            assert_eq!(sealing.open(&[seen; 32]), Opening::Repeated, "{seen}");
        }
        assert_eq!(sealing.open(&[4; 32]), Opening::Full, "what was refused is not noted");
    }

    #[test]
    fn every_byte_of_the_first_half_tells_requests_apart() {
        let sealing = Sealing::new(1, 100);
        sealing.open(&[0; 32]);
        for byte in 0..16 {
            let mut other = [0; 32];
            other[byte] = 1;
            assert_eq!(sealing.open(&other), Opening::First, "{byte}");
        }
    }

    #[test]
    fn the_configuration_names_the_epoch_the_key_and_both_suites() {
        let (sealing, other) = (Sealing::new(0x0103, 1), Sealing::new(0x0103, 1));
        let config = sealing.config();
        assert_eq!((config.id, sealing.id()), (3, 3));
        assert_eq!(&config.public, sealing.key().public());
        assert_ne!(config.public, other.config().public, "a key of its own");
        assert_eq!(config.suites, [Suite::AES_128_GCM, Suite::CHACHA20_POLY1305]);
    }

    #[test]
    fn debug_shows_no_key_and_no_request() {
        let sealing = Sealing::new(1, 4);
        sealing.open(&[0xab; 32]);
        let text = format!("{sealing:?}");
        assert_eq!(text, "Sealing { id: 1, opened: Opened { seen: 1, capacity: 4 }, .. }");
    }
}
