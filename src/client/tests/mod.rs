//! The layer over a fake server.

mod channel;
mod judging;
mod modes;
mod preflight;
mod waiting;

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use tower::ServiceExt;
use tower_layer::Layer;

use super::fake::{FakeBody, FakeServer, FakeVerifier, NAME};
use crate::client::{Attest, AttestLayer, Mode, Observation, Verdict};
use crate::error::{AttestError, BoxError, ErrorKind};
use crate::time::ManualClock;

type Sent = Result<Response<FakeBody>, BoxError>;

/// A client, and all that a test turns.
struct Set {
    server: FakeServer,
    verifier: FakeVerifier,
    clock: ManualClock,
    verdicts: Arc<Mutex<Vec<Verdict>>>,
    client: Attest<FakeServer>,
}

impl Set {
    fn new() -> Self {
        Self::with(|layer| layer.accept_presence())
    }

    fn in_mode(mode: Mode) -> Self {
        Self::with(|layer| layer.mode(mode))
    }

    fn with(settings: impl FnOnce(AttestLayer) -> AttestLayer) -> Self {
        let (server, verifier, clock) = (FakeServer::new(), FakeVerifier::default(), ManualClock::new());
        let verdicts = Arc::<Mutex<Vec<Verdict>>>::default();
        let told = Arc::clone(&verdicts);
        let layer = AttestLayer::new(verifier.clone())
            .name(NAME)
            .clock(clock.clone())
            .on_verdict(move |verdict| told.lock().unwrap().push(verdict.clone()));
        let client = settings(layer).layer(server.clone());
        Self { server, verifier, clock, verdicts, client }
    }

    async fn send(&self) -> Sent {
        self.client.clone().oneshot(request()).await
    }

    async fn refused(&self) -> ErrorKind {
        kind(&self.send().await)
    }

    async fn observed(&self) -> Observation {
        let response = self.send().await.unwrap();
        Observation::of(&response).unwrap().clone()
    }

    fn verdicts(&self) -> Vec<Verdict> {
        self.verdicts.lock().unwrap().clone()
    }
}

fn request() -> Request<String> {
    Request::post("https://prover.example/prove?a=1").body("witness".to_owned()).unwrap()
}

fn kind(sent: &Sent) -> ErrorKind {
    let error = sent.as_ref().expect_err("expected a refusal");
    error.downcast_ref::<AttestError>().unwrap_or_else(|| panic!("{error}")).kind()
}
