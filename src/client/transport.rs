//! How a transport of this crate says that it attested its connection.

#[cfg(feature = "tls")]
use std::sync::Arc;

#[cfg(feature = "tls")]
use tokio::sync::watch;

use crate::protocol::ChannelBinding;

/// In a response's extensions: evidence bound to this exporter was verified before any request left on the connection
/// that served the response. Only this crate's own transports can say so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttestedTransport {
    binding: ChannelBinding,
}

impl AttestedTransport {
    #[cfg(any(test, feature = "tls"))]
    pub(crate) fn new(binding: ChannelBinding) -> Self {
        Self { binding }
    }

    pub(crate) fn binding(&self) -> ChannelBinding {
        self.binding
    }
}

/// In a response's extensions: closes the connection that served it, so that no pool hands it out again.
#[cfg(feature = "tls")]
#[derive(Debug, Clone)]
pub(crate) struct CloseConnection {
    close: Arc<watch::Sender<bool>>,
}

#[cfg(feature = "tls")]
impl CloseConnection {
    pub(crate) fn new(close: watch::Sender<bool>) -> Self {
        Self { close: Arc::new(close) }
    }

    pub(crate) fn close(&self) {
        self.close.send_replace(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.close.borrow()
    }
}

/// Closes the connection that served a response that is refused, where its transport can.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closer {
    #[cfg(feature = "tls")]
    connection: Option<CloseConnection>,
}

impl Closer {
    pub(crate) fn of(extensions: &http::Extensions) -> Self {
        #[cfg(not(feature = "tls"))]
        let _ = extensions;
        Self {
            #[cfg(feature = "tls")]
            connection: extensions.get().cloned(),
        }
    }

    pub(crate) fn close(&self) {
        #[cfg(feature = "tls")]
        if let Some(connection) = &self.connection {
            connection.close();
        }
    }
}
