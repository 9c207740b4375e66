//! Attested TLS: know before you send.

mod accept;
mod binding;
mod connect;

pub use self::accept::{
    AddConnectionInfo, ConnectionInfoLayer, ListenerHandle, ListenerStats, Tls, TlsConfigError, TlsIncoming,
    TlsListener, TlsStream,
};
pub use self::connect::{
    AttestedChannel, ChannelBody, ChannelBuilder, ChannelError, ChannelFuture, EndpointState, EndpointStatus, Stage,
};
