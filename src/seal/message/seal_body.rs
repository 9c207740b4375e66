//! [`SealBody`]: a message as the body that carries it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::encode;
use crate::error::BoxError;
use crate::seal::error::SealError;
use crate::seal::framing::{MAX_CHUNK, Plaintext, Sealer};
use crate::seal::varint;

/// Seals a message's head, content and trailers as they come. What is ready goes together into chunks of up to 16 KiB; what
/// is not ready is never waited for with something in hand.
#[pin_project]
pub(crate) struct SealBody<B: Body> {
    #[pin]
    body: B,
    sealer: Option<Sealer>,
    chunk: Option<Plaintext>,
    waiting: Waiting<B::Data>,
    whole: bool,
}

/// Encoded bytes that are to go into the next chunks.
struct Waiting<D> {
    prefix: Bytes,
    data: Option<D>,
}

impl<B: Body> SealBody<B> {
    /// `head` comes from [`request_head`](super::request_head) or [`response_head`](super::response_head).
    pub(crate) fn new(sealer: Sealer, head: Bytes, body: B) -> Self {
        Self { body, sealer: Some(sealer), chunk: None, waiting: Waiting { prefix: head, data: None }, whole: false }
    }
}

impl<B> Body for SealBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        loop {
            let Some(sealer) = &mut *this.sealer else { return Poll::Ready(None) };
            if this.waiting.has_remaining() {
                let chunk = this.chunk.get_or_insert_with(|| {
                    let expected = usize::try_from(this.body.size_hint().lower()).unwrap_or(MAX_CHUNK);
                    let ready = this.waiting.remaining().min(MAX_CHUNK);
                    sealer.plaintext(ready.saturating_add(expected.min(MAX_CHUNK)).saturating_add(16))
                });
                this.waiting.put_into(chunk);
                if chunk.room() == 0
                    && let Some(full) = this.chunk.take()
                {
                    return Poll::Ready(sealed(this.sealer, full, false));
                }
                continue;
            }
            if *this.whole {
                let last = this.chunk.take().unwrap_or_else(|| sealer.plaintext(0));
                return Poll::Ready(sealed(this.sealer, last, true));
            }
            match this.body.as_mut().poll_frame(cx) {
                Poll::Pending => {
                    // Whoever reads gets what there is: a stream must not stall.
                    return match this.chunk.take() {
                        Some(chunk) => Poll::Ready(sealed(this.sealer, chunk, false)),
                        None => Poll::Pending,
                    };
                }
                Poll::Ready(Some(Err(error))) => {
                    // Without a final chunk: the other end sees a truncation.
                    *this.sealer = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    if let Err(error) = this.waiting.end(&HeaderMap::new()) {
                        return Poll::Ready(Some(Err(fail(this.sealer, error))));
                    }
                    *this.whole = true;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.waiting.content(data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        if let Err(error) = this.waiting.end(&trailers) {
                            return Poll::Ready(Some(Err(fail(this.sealer, error))));
                        }
                        *this.whole = true;
                    }
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sealer.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn sealed(sealer: &mut Option<Sealer>, chunk: Plaintext, last: bool) -> Option<Result<Frame<Bytes>, BoxError>> {
    let sealed = sealer.as_mut()?.seal(chunk, last);
    if last {
        *sealer = None;
    }
    Some(sealed.map(Frame::data).map_err(|error| fail(sealer, error)))
}

fn fail(sealer: &mut Option<Sealer>, error: SealError) -> BoxError {
    *sealer = None;
    error.into()
}

impl<D: Buf> Waiting<D> {
    fn has_remaining(&self) -> bool {
        self.remaining() > 0
    }

    fn remaining(&self) -> usize {
        self.prefix.len().saturating_add(self.data.as_ref().map_or(0, Buf::remaining))
    }

    fn put_into(&mut self, chunk: &mut Plaintext) {
        chunk.put(&mut self.prefix);
        if let Some(data) = &mut self.data {
            chunk.put(data);
            if !data.has_remaining() {
                self.data = None;
            }
        }
    }

    /// A piece of content. An empty one would read as the end.
    fn content(&mut self, data: D) {
        if data.has_remaining() {
            let length = u64::try_from(data.remaining()).unwrap_or(u64::MAX);
            self.prefix = Bytes::copy_from_slice(varint::encode(length).as_ref());
            self.data = Some(data);
        }
    }

    fn end(&mut self, trailers: &HeaderMap) -> Result<(), SealError> {
        self.prefix = encode::end(trailers)?;
        Ok(())
    }
}

impl<B: Body> fmt::Debug for SealBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealBody").field("ended", &self.sealer.is_none()).finish_non_exhaustive()
    }
}
