//! The gRPC service and its client: the prover of the examples.

use axum::Router;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// Generated from `examples/proto/prover.proto`.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub, dead_code, clippy::as_conversions)]
pub(crate) mod api {
    include!("../../../examples/proto/prover.rs");
}

use api::prover_server::{Prover, ProverServer};
use api::{Progress, Proof, ProveRequest, WitnessChunk};

use crate::server::answer;

struct Answering;

type Replies<T> = std::pin::Pin<Box<dyn tonic::codegen::tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Prover for Answering {
    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<Proof>, Status> {
        Ok(Response::new(Proof { bytes: answer(&request.into_inner().witness) }))
    }

    type ProveWithProgressStream = Replies<Progress>;

    async fn prove_with_progress(
        &self,
        request: Request<ProveRequest>,
    ) -> Result<Response<Self::ProveWithProgressStream>, Status> {
        let proof = Proof { bytes: answer(&request.into_inner().witness) };
        let steps = [Ok(Progress { percent: 50, proof: None }), Ok(Progress { percent: 100, proof: Some(proof) })];
        Ok(Response::new(Box::pin(tonic::codegen::tokio_stream::iter(steps))))
    }

    async fn prove_chunked(&self, request: Request<Streaming<WitnessChunk>>) -> Result<Response<Proof>, Status> {
        let mut chunks = request.into_inner();
        let mut witness = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            witness.extend_from_slice(&chunk.data);
        }
        Ok(Response::new(Proof { bytes: answer(&witness) }))
    }

    type ProveManyStream = Replies<Proof>;

    async fn prove_many(&self, _: Request<Streaming<ProveRequest>>) -> Result<Response<Self::ProveManyStream>, Status> {
        Err(Status::unimplemented("no client here asks for it"))
    }
}

pub(crate) fn routes() -> Router {
    Routes::new(ProverServer::new(Answering)).prepare().into_axum_router()
}
