//! Tower middleware for TEE attestation over HTTP and gRPC.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::as_conversions))]

pub mod client;
mod connection;
mod crypto;
pub mod error;
pub mod platform;
pub mod protocol;
pub mod provider;
pub mod report;
pub mod server;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
pub mod verifier;

pub use async_trait::async_trait;

pub use self::client::{Attest, AttestLayer, Mode, Observation, Strength, Verdict, VerifiedReport};
pub use self::connection::ConnectionInfo;
pub use self::error::{AttestError, BoxError, ErrorKind, GrpcCode};
#[cfg(feature = "mock")]
pub use self::platform::mock;
#[cfg(feature = "snp")]
pub use self::platform::snp;
pub use self::protocol::{ChannelBinding, KeysDigest, Nonce};
pub use self::provider::{ProviderError, ProviderErrorKind, ReportProvider};
pub use self::report::{InvalidPlatform, Platform, Report, ReportData};
pub use self::server::{
    AttachReport, Attester, AttesterBuilder, AttesterError, AttesterErrorKind, Health, ReportLayer, Stats,
};
pub use self::verifier::{AnyOf, Claims, FailedRule, ReportVerifier, VerifyError, VerifyErrorKind};
