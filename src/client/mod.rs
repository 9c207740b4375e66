//! The client layer: no response is handed out that a genuine, accepted TEE did not sign.
//!
//! [`AttestLayer`] goes next to the transport. It draws a fresh nonce for each request, asks for evidence before the first
//! one leaves, and judges each response before its body is handed out.
//!
//! ```
//! # #[cfg(feature = "mock")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_attest::mock::MockTee;
//! use tower_attest::{AttestError, AttestLayer, Attester, ErrorKind, ReportLayer, Strength, VerifiedReport};
//!
//! // In place of a network: an attesting server, and one that would take any secret.
//! let tee = MockTee::new();
//! let attester = Attester::builder(tee.provider()).name("prover.example").start().await?;
//! let prove = service_fn(async |_: Request<String>| Ok::<_, std::io::Error>(Response::new("proof".to_owned())));
//! let attesting = ServiceBuilder::new().layer(ReportLayer::new(attester)).service(prove);
//! let careless = service_fn(async |request: Request<String>| {
//!     assert!(request.body().is_empty(), "no secret ever comes here");
//!     Ok::<_, std::io::Error>(Response::new("welcome".to_owned()))
//! });
//!
//! let layer = AttestLayer::new(tee.verifier()).accept_presence().name("prover.example");
//! let client = ServiceBuilder::new().layer(layer.clone()).service(attesting);
//! let reply = client.oneshot(Request::post("/prove").body("witness".to_owned())?).await?;
//! let report = VerifiedReport::of(&reply).expect("Mode::Required puts it there");
//! assert_eq!(report.strength(), Strength::Presence);
//! assert!(!report.secret_before_send());
//!
//! let client = ServiceBuilder::new().layer(layer).service(careless);
//! let error = client.oneshot(Request::post("/prove").body("witness".to_owned())?).await.unwrap_err();
//! let error = error.downcast_ref::<AttestError>().expect("the layer refuses");
//! assert_eq!(error.kind(), ErrorKind::NoReport { status: 200 });
//! # Ok(()) }
//! # #[cfg(not(feature = "mock"))] fn main() {}
//! ```
//!
//! # Order of layers
//!
//! - Retry goes outside: each attempt needs a nonce of its own.
//! - Layers that rewrite the path, the method or the status go outside; what the transport itself rewrites must be rewritten
//!   back before the server's layer sees it. Otherwise signatures fail.
//! - Layers that add secrets (authorisation) go outside too. Inside, they would reach the preflight.
//! - Layers that translate gRPC-web go outside (`GrpcWebClientLayer` around this one), since the preflight is a plain GET.
//! - A layer that follows redirects goes outside. This one follows none.
//!
//! # Waiting
//!
//! Under [`Mode::Required`] requests to an origin whose keys are not believed wait while one of them asks
//! `/.well-known/tower-attest`, through the same inner service. Whoever waits is woken when that one ends, takes over when
//! it is dropped, and fails when it fails; for a second more, so do newcomers. Nothing is spawned, so that one which is kept and
//! no longer polled makes the others run into their timeout; the next to come asks anew. An origin is the scheme and
//! authority of the request's URI, where it has one; at most 1 024 origins and 16 keys each are believed, the least recently
//! used going first.
//!
//! [`Mode::Observe`] makes nothing wait: a response is judged by what its head holds, and by one poll of the verifier. A
//! verifier that needs collateral which is not at hand, or keys whose evidence did not fit into the head, are
//! [`Observation::Undecided`]. To see those decided, use [`Mode::Optional`].
//!
//! # Events
//!
//! With [`tracing`](https://docs.rs/tracing), target `tower_attest::client`. No event holds a nonce, a key or a body.
//!
//! | name | level | fields |
//! |---|---|---|
//! | `attest.preflight` | debug | |
//! | `attest.response_verified` | debug | `mode`, `platform`, `measurement` (its name), `strength`, `age` |
//! | `attest.report_missing` | info | `mode` |
//! | `attest.response_refused` | warn | `mode`, `kind`, `error` |
//! | `attest.response_undecided` | info | `mode`, `kind`, `error` |

pub(crate) mod endpoint;
pub(crate) mod exchange;
#[cfg(test)]
mod fake;
mod future;
mod layer;
pub(crate) mod preflight;
pub(crate) mod service;
#[cfg(test)]
mod tests;
pub(crate) mod transport;
pub(crate) mod trust;
pub(crate) mod verification;
pub(crate) mod verified;
mod via;

pub use self::future::AttestFuture;
pub use self::layer::{AttestLayer, DEFAULT_MAX_EVIDENCE_AGE, DEFAULT_VERIFICATION_TIMEOUT, Mode};
pub use self::service::Attest;
pub use self::trust::TrustStats;
pub use self::verified::{Observation, Reply, Strength, Verdict, VerifiedReport};
