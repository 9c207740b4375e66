//! What a server knows of the connection that a request came in on.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::ChannelBinding;

/// Facts about one accepted TLS connection, taken from the server's own TLS stack. Cheap to clone.
///
/// `TlsListener` hands it to tonic and axum as their `ConnectInfo`; `ReportLayer` reads the binding from it.
///
/// ```
/// use tower_attest::{ChannelBinding, ConnectionInfo};
///
/// let info = ConnectionInfo::new(ChannelBinding::from_tls_exporter([7; 32]));
/// assert_eq!(info.remote_addr(), None);
/// assert!(info.client_certificates().is_empty());
/// ```
#[derive(Clone)]
pub struct ConnectionInfo {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    binding: ChannelBinding,
    remote_addr: Option<SocketAddr>,
    server_name: Option<String>,
    client_certificates: Vec<Bytes>,
}

impl ConnectionInfo {
    /// A connection with this exporter of which nothing else is known.
    pub fn new(binding: ChannelBinding) -> Self {
        let inner = Inner { binding, remote_addr: None, server_name: None, client_certificates: Vec::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Adds the peer's address.
    #[must_use]
    pub fn with_remote_addr(mut self, addr: SocketAddr) -> Self {
        Arc::make_mut(&mut self.inner).remote_addr = Some(addr);
        self
    }

    /// Adds the name that the client asked for (SNI, RFC 6066 section 3).
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.inner).server_name = Some(name.into());
        self
    }

    /// Adds the client's certificate chain (DER, the client's own certificate first), which the TLS stack has verified.
    #[must_use]
    pub fn with_client_certificates(mut self, chain: impl IntoIterator<Item = Bytes>) -> Self {
        Arc::make_mut(&mut self.inner).client_certificates = chain.into_iter().collect();
        self
    }

    /// The exporter of this connection.
    pub fn binding(&self) -> ChannelBinding {
        self.inner.binding
    }

    /// The peer's address. Behind a layer-4 balancer it is the balancer's.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.inner.remote_addr
    }

    /// The name that the client asked for.
    pub fn server_name(&self) -> Option<&str> {
        self.inner.server_name.as_deref()
    }

    /// The client's verified certificate chain, DER, its own certificate first; empty without one.
    pub fn client_certificates(&self) -> &[Bytes] {
        &self.inner.client_certificates
    }
}

impl fmt::Debug for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfo")
            .field("binding", &self.inner.binding)
            .field("remote_addr", &self.inner.remote_addr)
            .field("server_name", &self.inner.server_name)
            .field("client_certificates", &self.inner.client_certificates.len())
            .finish()
    }
}
