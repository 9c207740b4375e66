//! Replicas, restarts, rotation: keys that a server does not hold.

use bytes::Bytes;
use http::Request;
use tower::Layer;
use tower_attest::ErrorKind;
use tower_attest::mock::MockTee;
use tower_attest::seal::SealLayer;
use tower_attest::seal::client::Repeatable;
use tower_attest::time::ManualClock;

use crate::support::{Body, Server, Wire, balance, call, client, full, kind, post, relay};

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

#[tokio::test]
async fn a_renewed_key_is_sealed_to_and_the_last_one_serves_out_its_grace() {
    let (tee, clock) = (MockTee::new(), ManualClock::new());
    let own = clock.clone();
    let server = Server::start_with(&tee, move |builder| builder.clock(own)).await;
    let layer = SealLayer::new(tee.verifier()).clock(clock.clone());
    let client = layer.layer(server.transport.clone());
    let minutes = |minutes: u64| std::time::Duration::from_secs(60 * minutes);
    let old = *server.attester.key_document().digest();

    clock.advance(minutes(58));
    call(&client, post("a")).await.unwrap();
    clock.advance(minutes(3));
    let response = call(&client, post("b")).await.unwrap();
    let report = tower_attest::VerifiedReport::of(&response).unwrap();
    assert_eq!(report.keys_digest(), &old, "within its grace the old key still opens");
    // Past half the age of its evidence the answer renews, and comes signed by the new key.
    clock.advance(minutes(3));
    let response = call(&client, post("c")).await.unwrap();
    assert_eq!(tower_attest::VerifiedReport::of(&response).unwrap().keys_digest(), &old);
    let new = *server.attester.key_document().digest();
    assert_ne!(new, old);
    clock.advance(minutes(3));
    let response = call(&client, post("d")).await.unwrap();
    assert_eq!(tower_attest::VerifiedReport::of(&response).unwrap().keys_digest(), &new);
    let bodies: Vec<Bytes> = server.seen().into_iter().map(|seen| seen.body.unwrap()).collect();
    assert_eq!(bodies, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_key_that_is_full_is_left_for_the_next_one() {
    let tee = MockTee::new();
    let server = Server::start_with(&tee, |builder| builder.replay_cache(2)).await;
    let client = client(&tee, server.transport.clone());
    let mut failures = vec![];
    for _ in 0..7 {
        if let Err(error) = call(&client, post("w")).await {
            failures.push(kind(&error).unwrap());
        }
    }
    assert!(failures.len() <= 3, "{failures:?}");
    assert!(server.seen().len() >= 4);
}
