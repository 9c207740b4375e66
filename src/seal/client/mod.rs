//! The client's side of sealing: [`SealLayer`] encrypts whole requests to a key that verified evidence vouches for.
//!
//! It goes next to the transport, in place of [`AttestLayer`](crate::AttestLayer), and takes evidence by the same code: before
//! the first request one asks the endpoint, the others wait, and what is believed is renewed along the way. What leaves after
//! that is sealed, and what comes back is the TEE's own or an error.
//!
//! ```
//! # #[cfg(all(feature = "mock", feature = "axum"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use axum::body::Body;
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_attest::mock::MockTee;
//! use tower_attest::seal::{SealLayer, UnsealLayer};
//! use tower_attest::{AttestError, Attester, BoxError, ErrorKind, ReportLayer, Strength, VerifiedReport};
//!
//! // In place of a network: a server, and a gateway that answers itself once it is told to.
//! let tee = MockTee::new();
//! let attester = Attester::builder(tee.provider()).name("prover.example").seal().start().await?;
//! let server = ServiceBuilder::new()
//!     .layer(ReportLayer::new(attester.clone()))
//!     .layer(UnsealLayer::new(attester)?)
//!     .service(service_fn(async |_| Ok::<_, BoxError>(Response::new(Body::from("proof")))))
//!     .map_response(|response| response.map(Body::new));
//! let gateway = service_fn(move |request: Request<Body>| {
//!     let server = server.clone();
//!     async move {
//!         match request.headers().get("x-trick") {
//!             Some(_) => unreachable!("fields of the request are sealed"),
//!             None => server.oneshot(request).await,
//!         }
//!     }
//! });
//!
//! let client = ServiceBuilder::new().layer(SealLayer::new(tee.verifier()).name("prover.example")).service(gateway);
//! let request = Request::get("https://prover.example/status").header("x-trick", "1").body(Body::empty())?;
//! let response = client.oneshot(request).await?;
//! assert_eq!(VerifiedReport::of(&response).map(VerifiedReport::strength), Some(Strength::Sealed));
//!
//! // A gateway's own page is not an answer.
//! let page = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("<html>"))));
//! let client = ServiceBuilder::new().layer(SealLayer::new(tee.verifier())).service(page);
//! let error = client.oneshot(Request::get("https://prover.example/").body(Body::empty())?).await.unwrap_err();
//! assert_eq!(AttestError::of(&*error).map(AttestError::kind), Some(ErrorKind::NoReport { status: 200 }));
//! # Ok(()) }
//! # #[cfg(not(all(feature = "mock", feature = "axum")))] fn main() {}
//! ```
//!
//! # Order of layers
//!
//! As for [`AttestLayer`](crate::client#order-of-layers): retries, redirects, authorisation and whatever speaks of the request go
//! outside; what is inside sees a `POST` to one path. The two layers do not stack, and need not: this one checks all that the
//! other does. An `AttestedChannel` below is fine, and makes the responses channel-bound too.
//!
//! # Bodies
//!
//! The inner service's body type must be able to carry a sealed one: [`CarrierBody`]. tonic's `Channel`, axum's and boxed bodies
//! do. A transport that is generic over its body must name it, such as `build_http::<axum::body::Body>()` for hyper-util's
//! client. Bodies stream both ways, gRPC's trailers included; a carrier that waits for whole requests stalls streams.
//!
//! # Keys that the server does not hold
//!
//! Behind a balancer another replica may answer, or the same one restarted. It says so, signed and with evidence. Its keys are
//! then believed as well (16 per origin), and the request is sealed again if it may be delivered twice: an idempotent method
//! without a body, or [`Repeatable`]. Otherwise the error is [`UnknownKeys`](crate::ErrorKind::UnknownKeys), and the next
//! attempt works. With many replicas let the balancer route by `Attestation-Route`, or keep to one connection.
//!
//! # Errors
//!
//! Boxed [`AttestError`](crate::AttestError)s where this layer refuses, from the call and from the body; see the
//! [catalogue](crate::error#catalogue). Failures of the transport stay its own.
//!
//! | what came | kind |
//! |---|---|
//! | no report: an intermediary's page, a redirect | [`NoReport`](crate::ErrorKind::NoReport) |
//! | a signed answer that is not sealed | [`NotSealed`](crate::ErrorKind::NotSealed) |
//! | altered, moved, or the response to another request | [`SealBroken`](crate::ErrorKind::SealBroken), [`BadSignature`](crate::ErrorKind::BadSignature) |
//! | an end before the end | [`Truncated`](crate::ErrorKind::Truncated) |
//! | a server that has nothing to seal to; a head of more than 64 KiB; a `CONNECT` | [`Configuration`](crate::ErrorKind::Configuration) |
//!
//! Events are those of [`AttestLayer`](crate::client#events), with `mode` always `Required`.

mod body;
mod future;
mod judge;
mod layer;
mod repeat;
mod service;
mod unsent;
mod verifying;

pub use self::body::{CarrierBody, CarrierRequestBody, OpenedBody};
pub use self::future::SealFuture;
pub use self::layer::SealLayer;
pub use self::repeat::Repeatable;
pub use self::service::Seal;
pub use self::verifying::Verifying;
