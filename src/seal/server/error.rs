//! [`UnsealError`].

use std::error::Error;
use std::fmt;

use crate::error::BoxError;
use crate::seal::error::SealError;
use crate::seal::message::OpenError;

/// Why a body that passes the layer does not go on: that of a sealed request, with what was read before it authentic but not
/// all; or one that failed by itself, of a request or a response, which is then the source.
///
/// The inner service gets it from [`UnsealedBody`](super::UnsealedBody); whatever it answers goes to the client, sealed.
#[derive(Debug)]
pub struct UnsealError {
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Seal(SealError),
    Body(BoxError),
    Length,
}

impl UnsealError {
    pub(super) fn length() -> Self {
        Self { cause: Cause::Length }
    }

    pub(super) fn body(error: impl Into<BoxError>) -> Self {
        Self { cause: Cause::Body(error.into()) }
    }

    /// Undoes [`report`].
    pub(super) fn reported(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(other) => Self::body(other),
        }
    }

    /// Whether what came is not what was sealed: cut short, altered, or in another order. Otherwise the body failed by
    /// itself, as it does when a connection ends.
    pub fn is_tampered(&self) -> bool {
        !matches!(self.cause, Cause::Body(_))
    }
}

/// What the readers of opened bodies get.
pub(super) fn report(error: OpenError) -> BoxError {
    let error = match error {
        OpenError::Seal(error) => UnsealError { cause: Cause::Seal(error) },
        OpenError::Body(error) => UnsealError::body(error),
    };
    error.into()
}

impl fmt::Display for UnsealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Seal(error) => write!(f, "the sealed request is not whole: {error}"),
            Cause::Body(_) => f.write_str("the body failed before its end"),
            Cause::Length => f.write_str("the sealed request is not as long as its Content-Length says"),
        }
    }
}

impl Error for UnsealError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Body(error) => Some(&**error),
            Cause::Seal(_) | Cause::Length => None,
        }
    }
}
