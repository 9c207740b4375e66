//! How a transport of this crate says that it attested its connection.

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
