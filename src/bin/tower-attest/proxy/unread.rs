//! Ends a connection whose client reads nothing of what is sent to it: not even a farewell would get through.
//!
//! An exchange's own clock does not see this where the exchange has ended and its answer has not left: small answers to many
//! requests, HTTP/2's own frames.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// IO that fails once a write, or a flush, has stood still for too long.
#[derive(Debug)]
pub(crate) struct Unread<I> {
    io: I,
    limit: Option<Duration>,
    /// Runs from when nothing more could be written until something can.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> Unread<I> {
    /// `None`: no limit.
    pub(crate) fn new(io: I, limit: Option<Duration>) -> Self {
        Self { io, limit, stalled: None }
    }

    fn judge<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Some(limit) = self.limit else { return polled };
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Unread<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Unread<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.judge(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.judge(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.judge(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.judge(polled, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_given_up_and_what_somebody_reads_slowly_is_not() {
        let (mut client, server) = tokio::io::duplex(4);
        let mut server = Unread::new(server, Some(LIMIT));
        let writing = tokio::spawn(async move {
            let started = tokio::time::Instant::now();
            (server.write_all(&[7; 12]).await, started.elapsed())
        });
        for _ in 0..2 {
            tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
            client.read_exact(&mut [0; 2]).await.unwrap();
        }
        let (written, time) = writing.await.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(time, 2 * (LIMIT - Duration::from_secs(1)) + LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_it_waits() {
        let (client, server) = tokio::io::duplex(4);
        let mut server = Unread::new(server, None);
        assert!(tokio::time::timeout(100 * LIMIT, server.write_all(&[7; 12])).await.is_err());
        drop(client);
    }
}
