//! Group commit: while one report is being made all further nonces queue, and the next report takes them together.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;

use super::Core;
use super::error::AttesterError;
use super::observe::ReportCall;
use super::queue::{Queue, Waiting};
use crate::protocol::BatchTree;
use crate::provider::{ProviderError, ProviderErrorKind, ReportProvider};
use crate::report::{Platform, Report, ReportData};

/// Serves the queue until it is closed and empty. Owns the provider, so that nothing else can call it.
pub(super) async fn run(core: Arc<Core>, provider: Box<dyn ReportProvider>, ended: watch::Sender<()>) {
    let _end = End { queue: Arc::clone(&core.queue), _ended: ended };
    while let Some(batch) = core.queue.take(core.settings.batch) {
        if !batch.is_empty() {
            serve(&core, &*provider, batch).await;
        } else {
            race(core.queue.work(), renew_keys(&core)).await;
        }
    }
}

/// Renews keys, and erases old ones, when their time comes and nobody asks for them. Never ends.
async fn renew_keys(core: &Core) {
    loop {
        let now = core.clock.now();
        core.keys.refresh(now);
        core.clock.sleep(core.keys.next_refresh(now)).await;
    }
}

/// Whatever ends the task, a runtime that shuts down included: nobody waits for it any more.
struct End {
    queue: Arc<Queue>,
    _ended: watch::Sender<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.queue.abort();
    }
}

async fn serve(core: &Core, provider: &dyn ReportProvider, batch: Vec<Waiting>) {
    let (leaves, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|waiting| (waiting.leaf, waiting.reply)).unzip();
    // One to `settings.batch` leaves, which `start` has checked against the protocol's limit.
    let Ok(tree) = BatchTree::new(leaves) else { return };
    let data = tree.report_data(&core.platform);
    let started = core.clock.now().monotonic;
    let mut call = pin!(unwinding(provider.report(&data)));
    let mut timeout = core.clock.sleep(core.settings.report_timeout);
    let result = loop {
        match race(race(call.as_mut(), timeout.as_mut()), core.queue.closing()).await {
            Won::First(Won::First(result)) => break Some(result),
            Won::First(Won::Second(())) => break None,
            Won::Second(()) if replies.iter().all(|reply| reply.is_closed()) => return,
            Won::Second(()) => {}
        }
    };
    let outcome = match &result {
        Some(result) => {
            result.clone().and_then(|report| checked(report, &core.platform, &data)).map_err(AttesterError::hardware)
        }
        None => Err(AttesterError::stalled(core.settings.report_timeout)),
    };
    let took = core.clock.now().monotonic.saturating_sub(started);
    match outcome {
        Ok(report) => {
            tracing::debug!(
                name: "attest.report_made", target: "tower_attest::server",
                nonces = replies.len(), "the hardware made a report"
            );
            core.queue.made(replies.len());
            core.observer.tell(&ReportCall::new(replies.len(), took, None));
            for (index, reply) in replies.into_iter().enumerate().filter(|(_, reply)| !reply.is_closed()) {
                // Leaves are numbered by this very tree, so there is a proof for each.
                let share = tree.proof(index).map(|proof| (report.clone(), proof));
                let _ = reply.send(share.ok_or_else(AttesterError::stopped));
            }
        }
        Err(error) => {
            tracing::warn!(
                name: "attest.report_failed", target: "tower_attest::server",
                %error, nonces = replies.len(), "the hardware made no report"
            );
            core.queue.failed();
            if result.is_none() {
                core.queue.stall(&error);
            }
            core.observer.tell(&ReportCall::new(replies.len(), took, Some(error.clone())));
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
    if result.is_none() {
        recover(core, call).await;
    }
}

/// Waits until the call that took too long returns. Its report comes too late for anyone.
async fn recover(core: &Core, call: Pin<&mut impl Future>) {
    if core.queue.is_closed() {
        return;
    }
    let returned = race(call, race(core.queue.closing(), renew_keys(core)));
    if let Won::First(_) = returned.await {
        tracing::info!(
            name: "attest.device_recovered", target: "tower_attest::server",
            "the hardware has returned from a call that took too long"
        );
        core.queue.recovered();
    }
}

/// Refuses what can be seen to be wrong without knowing the platform's format.
fn checked(report: Report, platform: &Platform, data: &ReportData) -> Result<Report, ProviderError> {
    let failed = |message: String| Err(ProviderError::new(ProviderErrorKind::Failed, message));
    if report.platform() != platform {
        return failed(format!("expected a report of the platform {platform}, found {}", report.platform()));
    }
    // Every platform that the protocol defines holds REPORTDATA as it is; one of somebody's own may hash it.
    let verbatim = Platform::KNOWN.contains(platform);
    if verbatim && !report.bytes().windows(data.as_bytes().len()).any(|window| window == data.as_bytes()) {
        return failed("expected a report over the REPORTDATA asked for, found other REPORTDATA".to_owned());
    }
    Ok(report)
}

/// Turns a provider's panic into an error, so that it fails one batch and not the task.
async fn unwinding(call: impl Future<Output = Result<Report, ProviderError>>) -> Result<Report, ProviderError> {
    let mut call = pin!(call);
    poll_fn(|cx| {
        // A future that has panicked is not polled again: the error ends this one.
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))).unwrap_or_else(|_| {
            let message = "the provider panicked; its message is in the process's standard error";
            Poll::Ready(Err(ProviderError::new(ProviderErrorKind::Failed, message)))
        })
    })
    .await
}

enum Won<A, B> {
    First(A),
    Second(B),
}

/// The output of whichever ends first; the first if both do.
async fn race<A: Future, B: Future>(first: A, second: B) -> Won<A::Output, B::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Won::First(output)),
        Poll::Pending => second.as_mut().poll(cx).map(Won::Second),
    })
    .await
}
