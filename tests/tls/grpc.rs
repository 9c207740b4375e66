//! tonic's generated clients on the channel, tonic's server on the listener.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};
use tower_attest::mock::MockTee;
use tower_attest::tls::{AttestedChannel, ChannelError, ListenerHandle, Stage, Tls, TlsListener};
use tower_attest::{Attester, ConnectionInfo, ReportLayer, Strength, VerifiedReport};

use crate::support::roots;

#[allow(clippy::all, missing_docs, unreachable_pub, dead_code)]
mod prover {
    include!("../../examples/proto/prover.rs");
}

use prover::prover_client::ProverClient;
use prover::prover_server::{Prover, ProverServer};
use prover::{Progress, Proof, ProveRequest, WitnessChunk};

struct Reverser;

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Prover for Reverser {
    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<Proof>, Status> {
        assert!(request.extensions().get::<ConnectionInfo>().is_some(), "tonic hands it on");
        let mut bytes = request.into_inner().witness;
        bytes.reverse();
        Ok(Response::new(Proof { bytes }))
    }

    type ProveWithProgressStream = Replies<Progress>;

    async fn prove_with_progress(&self, _: Request<ProveRequest>) -> Result<Response<Replies<Progress>>, Status> {
        let replies = (0..=4).map(|quarter| Ok(Progress { percent: quarter * 25, proof: None }));
        Ok(Response::new(Box::pin(tokio_stream::iter(replies.collect::<Vec<_>>()))))
    }

    async fn prove_chunked(&self, request: Request<Streaming<WitnessChunk>>) -> Result<Response<Proof>, Status> {
        let (mut chunks, mut bytes) = (request.into_inner(), Vec::new());
        while let Some(chunk) = chunks.message().await? {
            bytes.extend_from_slice(&chunk.data);
        }
        Ok(Response::new(Proof { bytes }))
    }

    type ProveManyStream = Replies<Proof>;

    async fn prove_many(&self, _: Request<Streaming<ProveRequest>>) -> Result<Response<Replies<Proof>>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

pub(crate) struct Grpc {
    pub(crate) uri: http::Uri,
    pub(crate) tls: Tls,
    handle: ListenerHandle,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

pub(crate) async fn serve(tee: &MockTee) -> Grpc {
    let tls = Tls::self_signed("localhost").unwrap();
    let listener = TlsListener::bind("127.0.0.1:0", tls.clone()).await.unwrap();
    let uri = format!("https://localhost:{}", listener.local_addr().port()).parse().unwrap();
    let attester = Attester::builder(tee.provider()).name("localhost").start().await.unwrap();
    let handle = listener.handle();
    let server = tonic::transport::Server::builder()
        .layer(ReportLayer::new(attester))
        .add_service(ProverServer::new(Reverser))
        .serve_with_incoming(listener.incoming());
    Grpc { uri, tls, handle, server: tokio::spawn(server) }
}

#[tokio::test]
async fn a_generated_client_calls_through_the_channel() {
    let tee = MockTee::new();
    let grpc = serve(&tee).await;
    let channel = AttestedChannel::builder(grpc.uri, tee.verifier()).roots(roots(&grpc.tls)).connect().await.unwrap();
    let mut client = ProverClient::new(channel.clone());
    let reply = client.prove(ProveRequest { program: vec![], witness: vec![1, 2, 3] }).await.unwrap();
    assert_eq!(VerifiedReport::of(&reply).unwrap().strength(), Strength::Channel);
    assert_eq!(reply.into_inner().bytes, [3, 2, 1]);

    let mut progress = client.prove_with_progress(ProveRequest::default()).await.unwrap().into_inner();
    let mut last = 0;
    while let Some(update) = progress.message().await.unwrap() {
        last = update.percent;
    }
    assert_eq!(last, 100);

    let chunks = [1, 2].map(|byte| WitnessChunk { data: vec![byte] });
    let proof = client.prove_chunked(tokio_stream::iter(chunks)).await.unwrap().into_inner();
    assert_eq!(proof.bytes, [1, 2]);

    let mut intercepted = ProverClient::with_interceptor(channel, |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
        Ok(request)
    });
    let reply = intercepted.prove(ProveRequest { program: vec![], witness: vec![4, 5] }).await.unwrap();
    assert_eq!(reply.into_inner().bytes, [5, 4]);
}

#[tokio::test]
async fn a_server_that_is_refused_is_unauthenticated_and_not_unavailable() {
    let tee = MockTee::new();
    let grpc = serve(&tee.clone().with_measurement([9; 48])).await;
    let channel = AttestedChannel::builder(grpc.uri, tee.verifier()).roots(roots(&grpc.tls)).connect_lazy().unwrap();
    for _ in 0..2 {
        let status = ProverClient::new(channel.clone()).prove(ProveRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        let error = ChannelError::of(&status).expect("the cause stays reachable");
        assert_eq!(error.stage(), Stage::Policy);
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let tls = Tls::self_signed("localhost").unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let uri = format!("https://localhost:{}", closed.port()).parse().unwrap();
    let channel = AttestedChannel::builder(uri, MockTee::new().verifier()).roots(roots(&tls)).connect_lazy().unwrap();
    let status = ProverClient::new(channel).prove(ProveRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn a_drained_listener_ends_tonics_server() {
    let tee = MockTee::new();
    let grpc = serve(&tee).await;
    grpc.handle.drain();
    grpc.server.await.unwrap().unwrap();
}
