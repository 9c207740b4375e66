//! The server's side of sealing: a layer that opens sealed requests, has them served, and seals the responses.
//!
//! ```
//! # #[cfg(feature = "mock")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_attest::mock::MockTee;
//! use tower_attest::seal::UnsealLayer;
//! use tower_attest::{Attester, ReportLayer};
//!
//! let provider = MockTee::new().provider();
//! let attester = Attester::builder(provider).name("prover.example").seal().route("tee-1").start().await?;
//! let service = ServiceBuilder::new()
//!     .layer(ReportLayer::new(attester.clone()))
//!     .layer(UnsealLayer::new(attester.clone())?.sealed_only())
//!     .service(service_fn(async |_| Ok::<_, std::io::Error>(Response::new("proof".to_owned()))));
//!
//! assert!(attester.key_document().fields().seal.is_some(), "clients seal to this key");
//! let in_the_clear = Request::post("/prove").body(Full::new(Bytes::from("witness")))?;
//! assert_eq!(service.oneshot(in_the_clear).await?.status(), StatusCode::FORBIDDEN);
//! # Ok(()) }
//! # #[cfg(not(feature = "mock"))] fn main() {}
//! ```
//!
//! # Where it stands
//!
//! Directly inside [`ReportLayer`](crate::ReportLayer), which signs the sealed response, vouches for the key, and whose
//! attester it shares. A CORS layer for browsers goes between the two: what a browser asks and may read is the response
//! outside. Everything else goes inside, and sees the request that the client meant. A router that has matched the path
//! already is too late: wrap the whole router.
//!
//! # What it does
//!
//! A `POST` to `/.well-known/tower-attest/sealed` of the media type `message/ohttp-chunked-req`, with the digest of a key
//! document in `Attestation-Keys`, is opened. The inner service gets the method, URI, fields, content and trailers that were
//! sealed, as a message of HTTP/2, whatever carried it; the extensions of the request outside, so
//! [`ConnectionInfo`](crate::ConnectionInfo) among them; and a [`SealedRequest`]. It gets it when the head has
//! authenticated; the content streams. No field of the request outside reaches it, and none of this crate's own fields from
//! inside. The response goes back sealed, status 200 outside, whatever the status inside; it streams as well. A client that
//! goes away cancels the inner service.
//!
//! A request is served once: the attester notes each that it opens, and refuses repetitions, until the key's time is over
//! and nothing opens it any more. A carrier may still deliver it late, within that time.
//!
//! Whatever else comes is plaintext, and passes, or is refused with [`sealed_only`](UnsealLayer::sealed_only).
//!
//! # Limits
//!
//! A chunk: 16 KiB. The head inside, and the trailers: 64 KiB each, every field counted with 32 bytes more. Per request, one chunk and one frame of the body outside
//! are held; the same per response. How long a head may take is for a timeout outside.
//!
//! # Refusals
//!
//! In the clear, signed by the layer outside like any response; `application/problem+json` with a member `code`:
//!
//! | `code` | why | HTTP | gRPC |
//! |---|---|---|---|
//! | `sealed-only` | in the clear, and the server takes sealed requests only | 403 | `PERMISSION_DENIED` |
//! | `method-not-allowed` | the path of sealed requests with another method | 405 | |
//! | `media-type` | the path of sealed requests with another media type | 415 | |
//! | `missing-keys`, `malformed-keys` | `Attestation-Keys` is absent, or does not parse, or repeats | 400 | |
//! | `unknown-keys` | sealed to keys that are not held here; the problem's type is RFC 9458's `#ohttp-key` | 400 | |
//! | `not-opened` | whatever may be wrong with what was sealed, a repetition included | 400 | |
//!
//! Sealed, for the client alone:
//!
//! | `code` | why | HTTP | gRPC |
//! |---|---|---|---|
//! | `malformed-message` | no message of Binary HTTP, a `CONNECT`, or a `Content-Length` that is none | 400 | `INVALID_ARGUMENT` |
//! | `head-too-large` | a head of more than 64 KiB | 431 | |
//! | `sealed-target` | to what the layers answer themselves | 400 | `INVALID_ARGUMENT` |
//! | `response-not-sealed` | the service's head is too large, or its status is informational | 500 | |
//!
//! # Events
//!
//! By `tracing`, with the target `tower_attest::seal`: `attest.sealed_refused` (debug, `reason`: a `code` of the tables above).

mod body;
mod carried;
mod error;
mod future;
mod layer;
mod opening;
mod reject;
mod reply;
mod request;
mod service;
#[cfg(all(test, feature = "mock"))]
mod tests;

pub use self::body::UnsealedBody;
pub use self::error::UnsealError;
pub use self::future::ResponseFuture;
pub use self::layer::UnsealLayer;
pub use self::reply::SealedBody;
pub use self::request::SealedRequest;
pub use self::service::Unseal;
