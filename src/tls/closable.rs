//! A connection that can be ended from elsewhere: from a verdict, while hyper owns the connection.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::sync::watch;

use crate::client::transport::CloseConnection;

/// Fails to read and write once it has been closed. Reading is what wakes hyper.
pub(super) struct Closable<T> {
    io: T,
    close: CloseConnection,
    closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T> Closable<T> {
    pub(super) fn new(io: T) -> Self {
        let (sender, mut receiver) = watch::channel(false);
        let closed = Box::pin(async move {
            if receiver.wait_for(|close| *close).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        Self { io, close: CloseConnection::new(sender), closed: Some(closed) }
    }

    pub(super) fn get_ref(&self) -> &T {
        &self.io
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

impl<T: Read + Unpin> Read for Closable<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Closable<T> {
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
