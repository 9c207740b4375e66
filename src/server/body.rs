//! The body of an attested service's response.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

/// The inner service's body, or the layer's own answer.
///
/// ```
/// use http_body::Body;
/// use tower_attest::server::ReportBody;
///
/// let body = ReportBody::<String>::default();
/// assert!(body.is_end_stream());
/// ```
#[pin_project]
pub struct ReportBody<B> {
    #[pin]
    kind: Kind<B>,
}

#[pin_project(project = KindProjection)]
enum Kind<B> {
    Inner(#[pin] B),
    Own(Option<Bytes>),
}

impl<B> ReportBody<B> {
    pub(super) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner(body) }
    }

    pub(super) fn own(bytes: Bytes) -> Self {
        Self { kind: Kind::Own(Some(bytes).filter(|bytes| !bytes.is_empty())) }
    }
}

/// An empty body.
impl<B> Default for ReportBody<B> {
    fn default() -> Self {
        Self::own(Bytes::new())
    }
}

impl<B> Body for ReportBody<B>
where
    B: Body,
    B::Data: From<Bytes>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Inner(body) => body.poll_frame(cx),
            KindProjection::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner(body) => body.is_end_stream(),
            Kind::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner(body) => body.size_hint(),
            Kind::Own(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
        }
    }
}

/// Bodies stay out of logs.
impl<B> fmt::Debug for ReportBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Inner(_) => "ReportBody(inner)",
            Kind::Own(_) => "ReportBody(own)",
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn both_kinds_hand_their_bytes_out_once_with_their_exact_size() {
        for body in [ReportBody::inner(Full::new(Bytes::from_static(b"abc"))), ReportBody::own("abc".into())] {
            assert_eq!(body.size_hint().exact(), Some(3));
            assert!(!body.is_end_stream());
            assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        }
        let mut body = ReportBody::<Full<Bytes>>::own("abc".into());
        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    #[test]
    fn a_body_never_shows_in_debug_output() {
        let body = ReportBody::inner(Full::new(Bytes::from_static(b"secret")));
        assert!(!format!("{body:?}").contains("secret"));
    }
}
