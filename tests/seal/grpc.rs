//! tonic at both ends of sealed requests, over a real connection: every kind of call, trailers, errors.

use std::net::SocketAddr;

use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tower::ServiceBuilder;
use tower_attest::mock::MockTee;
use tower_attest::seal::{Seal, SealLayer, UnsealLayer};
use tower_attest::{AttestError, ErrorKind, ReportLayer, Strength, VerifiedReport};

use crate::prover::HashProver;
use crate::prover::api::prover_client::ProverClient;
use crate::prover::api::prover_server::ProverServer;
use crate::prover::api::{ProveRequest, WitnessChunk};
use crate::support::{attester, kind};

async fn serve(tee: &MockTee) -> SocketAddr {
    let attester = attester(tee, |builder| builder).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .layer(ReportLayer::new(attester.clone()))
        .layer(UnsealLayer::new(attester).unwrap().sealed_only())
        .add_service(ProverServer::new(HashProver));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

async fn channel(tee: &MockTee) -> Channel {
    Endpoint::new(format!("http://{}", serve(tee).await)).unwrap().connect().await.unwrap()
}

type Client = ProverClient<Seal<Channel, tonic::body::Body>>;

async fn client(tee: &MockTee) -> Client {
    let layer = SealLayer::new(tee.verifier()).name("prover.example");
    ProverClient::new(ServiceBuilder::new().layer(layer).service(channel(tee).await))
}

fn request(witness: &str) -> ProveRequest {
    ProveRequest { program: b"p".to_vec(), witness: witness.into() }
}

#[tokio::test]
async fn a_unary_call_is_sealed() {
    let mut client = client(&MockTee::new()).await;
    for _ in 0..2 {
        let reply = client.prove(request("w")).await.unwrap();
        assert_eq!(VerifiedReport::of(&reply).unwrap().strength(), Strength::Sealed);
        assert_eq!(reply.into_inner().bytes.len(), 32);
    }
}

#[tokio::test]
async fn every_kind_of_streaming_is_sealed() {
    let mut client = client(&MockTee::new()).await;
    let unary = client.prove(request("abc")).await.unwrap().into_inner();
    let progress = client.prove_with_progress(request("abc")).await.unwrap();
    assert_eq!(VerifiedReport::of(&progress).unwrap().strength(), Strength::Sealed);
    let last = progress.into_inner().map(Result::unwrap).collect::<Vec<_>>().await.pop().unwrap();
    assert_eq!(last.proof, Some(unary));

    let chunks = ["a", "bc"].map(|data| WitnessChunk { data: data.into() });
    let chunked = client.prove_chunked(tokio_stream::iter(chunks)).await.unwrap();
    assert_eq!(chunked.into_inner().bytes.len(), 32);
}

#[tokio::test]
async fn both_directions_go_on_at_once() {
    let mut client = client(&MockTee::new()).await;
    // Each request is sent only when the reply to the one before has come: nothing may wait to be collected.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(request("0")).await.unwrap();
    let mut replies = client.prove_many(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for number in 1..5 {
        assert!(replies.next().await.unwrap().is_ok());
        sender.send(request(&number.to_string())).await.unwrap();
    }
    assert!(replies.next().await.unwrap().is_ok());
    drop(sender);
    assert!(replies.next().await.is_none());
}

#[tokio::test]
async fn an_error_of_the_service_comes_through_its_sealed_trailers() {
    let tee = MockTee::new();
    let channel = channel(&tee).await;
    let sealed = SealLayer::new(tee.verifier());
    let mut unknown = tonic::client::Grpc::new(ServiceBuilder::new().layer(sealed).service(channel));
    unknown.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/prover.Prover/Nothing");
    let codec = tonic_prost::ProstCodec::<ProveRequest, ProveRequest>::default();
    let status = unknown.unary(Request::new(request("w")), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_refusal_is_a_status_that_keeps_its_cause() {
    let (tee, other) = (MockTee::new(), MockTee::new());
    let sealed = SealLayer::new(other.verifier());
    let mut client = ProverClient::new(ServiceBuilder::new().layer(sealed).service(channel(&tee).await));
    let status = client.prove(request("w")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(kind(&status.into()), Some(ErrorKind::Refused));
}

#[tokio::test]
async fn what_is_not_sealed_is_refused_by_the_server() {
    let tee = MockTee::new();
    let status = ProverClient::new(channel(&tee).await).prove(request("w")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[test]
fn a_stream_that_is_cut_short_is_data_loss() {
    let status = tonic::Status::from(AttestError::new(ErrorKind::Truncated, "m"));
    assert_eq!(status.code(), Code::DataLoss);
}
