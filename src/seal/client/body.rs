//! What a sealed exchange's bodies are, on the outside and on the inside.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use crate::error::{AttestError, BoxError, ErrorKind};
use crate::seal::error::SealError;
use crate::seal::message::{OpenBody, OpenError, SealBody};

/// The body that carries a sealed request whose own body is `B`; by default an empty one, for asking for evidence.
///
/// It holds one chunk, 16 KiB at most, and one frame of `B`. A chunk goes out as soon as `B` has nothing more at hand.
#[pin_project]
pub struct CarrierRequestBody<B: Body> {
    #[pin]
    sealed: Option<SealBody<B>>,
}

impl<B: Body> CarrierRequestBody<B> {
    pub(super) fn new(sealed: SealBody<B>) -> Self {
        Self { sealed: Some(sealed) }
    }
}

impl<B: Body> Default for CarrierRequestBody<B> {
    fn default() -> Self {
        Self { sealed: None }
    }
}

impl<B> Body for CarrierRequestBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().sealed.as_pin_mut() {
            Some(sealed) => sealed.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sealed.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.sealed {
            Some(sealed) => sealed.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl<B: Body> fmt::Debug for CarrierRequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarrierRequestBody").field("sealed", &self.sealed).finish()
    }
}

/// A transport's body type that can carry sealed requests whose own body is `B`. The default value is an empty body.
///
/// tonic's, axum's and http-body-util's boxed bodies do, and [`CarrierRequestBody`] itself, which is what a transport of another
/// kind is to take and convert:
///
/// ```
/// use bytes::Bytes;
/// use http_body::Body;
/// use tower_attest::BoxError;
/// use tower_attest::seal::client::{CarrierBody, CarrierRequestBody};
///
/// struct Streaming(http_body_util::combinators::BoxBody<Bytes, BoxError>);
///
/// impl Default for Streaming {
///     fn default() -> Self {
///         Self(Default::default())
///     }
/// }
///
/// impl<B> CarrierBody<B> for Streaming
/// where
///     B: Body<Data: Send + Sync, Error: Into<BoxError>> + Send + Sync + 'static,
/// {
///     fn carrying(sealed: CarrierRequestBody<B>) -> Self {
///         Self(http_body_util::combinators::BoxBody::new(sealed))
///     }
/// }
/// ```
pub trait CarrierBody<B: Body>: Default {
    /// The body that carries a sealed request.
    fn carrying(sealed: CarrierRequestBody<B>) -> Self;
}

impl<B: Body> CarrierBody<B> for CarrierRequestBody<B> {
    fn carrying(sealed: CarrierRequestBody<B>) -> Self {
        sealed
    }
}

impl<B> CarrierBody<B> for http_body_util::combinators::BoxBody<Bytes, BoxError>
where
    B: Body<Data: Send + Sync, Error: Into<BoxError>> + Send + Sync + 'static,
{
    fn carrying(sealed: CarrierRequestBody<B>) -> Self {
        Self::new(sealed)
    }
}

impl<B> CarrierBody<B> for http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    fn carrying(sealed: CarrierRequestBody<B>) -> Self {
        Self::new(sealed)
    }
}

#[cfg(feature = "tonic")]
impl<B> CarrierBody<B> for tonic::body::Body
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    fn carrying(sealed: CarrierRequestBody<B>) -> Self {
        Self::new(sealed)
    }
}

#[cfg(feature = "axum")]
impl<B> CarrierBody<B> for axum::body::Body
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    fn carrying(sealed: CarrierRequestBody<B>) -> Self {
        Self::new(sealed)
    }
}

/// The body of an opened response, carried by a body `B`.
///
/// Each piece has authenticated before it is handed out. The end is told, and trailers are handed out, only when the final
/// chunk has too; an end before that is an [`AttestError`] of kind [`Truncated`](ErrorKind::Truncated), and anything else
/// than what the server sealed is [`SealBroken`](ErrorKind::SealBroken). It holds one chunk, 16 KiB at most, and one frame of `B`.
pub struct OpenedBody<B> {
    open: Pin<Box<OpenBody<B>>>,
}

impl<B> OpenedBody<B> {
    pub(super) fn new(open: Pin<Box<OpenBody<B>>>) -> Self {
        Self { open }
    }
}

impl<B> Body for OpenedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.open.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_end_stream()
    }
}

impl<B> fmt::Debug for OpenedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedBody").finish_non_exhaustive()
    }
}

/// What a caller gets for a response that does not open. A failure of the transport stays the transport's.
pub(super) fn broken(error: OpenError) -> BoxError {
    match error {
        OpenError::Body(error) => error,
        OpenError::Seal(error) => not_opened(error).into(),
    }
}

fn not_opened(error: SealError) -> AttestError {
    let (kind, message) = match error {
        SealError::Truncated => {
            (ErrorKind::Truncated, "expected the final chunk of the response, found the end of the stream".to_owned())
        }
        error => {
            (ErrorKind::SealBroken, format!("expected the response that the server sealed for this request: {error}"))
        }
    };
    AttestError::new(kind, message)
}
