//! Ends a connection whose client says nothing at first. hyper's own timer starts only once it knows the protocol.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The shortest request, `GET / HTTP/1.0` and two line ends, has 18 bytes.
const REQUEST: usize = 18;
/// HTTP/2's preface (RFC 9113, section 3.4), which begins with as many bytes that look like a request.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// IO that fails unless its peer sends the first bytes in time.
#[derive(Debug)]
pub(crate) struct Opening<I> {
    io: I,
    read: usize,
    /// What has come so far is the beginning of a preface.
    preface: bool,
    limit: Option<Pin<Box<Sleep>>>,
}

impl<I> Opening<I> {
    pub(crate) fn new(io: I, limit: Duration) -> Self {
        Self { io, read: 0, preface: true, limit: Some(Box::pin(tokio::time::sleep(limit))) }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Opening<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let Some(limit) = &mut self.limit else { return polled };
        if polled.is_pending() {
            return match limit.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            };
        }
        let come = buf.filled().get(before..).unwrap_or_default();
        let expected = PREFACE.get(self.read..).unwrap_or_default();
        self.preface &= come.iter().zip(expected).all(|(come, expected)| come == expected);
        self.read = self.read.saturating_add(come.len());
        if self.read >= if self.preface { PREFACE.len() } else { REQUEST } {
            self.limit = None;
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Opening<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
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
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_too_little_is_given_up() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Opening::new(server, LIMIT);
        client.write_all(b"PRI * HTTP").await.unwrap();
        let mut bytes = [0; 64];
        assert_eq!(server.read(&mut bytes).await.unwrap(), 10);
        let given_up = tokio::time::timeout(10 * LIMIT, server.read(&mut bytes)).await.expect("it is given up");
        assert_eq!(given_up.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_preface_that_lacks_its_last_byte_is_given_up_however_it_comes() {
        for pieces in [&[23][..], &[18, 5], &[1, 17, 1, 4]] {
            let (mut client, server) = tokio::io::duplex(64);
            let mut server = Opening::new(server, LIMIT);
            let (mut rest, mut bytes) = (PREFACE, [0; 64]);
            for piece in pieces {
                let (now, later) = rest.split_at(*piece);
                client.write_all(now).await.unwrap();
                assert_eq!(server.read(&mut bytes).await.unwrap(), *piece);
                rest = later;
            }
            let given_up = tokio::time::timeout(10 * LIMIT, server.read(&mut bytes)).await.expect("it is given up");
            assert_eq!(given_up.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_begun_may_pause() {
        for beginning in [b"GET / HTTP/1.0\r\n\r\n", &PREFACE[..17], b"PRI * HTTP/1.1\r\n\r\n", PREFACE] {
            let (mut client, server) = tokio::io::duplex(64);
            let mut server = Opening::new(server, LIMIT);
            client.write_all(beginning).await.unwrap();
            let mut bytes = [0; 64];
            assert_eq!(server.read(&mut bytes).await.unwrap(), beginning.len());
            let pauses = tokio::time::timeout(10 * LIMIT, server.read(&mut bytes)).await.is_err();
            assert_eq!(pauses, beginning.len() != 17, "{beginning:?}");
        }
    }
}
