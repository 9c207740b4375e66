//! Replicas and restarts: keys that a server does not hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::Request;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_attest::mock::{MockTee, MockVerifier};
use tower_attest::seal::SealLayer;
use tower_attest::seal::client::Repeatable;
use tower_attest::time::ManualClock;
use tower_attest::{
    BoxError, Claims, ErrorKind, Platform, Report, ReportLayer, ReportVerifier, VerifyError, VerifyErrorKind,
    async_trait,
};

use crate::support::{
    Body, SEALED, Server, Transport, Wire, attester, balance, call, client, erase, full, kind, post, relay,
};

fn get() -> Request<Body> {
    Request::get("https://prover.example/status").body(Body::default()).unwrap()
}

fn repeatable(witness: &'static str) -> Request<Body> {
    let mut request = post(witness);
    request.extensions_mut().insert(Repeatable::new(move || full(witness)));
    request
}

/// Two replicas; the first sealed request goes to the first, all others to the second.
async fn moved(tee: &MockTee) -> (Server, Server, crate::support::Client) {
    let (first, second) = (Server::start(tee).await, Server::start(tee).await);
    let balanced = balance(vec![first.transport.clone(), second.transport.clone()], |number| usize::from(number > 0));
    let client = client(tee, balanced);
    call(&client, post("for the first")).await.unwrap();
    assert_eq!(first.seen().len(), 1);
    (first, second, client)
}

#[tokio::test]
async fn a_request_that_may_be_repeated_is_sealed_again_to_the_keys_of_the_server_that_answers() {
    for request in [get(), repeatable("witness")] {
        let (_, second, client) = moved(&MockTee::new()).await;
        call(&client, request).await.unwrap();
        assert_eq!(second.seen().len(), 1, "the first attempt was not opened");
    }
}

#[tokio::test]
async fn a_request_that_may_not_be_repeated_fails_and_the_next_attempt_works() {
    let (_, second, client) = moved(&MockTee::new()).await;
    let error = call(&client, post("witness")).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::UnknownKeys));
    assert!(second.seen().is_empty());
    assert_eq!(call(&client, post("witness")).await.unwrap().body(), "witness");
    assert_eq!(second.seen().len(), 1);
}

#[tokio::test]
async fn an_idempotent_method_with_a_body_is_not_repeated_by_itself() {
    let (_, second, client) = moved(&MockTee::new()).await;
    let put = Request::put("https://prover.example/x").body(full("body")).unwrap();
    assert_eq!(kind(&call(&client, put).await.unwrap_err()), Some(ErrorKind::UnknownKeys));
    assert!(second.seen().is_empty());
}

#[tokio::test]
async fn a_post_without_a_body_is_not_repeated_by_itself() {
    let (_, second, client) = moved(&MockTee::new()).await;
    let post = Request::post("https://prover.example/x").body(Body::default()).unwrap();
    assert_eq!(kind(&call(&client, post).await.unwrap_err()), Some(ErrorKind::UnknownKeys));
    assert!(second.seen().is_empty());
}

#[tokio::test]
async fn another_status_of_another_server_is_no_reason_to_repeat() {
    let tee = MockTee::new();
    let first = Server::start(&tee).await;
    let other = attester(&tee, |builder| builder).await;
    let down = service_fn(|_: Request<Wire>| async {
        Ok::<_, BoxError>(http::Response::builder().status(503).body(full("down")).unwrap())
    });
    let second = erase(ReportLayer::new(other).layer(down));
    let client = client(&tee, balance(vec![first.transport.clone(), second], |number| usize::from(number == 1)));
    call(&client, get()).await.unwrap();
    let error = call(&client, repeatable("w")).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::NotSealed { status: 503 }));
    assert_eq!(first.seen().len(), 1);
}

/// Counts requests for evidence, and does what `act` says to sealed ones.
fn counting<R>(
    server: &Transport,
    act: impl Fn(Request<Wire>, Transport) -> R + Clone + Send + Sync + 'static,
) -> (Transport, Arc<AtomicUsize>)
where
    R: Future<Output = Result<http::Response<Wire>, BoxError>> + Send + 'static,
{
    let asked = Arc::new(AtomicUsize::new(0));
    let (server, count) = (server.clone(), Arc::clone(&asked));
    let counted = Transport::new(move |request: Request<Wire>| -> crate::support::Reply {
        if request.uri().path() == SEALED {
            return Box::pin(act(request, server.clone()));
        }
        count.fetch_add(1, Ordering::SeqCst);
        server.send(request)
    });
    (counted, asked)
}

#[tokio::test]
async fn keys_that_open_nothing_are_asked_for_anew() {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    let (sent, altered) = (Arc::new(AtomicUsize::new(0)), full("not sealed at all"));
    let altered = Arc::new(std::sync::Mutex::new(Some(altered)));
    let (counted, asked) = counting(&server.transport, move |request: Request<Wire>, server| {
        let number = sent.fetch_add(1, Ordering::SeqCst);
        let body = if number == 1 { altered.lock().unwrap().take() } else { None };
        match body {
            Some(body) => server.send(request.map(|_| body)),
            None => server.send(request),
        }
    });
    let client = client(&tee, counted);
    call(&client, post("a")).await.unwrap();
    let error = call(&client, post("b")).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::NotSealed { status: 400 }));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    call(&client, post("c")).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2, "a server that has ended a key says so only with evidence");
}

#[tokio::test]
async fn have_names_the_keys_that_it_is_sealed_to_and_no_others() {
    let tee = MockTee::new();
    let (first, second) = (Server::start(&tee).await, Server::start(&tee).await);
    let balanced = balance(vec![first.transport.clone(), second.transport.clone()], |number| usize::from(number > 0));
    let (tapped, _) = counting(&balanced, |request: Request<Wire>, server| {
        let nonce = request.headers()["attestation-nonce"].to_str().unwrap();
        let keys = request.headers()["attestation-keys"].to_str().unwrap();
        assert!(nonce.ends_with(&format!(";have={keys}")), "{nonce} {keys}");
        server.send(request)
    });
    let client = client(&tee, tapped);
    call(&client, get()).await.unwrap();
    call(&client, get()).await.unwrap();
    call(&client, get()).await.unwrap();
}

/// The mock's verifier under a policy that changes.
#[derive(Debug, Clone)]
struct Changing {
    verifier: MockVerifier,
    revision: Arc<AtomicU64>,
}

#[async_trait]
impl ReportVerifier for Changing {
    fn platforms(&self) -> Vec<Platform> {
        self.verifier.platforms()
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    async fn verify(&self, report: &Report, at: std::time::SystemTime) -> Result<Claims, VerifyError> {
        self.verifier.verify(report, at).await
    }
}

#[tokio::test]
async fn a_policy_that_changes_while_a_request_is_out_is_applied_to_its_response() {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    let verifier = Changing { verifier: tee.verifier(), revision: Arc::default() };
    let revision = Arc::clone(&verifier.revision);
    let (counted, asked) = counting(&server.transport, move |request: Request<Wire>, server| {
        revision.fetch_add(1, Ordering::SeqCst);
        server.send(request)
    });
    let client = SealLayer::new(verifier).layer(counted);
    call(&client, post("w")).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2, "before, and again under the new policy");
}

#[tokio::test]
async fn evidence_that_passes_its_age_before_the_service_is_ready_is_asked_for_again() {
    let (tee, clock) = (MockTee::new(), ManualClock::new());
    let server = Server::start(&tee).await;
    let (counted, asked) = counting(&server.transport, |request: Request<Wire>, server| server.send(request));
    let gate = Arc::new(tokio::sync::Semaphore::new(2));
    // Two requests pass: one for evidence, and one more only after the clock has been put on.
    let gated = Gated { inner: counted, gate: Arc::clone(&gate), permit: None, wait: None };
    let client = SealLayer::new(tee.verifier()).clock(clock.clone()).layer(gated);
    gate.acquire().await.unwrap().forget();
    let mut calling = tokio_test::task::spawn(client.oneshot(post("w")));
    while asked.load(Ordering::SeqCst) < 1 || gate.available_permits() > 0 {
        assert!(calling.poll().is_pending());
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    for _ in 0..50 {
        assert!(calling.poll().is_pending());
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    clock.advance(std::time::Duration::from_secs(601));
    gate.add_permits(10);
    assert_eq!(calling.await.unwrap().status(), 200);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// A service that is ready only with a permit, each good for one request.
struct Gated {
    inner: Transport,
    gate: Arc<tokio::sync::Semaphore>,
    permit: Option<tokio::sync::OwnedSemaphorePermit>,
    wait: Option<Waiting>,
}

type Waiting = std::pin::Pin<Box<dyn Future<Output = tokio::sync::OwnedSemaphorePermit> + Send>>;

impl Clone for Gated {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate), permit: None, wait: None }
    }
}

impl Service<Request<Wire>> for Gated {
    type Response = http::Response<Wire>;
    type Error = BoxError;
    type Future = crate::support::Reply;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        if self.permit.is_none() {
            let gate = Arc::clone(&self.gate);
            let wait = self.wait.get_or_insert_with(|| Box::pin(async move { gate.acquire_owned().await.unwrap() }));
            self.permit = Some(std::task::ready!(wait.as_mut().poll(cx)));
            self.wait = None;
        }
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Wire>) -> crate::support::Reply {
        self.permit.take().unwrap().forget();
        self.inner.send(request)
    }
}

#[tokio::test]
async fn a_request_is_repeated_once() {
    let tee = MockTee::new();
    let (first, second) = (Server::start(&tee).await, Server::start(&tee).await);
    // Whoever answers is never the one that it was sealed to.
    let servers = vec![first.transport.clone(), second.transport.clone()];
    let client = client(&tee, balance(servers, |number| [0, 1, 0, 1, 0][number]));
    call(&client, get()).await.unwrap();
    let error = call(&client, get()).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::UnknownKeys));
    assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
}

#[tokio::test]
async fn both_replicas_are_known_after_one_request_to_each() {
    let tee = MockTee::new();
    let (first, second) = (Server::start(&tee).await, Server::start(&tee).await);
    let by_keys = {
        let (first, second) = (first.clone(), second.clone());
        relay(&first.transport.clone(), move |request: Request<Wire>, _| {
            // As a balancer routes by `Attestation-Route`, here by the keys themselves.
            let named = request.headers()["attestation-keys"].clone();
            let digest = second.attester.key_document().digest().as_bytes().to_vec();
            let is_second = named.to_str().unwrap().contains(&base64(&digest));
            let server = if is_second { second.transport.clone() } else { first.transport.clone() };
            server.send(request)
        })
    };
    let client = client(&tee, by_keys);
    for _ in 0..4 {
        call(&client, post("w")).await.unwrap();
    }
    assert_eq!(first.seen().len() + second.seen().len(), 4);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn keys_that_are_not_accepted_are_not_learnt() {
    let tee = MockTee::new();
    let (first, evil) = (Server::start(&tee).await, Server::start(&MockTee::new()).await);
    let balanced = balance(vec![first.transport.clone(), evil.transport.clone()], |number| usize::from(number > 0));
    let client = client(&tee, balanced);
    call(&client, get()).await.unwrap();
    for _ in 0..2 {
        let error = call(&client, repeatable("witness")).await.unwrap_err();
        assert_eq!(kind(&error), Some(ErrorKind::Refused));
    }
    assert!(evil.seen().is_empty());
}

#[tokio::test]
async fn an_answer_of_unknown_keys_without_evidence_is_no_reason_to_repeat() {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    let forged = relay(&server.transport, |_: Request<Wire>, _| async {
        let problem = r#"{"type":"https://iana.org/assignments/http-problem-types#ohttp-key"}"#;
        Ok(http::Response::builder().status(400).body(full(problem)).unwrap())
    });
    let error = call(&client(&tee, forged), get()).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::NoReport { status: 400 }));
}

/// The mock's verifier, to which the second piece of evidence lacks an endorsement.
#[derive(Debug)]
struct Lacking {
    verifier: MockVerifier,
    judged: Arc<AtomicUsize>,
}

#[async_trait]
impl ReportVerifier for Lacking {
    fn platforms(&self) -> Vec<Platform> {
        self.verifier.platforms()
    }

    async fn verify(&self, report: &Report, at: std::time::SystemTime) -> Result<Claims, VerifyError> {
        match self.judged.fetch_add(1, Ordering::SeqCst) {
            1 => Err(VerifyError::new(VerifyErrorKind::EndorsementMissing, "no certificate")),
            _ => self.verifier.verify(report, at).await,
        }
    }
}

/// As when a header had no room for the certificate.
#[tokio::test]
async fn evidence_in_a_header_that_lacks_its_certificate_is_completed_at_the_endpoint() {
    let tee = MockTee::new();
    let (first, second) = (Server::start(&tee).await, Server::start(&tee).await);
    let balanced = balance(vec![first.transport.clone(), second.transport.clone()], |number| usize::from(number > 0));
    let judged = Arc::<AtomicUsize>::default();
    let verifier = Lacking { verifier: tee.verifier(), judged: Arc::clone(&judged) };
    let client = SealLayer::new(verifier).name("prover.example").layer(balanced);
    call(&client, post("for the first")).await.unwrap();
    call(&client, repeatable("witness")).await.unwrap();
    assert_eq!(second.seen().len(), 1);
    assert_eq!(judged.load(Ordering::SeqCst), 3, "at the start, in the header, from the endpoint");
}
