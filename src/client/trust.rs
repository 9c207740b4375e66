//! Which keys are believed, for which origin, and until when; and who fetches evidence for everybody.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};

use super::exchange::VerifiedKeys;
use crate::error::AttestError;
use crate::protocol::{KeysDigest, MAX_HAVE};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::time::Now;

/// The most keys that are believed per origin; the least recently used go first.
pub(crate) const MAX_KEYS: usize = 16;
/// The most origins for which keys are believed; the least recently used go first.
pub(crate) const MAX_ORIGINS: usize = 1024;
/// How long a failed fetch of evidence is remembered.
pub(crate) const FAILURE_MEMORY: Duration = Duration::from_secs(1);

/// How much a client's layer remembers: bounded by 1 024 origins with 16 keys each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TrustStats {
    /// Origins that were asked for evidence.
    pub origins: usize,
    /// Keys that are believed, of all origins together.
    pub keys: usize,
}

/// Scheme and authority of a request, where its URI has one. Trust is kept apart for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin(Option<(Option<Scheme>, Authority)>);

impl Origin {
    pub(crate) fn of(uri: &Uri) -> Self {
        Self(uri.authority().map(|authority| (uri.scheme().cloned(), without_user_information(authority))))
    }

    pub(crate) fn parts(&self) -> Option<(Scheme, Authority)> {
        let (scheme, authority) = self.0.clone()?;
        Some((scheme?, authority))
    }
}

/// Keys that are believed, and when a request last left them out of `have` to renew their evidence.
#[derive(Debug, Clone)]
struct Trusted {
    keys: Arc<VerifiedKeys>,
    renewal: Option<Duration>,
}

/// What was believed when a request's nonce was drawn. The response is judged by it, however long it takes.
#[derive(Debug)]
pub(crate) struct Plan {
    trusted: Arc<VecDeque<Trusted>>,
    /// What to list in `have`.
    pub(crate) have: Vec<KeysDigest>,
    /// Whether the transport below said that it had been attested.
    pub(crate) attested: bool,
    /// The verifier's revision.
    pub(crate) revision: u64,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.trusted.is_empty()
    }

    pub(crate) fn keys(&self, digest: &KeysDigest) -> Option<Arc<VerifiedKeys>> {
        find(&self.trusted, digest)
    }

    /// The keys used last to which something can be sealed.
    #[cfg(feature = "seal")]
    pub(crate) fn sealable(&self) -> Option<Arc<VerifiedKeys>> {
        let mut keys = self.trusted.iter().map(|trusted| &trusted.keys);
        keys.find(|keys| keys.document().fields().seal.is_some()).cloned()
    }
}

/// Whose turn it is to fetch evidence. The flight is held in the leader's future, so that dropping it ends the turn.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    failures: u64,
}

#[derive(Debug)]
pub(crate) struct Trust {
    max_age: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    tick: u64,
    origins: HashMap<Origin, Believed>,
}

#[derive(Debug, Default)]
struct Believed {
    trusted: Arc<VecDeque<Trusted>>,
    attested: bool,
    turn: Arc<tokio::sync::Mutex<()>>,
    failures: u64,
    failure: Option<Failure>,
    last_used: u64,
}

#[derive(Debug)]
struct Failure {
    error: AttestError,
    at: Duration,
}

impl Trust {
    pub(crate) fn new(max_age: Duration) -> Self {
        Self { max_age, state: Mutex::default() }
    }

    /// Judges ages for a nonce that is drawn `now`, and decides what to list in `have`: the keys most recently used, but
    /// for those past half their age, which one request leaves out so that its answer renews them. Should that answer
    /// bring nothing, another tries after an eighth of the age.
    pub(crate) fn draw(&self, origin: &Origin, now: Now, revision: u64) -> Plan {
        let mut state = self.state(revision);
        let Some(believed) = state.touch(origin) else {
            return Plan { trusted: Arc::default(), have: Vec::new(), attested: false, revision };
        };
        if believed.trusted.iter().any(|trusted| trusted.keys.passed(now, self.max_age)) {
            Arc::make_mut(&mut believed.trusted).retain(|trusted| !trusted.keys.passed(now, self.max_age));
        }
        let renews = believed.trusted.iter().any(|trusted| self.due(trusted, now));
        let have = believed
            .trusted
            .iter()
            .filter(|trusted| !self.due(trusted, now))
            .map(|trusted| *trusted.keys.digest())
            .take(MAX_HAVE)
            .collect();
        if renews {
            Arc::make_mut(&mut believed.trusted)
                .iter_mut()
                .filter(|trusted| self.due(trusted, now))
                .for_each(|trusted| trusted.renewal = Some(now.monotonic));
        }
        Plan { trusted: Arc::clone(&believed.trusted), have, attested: believed.attested, revision }
    }

    /// The keys used last, if any are believed at `now`, and whether the transport below said that it had been attested.
    pub(crate) fn any(&self, origin: &Origin, now: Now, revision: u64) -> Option<(Arc<VerifiedKeys>, bool)> {
        let state = self.state(revision);
        let believed = state.origins.get(origin)?;
        let mut trusted = believed.trusted.iter().map(|trusted| &trusted.keys);
        trusted.find(|keys| !keys.passed(now, self.max_age)).map(|keys| (Arc::clone(keys), believed.attested))
    }

    /// The keys with this digest, if they are believed at `now`.
    pub(crate) fn keys(
        &self,
        origin: &Origin,
        digest: &KeysDigest,
        now: Now,
        revision: u64,
    ) -> Option<Arc<VerifiedKeys>> {
        let state = self.state(revision);
        let keys = find(&state.origins.get(origin)?.trusted, digest)?;
        (!keys.passed(now, self.max_age)).then_some(keys)
    }

    /// Believes keys whose evidence was verified under `revision`. Older evidence never replaces newer.
    pub(crate) fn trust(&self, origin: &Origin, keys: &Arc<VerifiedKeys>, revision: u64) {
        let mut state = self.state(revision);
        let believed = state.enter(origin);
        believed.failure = None;
        let trusted = Arc::make_mut(&mut believed.trusted);
        let known = trusted.iter().position(|trusted| trusted.keys.digest() == keys.digest());
        let newest = match known.and_then(|position| trusted.remove(position)) {
            Some(old) if old.keys.drawn().monotonic > keys.drawn().monotonic => old,
            _ => Trusted { keys: Arc::clone(keys), renewal: None },
        };
        trusted.push_front(newest);
        trusted.truncate(MAX_KEYS);
    }

    /// Moves keys that have just signed to the front.
    pub(crate) fn used(&self, origin: &Origin, digest: &KeysDigest) {
        let mut state = self.lock();
        let Some(believed) = state.origins.get_mut(origin) else { return };
        match believed.trusted.iter().position(|trusted| trusted.keys.digest() == digest) {
            None | Some(0) => {}
            Some(position) => {
                let trusted = Arc::make_mut(&mut believed.trusted);
                if let Some(used) = trusted.remove(position) {
                    trusted.push_front(used);
                }
            }
        }
    }

    /// Believes keys no longer. What replaces them is to come with new evidence.
    pub(crate) fn forget(&self, origin: &Origin, digest: &KeysDigest) {
        if let Some(believed) = self.lock().origins.get_mut(origin) {
            Arc::make_mut(&mut believed.trusted).retain(|trusted| trusted.keys.digest() != digest);
        }
    }

    pub(crate) fn attested(&self, origin: &Origin) -> bool {
        self.lock().origins.get(origin).is_some_and(|believed| believed.attested)
    }

    /// Notes whether the transport below says that it has been attested.
    pub(crate) fn note_transport(&self, origin: &Origin, attested: bool) {
        let mut state = self.lock();
        match state.origins.get_mut(origin) {
            Some(believed) => believed.attested = attested,
            None if attested => state.enter(origin).attested = true,
            None => {}
        }
    }

    /// Joins those who wait for evidence of this origin.
    pub(crate) fn flight(&self, origin: &Origin) -> Flight {
        let mut state = self.lock();
        let believed = state.enter(origin);
        Flight { turn: Arc::clone(&believed.turn), failures: believed.failures }
    }

    /// Gives up a turn that was waited for in vain: whoever holds it lets it lie, and the next to come takes a new one.
    pub(crate) fn give_up(&self, origin: &Origin, flight: &Flight) {
        if let Some(believed) = self.lock().origins.get_mut(origin)
            && Arc::ptr_eq(&believed.turn, &flight.turn)
        {
            believed.turn = Arc::default();
        }
    }

    /// Fails all who wait now, and all who come within a second.
    pub(crate) fn failed(&self, origin: &Origin, error: &AttestError, now: Now, revision: u64) {
        let mut state = self.state(revision);
        let believed = state.enter(origin);
        believed.failures += 1;
        believed.failure = Some(Failure { error: error.clone(), at: now.monotonic });
    }

    /// The failure that settles this flight: one that happened since it was joined, or within the last second.
    pub(crate) fn failure(&self, origin: &Origin, flight: &Flight, now: Now, revision: u64) -> Option<AttestError> {
        let state = self.state(revision);
        let believed = state.origins.get(origin)?;
        let failure = believed.failure.as_ref()?;
        let waited = believed.failures != flight.failures;
        let recent = now.monotonic.saturating_sub(failure.at) < FAILURE_MEMORY;
        (waited || recent).then(|| failure.error.clone())
    }

    /// Keys that have passed their age count until the next request to their origin.
    pub(crate) fn stats(&self) -> TrustStats {
        let state = self.lock();
        let keys = state.origins.values().map(|believed| believed.trusted.len()).sum();
        TrustStats { origins: state.origins.len(), keys }
    }

    fn due(&self, trusted: &Trusted, now: Now) -> bool {
        let lifetime = trusted.keys.lifetime(self.max_age);
        trusted.keys.age(now) >= lifetime / 2
            && trusted.renewal.is_none_or(|at| now.monotonic.saturating_sub(at) >= lifetime / 8)
    }

    /// The state, emptied if the verifier's policy or revocation data is another one than it was filled under.
    fn state(&self, revision: u64) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.revision != revision {
            state.revision = revision;
            state.origins.clear();
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn touch(&mut self, origin: &Origin) -> Option<&mut Believed> {
        self.tick += 1;
        let believed = self.origins.get_mut(origin)?;
        believed.last_used = self.tick;
        Some(believed)
    }

    fn enter(&mut self, origin: &Origin) -> &mut Believed {
        if !self.origins.contains_key(origin) && self.origins.len() >= MAX_ORIGINS {
            let oldest = self.origins.iter().min_by_key(|(_, believed)| believed.last_used);
            if let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) {
                self.origins.remove(&oldest);
            }
        }
        self.tick += 1;
        let believed = self.origins.entry(origin.clone()).or_default();
        believed.last_used = self.tick;
        believed
    }
}

/// A name and a password that stand before the host are the caller's: they go where the request goes, and not with a request
/// for evidence or around a sealed request.
fn without_user_information(authority: &Authority) -> Authority {
    match authority.as_str().rsplit_once('@') {
        Some((_, host)) => host.parse().unwrap_or_else(|_| authority.clone()),
        None => authority.clone(),
    }
}

fn find(trusted: &VecDeque<Trusted>, digest: &KeysDigest) -> Option<Arc<VerifiedKeys>> {
    trusted.iter().find(|trusted| trusted.keys.digest() == digest).map(|trusted| Arc::clone(&trusted.keys))
}

#[cfg(test)]
mod tests;
