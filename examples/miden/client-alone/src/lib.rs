//! The Miden client and its remote prover, as a wallet takes them from the registry.

pub use miden_client::Client;
pub use miden_remote_prover_client::RemoteTransactionProver;
