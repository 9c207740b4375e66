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

/// What the verifier makes of evidence. What it accepts is believed from then on, and what it refuses no longer.
pub(crate) struct Verification {
    call: Call,
    pending: Option<Pending>,
    /// Whether it has been asked again, since its policy or revocation data changed meanwhile: by this very evidence it may
    /// be, which brought a new list.
    again: bool,
}

/// One call of the verifier.
struct Call {
    verify: Verify,
    at: SystemTime,
    revision: u64,
}

impl Verification {
    pub(crate) fn new(shared: &Shared, pending: Pending) -> Self {
        Self { call: Call::new(shared, &pending), pending: Some(pending), again: false }
    }

    pub(crate) fn poll(
        &mut self,
        shared: &Shared,
        origin: &Origin,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arc<VerifiedKeys>, AttestError>> {
        let Some(pending) = self.pending.take() else { return Poll::Pending };
        let verified = loop {
            let Poll::Ready(verified) = self.call.verify.as_mut().poll(cx) else {
                self.pending = Some(pending);
                return Poll::Pending;
            };
            if self.again || shared.revision() == self.call.revision {
                break verified;
            }
            self.again = true;
            self.call = Call::new(shared, &pending);
        };
        let digest = *pending.keys();
        Poll::Ready(match pending.finish(verified, self.call.at) {
            Ok(_) if shared.revision() != self.call.revision => {
                let message = "the verifier's policy or revocation data changed while it verified: retry";
                Err(AttestError::new(ErrorKind::Unavailable, message))
            }
            Ok(keys) => {
                shared.trust.trust(origin, &keys, self.call.revision);
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

impl Call {
    fn new(shared: &Shared, pending: &Pending) -> Self {
        let at = shared.now().wall;
        let revision = shared.revision();
        let verifier = Arc::clone(&shared.settings.verifier);
        let report = pending.report().clone();
        let verify = Box::pin(async move { verifier.verify(&report, at).await });
        Self { verify, at, revision }
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
