//! Batches and blocks, for programs that propose them: by the `ChannelProver` over an attested channel, by the published
//! prover of batches beside `connect`, and by a prover that answers for another batch.

use std::convert::Infallible;

use attested_prover::{ChannelProver, api};
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use miden_protocol::batch::{ProposedBatch, ProvenBatch};
use miden_protocol::utils::serde::Serializable;
use miden_remote_prover_client::RemoteBatchProver;
use prost::Message;
use tonic::Code;
use tonic::body::Body;
use tower::service_fn;

use crate::processes::Process;
use crate::setup::{MEASUREMENT, Setup};
use crate::ways;
use wallet::Result;
use wallet::Wallet;

/// Has a batch with the wallet's transaction proved, and a block with that batch.
pub async fn prove(setup: &Setup, wallet: &mut Wallet) -> Result<()> {
    let proven = wallet.proven().await?;
    let more = wallet.another().await?;
    let (batch, another, expected, inputs, block);
    {
        let chain = wallet.chain();
        batch = chain.propose_transaction_batch([proven])?;
        another = chain.propose_transaction_batch([more])?;
        expected = chain.prove_transaction_batch(batch.clone())?;
        inputs = chain.get_block_inputs([&expected])?;
        block = chain.propose_block([expected.clone()])?;
    }
    let answered = ways::channel_prover(setup, &setup.batch)?.prove_batch(batch.clone()).await?;
    same(&answered, &expected)?;
    let sidecar = setup.start_sidecar_to(setup.batch.address.port(), MEASUREMENT, &[]).await?;
    same(&published(&sidecar, batch).await?, &expected)?;
    refused(&answered, another).await?;

    let batches = block.batches().clone();
    let (header, _) = block.into_header_and_body()?;
    ways::channel_prover(setup, &setup.block)?.prove_block(&batches, &header, &inputs).await?;
    Ok(())
}

async fn published(sidecar: &Process, batch: ProposedBatch) -> Result<ProvenBatch> {
    Ok(RemoteBatchProver::new(format!("http://{}", sidecar.address)).prove(batch).await?)
}

fn same(answered: &ProvenBatch, expected: &ProvenBatch) -> Result<()> {
    if answered.id() == expected.id() { Ok(()) } else { Err("the batch is another one".into()) }
}

/// A prover that has this `answer` for every batch.
async fn refused(answer: &ProvenBatch, batch: ProposedBatch) -> Result<()> {
    let answer = grpc(&api::Proof { payload: answer.to_bytes() });
    let prover = service_fn(move |_: Request<Body>| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(reply(answer)) }
    });
    match ChannelProver::new(prover).prove_batch(batch).await {
        Err(status) if status.code() == Code::DataLoss => Ok(()),
        Err(status) => Err(status.into()),
        Ok(_) => Err("the proof of another batch was accepted".into()),
    }
}

/// One message of gRPC: whether it is compressed, its length, itself.
fn grpc(message: &impl Message) -> BytesMut {
    let message = message.encode_to_vec();
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message);
    framed
}

fn reply(message: BytesMut) -> Response<Body> {
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(message.freeze()).with_trailers(async { Some(Ok(trailers)) });
    Response::new(Body::new(body))
}
