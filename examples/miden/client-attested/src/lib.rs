//! The Miden client, and what verifies the prover that it sends witnesses to.

pub use miden_client::Client;
pub use miden_remote_prover_client::RemoteTransactionProver;
pub use tower_attest::AttestLayer;
#[cfg(feature = "tls")]
pub use tower_attest::AttestedChannel;
#[cfg(feature = "seal")]
pub use tower_attest::SealLayer;
pub use tower_attest::snp::SnpVerifier;
#[cfg(feature = "tdx")]
pub use tower_attest::tdx::TdxVerifier;
