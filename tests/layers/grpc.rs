//! tonic at both ends: unary, every kind of streaming, interceptors, errors.

use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tower::ServiceBuilder;
use tower_attest::mock::MockTee;
use tower_attest::{Attest, AttestError, ErrorKind, Strength, VerifiedReport};

use crate::prover;
use crate::prover::api::prover_client::ProverClient;
use crate::prover::api::{ProveRequest, WitnessChunk};
use crate::support::{attester, kind, layer};

async fn channel(tee: &MockTee) -> Channel {
    let address = prover::serve(attester(tee.provider()).await).await.unwrap();
    Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn client(tee: &MockTee) -> ProverClient<Attest<Channel>> {
    ProverClient::new(ServiceBuilder::new().layer(layer(tee)).service(channel(tee).await))
}

fn request(witness: &str) -> ProveRequest {
    ProveRequest { program: b"p".to_vec(), witness: witness.into() }
}

#[tokio::test]
async fn a_unary_call_is_verified_and_says_by_whom() {
    let tee = MockTee::new();
    let mut client = client(&tee).await;
    for _ in 0..2 {
        let reply = client.prove(request("w")).await.unwrap();
        let who = VerifiedReport::of(&reply).unwrap();
        assert_eq!(who.measurement(), tee.measurement());
        assert_eq!(who.strength(), Strength::Presence);
        assert!(!who.secret_before_send() && !who.response_intact() && !who.channel_bound());
    }
}

#[tokio::test]
async fn every_kind_of_streaming_is_verified() {
    let mut client = client(&MockTee::new()).await;
    let unary = client.prove(request("abc")).await.unwrap().into_inner();

    let progress = client.prove_with_progress(request("abc")).await.unwrap();
    assert!(VerifiedReport::of(&progress).is_some());
    let last = progress.into_inner().map(Result::unwrap).collect::<Vec<_>>().await.pop().unwrap();
    assert_eq!(last.proof, Some(unary));

    let chunks = ["a", "bc"].map(|data| WitnessChunk { data: data.into() });
    let chunked = client.prove_chunked(tokio_stream::iter(chunks)).await.unwrap();
    assert!(VerifiedReport::of(&chunked).is_some());

    let many = client.prove_many(tokio_stream::iter(["x", "y", "z"].map(request))).await.unwrap();
    assert!(VerifiedReport::of(&many).is_some());
    assert_eq!(many.into_inner().map(Result::unwrap).collect::<Vec<_>>().await.len(), 3);
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_as_unauthenticated_with_the_error_inside() {
    let tee = MockTee::new();
    let channel = channel(&tee).await;
    let mut client = ProverClient::new(ServiceBuilder::new().layer(layer(&MockTee::new())).service(channel));
    let status = client.prove(request("w")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(kind(&status), Some(ErrorKind::Refused));
}

#[tokio::test]
async fn an_interceptor_outside_works_and_stays_out_of_the_preflight() {
    let tee = MockTee::new();
    let inner = ServiceBuilder::new().layer(layer(&tee)).service(channel(&tee).await);
    let mut client = ProverClient::with_interceptor(inner, |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
        Ok(request)
    });
    let reply = client.prove(request("w")).await.unwrap();
    assert!(VerifiedReport::of(&reply).is_some());
}

#[tokio::test]
async fn an_error_of_the_service_is_verified_and_passes_unchanged() {
    let tee = MockTee::new();
    let inner = ServiceBuilder::new().layer(layer(&tee)).service(channel(&tee).await);
    let mut client = tonic::client::Grpc::new(inner);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<ProveRequest, ProveRequest>::default();
    let path = http::uri::PathAndQuery::from_static("/prover.v1.Prover/NoSuchMethod");
    let status: Status = client.unary(Request::new(request("w")), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "the service's own answer, {status}");
    assert!(kind(&status).is_none());
}

#[tokio::test]
async fn a_refused_call_leaves_the_connection_usable() {
    let tee = MockTee::new();
    let channel = channel(&tee).await;
    let verifier = tee.verifier();
    verifier.set_unavailable(true);
    let attest = tower_attest::AttestLayer::new(verifier.clone()).accept_presence();
    let mut client = ProverClient::new(ServiceBuilder::new().layer(attest).service(channel));
    let status = client.prove(request("w")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    verifier.set_unavailable(false);
    verifier.bump_revision();
    client.prove(request("w")).await.unwrap();
}

#[tokio::test]
async fn a_plain_tonic_server_is_refused_before_the_call_and_the_catalogue_says_how() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = prover::api::prover_server::ProverServer::new(prover::HashProver);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );
    let channel = Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = ProverClient::new(ServiceBuilder::new().layer(layer(&MockTee::new())).service(channel));
    let status = client.prove(request("w")).await.unwrap_err();
    assert!(matches!(kind(&status), Some(ErrorKind::NoReport { .. })), "{status}");
    let error = std::error::Error::source(&status).unwrap().downcast_ref::<AttestError>().unwrap();
    assert!(!error.message().is_empty());
}
