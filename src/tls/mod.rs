//! Attested TLS: know, before a byte of a request leaves, that this very connection ends in a TEE of your choice.
//!
//! [`AttestedChannel`] connects, asks the server on that connection for evidence bound to the connection's TLS exporter
//! (RFC 5705, RFC 9266), verifies it, and only then takes requests. [`TlsListener`] is the server's end.
//! [`BindingConnector`] is for those who keep hyper-util's pooled client, and knows only afterwards.
//!
//! ```
//! # #[cfg(feature = "mock")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use hyper_util::rt::{TokioExecutor, TokioIo};
//! use hyper_util::service::TowerToHyperService;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_attest::mock::MockTee;
//! use tower_attest::tls::{AttestedChannel, ConnectionInfoLayer, Tls, TlsListener};
//! use tower_attest::{Attester, ReportLayer, Strength, VerifiedReport};
//!
//! // The server: plain hyper here; tonic and axum take the listener itself.
//! let tee = MockTee::new();
//! let attester = Attester::builder(tee.provider()).name("localhost").start().await?;
//! let mut listener = TlsListener::bind("127.0.0.1:0", Tls::self_signed("localhost")?).await?;
//! let port = listener.local_addr().port();
//! tokio::spawn(async move {
//!     while let Some((stream, _)) = listener.accept().await {
//!         let service = ServiceBuilder::new()
//!             .layer(ConnectionInfoLayer::new(stream.info().clone()))
//!             .layer(ReportLayer::new(attester.clone()))
//!             .service(service_fn(async |request: Request<hyper::body::Incoming>| {
//!                 Ok::<_, std::convert::Infallible>(Response::new(request.into_body()))
//!             }));
//!         let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
//!         tokio::spawn(async move {
//!             let _ = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
//!         });
//!     }
//! });
//!
//! // The client: the certificate is self-signed, so the evidence alone identifies the server.
//! let uri = format!("https://localhost:{port}").parse()?;
//! let channel = AttestedChannel::builder(uri, tee.verifier()).dangerous_trust_attestation_alone().connect().await?;
//! let response = channel.oneshot(Request::post("/prove").body(Full::from("a secret"))?).await?;
//! let report = VerifiedReport::of(&response).expect("every response of the channel has one");
//! assert_eq!(report.strength(), Strength::Channel);
//! assert_eq!(response.into_body().collect().await?.to_bytes(), "a secret");
//! # Ok(()) }
//! # #[cfg(not(feature = "mock"))] fn main() {}
//! ```
//!
//! # What leaves before the verdict
//!
//! The TLS handshake (with the client's certificate, if one is set and asked for), HTTP/2's preface and settings, and one
//! `GET /.well-known/tower-attest` with the host and a nonce. No other request, no cookie, no authorisation, no target.
//!
//! # What can fail, and what follows
//!
//! | what happened | [`Stage`] | gRPC code | what follows |
//! |---|---|---|---|
//! | name resolution, TCP | `Connect` | `UNAVAILABLE` | a pause, then another attempt |
//! | TLS version, ALPN, a peer that hangs up | `Tls` | `UNAVAILABLE` | the same |
//! | the certificate's name, dates or issuer | `WebPki` | `UNAUTHENTICATED` | the same |
//! | a connection that breaks before its evidence is judged | `Http` | `UNAVAILABLE` | the same |
//! | a relay, with or without the server's TLS key: evidence bound to another connection | `Evidence` | `UNAUTHENTICATED` | the same; nothing of the request was sent |
//! | no report field: stripped, or no `ReportLayer` | `Evidence` | `UNAUTHENTICATED` | the same |
//! | status 400: TLS ends before the server | `Evidence` | `FAILED_PRECONDITION` | the same |
//! | hardware that is busy, collateral that is missing, a timeout | `Evidence` | `UNAVAILABLE` | the same; a connection in use serves on until the full age |
//! | another measurement, TCB, name or configuration | `Policy` | `UNAUTHENTICATED` | the same; a connection in use is closed |
//! | a connection that ends before a request on it is written | `Http`, the third time | `UNAVAILABLE` | the request goes to the next connection, twice at most |
//! | a request that names another host | `Request` | `FAILED_PRECONDITION` | nothing: the channel goes on |
//!
//! Pauses start at 100 ms and double up to 30 s, with jitter. Meanwhile calls fail at once with the same error. The next
//! attempt starts with the first call after the pause, and calls then wait for its verdict.
//!
//! # Events
//!
//! By `tracing`, target `tower_attest::tls` where a name is given. No event holds a nonce, a key, an exporter or a target.
//!
//! | name | level | fields |
//! |---|---|---|
//! | `attest.connection_failed` | warn | `address`, `stage`, `error` |
//! | `attest.renewal_failed` | warn | `error` |
//! | `attest.connection_given_up` | info | `error` |

mod accept;
mod binding;
mod connect;
mod hyper_client;
mod io;

pub use self::accept::{
    AddConnectionInfo, CertificateSlot, ConnectionInfoLayer, ListenerHandle, ListenerStats, ServedCertificate, Tls,
    TlsConfigError, TlsIncoming, TlsListener, TlsStream,
};
pub use self::connect::{
    Attestation, AttestedChannel, ChannelBody, ChannelBuilder, ChannelError, ChannelFuture, EndpointState,
    EndpointStatus, Stage,
};
pub use self::hyper_client::BindingConnector;
pub use self::io::BindingIo;
