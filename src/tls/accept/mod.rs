//! The server's end: [`TlsListener`] accepts TLS 1.3 connections and tells the layers which connection a request is on.
//!
//! With tonic, `Server::builder().serve_with_incoming(listener.incoming())`. With axum,
//! `axum::serve(listener, router.into_make_service_with_connect_info::<ConnectionInfo>())`. With hyper,
//! [`accept`](TlsListener::accept) in a loop and [`ConnectionInfoLayer`] around the service of each connection.

mod info;
mod listener;
mod pem;
mod slot;
mod stream;
mod tls;

pub use self::info::{AddConnectionInfo, ConnectionInfoLayer};
pub use self::listener::{ListenerHandle, ListenerStats, TlsIncoming, TlsListener};
pub use self::slot::{CertificateSlot, ServedCertificate};
pub use self::stream::TlsStream;
pub use self::tls::{Tls, TlsConfigError};
