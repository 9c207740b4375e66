//! [`OpenBody`]: the message in a body that carries it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::{Decoder, Event};
use crate::error::BoxError;
use crate::seal::error::SealError;
use crate::seal::framing::Opener;

/// Opens a message as it comes: first [`poll_head`](Self::poll_head), then the body. Its end is told only when the final chunk
/// has authenticated; trailers too, since readers take them for the end. An end before that is an error.
#[pin_project]
pub(crate) struct OpenBody<B> {
    #[pin]
    body: B,
    state: Opening,
    report: fn(OpenError) -> BoxError,
}

struct Opening {
    opener: Opener,
    decoder: Decoder,
    /// The rest of a frame of the body below.
    sealed: Bytes,
    /// The rest of an opened chunk.
    plain: Bytes,
    trailers: Option<HeaderMap>,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Reading,
    /// The final chunk is open, and may hold more.
    Final,
    Over,
}

/// Why a message does not go on.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// What came is not what was sealed.
    Seal(SealError),
    /// The body below failed.
    Body(BoxError),
}

impl<B> OpenBody<B> {
    /// `report` makes of a failure what the reader of this body gets.
    pub(crate) fn new(body: B, opener: Opener, decoder: Decoder, report: fn(OpenError) -> BoxError) -> Self {
        let state = Opening {
            opener,
            decoder,
            sealed: Bytes::new(),
            plain: Bytes::new(),
            trailers: None,
            progress: Progress::Reading,
        };
        Self { body, state, report }
    }
}

impl<B> OpenBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// The head, which comes first: once, before the body is read.
    pub(crate) fn poll_head(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Event, OpenError>> {
        let event = ready!(self.poll_event(cx));
        Poll::Ready(event.unwrap_or(Err(OpenError::Seal(SealError::Truncated))))
    }

    fn poll_event(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Event, OpenError>>> {
        let mut this = self.project();
        loop {
            match this.state.next() {
                Ok(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Ok(None) if this.state.progress == Progress::Over => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(OpenError::Seal(error)))),
            }
            match ready!(this.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers of the body below are a carrier's.
                    if let Ok(mut data) = frame.into_data() {
                        this.state.sealed = data.copy_to_bytes(data.remaining());
                    }
                }
                Some(Err(error)) => {
                    this.state.progress = Progress::Over;
                    return Poll::Ready(Some(Err(OpenError::Body(error.into()))));
                }
                None => {
                    if let Err(error) = this.state.finish() {
                        return Poll::Ready(Some(Err(OpenError::Seal(error))));
                    }
                }
            }
        }
    }
}

impl Opening {
    /// What follows from the bytes at hand. A failure is the last thing that is told.
    fn next(&mut self) -> Result<Option<Event>, SealError> {
        let result = self.advance();
        if result.is_err() {
            self.progress = Progress::Over;
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Event>, SealError> {
        loop {
            if self.progress == Progress::Over {
                return Ok(None);
            }
            match self.decoder.next(&mut self.plain)? {
                Some(Event::Trailers(trailers)) => {
                    self.trailers = Some(trailers);
                    continue;
                }
                Some(event) => return Ok(Some(event)),
                None => {}
            }
            if self.progress == Progress::Final {
                let head = self.decoder.finish()?;
                self.progress = Progress::Over;
                return Ok(head.or_else(|| self.trailers.take().map(Event::Trailers)));
            }
            match self.opener.next(&mut self.sealed)? {
                Some(chunk) => self.plain = chunk,
                None => return Ok(None),
            }
        }
    }

    fn finish(&mut self) -> Result<(), SealError> {
        match self.opener.finish() {
            Ok(chunk) => {
                self.plain = chunk;
                self.progress = Progress::Final;
                Ok(())
            }
            Err(error) => {
                self.progress = Progress::Over;
                Err(error)
            }
        }
    }
}

impl<B> Body for OpenBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let report = self.report;
        Poll::Ready(match ready!(self.as_mut().poll_event(cx)) {
            None => None,
            Some(Ok(Event::Data(data))) => Some(Ok(Frame::data(data))),
            Some(Ok(Event::Trailers(trailers))) => Some(Ok(Frame::trailers(trailers))),
            // A head comes once, and was taken.
            Some(Ok(Event::Request(_) | Event::Response(_))) => {
                Some(Err(report(OpenError::Seal(SealError::Message("a second head")))))
            }
            Some(Err(error)) => Some(Err(report(error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.state.progress == Progress::Over
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl<B> fmt::Debug for OpenBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenBody").field("progress", &self.state.progress).finish_non_exhaustive()
    }
}
