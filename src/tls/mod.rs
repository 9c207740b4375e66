//! Attested TLS: know before you send.

mod accept;
mod binding;
mod closable;
mod connect;
mod hyper_client;

pub use self::accept::{
    AddConnectionInfo, ConnectionInfoLayer, ListenerHandle, ListenerStats, Tls, TlsConfigError, TlsIncoming,
    TlsListener, TlsStream,
};
pub use self::connect::{
    AttestedChannel, ChannelBody, ChannelBuilder, ChannelError, ChannelFuture, EndpointState, EndpointStatus, Stage,
};
pub use self::hyper_client::{BindingConnector, BindingIo};
