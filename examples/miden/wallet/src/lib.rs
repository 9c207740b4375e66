//! The published Miden client, with a chain in memory in place of a node.

mod error;

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use miden_client::Client;
use miden_client::account::{AccountId, AccountType};
use miden_client::asset::FungibleAsset;
use miden_client::auth::AuthSchemeId;
use miden_client::builder::ClientBuilder;
use miden_client::keystore::FilesystemKeyStore;
use miden_client::note::NoteType;
use miden_client::testing::MockChain;
use miden_client::testing::common::{insert_new_fungible_faucet, insert_new_wallet};
use miden_client::testing::mock::MockRpcApi;
use miden_client::transaction::{TransactionProver, TransactionRequest, TransactionRequestBuilder, TransactionResult};
use miden_client_sqlite_store::SqliteStore;
use miden_protocol::MIN_PROOF_SECURITY_LEVEL;
use miden_protocol::transaction::{ProvenTransaction, TransactionInputs};
use miden_protocol::utils::serde::Serializable;
use miden_tx::TransactionVerifier;
use tempfile::TempDir;

pub use crate::error::{BoxError, Result, chain};

/// A prover as `ClientBuilder::prover` takes it.
pub type Prover = Arc<dyn TransactionProver + Send + Sync>;

/// What is to come, boxed: what is behind it is instantiated here, and not again where it is awaited.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// A wallet that has executed a transaction, whose proof anyone may be asked for.
pub struct Wallet {
    client: Client<FilesystemKeyStore>,
    chain: MockRpcApi,
    faucet: AccountId,
    owner: AccountId,
    request: TransactionRequest,
    executed: TransactionResult,
    _files: TempDir,
}

impl Wallet {
    /// A client whose own prover is `prover`: the one line that a wallet changes.
    pub fn new(prover: Prover) -> Later<'static, Self> {
        Box::pin(async move {
            let files = tempfile::tempdir()?;
            let chain = MockRpcApi::default();
            let keys = Arc::new(FilesystemKeyStore::new(files.path().join("keys"))?);
            let mut client = ClientBuilder::new()
                .rpc(Arc::new(chain.clone()))
                .store(Arc::new(SqliteStore::new(files.path().join("store.sqlite3")).await?))
                .authenticator(Arc::clone(&keys))
                .prover(prover)
                .build()
                .await?;
            client.sync_state().await?;
            // The signature that takes the least to prove.
            let scheme = AuthSchemeId::EcdsaK256Keccak;
            let (faucet, _) = insert_new_fungible_faucet(&mut client, AccountType::Private, &keys, scheme).await?;
            let (owner, _) = insert_new_wallet(&mut client, AccountType::Private, &keys, scheme).await?;
            let request = mint(&mut client, faucet.id(), owner.id())?;
            let executed = client.execute_transaction(faucet.id(), request.clone()).await?;
            Ok(Self { client, chain, faucet: faucet.id(), owner: owner.id(), request, executed, _files: files })
        })
    }

    /// What must stay secret: the transaction's inputs, as they go over the wire.
    pub fn witness(&self) -> Vec<u8> {
        TransactionInputs::from(self.executed.executed_transaction().clone()).to_bytes()
    }

    /// Has the transaction proved by `prover`, and the proof verified by Miden's verifier.
    pub fn prove(&self, prover: Prover) -> Later<'_, ProvenTransaction> {
        Box::pin(async move {
            let proven = self.prove_unverified(prover).await?;
            self.verify(&proven)?;
            Ok(proven)
        })
    }

    /// Has the transaction proved, and believes it for now.
    pub fn prove_unverified(&self, prover: Prover) -> Later<'_, ProvenTransaction> {
        Box::pin(async move { Ok(self.client.prove_transaction_with(&self.executed, prover).await?) })
    }

    /// Asks Miden's verifier, and whether the proof is of this transaction.
    pub fn verify(&self, proven: &ProvenTransaction) -> Result<()> {
        TransactionVerifier::new(MIN_PROOF_SECURITY_LEVEL).verify(proven)?;
        if proven.id() == self.executed.executed_transaction().id() {
            Ok(())
        } else {
            Err("the proof is of another transaction".into())
        }
    }

    /// How many bytes a proof has.
    pub fn proof_len(&self) -> Later<'_, usize> {
        Box::pin(async move { Ok(self.proven().await?.to_bytes().len()) })
    }

    /// The transaction, proved by the client's own prover.
    pub fn proven(&self) -> Later<'_, ProvenTransaction> {
        self.prove(self.client.prover())
    }

    /// The same of another transaction: the faucet mints once more.
    pub fn another(&mut self) -> Later<'_, ProvenTransaction> {
        Box::pin(async move {
            let request = mint(&mut self.client, self.faucet, self.owner)?;
            let executed = self.client.execute_transaction(self.faucet, request).await?;
            Ok(self.client.prove_transaction(&executed).await?)
        })
    }

    /// The chain in memory.
    pub fn chain(&self) -> impl Deref<Target = MockChain> {
        self.chain.mock_chain.read()
    }

    /// Executes, proves and submits by the client's own prover, and waits for the block.
    pub fn submit(&mut self) -> Later<'_, ()> {
        Box::pin(async move {
            let id = self.client.submit_new_transaction(self.faucet, self.request.clone()).await?;
            self.chain.prove_block();
            let summary = self.client.sync_state().await?;
            if summary.committed_transactions.contains(&id) {
                Ok(())
            } else {
                Err("the transaction is in no block".into())
            }
        })
    }
}

/// A note of 1000 units for `owner`.
fn mint(client: &mut Client<FilesystemKeyStore>, faucet: AccountId, owner: AccountId) -> Result<TransactionRequest> {
    let asset = FungibleAsset::new(faucet, 1000)?;
    let request = TransactionRequestBuilder::new();
    Ok(request.build_mint_fungible_asset(asset, owner, NoteType::Private, client.rng())?)
}
