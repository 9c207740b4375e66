//! Miden's remote prover over any gRPC channel: the published `RemoteTransactionProver` with its channel as an argument.
//!
//! What the channel is decides what is known before a witness leaves: `AttestLayer` over tonic's channel, an
//! `AttestedChannel`, or `SealLayer` over either. All that is known of attestation here is when to ask again.

use async_trait::async_trait;
use miden_client::transaction::TransactionProver;
use miden_protocol::batch::{OrderedBatches, ProposedBatch, ProvenBatch};
use miden_protocol::block::{BlockHeader, BlockInputs, BlockProof};
use miden_protocol::transaction::{ProvenTransaction, TransactionInputs};
use miden_protocol::utils::serde::{Deserializable, Serializable};
use miden_tx::TransactionProverError;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::{Response, Status};
use tower_attest::{AttestError, ErrorKind};

/// The generated gRPC code of `remote_prover.proto`.
pub mod api {
    tonic::include_proto!("remote_prover");
}

use api::api_client::ApiClient;
pub use api::{ProofRequest, ProofType};

/// How often a call is made while workers answer that are not known yet.
const ATTEMPTS: u8 = 4;

/// Proves transactions, batches and blocks at the far end of `channel`.
#[derive(Debug, Clone)]
pub struct ChannelProver<S> {
    client: ApiClient<S>,
}

impl<S> ChannelProver<S>
where
    S: GrpcService<Body, Future: Send, Error: Into<StdError>> + Clone + Send + Sync,
    S::ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    /// A prover behind `channel`.
    pub fn new(channel: S) -> Self {
        Self { client: ApiClient::new(channel) }
    }

    /// Proves a batch. The answer is for these very transactions, or it is an error.
    pub async fn prove_batch(&self, batch: ProposedBatch) -> Result<ProvenBatch, Status> {
        let proven: ProvenBatch = self.prove(ProofType::Batch, batch.to_bytes()).await?;
        let headers = proven.transactions().as_slice().iter().map(|header| (header.id(), header.account_id()));
        if proven.id() != batch.id() || !headers.eq(batch.transactions().iter().map(|tx| (tx.id(), tx.account_id()))) {
            return Err(Status::data_loss("the prover answered for another batch"));
        }
        Ok(proven)
    }

    /// Proves a block, in the encoding that the prover reads: `BlockProofRequest`, its three parts one after another.
    pub async fn prove_block(
        &self,
        batches: &OrderedBatches,
        header: &BlockHeader,
        inputs: &BlockInputs,
    ) -> Result<BlockProof, Status> {
        let mut payload = batches.to_bytes();
        header.write_into(&mut payload);
        inputs.write_into(&mut payload);
        self.prove(ProofType::Block, payload).await
    }

    async fn prove<T: Deserializable>(&self, kind: ProofType, payload: Vec<u8>) -> Result<T, Status> {
        let proof = self.call(ProofRequest { proof_type: kind.into(), payload }).await?.into_inner();
        T::read_from_bytes(&proof.payload).map_err(|error| Status::data_loss(format!("the prover's answer: {error}")))
    }

    /// `remote_prover.Api/Prove`, as it goes over the wire. Behind a balancer a worker may answer whose keys are not known
    /// yet: by then they are, and it does no harm to prove twice.
    pub async fn call(&self, request: ProofRequest) -> Result<Response<api::Proof>, Status> {
        for _ in 1..ATTEMPTS {
            match self.client.clone().prove(request.clone()).await {
                Err(status) if is_unknown_worker(&status) => {}
                answered => return answered,
            }
        }
        self.client.clone().prove(request).await
    }
}

fn is_unknown_worker(status: &Status) -> bool {
    AttestError::of(status).is_some_and(|error| error.kind() == ErrorKind::UnknownKeys)
}

#[async_trait]
impl<S> TransactionProver for ChannelProver<S>
where
    S: GrpcService<Body, Future: Send, Error: Into<StdError>> + Clone + Send + Sync,
    S::ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    async fn prove(&self, witness: TransactionInputs) -> Result<ProvenTransaction, TransactionProverError> {
        ChannelProver::prove(self, ProofType::Transaction, witness.to_bytes())
            .await
            .map_err(|status| TransactionProverError::other_with_source("failed to prove transaction", status))
    }
}
