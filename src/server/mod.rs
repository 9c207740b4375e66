//! The server's side: a layer that signs each response and answers for the keys with evidence from the hardware.
//!
//! ```
//! # #[cfg(feature = "mock")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_attest::mock::MockTee;
//! use tower_attest::protocol::{ATTESTATION_NONCE, NonceHeader, ReportHeader};
//! use tower_attest::{Attester, Nonce, ReportLayer};
//!
//! let attester = Attester::builder(MockTee::new().provider()).name("prover.example").start().await?;
//! let service = ServiceBuilder::new()
//!     .layer(ReportLayer::new(attester.clone()))
//!     .service(service_fn(async |_: Request<String>| Ok::<_, std::io::Error>(Response::new("proof".to_owned()))));
//!
//! let nonce = NonceHeader::new(Nonce::from_bytes([7; 32]));
//! let request = Request::get("/prove").header(ATTESTATION_NONCE, nonce.to_value()).body(String::new())?;
//! let response = service.oneshot(request).await?;
//!
//! let report = ReportHeader::from_headers(response.headers())?.expect("every response to a nonce is signed");
//! assert_eq!(report.keys, *attester.key_document().digest());
//! assert!(report.evidence.is_some(), "this client did not say that it knows the keys");
//! # Ok(()) }
//! # #[cfg(not(feature = "mock"))] fn main() {}
//! ```
//!
//! # Where it stands
//!
//! Outermost in the whole application: outside CORS, whose lists it amends for its own fields; outside `GrpcWebLayer`;
//! outside routers that strip prefixes, since it signs the target as the client sent it. A layer outside it must not
//! change the status of a response. One [`ReportLayer`], cloned, serves any number of routes and connections.
//!
//! - tonic: `Server::builder().layer(report_layer)`.
//! - axum: `router.layer(report_layer)` on the outermost router, as its last `layer`; or around the whole of it with
//!   `Router::new().fallback_service(report_layer.layer(router))`, which also sees what a middleware of `router` answers.
//!   Inside `nest` it would sign a target that has lost its prefix.
//! - hyper: `TowerToHyperService::new(report_layer.layer(service))`.
//!
//! # What it does
//!
//! - `GET /.well-known/tower-attest` with a nonce: fresh evidence in JSON; 503 with `Retry-After` if there is none. Any
//!   other method gets 405, apart from a browser's CORS preflight, which goes to the application.
//! - A request with a valid nonce: the application answers, then the response is signed. Evidence is asked for when the
//!   request arrives, so that the hardware works while the application does, and stands beside the signature unless the
//!   client knows the keys, it is larger than [`header_limit`](ReportLayer::header_limit), or it is not ready
//!   [`evidence_wait`](AttesterBuilder::evidence_wait) after the application. The application's answer never depends on
//!   the hardware.
//! - A request without one: passes untouched, or is refused with [`require_nonce`](ReportLayer::require_nonce).
//! - A malformed nonce, or a binding that cannot be had: refused, see below. A plain `CONNECT`: passes, unsigned.
//! - `Attestation-Report` is removed from every request, and from every response of the application.
//! - Informational responses (1xx) are never signed.
//! - CORS: `Access-Control-Allow-Headers` of a preflight's answer and `Access-Control-Expose-Headers` of a signed response
//!   get this crate's fields, wherever the application's policy allows an origin at all; for sealed requests also
//!   `Content-Type`. The layer's own answers carry no CORS
//!   fields: a script on another origin gets its evidence from the response field, not from the endpoint.
//!
//! # Refusals
//!
//! Over HTTP an `application/problem+json` (RFC 9457) with a member `code`; over gRPC and gRPC-Web a trailers-only reply.
//!
//! | `code` | why | HTTP | gRPC |
//! |---|---|---|---|
//! | `malformed-nonce` | the field does not parse, or repeats | 400 | `INVALID_ARGUMENT` |
//! | `missing-nonce` | the endpoint was asked without a nonce | 400 | |
//! | `no-exporter` | `bind=tls-exporter`, and no exporter of our own for this connection | 400 | `INVALID_ARGUMENT` |
//! | `target-too-long` | a target of more than 65 535 bytes | 414 | `INVALID_ARGUMENT` |
//! | `nonce-required` | no nonce, and the server requires one | 428 | `FAILED_PRECONDITION` |
//! | `method-not-allowed` | the endpoint was asked with another method | 405 | |
//! | `no-evidence` | the queue is full, or the hardware fails | 503 | |
//!
//! # Events
//!
//! By `tracing`, with the target `tower_attest::server` and these names. No event holds a nonce, a key or a target.
//!
//! | name | level | fields |
//! |---|---|---|
//! | `attest.report_made` | debug | `nonces` |
//! | `attest.report_failed` | warn | `error`, `nonces` |
//! | `attest.device_recovered` | info | |
//! | `attest.keys_rotated` | info | `epoch`, `digest` |
//! | `attest.config_changed` | info | `epoch`, `digest` |
//! | `attest.keys_kept` | error | `error` |
//! | `attest.replay_cache_full` | warn | `requests` |
//! | `attest.evidence_omitted` | debug | `reason` |
//! | `attest.evidence_too_large` | error | `bytes` |
//! | `attest.request_refused` | debug | `reason`: a `code` of the table above |
//! | `attest.observer_panicked` | error | |

mod attester;
mod body;
pub(crate) mod cors;
mod endpoint;
mod future;
mod layer;
mod outcome;
pub(crate) mod problem;
mod reject;
mod service;
mod sign;
#[cfg(all(test, feature = "mock"))]
mod tests;

#[cfg(feature = "seal")]
pub(crate) use self::attester::Opening;
pub use self::attester::{Attester, AttesterBuilder, AttesterError, AttesterErrorKind, Health, ReportCall, Stats};
pub use self::body::ReportBody;
pub use self::future::ResponseFuture;
pub use self::layer::ReportLayer;
pub use self::outcome::{Omission, Outcome};
pub use self::service::AttachReport;
#[cfg(feature = "seal")]
pub(crate) use self::sign::KeysOver;
