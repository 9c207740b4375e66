//! Tower middleware for TEE attestation over HTTP and gRPC: know that a service runs a known program inside a genuine TEE
//! (AMD SEV-SNP, Intel TDX) before a secret is sent to it, and that this program gave each answer.
//!
//! On the server, [`ReportLayer`] signs every response and serves evidence: a report of the hardware over the client's nonce,
//! the TLS channel and the keys that sign. On the client, [`AttestLayer`] demands it of any tower HTTP service, and
//! `tls::AttestedChannel` demands it of a TLS connection before anything is sent on that. Missing, stale, replayed and
//! foreign reports are errors, never warnings.
//!
//! ```
//! # #[cfg(feature = "mock")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_attest::mock::MockTee;
//! use tower_attest::{AttestLayer, Attester, ReportLayer, Strength, VerifiedReport};
//!
//! // The server. On hardware: `SnpProvider::open()?` or `TdxProvider::open()?` in place of the mock.
//! let tee = MockTee::new();
//! let attester = Attester::builder(tee.provider()).name("prover.example").start().await?;
//! let prove = service_fn(async |request: Request<String>| Ok::<_, std::io::Error>(Response::new(request.into_body())));
//! let server = ServiceBuilder::new().layer(ReportLayer::new(attester)).service(prove);
//!
//! // The client. On hardware: `SnpVerifier::new(SnpPolicy::pin(MEASUREMENT))`. `server` stands for a connection to it.
//! let client = ServiceBuilder::new()
//!     .layer(AttestLayer::new(tee.verifier()).accept_presence().name("prover.example"))
//!     .service(server);
//! let reply = client.oneshot(Request::post("/prove").body("statement".to_owned())?).await?;
//!
//! let report = VerifiedReport::of(&reply).expect("a reply without one is an error");
//! assert_eq!(report.strength(), Strength::Presence);
//! assert!(!report.secret_before_send(), "which is why the layer wants the word accept_presence");
//! # Ok(()) }
//! # #[cfg(not(feature = "mock"))] fn main() {}
//! ```
//!
//! # What is promised
//!
//! Each guarantee has a [`Strength`]. They are properties, not a scale: ask a [`VerifiedReport`] for what you need.
//!
//! | strength | by | the request stays secret | the answer is the TEE's own |
//! |---|---|---|---|
//! | [`Presence`](Strength::Presence) | [`AttestLayer`] on any connection | **no**: a relay that holds a certificate for the name reads and changes it | **status only** |
//! | [`Channel`](Strength::Channel) | `tls::AttestedChannel`: evidence bound to this very TLS connection, verified before any request leaves on it | yes | yes |
//! | [`Sealed`](Strength::Sealed) | `seal::SealLayer`: the whole request encrypted to a key in verified evidence | yes, through any carrier; size and timing show | yes |
//!
//! Assumed throughout: the hardware is not broken, the policy pins the right measurements, and nothing else in the guest can
//! obtain a report over data of its choosing. The protocol has not been formally modelled. The repository's
//! `docs/THREAT_MODEL.md` says who can do what in each topology, and which test guards each check.
//!
//! # Where to look
//!
//! | for | see |
//! |---|---|
//! | the client's layer: modes, waiting, order of layers | [`client`] |
//! | the server's layer and the attester: what it answers and refuses | [`server`] |
//! | attested TLS, both ends (feature `tls`) | `tls` |
//! | sealed requests, both ends (feature `seal`) | `seal` |
//! | policies and hardware (features `snp`, `tdx`, `mock`) | [`platform`] |
//! | every error: meaning, remedy, gRPC code | [`error`] |
//! | a backend of your own | [`provider`], [`verifier`] |
//! | the wire, for an implementation of your own | [`protocol`] |
//!
//! # Features
//!
//! `default = []` builds the protocol and both layers. A feature adds types and never changes what already works; none makes
//! a verifier of hardware accept a mock. `tonic`: [`AttestError`] becomes a `tonic::Status`. `axum`: the channel binding
//! is read from axum's `ConnectInfo`. `tls`, `seal`, `snp`, `tdx`, `mock`: as above. `sev-guest`: SNP reports on Linux
//! before 6.7 too. `fetch`: an HTTPS client for AMD's KDS and Intel's PCS. `sim`: simulated hardware that speaks the real formats
//! under roots of its own. `cli`: the binary `tower-attest`, a sidecar for programs that cannot change.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::as_conversions))]

#[cfg(any(feature = "snp", feature = "tdx", feature = "tls"))]
mod calendar;
pub mod client;
mod connection;
mod crypto;
#[cfg(any(feature = "snp", feature = "tdx", feature = "tls"))]
mod der;
pub mod error;
pub mod platform;
pub mod protocol;
pub mod provider;
pub mod report;
#[cfg(feature = "seal")]
pub mod seal;
pub mod server;
mod sync;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
pub mod verifier;

pub use async_trait::async_trait;

pub use self::client::{Attest, AttestLayer, Mode, Observation, Strength, Verdict, VerifiedReport};
pub use self::connection::ConnectionInfo;
pub use self::error::{AttestError, BoxError, ErrorKind, GrpcCode};
#[cfg(any(feature = "snp", feature = "tdx"))]
pub use self::platform::PolicyFile;
#[cfg(feature = "mock")]
pub use self::platform::mock;
#[cfg(feature = "snp")]
pub use self::platform::snp;
#[cfg(feature = "tdx")]
pub use self::platform::tdx;
pub use self::protocol::{ChannelBinding, KeysDigest, Nonce};
pub use self::provider::{ProviderError, ProviderErrorKind, ReportProvider};
pub use self::report::{InvalidPlatform, Platform, Report, ReportData};
#[cfg(feature = "seal")]
pub use self::seal::{SealLayer, UnsealLayer};
pub use self::server::{
    AttachReport, Attester, AttesterBuilder, AttesterError, AttesterErrorKind, Health, ReportCall, ReportLayer, Stats,
};
#[cfg(feature = "tls")]
pub use self::tls::{AttestedChannel, Tls, TlsListener};
pub use self::verifier::{AnyOf, Claims, FailedRule, ReportVerifier, VerifyError, VerifyErrorKind};
