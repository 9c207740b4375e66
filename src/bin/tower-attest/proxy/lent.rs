//! A request's body that can be sent again for as long as its beginning is at hand.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower_attest::BoxError;

use super::body::ProxyBody;

/// How many bytes of a body are kept until its request is answered. Longer ones are sent once.
const KEPT: usize = 64 * 1024;

/// The owner's side: lends the body to one attempt after another.
#[derive(Debug)]
pub(crate) struct Loan(Arc<Shared>);

/// The body as one attempt has it.
pub(crate) struct Lent {
    shared: Arc<Shared>,
    attempt: usize,
    /// How many of the kept chunks this attempt has sent.
    sent: usize,
}

struct Shared(Mutex<State>);

struct State {
    /// `None` once it has ended.
    body: Option<ProxyBody>,
    /// What was read of it: `None` once that is more than is kept, or has trailers.
    kept: Option<Vec<Bytes>>,
    bytes: usize,
    /// The attempt that has it now.
    attempt: usize,
    answered: bool,
    broke: bool,
}

impl Loan {
    pub(crate) fn new(body: ProxyBody) -> Self {
        let (body, kept) = (Some(body), Some(Vec::new()));
        let state = State { body, kept, bytes: 0, attempt: 0, answered: false, broke: false };
        Self(Arc::new(Shared(Mutex::new(state))))
    }

    /// For the next attempt. The one before gets nothing more of it.
    pub(crate) fn lend(&self) -> Lent {
        let mut state = self.0.state();
        state.attempt += 1;
        Lent { shared: Arc::clone(&self.0), attempt: state.attempt, sent: 0 }
    }

    /// Whether all of it can still be sent.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.state().kept.is_some()
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.0.state();
        state.bytes == 0 && state.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Whether the client broke it off, or sent more than it may.
    pub(crate) fn broke(&self) -> bool {
        self.0.state().broke
    }
}

/// Once its request has been answered it is not sent again, and what is read from then on is not kept.
impl Drop for Loan {
    fn drop(&mut self) {
        self.0.state().answered = true;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let data = frame.data_ref();
        self.bytes = self.bytes.saturating_add(data.map_or(0, Bytes::len));
        match (data, &mut self.kept) {
            (Some(data), Some(kept)) if self.bytes <= KEPT && !self.answered => kept.push(data.clone()),
            (_, kept) => *kept = None,
        }
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { shared, attempt, sent } = &mut *self;
        let mut state = shared.state();
        if state.attempt != *attempt {
            return Poll::Ready(Some(Err("this body has gone to another attempt".into())));
        }
        if let Some(chunk) = state.kept.as_ref().and_then(|kept| kept.get(*sent)) {
            *sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        let Some(body) = &mut state.body else { return Poll::Ready(None) };
        match ready!(Pin::new(body).poll_frame(cx)) {
            None => {
                state.body = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                state.broke = true;
                Poll::Ready(Some(Err(error)))
            }
            Some(Ok(frame)) => {
                state.keep(&frame);
                *sent += 1;
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.state();
        let resent = state.kept.as_ref().is_none_or(|kept| kept.len() <= self.sent);
        resent && state.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.shared.state();
        let rest = state.body.as_ref().map(Body::size_hint).unwrap_or_else(|| SizeHint::with_exact(0));
        let kept = state.kept.iter().flatten().skip(self.sent).map(Bytes::len).sum::<usize>();
        let kept = u64::try_from(kept).unwrap_or(u64::MAX);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Shared").field("bytes", &state.bytes).field("broke", &state.broke).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::proxy::body::{empty, full};

    /// A body of these frames, of unknown length.
    fn frames(frames: Vec<Result<Frame<Bytes>, BoxError>>) -> Loan {
        Loan::new(StreamBody::new(tokio_stream::iter(frames)).boxed_unsync())
    }

    fn chunk(bytes: usize) -> Result<Frame<Bytes>, BoxError> {
        Ok(Frame::data(Bytes::from(vec![b'x'; bytes])))
    }

    #[tokio::test]
    async fn each_attempt_gets_all_of_it_however_much_the_one_before_had_read() {
        for read in 0..=3 {
            let loan = frames(vec![chunk(1), chunk(2), chunk(3)]);
            let mut first = loan.lend();
            for _ in 0..read {
                first.frame().await.unwrap().unwrap();
            }
            assert!(loan.is_whole());
            let second = loan.lend();
            assert_eq!(second.collect().await.unwrap().to_bytes(), "xxxxxx", "{read}");
        }
    }

    #[tokio::test]
    async fn what_is_told_of_its_length_stays_true() {
        let loan = Loan::new(full("body"));
        let mut first = loan.lend();
        assert_eq!((first.size_hint().exact(), first.is_end_stream()), (Some(4), false));
        first.frame().await.unwrap().unwrap();
        assert_eq!((first.size_hint().exact(), first.is_end_stream()), (Some(0), true));
        let second = loan.lend();
        assert_eq!((second.size_hint().exact(), second.is_end_stream()), (Some(4), false));
        assert!(!loan.is_empty());
        let nothing = Loan::new(empty());
        assert!(nothing.is_empty() && nothing.lend().is_end_stream());
    }

    #[tokio::test]
    async fn an_attempt_that_was_given_up_gets_nothing_more() {
        let loan = frames(vec![chunk(1), chunk(2)]);
        let mut first = loan.lend();
        first.frame().await.unwrap().unwrap();
        let second = loan.lend();
        assert!(first.frame().await.unwrap().is_err());
        assert_eq!(second.collect().await.unwrap().to_bytes(), "xxx");
        assert!(!loan.broke(), "that is no fault of the client's");
    }

    #[tokio::test]
    async fn a_long_body_and_one_with_trailers_are_sent_once() {
        let loan = frames(vec![chunk(KEPT), chunk(1)]);
        let mut lent = loan.lend();
        lent.frame().await.unwrap().unwrap();
        assert!(loan.is_whole(), "up to the limit it is kept");
        lent.frame().await.unwrap().unwrap();
        assert!(!loan.is_whole());
        assert!(lent.frame().await.is_none());

        let loan = frames(vec![chunk(1), Ok(Frame::trailers(HeaderMap::new()))]);
        assert!(loan.lend().collect().await.unwrap().trailers().is_some());
        assert!(!loan.is_whole());
    }

    #[tokio::test]
    async fn a_client_that_breaks_off_is_told_from_a_worker_that_does() {
        let loan = frames(vec![chunk(1), Err("gone".into())]);
        assert!(loan.lend().collect().await.is_err());
        assert!(loan.broke());
    }
}
