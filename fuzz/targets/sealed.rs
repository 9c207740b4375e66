//! Sealed exchanges that are changed on the way.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, ServiceExt, service_fn};
use tower_attest::mock::{MockTee, MockVerifier};
use tower_attest::protocol::SEALED_PATH;
use tower_attest::seal::client::CarrierRequestBody;
use tower_attest::seal::server::UnsealedBody;
use tower_attest::seal::{SealLayer, UnsealLayer};
use tower_attest::{Attester, ReportLayer};

use super::edit::edit;
use super::ohttp::take_varint;

struct World {
    runtime: Runtime,
    attester: Attester,
    verifier: Arc<MockVerifier>,
}

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let tee = MockTee::from_seed([7; 32]);
    let attester = runtime.block_on(Attester::builder(tee.provider()).name("prover.example").seal().start());
    Mutex::new(World { runtime, attester: attester.expect("the mock works"), verifier: Arc::new(tee.verifier()) })
});

/// The first byte says whether what carries the request or the response is changed, and how long the content is; the rest
/// how. Unchanged the content comes back; changed nothing passes for whole, neither at the server nor at the client.
pub fn sealed_exchange(data: &[u8]) {
    let Some((what, script)) = data.split_first() else { return };
    let changes_request = what & 1 == 0;
    let content = Bytes::from(vec![7; [0, 10, 20_000, 40_000][usize::from(what >> 1) % 4]]);
    let world = WORLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (whole, changed) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(false)));
    let seen = Arc::clone(&whole);
    let echo = service_fn(move |request: Request<UnsealedBody<Full<Bytes>>>| {
        let seen = Arc::clone(&seen);
        async move {
            let body = request.into_body().collect().await.map(|body| body.to_bytes());
            let status = if body.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
            *seen.lock().expect("one thread") = body.as_ref().ok().cloned();
            let mut response = Response::new(Full::new(body.unwrap_or_default()));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    let unseal = UnsealLayer::new(world.attester.clone()).expect("it seals").layer(echo);
    let server = ReportLayer::new(world.attester.clone()).layer(unseal);
    let (script, told) = (script.to_vec(), Arc::clone(&changed));
    let relay = service_fn(move |request: Request<CarrierRequestBody<Full<Bytes>>>| {
        let (server, script, told) = (server.clone(), script.clone(), Arc::clone(&told));
        let sealed = request.uri().path() == SEALED_PATH;
        async move {
            let tamper = |bytes: Bytes| {
                let edited = Bytes::from(edit(&bytes, &script));
                let before = if changes_request { REQUEST_HEADER } else { RESPONSE_NONCE };
                *told.lock().expect("one thread") = shortest(&edited, before) != shortest(&bytes, before);
                edited
            };
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("the client's own").to_bytes();
            let body = if sealed && changes_request { tamper(body) } else { body };
            let response = server.oneshot(Request::from_parts(head, Full::new(body))).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.expect("the server's own").to_bytes();
            let body = if sealed && !changes_request { tamper(body) } else { body };
            Ok::<_, Infallible>(Response::from_parts(head, Full::new(body)))
        }
    });
    let client = SealLayer::new(Arc::clone(&world.verifier)).name("prover.example").layer(relay);
    let request = Request::post("https://prover.example/prove").body(Full::new(content.clone())).expect("a request");
    let answer = world.runtime.block_on(async {
        let response = client.oneshot(request).await.ok()?;
        let status = response.status();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        (status == StatusCode::OK).then_some(body)
    });
    let (whole, changed) = (whole.lock().expect("one thread").take(), *changed.lock().expect("one thread"));
    assert_eq!(answer.is_some(), !changed, "what the client took for whole");
    assert_eq!(whole.is_some(), !(changed && changes_request), "what the server took for whole");
    assert!(answer.is_none_or(|answer| answer == content) && whole.is_none_or(|whole| whole == content));
}

/// Key identifier, KEM, KDF, AEAD and encapsulated key (RFC 9458, section 4.3).
const REQUEST_HEADER: usize = 7 + 32;
/// With AES-128-GCM, which this server offers first.
const RESPONSE_NONCE: usize = 16;

/// A carrier with the lengths of its chunks, which follow `before` bytes, in their shortest form. A relay can write them longer
/// (RFC 9000, section 16): that changes nothing of what is sealed, and is no other message.
fn shortest(carrier: &[u8], before: usize) -> Vec<u8> {
    let (start, mut rest) = carrier.split_at(before.min(carrier.len()));
    let mut short = start.to_vec();
    while let Some(length) = take_varint(&mut rest) {
        short.extend(length.to_be_bytes());
        // What is not whole, or the final chunk: to the end.
        let Some((chunk, after)) = rest.split_at_checked(length).filter(|_| length > 0) else { break };
        short.extend(chunk);
        rest = after;
    }
    short.extend(rest);
    short
}
