//! A body whose beginning has been read already.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

/// Some bytes, and then a body. Boxed, since it moves between the steps of opening a request.
pub(super) struct Carried<B> {
    first: Bytes,
    body: Pin<Box<B>>,
}

impl<B> Carried<B> {
    pub(super) fn new(body: B) -> Self {
        Self { first: Bytes::new(), body: Box::pin(body) }
    }

    /// The same body after these bytes.
    pub(super) fn after(self, first: Bytes) -> Self {
        Self { first, ..self }
    }
}

impl<B: Body> Body for Carried<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.first)))));
        }
        self.body.as_mut().poll_frame(cx).map(|frame| frame.map(|frame| frame.map(contiguous)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// A frame's data in one piece; without copying where it is [`Bytes`] already.
pub(super) fn contiguous<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}
