//! Responses, sealed.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::carried::contiguous;
use super::error::UnsealError;
use super::opening::Reply;
use super::reject::{Refusal, Sealed};
use crate::error::BoxError;
use crate::protocol::{ATTESTATION_REPORT, SEALED_RESPONSE};
use crate::seal::error::SealError;
use crate::seal::framing::Sealer;
use crate::seal::message::{SealBody, response_head};
use crate::server::problem::Wire;

/// The body of a response: sealed, or in the clear as the request was.
///
/// If the inner service's body fails, a sealed one ends without its final chunk, and the client knows that it is not whole.
#[pin_project]
pub struct SealedBody<B: Body> {
    #[pin]
    kind: Kind<B>,
}

#[pin_project(project = KindProjection)]
enum Kind<B: Body> {
    Plain(#[pin] B),
    Sealed(#[pin] SealBody<Content<B>>),
    Own(Option<Bytes>),
}

/// What is sealed.
#[pin_project(project = ContentProjection)]
pub(super) enum Content<B> {
    Inner(#[pin] B),
    Own(Option<Bytes>),
}

impl<B> Content<B> {
    pub(super) fn own(bytes: Bytes) -> Self {
        Self::Own(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl<B: Body> SealedBody<B> {
    pub(super) fn plain(body: B) -> Self {
        Self { kind: Kind::Plain(body) }
    }

    pub(super) fn own(bytes: Bytes) -> Self {
        Self { kind: Kind::Own(Some(bytes).filter(|bytes| !bytes.is_empty())) }
    }
}

/// An empty body in the clear, for layers outside that answer themselves.
impl<B: Body> Default for SealedBody<B> {
    fn default() -> Self {
        Self::own(Bytes::new())
    }
}

impl Reply {
    /// Seals the inner service's response, or says, sealed, why that cannot be.
    pub(super) fn to<B>(&self, response: Response<B>) -> Response<SealedBody<B>>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let status = response.status();
        // A server leaves such a body out on its own connection; inside, nobody else does.
        let bodiless =
            self.method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut content = response.map(|body| if bodiless { Content::Own(None) } else { Content::Inner(body) });
        // The report is for the response outside. One that stands inside nobody has asked for.
        content.headers_mut().remove(ATTESTATION_REPORT);
        self.seal(content).unwrap_or_else(|error| self.refuse(&Sealed::Response(error), &Wire::Http))
    }

    /// Seals a refusal.
    pub(super) fn refuse<B>(&self, refusal: &Sealed, wire: &Wire) -> Response<SealedBody<B>>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let refused = refusal.response(wire, &self.method).map(Content::own);
        // A problem's head is short. What is left is a cipher that cannot be made, and then nothing can be sealed.
        self.seal(refused)
            .unwrap_or_else(|_| Refusal::NotOpened.response(&Wire::Http, &Method::POST).map(SealedBody::own))
    }

    fn seal<B>(&self, response: Response<Content<B>>) -> Result<Response<SealedBody<B>>, SealError>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let (parts, content) = response.into_parts();
        let body = SealBody::new(Sealer::response(&self.key)?, response_head(&parts)?, content);
        // Nothing of the inner head, its extensions included, shows outside.
        let mut outer = Response::new(SealedBody { kind: Kind::Sealed(body) });
        outer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(SEALED_RESPONSE));
        outer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(outer)
    }
}

impl<B> Body for SealedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = UnsealError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UnsealError>>> {
        match self.project().kind.project() {
            KindProjection::Plain(body) => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map(contiguous).map_err(UnsealError::body)))
            }
            KindProjection::Sealed(body) => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(UnsealError::body)))
            }
            KindProjection::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Plain(body) => body.is_end_stream(),
            Kind::Sealed(body) => body.is_end_stream(),
            Kind::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Plain(body) => body.size_hint(),
            Kind::Sealed(body) => body.size_hint(),
            Kind::Own(bytes) => exact(bytes.as_ref()),
        }
    }
}

impl<B: Body> Body for Content<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            ContentProjection::Inner(body) => body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map(contiguous))),
            ContentProjection::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Inner(body) => body.is_end_stream(),
            Self::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Inner(body) => body.size_hint(),
            Self::Own(bytes) => exact(bytes.as_ref()),
        }
    }
}

fn exact(bytes: Option<&Bytes>) -> SizeHint {
    SizeHint::with_exact(u64::try_from(bytes.map_or(0, Bytes::len)).unwrap_or(u64::MAX))
}

/// Bodies stay out of logs.
impl<B: Body> fmt::Debug for SealedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Plain(_) => "SealedBody(plain)",
            Kind::Sealed(_) => "SealedBody(sealed)",
            Kind::Own(_) => "SealedBody(own)",
        })
    }
}
