//! What a relay does to requests: the server refuses, or its application gets a body error; nothing passes for whole.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use tower_attest::ErrorKind;
use tower_attest::mock::MockTee;

use crate::support::{Server, Wire, bytes, call, client, frames, full, kind, pieces, post, relay};

/// What came of one POST whose sealed body a relay made into something else.
struct Outcome {
    kind: Option<ErrorKind>,
    /// Each body that the application saw.
    bodies: Vec<Result<Bytes, String>>,
}

async fn tampered(change: impl Fn(Vec<u8>) -> Vec<u8> + Clone + Send + Sync + 'static) -> Outcome {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    let relayed = relay(&server.transport, move |request, server| {
        let change = change.clone();
        async move {
            let (parts, body) = request.into_parts();
            let changed = change(bytes(body).await?.to_vec());
            server.send(Request::from_parts(parts, full(changed))).await
        }
    });
    let outcome = call(&client(&tee, relayed), post(vec![7; 40_000])).await;
    let bodies = server.seen().into_iter().map(|seen| seen.body).collect();
    Outcome { kind: outcome.as_ref().err().and_then(kind), bodies }
}

/// Where the chunks of a sealed request begin, after its header of 39 bytes.
fn chunks(sealed: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &sealed[39..];
    let mut chunks = vec![];
    while !rest.is_empty() {
        let length = match rest[0] >> 6 {
            0 => 1 + usize::from(rest[0]),
            1 => 2 + (usize::from(rest[0] & 0x3f) << 8 | usize::from(rest[1])),
            _ => 4 + (usize::from(rest[2]) << 8 | usize::from(rest[3])),
        };
        let length = if rest[0] == 0 { rest.len() } else { length };
        let (chunk, after) = rest.split_at(length);
        chunks.push(chunk.to_vec());
        rest = after;
    }
    chunks
}

const NOT_OPENED: Option<ErrorKind> = Some(ErrorKind::NotSealed { status: 400 });

#[tokio::test]
async fn an_untouched_request_passes() {
    let outcome = tampered(|sealed| sealed).await;
    assert_eq!((outcome.kind, outcome.bodies.len()), (None, 1));
    assert_eq!(outcome.bodies[0].as_ref().unwrap().len(), 40_000);
}

#[tokio::test]
async fn an_altered_head_never_reaches_the_application() {
    for at in [0, 1, 4, 6, 7, 38, 39, 45, 300] {
        let outcome = tampered(move |mut sealed| {
            sealed[at] ^= 1;
            sealed
        })
        .await;
        assert_eq!(outcome.kind, NOT_OPENED, "byte {at}");
        assert!(outcome.bodies.is_empty(), "byte {at}");
    }
}

#[tokio::test]
async fn an_altered_body_is_a_body_error() {
    let outcome = tampered(|mut sealed| {
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        sealed
    })
    .await;
    assert!(matches!(&outcome.bodies[..], [Err(_)]), "{:?}", outcome.bodies);
}

#[tokio::test]
async fn a_truncated_request_is_a_body_error_and_never_an_end() {
    for kept in 1..3 {
        let outcome = tampered(move |sealed| {
            let chunks = chunks(&sealed);
            assert_eq!(chunks.len(), 3);
            [&sealed[..39], &chunks[..kept].concat()].concat()
        })
        .await;
        assert!(matches!(&outcome.bodies[..], [Err(_)]), "{:?}", outcome.bodies);
    }
}

#[tokio::test]
async fn reordered_repeated_and_dropped_chunks_are_body_errors() {
    let orders: [&[usize]; 3] = [&[0, 2, 1], &[0, 1, 1, 2], &[0, 2]];
    for order in orders {
        let outcome = tampered(move |sealed| {
            let chunks = chunks(&sealed);
            let moved: Vec<_> = order.iter().map(|at| chunks[*at].clone()).collect();
            [&sealed[..39], &moved.concat()].concat()
        })
        .await;
        assert!(matches!(&outcome.bodies[..], [Err(_)]), "{order:?}: {:?}", outcome.bodies);
    }
}

#[tokio::test]
async fn a_replayed_request_is_served_once() {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    let relayed = relay(&server.transport, |request, server| async move {
        let (parts, body) = request.into_parts();
        let pieces = pieces(body).await;
        let first = Request::from_parts(parts.clone(), frames(pieces.clone()));
        bytes(server.send(first).await?.into_body()).await?;
        server.send(Request::from_parts(parts, frames(pieces))).await
    });
    let error = call(&client(&tee, relayed), post("witness")).await.unwrap_err();
    assert_eq!(kind(&error), NOT_OPENED);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn swapped_requests_give_responses_that_do_not_open() {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    // Whatever is sent second carries what was sent first, and the other way round.
    let kept = Arc::<Mutex<Option<Vec<Bytes>>>>::default();
    let relayed = relay(&server.transport, move |request: Request<Wire>, server| {
        let kept = Arc::clone(&kept);
        async move {
            let (parts, body) = request.into_parts();
            let own = pieces(body).await;
            let other = kept.lock().unwrap().replace(own.clone());
            server.send(Request::from_parts(parts, frames(other.unwrap_or(own)))).await
        }
    });
    let client = client(&tee, relayed);
    assert!(call(&client, post("first")).await.is_ok());
    let error = call(&client, post("second")).await.unwrap_err();
    assert_eq!(kind(&error), NOT_OPENED, "the first one was delivered already");

    // Not delivered before: it opens, and its response is another request's.
    let foreign = Server::start(&tee).await;
    let stolen = Arc::<Mutex<Option<Vec<Bytes>>>>::default();
    let thief = Arc::clone(&stolen);
    let stealing = relay(&foreign.transport, move |request: Request<Wire>, _| {
        let thief = Arc::clone(&thief);
        async move {
            *thief.lock().unwrap() = Some(pieces(request.into_body()).await);
            Err("stolen".into())
        }
    });
    let first = crate::support::client(&tee, stealing);
    assert!(call(&first, post("theirs")).await.is_err());
    let delivering = relay(&foreign.transport, move |request: Request<Wire>, server| {
        let theirs = stolen.lock().unwrap().take().unwrap();
        let (parts, _) = request.into_parts();
        server.send(Request::from_parts(parts, frames(theirs)))
    });
    let error = call(&crate::support::client(&tee, delivering), post("ours")).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::SealBroken));
}

#[tokio::test]
async fn a_request_under_another_name_of_keys_is_not_opened() {
    for value in [None, Some(":AAAA:")] {
        let tee = MockTee::new();
        let server = Server::start(&tee).await;
        let relayed = relay(&server.transport, move |mut request: Request<Wire>, server| {
            request.headers_mut().remove("attestation-keys");
            if let Some(value) = value {
                request.headers_mut().insert("attestation-keys", value.parse().unwrap());
            }
            server.send(request)
        });
        let error = call(&client(&tee, relayed), post("w")).await.unwrap_err();
        assert_eq!(kind(&error), NOT_OPENED);
        assert!(server.seen().is_empty());
    }
}

#[tokio::test]
async fn nothing_of_the_request_stands_in_what_the_relay_sees() {
    let tee = MockTee::new();
    let server = Server::start_with(&tee, |builder| builder.route("tee-7")).await;
    let tapped = Arc::<Mutex<Vec<u8>>>::default();
    let tap = Arc::clone(&tapped);
    let relayed = relay(&server.transport, move |request: Request<Wire>, server| {
        let tap = Arc::clone(&tap);
        async move {
            assert_eq!(request.headers()["attestation-route"], "tee-7");
            let (parts, body) = request.into_parts();
            let pieces = pieces(body).await;
            let head = format!("{} {} {:?}", parts.method, parts.uri, parts.headers);
            tap.lock().unwrap().extend(head.into_bytes().into_iter().chain(pieces.concat()));
            let (parts, body) = server.send(Request::from_parts(parts, frames(pieces))).await?.into_parts();
            let pieces = crate::support::pieces(body).await;
            tap.lock().unwrap().extend(format!("{:?}", parts.headers).into_bytes().into_iter().chain(pieces.concat()));
            Ok(http::Response::from_parts(parts, frames(pieces)))
        }
    });
    let mut request = post("the witness");
    *request.uri_mut() = "https://name:password@prover.example/prove?fast=1".parse().unwrap();
    let response = call(&client(&tee, relayed), request).await.unwrap();
    assert_eq!(response.body(), "the witness");
    let tapped = tapped.lock().unwrap();
    let text = String::from_utf8_lossy(&tapped).to_lowercase();
    assert!(text.contains("post https://prover.example/.well-known/tower-attest/sealed"));
    for secret in ["the witness", "prove?", "fast=1", "authorization", "bearer", "x-inner", "secret", "password"] {
        assert!(!text.contains(secret), "{secret}");
    }
}
