//! The client's end of a TLS connection: its exporter is known, and a verdict can end it while hyper owns it.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConnection;
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;

use super::binding::channel_binding;
use crate::client::transport::CloseConnection;
use crate::protocol::ChannelBinding;

/// A TLS connection over `T`: of a [`BindingConnector`](super::BindingConnector), or of an
/// [`AttestedChannel`](super::AttestedChannel). It fails to read and write once its far end has been refused.
pub struct BindingIo<T> {
    io: TokioIo<TlsStream<TokioIo<T>>>,
    binding: ChannelBinding,
    close: CloseConnection,
    /// Ready once it is to be closed; gone once that was seen. Reading polls it, and reading is what wakes hyper.
    closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T> BindingIo<T> {
    pub(super) fn new(io: TlsStream<TokioIo<T>>) -> Result<Self, rustls::Error> {
        let binding = channel_binding(io.get_ref().1)?;
        let (sender, mut receiver) = watch::channel(false);
        let closed = Box::pin(async move {
            if receiver.wait_for(|close| *close).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        Ok(Self { io: TokioIo::new(io), binding, close: CloseConnection::new(sender), closed: Some(closed) })
    }

    pub(super) fn binding(&self) -> ChannelBinding {
        self.binding
    }

    pub(super) fn session(&self) -> &ClientConnection {
        self.io.inner().get_ref().1
    }

    /// Ends the connection, and every stream on it.
    pub(super) fn closer(&self) -> CloseConnection {
        self.close.clone()
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.closed.as_mut().is_some_and(|closed| closed.as_mut().poll(cx).is_ready()) {
            self.closed = None;
        }
        match self.closed {
            Some(_) => Ok(()),
            None => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection was closed: its far end is not believed",
            )),
        }
    }
}

impl<T: Connection + Read + Write + Unpin> Connection for BindingIo<T> {
    fn connected(&self) -> Connected {
        let below = self.io.inner().get_ref().0.inner();
        let connected = below.connected().extra(self.binding).extra(self.closer());
        if self.session().alpn_protocol() == Some(b"h2") { connected.negotiated_h2() } else { connected }
    }
}

impl<T: Read + Write + Unpin> Read for BindingIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Read + Write + Unpin> Write for BindingIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.close.is_closed() {
            self.check(cx)?;
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.close.is_closed() {
            self.check(cx)?;
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

impl<T> fmt::Debug for BindingIo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindingIo").field("binding", &self.binding).finish_non_exhaustive()
    }
}
