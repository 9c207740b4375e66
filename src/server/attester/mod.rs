//! The [`Attester`]: keys made in this process, and evidence for them from the hardware.
//!
//! ```
//! # #[cfg(feature = "mock")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_attest::AttesterError> {
//! use tower_attest::mock::MockTee;
//! use tower_attest::{Attester, Health, Nonce};
//!
//! let attester = Attester::builder(MockTee::new().provider()).name("prover.example").start().await?;
//! assert_eq!(attester.health(), Health::Ready);
//! assert!(attester.key_document().has_name("prover.example"));
//!
//! let evidence = attester.evidence(&Nonce::from_bytes([7; 32]), None).await?;
//! assert_eq!(evidence.batch.size(), 1);
//! # Ok(()) }
//! # #[cfg(not(feature = "mock"))] fn main() {}
//! ```
//!
//! # One report for many nonces
//!
//! Hardware makes a report in milliseconds to a second, one at a time. While one is being made, all further nonces queue;
//! when it returns, the next takes up to [`batch`](AttesterBuilder::batch) of them. There is no timer: a lone nonce does
//! not wait for company, and any number of fresh requests at the same time cost about two report times.
//!
//! # When the hardware fails
//!
//! A call that fails, or panics, fails the nonces of its batch, and the next batch asks again. A call that takes longer
//! than [`report_timeout`](AttesterBuilder::report_timeout) makes the device count as stalled: all nonces that wait
//! fail, new ones are refused at once, and nothing is asked of the device until that call returns.
//! [`health`](Attester::health) and [`stats`](Attester::stats) say so. Responses are signed all the while, without
//! evidence.

mod batcher;
mod builder;
mod error;
mod keys;
mod observe;
mod queue;
#[cfg(feature = "seal")]
mod sealing;
#[cfg(all(test, feature = "mock"))]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::watch;

pub use self::builder::AttesterBuilder;
pub use self::error::{AttesterError, AttesterErrorKind};
pub(crate) use self::keys::KeyEpoch;
use self::keys::KeyRing;
use self::observe::Observer;
pub use self::observe::ReportCall;
use self::queue::{Place, Queue};
#[cfg(feature = "seal")]
pub(crate) use self::sealing::{Opening, Sealing};
use crate::protocol::{ChannelBinding, Evidence, EvidenceStatement, KeyDocument, KeysDigest, Nonce};
use crate::provider::ReportProvider;
use crate::report::Platform;
use crate::time::{Clock, Sleep};

/// Signs responses, and gets evidence for its keys from the hardware. A handle: clones are cheap and share everything.
///
/// One task, spawned by [`start`](AttesterBuilder::start), owns the provider. It ends when the last handle is dropped and
/// nobody waits for evidence any more, or on [`drain`](Self::drain).
#[derive(Clone)]
pub struct Attester {
    handle: Arc<Handle>,
}

/// Closes the queue with the last [`Attester`].
struct Handle {
    core: Arc<Core>,
    ended: watch::Receiver<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.queue.close();
    }
}

/// What the handles and the task share.
#[derive(Debug)]
struct Core {
    platform: Platform,
    keys: KeyRing,
    queue: Arc<Queue>,
    settings: Settings,
    observer: Observer,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone)]
struct Settings {
    queue: usize,
    batch: usize,
    report_timeout: Duration,
    evidence_wait: Duration,
    epoch: Duration,
}

/// How the hardware was when it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// The last call made a report.
    Ready,
    /// The last call failed. The next nonce asks again.
    Failing,
    /// A call has not returned within the report timeout. Nothing is asked until it does.
    Stalled,
    /// The attester was drained, or its runtime has ended: responses are signed, and there is no evidence any more.
    Stopped,
}

/// What the attester has done since its start, the report at the start included, and how it stands now. Durations and
/// sizes of single reports: [`on_report`](AttesterBuilder::on_report).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Nonces that wait now.
    pub queued: usize,
    /// Nonces that may wait: the setting [`queue`](AttesterBuilder::queue).
    pub queue_limit: usize,
    /// Reports made.
    pub reports: u64,
    /// Nonces that these reports answered.
    pub nonces: u64,
    /// The most nonces that shared a report.
    pub largest_batch: usize,
    /// Calls that made no report, those that took too long included.
    pub failures: u64,
    /// Calls that took too long.
    pub stalls: u64,
    /// Nonces refused at once: queue full, device stalled or attester stopped.
    pub refused: u64,
    /// The number of the current keys, which starts at 1.
    pub epoch: u64,
    /// How long ago the current keys were made.
    pub keys_age: Duration,
    /// How long keys are used: the setting [`epoch`](AttesterBuilder::epoch). Older keys mean that no new ones can be made.
    pub keys_lifetime: Duration,
    /// Sealed requests that the current keys have opened.
    pub opened: usize,
    /// Sealed requests that they open at most: the setting `replay_cache`. 0 if nothing is sealed to them.
    pub opened_limit: usize,
}

impl Attester {
    /// Starts to set up an attester over this hardware. Give it a [`name`](AttesterBuilder::name), then
    /// [`start`](AttesterBuilder::start) it.
    pub fn builder(provider: impl ReportProvider + 'static) -> AttesterBuilder {
        AttesterBuilder::new(Box::new(provider))
    }

    /// Fresh evidence for the current keys, over this nonce and channel. [`ReportLayer`](crate::ReportLayer) calls it
    /// for you; call it to hand evidence over in a way of your own. Dropping the future gives its slot back.
    ///
    /// # Errors
    ///
    /// At once if the queue is full or the device is stalled; when the report fails, otherwise.
    pub async fn evidence(&self, nonce: &Nonce, binding: Option<&ChannelBinding>) -> Result<Evidence, AttesterError> {
        let keys = self.current_keys();
        self.request_evidence(&keys, nonce, binding)?.await
    }

    /// The current key document.
    pub fn key_document(&self) -> KeyDocument {
        self.current_keys().document().clone()
    }

    /// Says, from now on, that the server runs with another effective configuration: its SHA-256 goes into the key
    /// document, with new keys. The keys before are given up at once and without grace, since they vouch for the
    /// configuration before; requests sealed to them are refused as those to keys whose grace is over. The same digest
    /// again changes nothing.
    ///
    /// Clients that were told of the configuration before may go on to believe it on their connections, until their
    /// evidence ages. Before plaintext goes elsewhere: call this, take new connections, and serve no further request on
    /// those that were accepted before the call; [421 Misdirected Request] has clients come again on a new one.
    /// `tower-attest serve` does so when it reloads a policy.
    ///
    /// ```
    /// # #[cfg(feature = "mock")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_attest::AttesterError> {
    /// use tower_attest::Attester;
    /// use tower_attest::mock::MockTee;
    ///
    /// let attester = Attester::builder(MockTee::new().provider()).config([1; 32]).start().await?;
    /// let before = attester.key_document();
    /// attester.set_config([2; 32])?;
    /// let after = attester.key_document();
    /// assert_eq!(after.fields().config, Some([2; 32]));
    /// assert_ne!(after.fields().sign, before.fields().sign);
    /// # Ok(()) }
    /// # #[cfg(not(feature = "mock"))] fn main() {}
    /// ```
    ///
    /// # Errors
    ///
    /// [`AttesterErrorKind::Configuration`] if an attester that had no configuration has no room for one in its key
    /// document of 4 KiB. Nothing has changed then.
    ///
    /// [421 Misdirected Request]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20
    pub fn set_config(&self, digest: [u8; 32]) -> Result<(), AttesterError> {
        let core = &self.handle.core;
        core.keys
            .set_config(digest, core.clock.now())
            .map_err(|error| AttesterError::new(AttesterErrorKind::Configuration, error.to_string()))
    }

    /// What kind of TEE the provider is.
    pub fn platform(&self) -> &Platform {
        &self.handle.core.platform
    }

    /// How the hardware is.
    pub fn health(&self) -> Health {
        self.handle.core.queue.health()
    }

    /// Counts since the start, and the state of the queue and the keys.
    pub fn stats(&self) -> Stats {
        let core = &self.handle.core;
        core.keys.stats(core.queue.stats(), core.clock.now())
    }

    /// Serves the nonces that wait, accepts no more, and returns when the task has ended. Responses are still signed
    /// afterwards, without evidence. A device that is stalled is not waited for.
    pub async fn drain(&self) {
        self.handle.core.queue.close();
        // The task never sends: the channel ends with it.
        let _ = self.handle.ended.clone().changed().await;
    }

    /// The keys for new evidence.
    pub(crate) fn current_keys(&self) -> Arc<KeyEpoch> {
        self.handle.core.keys.current(self.handle.core.clock.now())
    }

    /// The keys that sign for a client that trusts those in `have`, and whether it needs no evidence for them.
    pub(crate) fn select_keys(&self, have: &[KeysDigest]) -> (Arc<KeyEpoch>, bool) {
        self.handle.core.keys.select(have, self.handle.core.clock.now())
    }

    /// The keys for new evidence.
    #[cfg(feature = "seal")]
    pub(crate) fn keys_now(&self) -> Arc<KeyEpoch> {
        self.handle.core.keys.current(self.handle.core.clock.now())
    }

    /// # Errors
    ///
    /// [`AttesterErrorKind::Configuration`] if it makes no keys to seal to.
    #[cfg(feature = "seal")]
    pub(crate) fn must_seal(&self) -> Result<(), AttesterError> {
        let message = "seal: expected an attester with AttesterBuilder::seal(), found one without";
        let error = || AttesterError::new(AttesterErrorKind::Configuration, message);
        self.handle.core.keys.seals().then_some(()).ok_or_else(error)
    }

    /// Looks at what opens requests sealed to these keys. `None` if nothing does, or does any more. What is taken from the
    /// key must not outlive the call.
    #[cfg(feature = "seal")]
    pub(crate) fn sealing<T>(&self, keys: &KeysDigest, look: impl FnOnce(&Sealing) -> T) -> Option<T> {
        self.handle.core.keys.sealing(keys, self.handle.core.clock.now(), look)
    }

    /// Notes that a sealed request is about to be served. `None` if its keys are no longer held.
    #[cfg(feature = "seal")]
    pub(crate) fn open(&self, keys: &KeysDigest, encapsulated: &[u8; 32]) -> Option<Opening> {
        self.handle.core.keys.open(keys, encapsulated, self.handle.core.clock.now())
    }

    /// Asks for evidence now; the future only waits for it.
    pub(crate) fn request_evidence(
        &self,
        keys: &Arc<KeyEpoch>,
        nonce: &Nonce,
        binding: Option<&ChannelBinding>,
    ) -> Result<PendingEvidence, AttesterError> {
        let statement = EvidenceStatement { platform: &self.handle.core.platform, nonce, binding, keys: keys.digest() };
        let place = self.handle.core.queue.push(statement.leaf())?;
        Ok(PendingEvidence { place, keys: Arc::clone(keys) })
    }

    /// How long a response that is ready waits for evidence.
    pub(crate) fn evidence_wait(&self) -> Sleep {
        self.handle.core.clock.sleep(self.handle.core.settings.evidence_wait)
    }

    /// How long the endpoint waits: for the report that is being made, and then for its own.
    pub(crate) fn endpoint_wait(&self) -> Sleep {
        self.handle.core.clock.sleep(self.handle.core.settings.report_timeout.saturating_mul(2))
    }

    /// The error of an endpoint that has waited so long.
    pub(crate) fn waited_too_long(&self) -> AttesterError {
        AttesterError::stalled(self.handle.core.settings.report_timeout.saturating_mul(2))
    }
}

impl fmt::Debug for Attester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = &self.handle.core;
        f.debug_struct("Attester")
            .field("platform", &core.platform)
            .field("settings", &core.settings)
            .field("health", &self.health())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Evidence that has been asked for. Dropping it gives its slot back.
#[derive(Debug)]
pub(crate) struct PendingEvidence {
    place: Place,
    keys: Arc<KeyEpoch>,
}

impl Future for PendingEvidence {
    type Output = Result<Evidence, AttesterError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let share = ready!(Pin::new(&mut self.place.share).poll(cx));
        let share = share.unwrap_or_else(|_| Err(AttesterError::stopped()));
        Poll::Ready(share.map(|(report, batch)| {
            let keys = self.keys.document().bytes().clone();
            Evidence { report, keys, batch }
        }))
    }
}
