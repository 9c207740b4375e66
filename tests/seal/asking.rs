//! Asking whether a request could be sealed, before there is one.

use http::{Request, Response, Uri};
use tower::{Layer, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::seal::SealLayer;
use tower_attest::{Attester, BoxError, ErrorKind, ReportLayer};

use crate::support::{Body, Client, Server, Wire, call, client, erase, full, kind, post};

fn get() -> Request<Body> {
    Request::get("https://prover.example/status").body(Body::default()).unwrap()
}

#[tokio::test]
async fn asking_whether_one_could_seal_fetches_evidence_once_and_sends_nothing() {
    let tee = MockTee::new();
    let uri = || Uri::from_static("https://prover.example");
    let server = Server::start(&tee).await;
    let client = client(&tee, server.transport.clone());
    assert_eq!((client.trust().origins, client.trust().keys), (0, 0));
    for _ in 0..2 {
        client.verify(uri()).await.unwrap();
    }
    assert_eq!((client.trust().origins, client.trust().keys), (1, 1));
    assert_eq!((server.attester.stats().reports, server.seen().len()), (2, 0), "one at the start, one for the client");
    call(&client, post("witness")).await.unwrap();
    assert_eq!(server.attester.stats().reports, 2, "the request is sealed to the keys that were found");

    let refused = SealLayer::new(tee.with_measurement([9; 48]).verifier()).layer(server.transport.clone());
    let refused: Client = refused;
    assert_eq!(refused.verify(uri()).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_server_that_seals_nothing_is_not_ready() {
    let tee = MockTee::new();
    let attester = Attester::builder(tee.provider()).name("prover.example").start().await.unwrap();
    let app = service_fn(async |_: Request<Wire>| Ok::<_, BoxError>(Response::new(full(""))));
    let client = client(&tee, erase(ReportLayer::new(attester).layer(app)));
    let error = client.verify(Uri::from_static("https://prover.example")).await.unwrap_err();
    let sent = call(&client, get()).await.unwrap_err();
    assert_eq!(Some(error.kind()), kind(&sent), "as a request would fail");
}
