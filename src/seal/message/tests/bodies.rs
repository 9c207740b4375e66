//! Sealed and opened bodies, end to end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio_test::task;

use crate::error::BoxError;
use crate::seal::config::KeyConfig;
use crate::seal::error::SealError;
use crate::seal::framing::{MAX_CHUNK, Opener, RequestHeader, Sealer};
use crate::seal::hpke::KeyPair;
use crate::seal::message::{Decoder, Event, OpenBody, OpenError, SealBody, request_head};

/// What a body does, poll by poll.
enum Step {
    Data(&'static [u8]),
    Frame(Frame<Bytes>),
    Wait,
    Fail,
}

#[derive(Default)]
struct Script(VecDeque<Step>);

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(data))))),
            Some(Step::Frame(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Step::Fail) => Poll::Ready(Some(Err("broke".into()))),
            Some(Step::Wait) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

fn test_config(pair: &KeyPair) -> KeyConfig {
    KeyConfig::new(0, *pair.public())
}

fn trailers() -> HeaderMap {
    [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect()
}

/// The frames of the body that carries a POST with this content.
async fn sealed(pair: &KeyPair, steps: impl IntoIterator<Item = Step>) -> Vec<Result<Bytes, String>> {
    let config = test_config(pair);
    let (sealer, _) = Sealer::request(&config).unwrap();
    let head = request_head(&Request::post("https://a/p").body(()).unwrap().into_parts().0).unwrap();
    let mut body = Box::pin(SealBody::new(sealer, head, Script::new(steps)));
    let mut frames = vec![];
    while let Some(frame) = body.frame().await {
        frames.push(frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.to_string()));
    }
    assert!(body.is_end_stream());
    frames
}

fn whole(frames: Vec<Result<Bytes, String>>) -> Vec<u8> {
    frames.into_iter().map(|frame| frame.unwrap().to_vec()).collect::<Vec<_>>().concat()
}

fn report(error: OpenError) -> BoxError {
    match error {
        OpenError::Seal(error) => error.into(),
        OpenError::Body(error) => error,
    }
}

fn opening(pair: &KeyPair, stream: &[u8], carrier: Script) -> Pin<Box<OpenBody<Script>>> {
    let header = RequestHeader::parse(stream.first_chunk().unwrap()).unwrap();
    let (opener, _) = Opener::request(pair, 0, &header).unwrap();
    Box::pin(OpenBody::new(carrier, opener, Decoder::request(), report))
}

/// Content and trailers, or why it does not go on.
async fn open(pair: &KeyPair, stream: &[u8], piece: usize) -> Result<(Vec<u8>, Option<HeaderMap>), String> {
    let rest = stream[RequestHeader::LEN..].chunks(piece);
    let carrier = Script::new(rest.map(|piece| Step::Frame(Frame::data(Bytes::copy_from_slice(piece)))));
    let mut body = opening(pair, stream, carrier);
    assert!(!body.is_end_stream(), "not before it was read");
    let head = std::future::poll_fn(|cx| body.as_mut().poll_head(cx)).await;
    let Event::Request(head) = head.map_err(|error| report(error).to_string())? else { panic!("no request") };
    assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("POST", "https://a/p"));
    let (mut content, mut trailers) = (vec![], None);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| error.to_string())?.into_data() {
            Ok(data) => content.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    assert!(body.is_end_stream());
    Ok((content, trailers))
}

#[tokio::test]
async fn content_and_trailers_pass_whatever_pieces_they_come_in() {
    let pair = KeyPair::generate();
    let large: &'static [u8] = vec![9; 3 * MAX_CHUNK + 5].leak();
    let steps = || {
        [
            Step::Data(b"one"),
            Step::Wait,
            Step::Data(b""),
            Step::Data(large),
            Step::Wait,
            Step::Wait,
            Step::Data(b"end"),
            Step::Frame(Frame::trailers(trailers())),
        ]
    };
    let expected = [b"one", large, b"end"].concat();
    for piece in [1, 100, 20_000, 1 << 20] {
        let stream = whole(sealed(&pair, steps()).await);
        assert_eq!(open(&pair, &stream, piece).await.unwrap(), (expected.clone(), Some(trailers())));
    }
}

#[tokio::test]
async fn a_body_of_nothing_is_one_chunk() {
    let pair = KeyPair::generate();
    let frames = sealed(&pair, []).await;
    assert_eq!(frames.len(), 1, "head and end go together");
    assert_eq!(open(&pair, &whole(frames), 7).await.unwrap(), (vec![], None));
}

#[tokio::test]
async fn what_is_ready_goes_together_and_what_is_not_is_not_waited_for() {
    let pair = KeyPair::generate();
    let config = test_config(&pair);
    let (sealer, _) = Sealer::request(&config).unwrap();
    let head = request_head(&Request::post("https://a/p").body(()).unwrap().into_parts().0).unwrap();
    let body = Script::new([Step::Wait, Step::Data(b"a"), Step::Data(b"b"), Step::Wait, Step::Wait, Step::Data(b"c")]);
    let mut body = task::spawn(SealBody::new(sealer, head, body));
    let mut poll = || body.enter(|cx, body| body.poll_frame(cx)).map(|frame| frame.map(|frame| frame.is_ok()));
    assert_eq!(poll(), Poll::Ready(Some(true)), "the head");
    assert_eq!(poll(), Poll::Ready(Some(true)), "a and b");
    assert_eq!(poll(), Poll::Pending, "nothing in hand");
    assert_eq!(poll(), Poll::Ready(Some(true)), "c and the end");
    assert_eq!(poll(), Poll::Ready(None));
}

#[tokio::test]
async fn no_frame_is_larger_than_a_chunk() {
    let pair = KeyPair::generate();
    let large: &'static [u8] = vec![9; 1 << 20].leak();
    for frame in sealed(&pair, [Step::Data(large)]).await {
        assert!(frame.unwrap().len() <= 16_384, "one frame of HTTP/2");
    }
}

#[tokio::test]
async fn a_body_that_fails_is_never_ended() {
    let pair = KeyPair::generate();
    let mut frames = sealed(&pair, [Step::Data(b"half"), Step::Wait, Step::Fail]).await;
    assert_eq!(frames.pop(), Some(Err("broke".to_owned())));
    let error = open(&pair, &whole(frames), 100).await.unwrap_err();
    assert_eq!(error, SealError::Truncated.to_string());
}

#[tokio::test]
async fn every_truncation_is_a_body_error() {
    let pair = KeyPair::generate();
    let stream = whole(sealed(&pair, [Step::Data(b"some"), Step::Wait, Step::Data(b"more")]).await);
    assert!(open(&pair, &stream, 9).await.is_ok());
    for length in RequestHeader::LEN..stream.len() {
        assert!(open(&pair, &stream[..length], 9).await.is_err(), "{length}");
    }
}

#[tokio::test]
async fn trailers_are_told_only_when_the_final_chunk_is_open() {
    let pair = KeyPair::generate();
    // Trailers too large for one chunk, so that part of them comes before the final one.
    let mut large = trailers();
    large.insert("x", "y".repeat(MAX_CHUNK).parse().unwrap());
    let frames = sealed(&pair, [Step::Data(b"a"), Step::Frame(Frame::trailers(large.clone()))]).await;
    let stream = whole(frames);
    assert_eq!(open(&pair, &stream, 1 << 20).await.unwrap().1, Some(large));
    let mut altered = stream;
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(open(&pair, &altered, 1 << 20).await, Err(SealError::Broken.to_string()));
}

/// Other senders put trailers into a chunk of their own, before an empty final one.
#[tokio::test]
async fn trailers_that_came_before_the_final_chunk_wait_for_it() {
    let pair = KeyPair::generate();
    let (mut sealer, _) = Sealer::request(&test_config(&pair)).unwrap();
    let head = request_head(&Request::post("https://a/p").body(()).unwrap().into_parts().0).unwrap();
    let end = crate::seal::message::encode::end(&trailers()).unwrap();
    let mut chunk = sealer.plaintext(100);
    chunk.put(&mut &*[&head[..], &[1, b'x'], &end].concat());
    let first = sealer.seal(chunk, false).unwrap();
    let last = sealer.seal(sealer.plaintext(0), true).unwrap();
    let whole = [&first[..], &last].concat();
    assert_eq!(open(&pair, &whole, 7).await, Ok((b"x".to_vec(), Some(trailers()))));

    let rest = Bytes::copy_from_slice(&first[RequestHeader::LEN..]);
    let mut body = opening(&pair, &first, Script::new([Step::Frame(Frame::data(rest))]));
    std::future::poll_fn(|cx| body.as_mut().poll_head(cx)).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), SealError::Truncated.to_string());
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn after_a_message_that_is_none_nothing_more_comes() {
    let pair = KeyPair::generate();
    let (mut sealer, _) = Sealer::request(&test_config(&pair)).unwrap();
    let head = request_head(&Request::post("https://a/p").body(()).unwrap().into_parts().0).unwrap();
    let mut chunk = sealer.plaintext(100);
    // Padding is zeros.
    chunk.put(&mut &*[&head[..], &[0, 0, 1]].concat());
    let first = sealer.seal(chunk, false).unwrap();
    let last = sealer.seal(sealer.plaintext(0), true).unwrap();
    let pieces = [&first[RequestHeader::LEN..], &last].map(|piece| Frame::data(Bytes::copy_from_slice(piece)));
    let mut body = opening(&pair, &first, Script::new(pieces.map(Step::Frame)));
    std::future::poll_fn(|cx| body.as_mut().poll_head(cx)).await.unwrap();
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.is_end_stream() && body.frame().await.is_none());
}

#[tokio::test]
async fn a_failure_of_the_carrier_is_told_as_its_own() {
    let pair = KeyPair::generate();
    let stream = whole(sealed(&pair, [Step::Data(b"a"), Step::Wait, Step::Data(b"b")]).await);
    let some = Bytes::copy_from_slice(&stream[RequestHeader::LEN..60]);
    let mut body = opening(&pair, &stream, Script::new([Step::Frame(Frame::data(some)), Step::Fail]));
    let error = std::future::poll_fn(|cx| body.as_mut().poll_head(cx)).await.unwrap_err();
    assert!(matches!(error, OpenError::Body(_)));
    assert!(body.frame().await.is_none(), "after a failure nothing more");
}

#[tokio::test]
async fn trailers_of_the_carrier_are_nobodys() {
    let pair = KeyPair::generate();
    let stream = whole(sealed(&pair, [Step::Data(b"a")]).await);
    let rest = Bytes::copy_from_slice(&stream[RequestHeader::LEN..]);
    let carrier = Script::new([Step::Frame(Frame::data(rest)), Step::Frame(Frame::trailers(trailers()))]);
    let mut body = opening(&pair, &stream, carrier);
    std::future::poll_fn(|cx| body.as_mut().poll_head(cx)).await.unwrap();
    let mut frames = vec![];
    while let Some(frame) = body.frame().await {
        frames.push(frame.unwrap());
    }
    assert!(frames.iter().all(Frame::is_data));
}
