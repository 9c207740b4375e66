//! Lets the verifier judge a report, in bounded time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use super::exchange::{Pending, VerifiedKeys, lacks_endorsement};
use super::service::Shared;
use super::trust::Origin;
use crate::error::{AttestError, ErrorKind};
use crate::time::Sleep;
use crate::verifier::{Claims, VerifyError};

type Verify = Pin<Box<dyn Future<Output = Result<Claims, VerifyError>> + Send>>;

/// One call of the verifier. What it accepts is believed from then on, and what it refuses no longer.
pub(crate) struct Verification {
    verify: Verify,
    pending: Option<Pending>,
    at: SystemTime,
    revision: u64,
}

impl Verification {
    pub(crate) fn new(shared: &Shared, pending: Pending) -> Self {
        let at = shared.now().wall;
        let revision = shared.revision();
        let verifier = Arc::clone(&shared.settings.verifier);
        let report = pending.report().clone();
        let verify = Box::pin(async move { verifier.verify(&report, at).await });
        Self { verify, pending: Some(pending), at, revision }
    }

    pub(crate) fn poll(
        &mut self,
        shared: &Shared,
        origin: &Origin,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arc<VerifiedKeys>, AttestError>> {
        let Poll::Ready(verified) = self.verify.as_mut().poll(cx) else { return Poll::Pending };
        let Some(pending) = self.pending.take() else { return Poll::Pending };
        let digest = *pending.keys();
        Poll::Ready(match pending.finish(verified, self.at) {
            Ok(_) if shared.revision() != self.revision => {
                let message = "the verifier's policy or revocation data changed while it verified: retry";
                Err(AttestError::new(ErrorKind::Unavailable, message))
            }
            Ok(keys) => {
                shared.trust.trust(origin, &keys, self.revision);
                Ok(keys)
            }
            Err(error) => {
                // Keys that were believed, and whose renewed evidence shows that they must not be.
                if error.kind() == ErrorKind::Refused && !lacks_endorsement(&error) {
                    shared.trust.forget(origin, &digest);
                }
                Err(error)
            }
        })
    }
}

/// The layer's own time limit. Its timer starts when something first has to be waited for.
#[derive(Default)]
pub(crate) struct Deadline(Option<Sleep>);

impl Deadline {
    /// Ready with an error once the time is up.
    pub(crate) fn poll(&mut self, shared: &Shared, doing: &str, cx: &mut Context<'_>) -> Poll<AttestError> {
        let timeout = shared.settings.timeout;
        let sleep = self.0.get_or_insert_with(|| shared.settings.clock.sleep(timeout));
        sleep
            .as_mut()
            .poll(cx)
            .map(|()| AttestError::new(ErrorKind::Timeout, format!("expected {doing} within {timeout:?}")))
    }
}
