//! Attested TLS: know before you send.

mod accept;
mod binding;

pub use self::accept::{
    AddConnectionInfo, ConnectionInfoLayer, ListenerHandle, ListenerStats, Tls, TlsConfigError, TlsIncoming,
    TlsListener, TlsStream,
};
