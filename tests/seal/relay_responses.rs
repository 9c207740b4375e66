//! What a relay does to responses: nothing of it reaches the caller.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_attest::mock::{MockTee, MockVerifier};
use tower_attest::seal::SealLayer;
use tower_attest::{Attester, BoxError, ErrorKind, ReportLayer};

use crate::support::{
    Client, Server, Transport, Wire, attester, bytes, call, client, erase, frames, full, kind, pieces, post, relay,
};

/// A client whose relay makes another response of each.
async fn answering(
    change: impl Fn(http::response::Parts, Vec<u8>) -> Response<Wire> + Clone + Send + Sync + 'static,
) -> Client {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    let relayed = relay(&server.transport, move |request: Request<Wire>, server| {
        let change = change.clone();
        async move {
            let (parts, body) = server.send(request).await?.into_parts();
            Ok(change(parts, bytes(body).await?.to_vec()))
        }
    });
    client(&tee, relayed)
}

async fn refusal(client: &Client) -> ErrorKind {
    let error = call(client, post("witness")).await.unwrap_err();
    assert!(!error.to_string().contains("evil"), "no body in an error: {error}");
    kind(&error).unwrap()
}

#[tokio::test]
async fn an_unsealed_answer_of_a_relay_is_no_report() {
    for status in [200, 302, 400, 404, 503] {
        let client = answering(move |_, _| {
            Response::builder().status(status).header("location", "https://evil/").body(full("evil")).unwrap()
        })
        .await;
        assert_eq!(refusal(&client).await, ErrorKind::NoReport { status });
    }
}

/// The head with which `server` answers a sealed request of the relay's own under somebody else's nonce.
async fn borrowed_head(tee: &MockTee, server: &Transport, nonce: HeaderValue) -> HeaderMap {
    let borrowed = Arc::<Mutex<HeaderMap>>::default();
    let taken = Arc::clone(&borrowed);
    let under_that_nonce = relay(server, move |mut request: Request<Wire>, server| {
        request.headers_mut().insert("attestation-nonce", nonce.clone());
        let taken = Arc::clone(&taken);
        async move {
            let response = server.send(request).await?;
            *taken.lock().unwrap() = response.headers().clone();
            Ok(response)
        }
    });
    let refused = call(&client(tee, under_that_nonce), post("the relay's")).await.unwrap_err();
    assert_eq!(kind(&refused), Some(ErrorKind::Stale), "it is for the nonce of another");
    std::mem::take(&mut *borrowed.lock().unwrap())
}

#[tokio::test]
async fn what_keys_sealed_that_the_policy_has_given_up_does_not_open_under_the_signature_of_others() {
    for given_up in [false, true] {
        let old = MockTee::from_seed([1; 32]);
        let new = old.clone().with_measurement([2; 48]);
        let (first, second) = (Server::start(&old).await, Server::start(&new).await);
        let verifier = MockVerifier::new(old.policy().or_measurement(new.measurement()));
        let policy = verifier.clone();
        let relayed = relay(&first.transport, move |request: Request<Wire>, first| {
            let (policy, new, second) = (policy.clone(), new.clone(), second.transport.clone());
            async move {
                let asked = request.headers()["attestation-nonce"].to_str()?;
                // Without `have`, so that the answer brings its own evidence.
                let nonce = asked.split(';').next().unwrap_or_default().parse()?;
                let sealed_by_the_old = first.send(request).await?.into_body();
                if given_up {
                    policy.set_policy(new.policy());
                }
                let mut response = Response::new(sealed_by_the_old);
                *response.headers_mut() = borrowed_head(&new, &second, nonce).await;
                Ok(response)
            }
        });
        let client = SealLayer::new(verifier).name("prover.example").layer(relayed);
        let answered = call(&client, post("witness")).await;
        match given_up {
            false => assert_eq!(answered.unwrap().body(), "witness", "both are believed"),
            true => assert_eq!(kind(&answered.unwrap_err()), Some(ErrorKind::Unavailable)),
        }
    }
}

#[tokio::test]
async fn a_plaintext_body_under_the_servers_head_does_not_open() {
    for body in [&b"evil"[..], b"", &[0; 100]] {
        let client = answering(move |head, _| Response::from_parts(head, full(body))).await;
        let kind = refusal(&client).await;
        assert!(matches!(kind, ErrorKind::SealBroken | ErrorKind::Truncated), "{kind:?}");
    }
}

#[tokio::test]
async fn an_altered_response_does_not_open() {
    for at in [0, 15, 16, 17, 40] {
        let client = answering(move |head, mut body| {
            body[at] ^= 1;
            Response::from_parts(head, full(body))
        })
        .await;
        let kind = refusal(&client).await;
        assert!(matches!(kind, ErrorKind::SealBroken | ErrorKind::Truncated), "byte {at}: {kind:?}");
    }
}

#[tokio::test]
async fn a_response_cut_anywhere_is_truncated_or_broken_and_never_whole() {
    for kept in [0, 10, 16, 20, 60] {
        let client = answering(move |head, mut body| {
            body.truncate(kept);
            Response::from_parts(head, full(body))
        })
        .await;
        let kind = refusal(&client).await;
        assert!(matches!(kind, ErrorKind::SealBroken | ErrorKind::Truncated), "{kept}: {kind:?}");
    }
}

#[tokio::test]
async fn a_response_without_its_final_chunk_is_truncated_after_its_head() {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    let relayed = relay(&server.transport, |request: Request<Wire>, server| async move {
        let (head, body) = server.send(request).await?.into_parts();
        let mut pieces = pieces(body).await;
        assert!(pieces.len() > 1);
        pieces.pop();
        Ok(Response::from_parts(head, frames(pieces)))
    });
    let response = client(&tee, relayed).oneshot(post(vec![1; 40_000])).await.unwrap();
    let error = bytes(response.into_body()).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Truncated));
}

#[tokio::test]
async fn another_status_or_type_outside_is_refused() {
    let client = answering(|mut head, body| {
        head.status = StatusCode::CREATED;
        Response::from_parts(head, full(body))
    })
    .await;
    assert_eq!(refusal(&client).await, ErrorKind::BadSignature);

    let client = answering(|mut head, body| {
        head.headers.insert("content-type", "text/html".parse().unwrap());
        Response::from_parts(head, full(body))
    })
    .await;
    assert_eq!(refusal(&client).await, ErrorKind::NotSealed { status: 200 });
}

#[tokio::test]
async fn fields_of_a_relay_never_reach_the_caller() {
    let client = answering(|mut head, body| {
        head.headers.insert("set-cookie", "evil=1".parse().unwrap());
        head.headers.insert("x-inner", "evil".parse().unwrap());
        Response::from_parts(head, full(body))
    })
    .await;
    let response = call(&client, post("w")).await.unwrap();
    let mut names: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!((names, &response.headers()["x-inner"]), (vec!["x-inner"], &"secret".parse().unwrap()));
}

#[tokio::test]
async fn swapped_responses_are_refused() {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    // Whole responses: the signature is over another nonce. Bodies alone: they are sealed to another request.
    for (bodies_alone, expected) in [(false, ErrorKind::BadSignature), (true, ErrorKind::SealBroken)] {
        let kept = std::sync::Arc::<std::sync::Mutex<Option<(http::response::Parts, Bytes)>>>::default();
        let relayed = relay(&server.transport, move |request: Request<Wire>, server| {
            let kept = std::sync::Arc::clone(&kept);
            async move {
                let (head, body) = server.send(request).await?.into_parts();
                let body = bytes(body).await?;
                let own = head.clone();
                let last = kept.lock().unwrap().replace((head, body.clone()));
                let (head, body) = last.unwrap_or((own.clone(), body));
                Ok(Response::from_parts(if bodies_alone { own } else { head }, full(body)))
            }
        });
        let client = client(&tee, relayed);
        assert!(call(&client, post("first")).await.is_ok());
        let error = call(&client, post("second")).await.unwrap_err();
        assert_eq!(kind(&error), Some(expected));
    }
}

#[tokio::test]
async fn a_server_that_only_attests_did_not_seal() {
    for status in [200, 404] {
        let tee = MockTee::new();
        let attester = attester(&tee, |builder| builder).await;
        let app = service_fn(move |_: Request<Wire>| async move {
            Ok::<_, BoxError>(Response::builder().status(status).body(full("evil")).unwrap())
        });
        let client = client(&tee, erase(ReportLayer::new(attester).layer(app)));
        assert_eq!(refusal(&client).await, ErrorKind::NotSealed { status });
    }
}

#[tokio::test]
async fn a_sealed_type_under_another_status_is_not_sealed() {
    let tee = MockTee::new();
    let attester = attester(&tee, |builder| builder).await;
    let app = service_fn(|_: Request<Wire>| async {
        let response = Response::builder().status(201).header("content-type", "message/ohttp-chunked-res");
        Ok::<_, BoxError>(response.body(full("evil")).unwrap())
    });
    let client = client(&tee, erase(ReportLayer::new(attester).layer(app)));
    assert_eq!(refusal(&client).await, ErrorKind::NotSealed { status: 201 });
}

#[tokio::test]
async fn a_server_without_a_key_to_seal_to_gets_nothing() {
    let tee = MockTee::new();
    let attester = Attester::builder(tee.provider()).name("prover.example").start().await.unwrap();
    let app = service_fn(|request: Request<Wire>| async move {
        Err::<Response<Wire>, BoxError>(format!("nothing may come here, found {}", request.uri()).into())
    });
    let client = client(&tee, erase(ReportLayer::new(attester).layer(app)));
    assert_eq!(refusal(&client).await, ErrorKind::Configuration);
    assert_eq!(refusal(&client).await, ErrorKind::Configuration);
}

#[tokio::test]
async fn a_server_that_is_not_accepted_gets_nothing() {
    let tee = MockTee::new();
    let server = Server::start(&tee.clone().with_measurement([9; 48])).await;
    let client = client(&tee, server.transport.clone());
    assert_eq!(refusal(&client).await, ErrorKind::Refused);
    assert!(server.seen().is_empty());
}
