//! Reports on demand, with every fault that hardware can have.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::MockTee;
use crate::provider::{ProviderError, ProviderErrorKind, ReportProvider};
use crate::report::{Platform, Report, ReportData};

/// How a [`MockProvider`] treats the calls that it has not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Behaviour {
    /// Answers at once.
    #[default]
    Healthy,
    /// Answers after this long, by tokio's clock.
    Slow(Duration),
    /// Refuses as a throttled device does: [`ProviderErrorKind::Busy`].
    Busy,
    /// Refuses as a broken device does: [`ProviderErrorKind::Failed`].
    Failing,
    /// Refuses as a machine without a TEE does: [`ProviderErrorKind::Unsupported`].
    Unsupported,
    /// Does not answer until the behaviour changes, and then answers by the new one.
    Hanging,
    /// Panics.
    Panicking,
    /// Answers with a genuine report over other REPORTDATA, as a replaying host would.
    OtherReportData,
    /// Answers with a report that is labelled as an SNP report.
    OtherPlatform,
}

/// Makes the reports of a [`MockTee`]. Clones share everything, so a test keeps one and gives one to the attester.
///
/// ```
/// use tower_attest::mock::{Behaviour, MockTee};
///
/// let provider = MockTee::new().provider();
/// let in_the_attester = provider.clone();
/// provider.set_behaviour(Behaviour::Failing);
/// assert_eq!(in_the_attester.behaviour(), Behaviour::Failing);
/// assert_eq!(in_the_attester.reports(), 0);
/// ```
#[derive(Clone)]
pub struct MockProvider {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes calls and tests that wait for a change of the state.
    changed: watch::Sender<()>,
}

struct State {
    tee: MockTee,
    behaviour: Behaviour,
    held: bool,
    passes: usize,
    vek: Option<Bytes>,
    collateral: Option<Bytes>,
    calls: u64,
    reports: u64,
    running: u64,
    most_at_once: u64,
}

impl MockProvider {
    /// A healthy provider of this machine's reports.
    pub fn new(tee: MockTee) -> Self {
        let state = State {
            tee,
            behaviour: Behaviour::Healthy,
            held: false,
            passes: 0,
            vek: None,
            collateral: None,
            calls: 0,
            reports: 0,
            running: 0,
            most_at_once: 0,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: watch::channel(()).0 }) }
    }

    /// Switches the behaviour, also for calls that wait at the gate or hang.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.update(|state| state.behaviour = behaviour);
    }

    /// The present behaviour.
    pub fn behaviour(&self) -> Behaviour {
        self.shared.state().behaviour
    }

    /// Replaces the machine: another program, another root key.
    pub fn set_tee(&self, tee: MockTee) {
        self.shared.update(|state| state.tee = tee);
    }

    /// Staples these endorsements to every report, to see what large evidence does. A [`MockVerifier`](super::MockVerifier)
    /// ignores them.
    pub fn set_endorsements(&self, vek: Option<Bytes>, collateral: Option<Bytes>) {
        self.shared.update(|state| (state.vek, state.collateral) = (vek, collateral));
    }

    /// Closes the gate: calls wait in front of it until [`release`](Self::release) or [`release_one`](Self::release_one).
    pub fn hold(&self) {
        self.shared.update(|state| (state.held, state.passes) = (true, 0));
    }

    /// Lets one call through the closed gate: one that waits, or the next.
    pub fn release_one(&self) {
        self.shared.update(|state| state.passes += 1);
    }

    /// Opens the gate.
    pub fn release(&self) {
        self.shared.update(|state| state.held = false);
    }

    /// How many calls have begun.
    pub fn calls(&self) -> u64 {
        self.shared.state().calls
    }

    /// How many reports have been made.
    pub fn reports(&self) -> u64 {
        self.shared.state().reports
    }

    /// The most calls that ever ran at the same time.
    pub fn most_at_once(&self) -> u64 {
        self.shared.state().most_at_once
    }

    /// Waits until at least this many calls have begun.
    pub async fn called(&self, calls: u64) {
        self.shared.wait_until(|state| (state.calls >= calls).then_some(())).await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }

    async fn wait_until<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(value) = ready(&mut self.state()) {
                return value;
            }
            // The sender lives in `self`, so this ends only with a change.
            let _ = changes.changed().await;
        }
    }
}

#[async_trait]
impl ReportProvider for MockProvider {
    fn platform(&self) -> Platform {
        Platform::MOCK
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        let _running = Running::begin(&self.shared);
        self.shared.wait_until(State::pass_gate).await;
        let behaviour = self.shared.wait_until(State::decided).await;
        if let Behaviour::Slow(duration) = behaviour {
            tokio::time::sleep(duration).await;
        }
        let mut state = self.shared.state();
        let report = match behaviour {
            Behaviour::Busy => return Err(fault(ProviderErrorKind::Busy)),
            Behaviour::Failing => return Err(fault(ProviderErrorKind::Failed)),
            Behaviour::Unsupported => return Err(fault(ProviderErrorKind::Unsupported)),
            Behaviour::Panicking => {
                drop(state);
                panic_as_told()
            }
            Behaviour::OtherReportData => state.tee.sign([0; 64]),
            Behaviour::OtherPlatform => Report::new(Platform::SNP, state.tee.sign(*data.as_bytes()).bytes().clone()),
            Behaviour::Healthy | Behaviour::Slow(_) | Behaviour::Hanging => state.tee.sign(*data.as_bytes()),
        };
        state.reports += 1;
        let report = state.vek.iter().fold(report, |report, vek| report.with_vek(vek.clone()));
        Ok(state.collateral.iter().fold(report, |report, json| report.with_collateral(json.clone())))
    }
}

fn fault(kind: ProviderErrorKind) -> ProviderError {
    ProviderError::new(kind, "the mock was told to answer so")
}

#[expect(clippy::panic, reason = "a test asked for it")]
fn panic_as_told() -> ! {
    panic!("the mock was told to panic")
}

impl State {
    fn pass_gate(&mut self) -> Option<()> {
        if self.held {
            self.passes = self.passes.checked_sub(1)?;
        }
        Some(())
    }

    fn decided(&mut self) -> Option<Behaviour> {
        (self.behaviour != Behaviour::Hanging).then_some(self.behaviour)
    }
}

/// Counts a call for as long as it runs, also if it is cancelled or panics.
struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.update(|state| {
            state.calls += 1;
            state.running += 1;
            state.most_at_once = state.most_at_once.max(state.running);
        });
        Self(shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.update(|state| state.running -= 1);
    }
}

impl fmt::Debug for MockProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("MockProvider")
            .field("tee", &state.tee)
            .field("behaviour", &state.behaviour)
            .field("held", &state.held)
            .field("calls", &state.calls)
            .field("reports", &state.reports)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> ReportData {
        ReportData::new([9; 64])
    }

    #[tokio::test]
    async fn each_fault_shows_as_hardware_would_show_it() {
        let provider = MockTee::new().provider();
        for (behaviour, kind) in [
            (Behaviour::Busy, ProviderErrorKind::Busy),
            (Behaviour::Failing, ProviderErrorKind::Failed),
            (Behaviour::Unsupported, ProviderErrorKind::Unsupported),
        ] {
            provider.set_behaviour(behaviour);
            assert_eq!(provider.report(&data()).await.unwrap_err().kind(), kind);
        }
        provider.set_behaviour(Behaviour::OtherPlatform);
        assert_eq!(provider.report(&data()).await.unwrap().platform(), &Platform::SNP);
        provider.set_behaviour(Behaviour::OtherReportData);
        assert_eq!(provider.report(&data()).await.unwrap().bytes()[8..72], [0; 64]);
        provider.set_behaviour(Behaviour::Panicking);
        let panicking = provider.clone();
        assert!(tokio::spawn(async move { panicking.report(&data()).await }).await.unwrap_err().is_panic());
        provider.set_behaviour(Behaviour::Healthy);
        assert_eq!(provider.report(&data()).await.unwrap().bytes()[8..72], [9; 64]);
        assert_eq!((provider.calls(), provider.reports(), provider.most_at_once()), (7, 3, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_lets_one_call_through_at_a_time() {
        let provider = MockTee::new().provider();
        provider.hold();
        let calls: Vec<_> = (0..3)
            .map(|_| {
                let provider = provider.clone();
                tokio::spawn(async move { provider.report(&data()).await })
            })
            .collect();
        provider.called(3).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(provider.reports(), 0);
        provider.release_one();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(provider.reports(), 1);
        provider.release();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(provider.most_at_once(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_call_answers_once_the_device_recovers() {
        let provider = MockTee::new().provider();
        provider.set_behaviour(Behaviour::Hanging);
        let hanging = tokio::spawn({
            let provider = provider.clone();
            async move { provider.report(&data()).await }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!hanging.is_finished());
        provider.set_behaviour(Behaviour::Slow(Duration::from_secs(7)));
        hanging.await.unwrap().unwrap();
    }
}
