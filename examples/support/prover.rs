//! A small delegated prover over gRPC: stands for a service to which people send secrets.

use std::net::SocketAddr;
use std::pin::Pin;

use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use tower_attest::{Attester, ReportLayer};

/// The generated gRPC code of `examples/proto/prover.proto`.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::as_conversions)]
pub mod api {
    include!("../proto/prover.rs");
}

use api::prover_server::{Prover, ProverServer};
use api::{Progress, Proof, ProveRequest, WitnessChunk};

/// "Proves" by hashing the witness many times: work that takes a moment and depends on every byte.
#[derive(Debug, Default)]
pub struct HashProver;

fn prove(program: &[u8], witness: &[u8]) -> Proof {
    let mut digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[program, witness].concat());
    for _ in 0..1_000 {
        digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, digest.as_ref());
    }
    Proof { bytes: digest.as_ref().to_vec() }
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Prover for HashProver {
    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<Proof>, Status> {
        let request = request.into_inner();
        Ok(Response::new(prove(&request.program, &request.witness)))
    }

    type ProveWithProgressStream = Replies<Progress>;

    async fn prove_with_progress(
        &self,
        request: Request<ProveRequest>,
    ) -> Result<Response<Self::ProveWithProgressStream>, Status> {
        let request = request.into_inner();
        let proof = prove(&request.program, &request.witness);
        let steps =
            [50, 100].map(move |percent| Ok(Progress { percent, proof: (percent == 100).then(|| proof.clone()) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(steps))))
    }

    async fn prove_chunked(&self, request: Request<Streaming<WitnessChunk>>) -> Result<Response<Proof>, Status> {
        let mut chunks = request.into_inner();
        let mut witness = Vec::new();
        while let Some(chunk) = chunks.next().await {
            witness.extend_from_slice(&chunk?.data);
        }
        Ok(Response::new(prove(b"", &witness)))
    }

    type ProveManyStream = Replies<Proof>;

    async fn prove_many(
        &self,
        request: Request<Streaming<ProveRequest>>,
    ) -> Result<Response<Self::ProveManyStream>, Status> {
        let proofs = request.into_inner().map(|request| request.map(|r| prove(&r.program, &r.witness)));
        Ok(Response::new(Box::pin(proofs)))
    }
}

/// Serves the prover on a free loopback port, attested by `attester`.
pub async fn serve(attester: Attester) -> std::io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(
        tonic::transport::Server::builder()
            .layer(ReportLayer::new(attester))
            .add_service(ProverServer::new(HashProver))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    Ok(address)
}
