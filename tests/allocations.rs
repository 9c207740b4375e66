//! How often a warm request allocates, client and server layer together, counted and held down.
//!
//! `cargo test --all-features --test allocations -- --nocapture` prints the counts. `docs/PERFORMANCE.md` says what each is for.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use aws_lc_rs::signature::{ED25519, KeyPair, UnparsedPublicKey};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use tower::{Layer, Service, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::protocol::{KeysDigest, NonceHeader, ReportHeader, ResponseStatement, Target};
use tower_attest::{AttestLayer, Attester, Nonce, ReportLayer, VerifiedReport};

/// As it leaves tonic or hyper: a header map that already holds something.
fn request() -> Request<Empty<Bytes>> {
    Request::post("http://localhost/prover.v1.Prover/Prove").header("te", "trailers").body(Empty::new()).unwrap()
}

fn handler() -> impl Service<Request<Empty<Bytes>>, Response = Response<Empty<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(|_: Request<Empty<Bytes>>| async move {
        Ok(Response::builder().header("content-type", "application/grpc").body(Empty::new()).unwrap())
    })
}

/// Allocations of one call that never waits. Its request and its response's end are not counted.
fn call<S>(service: &S) -> u64
where
    S: Service<Request<Empty<Bytes>>, Error: std::fmt::Debug> + Clone,
{
    let (request, mut service) = (request(), service.clone());
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    let mut response = None;
    let counted = measure(|| {
        let mut future = pin!(service.call(request));
        match future.as_mut().poll(&mut context) {
            Poll::Ready(ready) => response = Some(ready.unwrap()),
            Poll::Pending => panic!("a warm call waits for nothing"),
        }
    });
    counted.count_total
}

/// Prints a count and compares it with the most there may be.
fn at_most(most: u64, what: &str, found: u64) {
    println!("{found:>3}  {what}");
    assert!(found <= most, "{what}: expected at most {most} allocations, found {found}");
}

#[tokio::test]
async fn a_warm_request_allocates_no_more_than_its_headers_need() {
    let tee = MockTee::new();
    let attester = Attester::builder(tee.provider()).name("localhost").start().await.unwrap();
    let server = ReportLayer::new(attester).layer(handler());
    let client = AttestLayer::new(tee.verifier()).accept_presence().name("localhost").layer(server.clone());
    tower::ServiceExt::oneshot(client.clone(), request()).await.unwrap();

    let bare = call(&handler());
    at_most(0, "server layer, request without a nonce", call(&server) - bare);
    at_most(16, "both layers, warm", call(&client) - bare);

    let have = vec![KeysDigest::of(b"keys")];
    let nonce = NonceHeader { nonce: Nonce::from_bytes([7; 32]), have, bind: false };
    let report = ReportHeader { keys: KeysDigest::of(b"keys"), sig: [7; 64], evidence: None };
    let (nonce_value, report_value) = (nonce.to_value(), report.to_value());
    let target = Target::of(&Method::POST, request().uri()).unwrap();
    let statement = ResponseStatement {
        nonce: &nonce.nonce,
        binding: None,
        keys: &report.keys,
        method: &Method::POST,
        target: &target,
        status: StatusCode::OK,
    };
    let count = |f: &dyn Fn()| measure(f).count_total;
    at_most(1, "client: write Attestation-Nonce", count(&|| drop(black_box(nonce.to_value()))));
    at_most(4, "server: parse it", count(&|| drop(black_box(NonceHeader::parse(nonce_value.as_bytes()).unwrap()))));
    at_most(1, "each: the response statement", count(&|| drop(black_box(statement.encode()))));
    at_most(1, "server: write Attestation-Report", count(&|| drop(black_box(report.to_value()))));
    at_most(3, "client: parse it", count(&|| drop(black_box(ReportHeader::parse(report_value.as_bytes()).unwrap()))));
    let response = tower::ServiceExt::oneshot(client, request()).await.unwrap();
    let verified = VerifiedReport::of(&response).unwrap();
    let insert = || drop(black_box(http::Extensions::new().insert(verified.clone())));
    at_most(3, "client: put the VerifiedReport into the response's extensions", count(&insert));
    let key = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let signature = key.sign(b"statement");
    at_most(1, "server: sign", count(&|| _ = black_box(key.sign(b"statement"))));
    let public = key.public_key().as_ref();
    at_most(
        9,
        "client: verify",
        count(&|| UnparsedPublicKey::new(&ED25519, public).verify(b"statement", signature.as_ref()).unwrap()),
    );
}

/// A request whose answer is still to come holds its own proof, and not the tree of all who shared the report: who sends many
/// nonces and keeps one answer of each batch waiting would otherwise pin as much memory as all of them together.
#[test]
fn a_request_that_waits_for_the_application_holds_its_own_evidence_alone() {
    const BATCHES: usize = 20;
    const SHARED: u32 = 512;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let provider = MockTee::new().provider();
    let attester = runtime.block_on(Attester::builder(provider.clone()).name("localhost").start()).unwrap();
    let slow =
        service_fn(|_: Request<Empty<Bytes>>| std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>());
    let service = ReportLayer::new(attester.clone()).layer(slow);
    let ask = |number: u32| {
        let mut nonce = [0; 32];
        nonce[..4].copy_from_slice(&number.to_be_bytes());
        let mut request = request();
        let header = NonceHeader::new(Nonce::from_bytes(nonce)).to_value();
        request.headers_mut().insert("attestation-nonce", header);
        service.clone().call(request)
    };
    let mut kept = Vec::with_capacity(BATCHES);
    let counted = measure(|| {
        runtime.block_on(async {
            for _ in 0..BATCHES {
                provider.hold();
                let calls = provider.calls();
                let occupies = ask(u32::MAX);
                provider.called(calls + 1).await;
                let mut waiting: Vec<_> = (0..SHARED).map(ask).collect();
                let before = attester.stats().nonces;
                provider.release();
                while attester.stats().nonces < before + 1 + u64::from(SHARED) {
                    tokio::task::yield_now().await;
                }
                kept.extend(waiting.pop());
                drop(occupies);
            }
        });
    });
    assert_eq!(kept.len(), BATCHES);
    let each = counted.bytes_current / i64::try_from(BATCHES).unwrap();
    println!("{each} bytes are held by each request whose answer is still to come");
    // The tree of its batch has 49 KB.
    assert!(each < 8 * 1024, "expected at most 8 KiB, found {each}");
}
