//! A call may be dropped wherever it waits: nothing hangs, nothing is left behind, the next one works.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use tokio_test::{assert_pending, task};
use tower::{Service, ServiceExt, service_fn};
use tower_attest::BoxError;
use tower_attest::mock::MockTee;
use tower_attest::seal::server::UnsealedBody;

use crate::support::{Body, Client, Server, Transport, Wire, attester, call, client, post, transport};

/// A transport that stops at its n-th request, for ever.
fn stopping_at(server: &Transport, number: usize) -> Transport {
    let (server, sent) = (server.clone(), AtomicUsize::new(0));
    Transport::new(move |request: Request<Wire>| {
        let (reply, stops) = (server.send(request), sent.fetch_add(1, Ordering::SeqCst) == number);
        async move {
            if stops {
                pending::<()>().await;
            }
            reply.await
        }
    })
}

async fn poll_some(client: &Client) {
    let mut call = task::spawn(client.clone().oneshot(post("dropped")));
    for _ in 0..20 {
        assert_pending!(call.poll());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn dropped_while_it_asks_for_evidence_or_waits_for_the_response() {
    for number in [0, 1] {
        let tee = MockTee::new();
        let server = Server::start(&tee).await;
        let client = client(&tee, stopping_at(&server.transport, number));
        if number == 1 {
            // The mock's evidence needs more turns than are polled below.
            let first = tokio::time::timeout(Duration::from_secs(3600), client.clone().oneshot(post("x")));
            let mut first = task::spawn(first);
            for _ in 0..200 {
                assert_pending!(first.poll());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } else {
            poll_some(&client).await;
        }
        let response = call(&client, post("next")).await.unwrap();
        assert_eq!(response.body(), "next");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn dropping_the_response_drops_the_application() {
    struct Told(Arc<AtomicUsize>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let tee = MockTee::new();
    let attester = attester(&tee, |builder| builder).await;
    let (dropped, started) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let (count, notify) = (Arc::clone(&dropped), Arc::clone(&started));
    let app = service_fn(move |_: Request<UnsealedBody<Wire>>| {
        let (told, notify) = (Told(Arc::clone(&count)), Arc::clone(&notify));
        async move {
            let _told = told;
            notify.notify_one();
            pending::<()>().await;
            Err::<http::Response<Wire>, BoxError>("never".into())
        }
    });
    let client = client(&tee, transport(&attester, app));
    let call = tokio::spawn(client.oneshot(post("w")));
    started.notified().await;
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_service_that_is_never_ready_gets_its_permit_back() {
    let tee = MockTee::new();
    let server = Server::start(&tee).await;
    // One request at a time, the preflight among them.
    let limited = tower::limit::ConcurrencyLimit::new(server.transport.clone(), 1);
    let mut client = tower::Layer::layer(&tower_attest::seal::SealLayer::new(tee.verifier()), limited);
    for _ in 0..3 {
        let response = ServiceExt::<Request<Body>>::ready(&mut client).await.unwrap().call(post("w")).await.unwrap();
        assert!(response.status().is_success());
    }
    assert_eq!(server.seen().len(), 3);
}
