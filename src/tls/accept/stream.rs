//! An accepted connection: encrypted IO and what is known of it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::super::binding::channel_binding;
use crate::connection::ConnectionInfo;

/// An accepted TLS connection whose handshake is complete.
#[derive(Debug)]
pub struct TlsStream {
    io: tokio_rustls::server::TlsStream<TcpStream>,
    info: ConnectionInfo,
}

impl TlsStream {
    pub(super) fn new(
        io: tokio_rustls::server::TlsStream<TcpStream>,
        remote_addr: SocketAddr,
    ) -> Result<Self, rustls::Error> {
        let (_, connection) = io.get_ref();
        let mut info = ConnectionInfo::new(channel_binding(connection)?).with_remote_addr(remote_addr);
        if let Some(name) = connection.server_name() {
            info = info.with_server_name(name);
        }
        if let Some(chain) = connection.peer_certificates() {
            info = info.with_client_certificates(chain.iter().map(|der| Bytes::copy_from_slice(der)));
        }
        Ok(Self { io, info })
    }

    /// The exporter, the peer's address and its certificates.
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Whether the client chose HTTP/2 (ALPN `h2`).
    pub fn is_http2(&self) -> bool {
        self.io.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// tonic puts the [`ConnectionInfo`] into each request's extensions.
#[cfg(feature = "tonic")]
impl tonic::transport::server::Connected for TlsStream {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

#[cfg(feature = "axum")]
mod axum_info {
    use axum::extract::connect_info::Connected;
    use axum::serve::IncomingStream;

    use super::super::listener::TlsListener;
    use crate::connection::ConnectionInfo;
    use crate::protocol::ChannelBinding;

    impl Connected<IncomingStream<'_, TlsListener>> for ConnectionInfo {
        fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
            stream.io().info().clone()
        }
    }

    impl Connected<IncomingStream<'_, TlsListener>> for ChannelBinding {
        fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
            stream.io().info().binding()
        }
    }
}
