//! Backends: how each kind of TEE makes reports and how they are verified.

#[cfg(feature = "mock")]
pub mod mock;
#[cfg(feature = "snp")]
pub mod snp;
