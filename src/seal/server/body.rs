//! The body of a request as the inner service reads it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::carried::Carried;
use super::error::UnsealError;
use crate::error::BoxError;
use crate::seal::message::OpenBody;

/// The body of a request that came in the clear, or of one that was sealed.
///
/// A sealed one ends only when its final chunk has authenticated, and only after as many bytes as its `Content-Length`
/// says, where it has one. Anything else is an [`UnsealError`]: a stream that was cut short never looks whole.
///
/// While a sealed body is read it holds one chunk, 16 KiB, and one frame of the body that carries it.
#[pin_project]
pub struct UnsealedBody<B> {
    #[pin]
    kind: Kind<B>,
}

#[pin_project(project = KindProjection)]
enum Kind<B> {
    Plain(#[pin] B),
    Sealed(Content<B>),
}

/// What a sealed head is followed by.
pub(super) struct Content<B> {
    body: Box<OpenBody<Carried<B>>>,
    /// How much is still to come, if the head says so.
    length: Option<u64>,
    /// What was there when the request was handed over.
    first: Option<Result<Frame<Bytes>, UnsealError>>,
    over: bool,
}

/// A `Content-Length` that is none, or several that differ.
#[derive(Debug)]
pub(super) struct MalformedLength;

impl<B> UnsealedBody<B> {
    pub(super) fn plain(body: B) -> Self {
        Self { kind: Kind::Plain(body) }
    }
}

impl<B> UnsealedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// What follows a head with these fields. It looks ahead, so that a request without a body says that it has none.
    pub(super) fn sealed(
        body: Box<OpenBody<Carried<B>>>,
        fields: &HeaderMap,
        cx: &mut Context<'_>,
    ) -> Result<Self, MalformedLength> {
        let mut content = Content { body, length: content_length(fields)?, first: None, over: false };
        if let Poll::Ready(first) = content.poll_next(cx) {
            content.first = first;
        }
        Ok(Self { kind: Kind::Sealed(content) })
    }
}

/// Every value must be the same number (RFC 9110, section 8.6).
fn content_length(fields: &HeaderMap) -> Result<Option<u64>, MalformedLength> {
    let mut length = None;
    for value in fields.get_all(CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let found = digits.and_then(|digits| digits.parse().ok()).ok_or(MalformedLength)?;
        if *length.get_or_insert(found) != found {
            return Err(MalformedLength);
        }
    }
    Ok(length)
}

impl<B> Content<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UnsealError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.over {
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut *self.body).poll_frame(cx));
        let next = next.map(|frame| frame.map_err(UnsealError::reported));
        let (fits, over) = match &next {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) => (self.count(data.len()), false),
                None => (self.length.unwrap_or(0) == 0, true),
            },
            None => (self.length.unwrap_or(0) == 0, true),
            Some(Err(_)) => (true, true),
        };
        self.over = over || !fits;
        Poll::Ready(if fits { next } else { Some(Err(UnsealError::length())) })
    }

    /// Whether so many bytes may come.
    fn count(&mut self, bytes: usize) -> bool {
        let Some(length) = &mut self.length else { return true };
        match u64::try_from(bytes).ok().and_then(|bytes| length.checked_sub(bytes)) {
            Some(rest) => {
                *length = rest;
                true
            }
            None => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let first = match &self.first {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        let first = u64::try_from(first).unwrap_or(u64::MAX);
        match self.length {
            Some(length) => SizeHint::with_exact(length.saturating_add(first)),
            None if self.over => SizeHint::with_exact(first),
            None => SizeHint::default(),
        }
    }
}

impl<B> Body for UnsealedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = UnsealError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UnsealError>>> {
        match self.project().kind.project() {
            KindProjection::Plain(body) => body
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map(super::carried::contiguous).map_err(UnsealError::body))),
            KindProjection::Sealed(content) => content.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Plain(body) => body.is_end_stream(),
            Kind::Sealed(content) => content.over && content.first.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Plain(body) => body.size_hint(),
            Kind::Sealed(content) => content.size_hint(),
        }
    }
}

/// Bodies stay out of logs.
impl<B> fmt::Debug for UnsealedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Plain(_) => "UnsealedBody(plain)",
            Kind::Sealed(_) => "UnsealedBody(sealed)",
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn length(values: &[&'static str]) -> Result<Option<u64>, ()> {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(CONTENT_LENGTH, HeaderValue::from_static(value));
        }
        content_length(&fields).map_err(|MalformedLength| ())
    }

    #[test]
    fn a_content_length_is_one_number() {
        assert_eq!(length(&[]), Ok(None));
        assert_eq!(length(&["0"]), Ok(Some(0)));
        assert_eq!(length(&["12", "12"]), Ok(Some(12)));
        for malformed in [&[""][..], &["-1"], &["+1"], &["1, 1"], &[" 1"], &["1", "2"], &["18446744073709551616"]] {
            assert_eq!(length(malformed), Err(()), "{malformed:?}");
        }
    }
}
