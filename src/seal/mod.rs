//! Sealed requests: the whole request encrypted to a key that verified evidence vouches for, whatever carries it.
//!
//! TLS that ends at a balancer, a gateway or a CDN lets those read everything. [`SealLayer`] on the client encrypts each
//! request (method, URI, fields, body, trailers) as chunked Oblivious HTTP to a key that stands in the server's key document,
//! and [`UnsealLayer`] in the TEE opens it and seals the response. What is between sees a `POST` to one path, sizes and times.
//!
//! ```
//! # #[cfg(feature = "mock")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_attest::mock::MockTee;
//! use tower_attest::seal::client::CarrierRequestBody;
//! use tower_attest::seal::server::UnsealedBody;
//! use tower_attest::seal::{SealLayer, UnsealLayer};
//! use tower_attest::{Attester, ReportLayer, Strength, VerifiedReport};
//!
//! // The TEE.
//! let tee = MockTee::new();
//! let attester = Attester::builder(tee.provider()).name("prover.example").seal().start().await?;
//! let server = ServiceBuilder::new()
//!     .layer(ReportLayer::new(attester.clone()))
//!     .layer(UnsealLayer::new(attester)?.sealed_only())
//!     .service(service_fn(async |request: Request<UnsealedBody<_>>| {
//!         assert_eq!(request.uri().path(), "/prove");
//!         let witness = request.into_body().collect().await?.to_bytes();
//!         Ok::<_, tower_attest::BoxError>(Response::new(Full::new(witness)))
//!     }));
//!
//! // A balancer in front of it, which reads along.
//! let balancer = ServiceBuilder::new()
//!     .map_request(|request: Request<CarrierRequestBody<Full<Bytes>>>| {
//!         assert!(request.uri().path().starts_with("/.well-known/tower-attest"), "nothing else is seen");
//!         request
//!     })
//!     .service(server);
//!
//! let client = SealLayer::new(tee.verifier()).name("prover.example");
//! let client = ServiceBuilder::new().layer(client).service(balancer);
//! let request = Request::post("https://prover.example/prove").body(Full::from("witness"))?;
//! let response = client.oneshot(request).await?;
//! assert_eq!(VerifiedReport::of(&response).map(VerifiedReport::strength), Some(Strength::Sealed));
//! assert_eq!(response.into_body().collect().await?.to_bytes(), "witness");
//! # Ok(()) }
//! # #[cfg(not(feature = "mock"))] fn main() {}
//! ```
//!
//! # What it hides, and what not
//!
//! Hidden from whoever carries requests: method, path, query, fields, body and trailers of requests; status, fields, body and
//! trailers of responses. Not hidden: sizes and times (a chunk goes out when the sender has nothing more at hand), the client's
//! address, the authority and scheme, which key it is sealed to, and the operator's route. A carrier can delay a request, and
//! deliver it once; it can neither change nor repeat it. What was sealed to a key stays secret once that key is erased, at the
//! end of its epoch and grace, but whoever breaks into the TEE before that reads what it has recorded since the key was made.
//!
//! Memory, per request and direction: one chunk of 16 KiB, one frame of the body at either side, and while heads or trailers
//! are read 64 KiB at most. The wire is in `docs/PROTOCOL.md`.

pub mod client;
pub(crate) mod config;
pub(crate) mod error;
pub(crate) mod framing;
pub(crate) mod hpke;
pub(crate) mod message;
pub mod server;
mod varint;

pub use self::client::{Seal, SealLayer};
pub use self::server::{SealedRequest, Unseal, UnsealError, UnsealLayer};
