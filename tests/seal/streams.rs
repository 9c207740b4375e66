//! Bodies stream both ways in bounded memory, and nothing is collected.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio_stream::wrappers::ReceiverStream;
use tower::{ServiceExt, service_fn};
use tower_attest::BoxError;
use tower_attest::mock::MockTee;
use tower_attest::seal::server::UnsealedBody;

use crate::support::{Body, Wire, attester, client, full, transport};

const FRAME: usize = 256 * 1024;
const TOTAL: usize = 100 * 1024 * 1024;

/// A body of 100 MiB that counts how far it has been read.
struct Upload {
    read: Arc<AtomicUsize>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.read.load(Ordering::SeqCst) >= TOTAL {
            return Poll::Ready(None);
        }
        self.read.fetch_add(FRAME, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; FRAME])))))
    }
}

#[tokio::test]
async fn an_upload_of_100_mib_never_runs_ahead_of_its_reader_by_more_than_a_frame() {
    let tee = MockTee::new();
    let attester = attester(&tee, |builder| builder).await;
    let read = Arc::new(AtomicUsize::new(0));
    let sent = Arc::clone(&read);
    let app = service_fn(move |request: Request<UnsealedBody<Wire>>| {
        let sent = Arc::clone(&sent);
        async move {
            let (mut body, mut received, mut ahead) = (request.into_body(), 0, 0);
            while let Some(frame) = body.frame().await {
                received += frame?.into_data().map_or(0, |data| data.len());
                ahead = ahead.max(sent.load(Ordering::SeqCst) - received);
            }
            Ok::<_, BoxError>(Response::new(full(format!("{received} {ahead}"))))
        }
    });
    let client = client(&tee, transport(&attester, app));
    let request = Request::post("https://prover.example/").body(Body::new(Upload { read })).unwrap();
    let response = client.oneshot(request).await.unwrap();
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let (received, ahead) = text.split_once(' ').unwrap();
    assert_eq!(received.parse::<usize>().unwrap(), TOTAL);
    // The frame that is being sealed, and a chunk on the way.
    assert!(ahead.parse::<usize>().unwrap() <= FRAME + 16 * 1024, "{ahead} bytes");
}

#[tokio::test]
async fn a_response_is_read_while_the_request_is_still_being_sent() {
    let tee = MockTee::new();
    let attester = attester(&tee, |builder| builder).await;
    let app = service_fn(|request: Request<UnsealedBody<Wire>>| async move {
        let echo = Body::new(request.into_body());
        Ok::<_, BoxError>(Response::new(echo))
    });
    let client = client(&tee, transport(&attester, app));
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
    let body: Body = Body::new(StreamBody::new(ReceiverStream::new(receiver)));
    let send =
        async |text: &'static str| sender.send(Ok(Frame::data(Bytes::from_static(text.as_bytes())))).await.unwrap();
    send("one").await;
    let response = client.oneshot(Request::post("https://prover.example/").body(body).unwrap()).await.unwrap();
    let mut body = response.into_body();
    for (text, next) in [("one", "two"), ("two", "three")] {
        let echoed = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(echoed, text);
        send(next).await;
    }
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "three");
    drop(sender);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let tee = MockTee::new();
    let attester = attester(&tee, |builder| builder).await;
    let app = service_fn(|request: Request<UnsealedBody<Wire>>| async move {
        let trailers = request.into_body().collect().await?.trailers().cloned();
        Ok::<_, BoxError>(Response::new(Body::new(full("x").with_trailers(async move { trailers.map(Ok) }))))
    });
    let client = client(&tee, transport(&attester, app));
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let own = trailers.clone();
    let body = Body::new(full("y").with_trailers(async move { Some(Ok(own)) }));
    let response = client.oneshot(Request::post("https://prover.example/").body(body).unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().trailers(), Some(&trailers));
}

#[tokio::test]
async fn a_request_body_that_fails_reaches_the_application_as_an_error() {
    let tee = MockTee::new();
    let server = crate::support::Server::start(&tee).await;
    let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(BoxError::from("broke"))];
    let body: Body = Body::new(StreamBody::new(tokio_stream::iter(frames)));
    let client = client(&tee, server.transport.clone());
    let response = client.oneshot(Request::post("https://prover.example/").body(body).unwrap()).await;
    assert!(response.is_err() || response.is_ok_and(|response| response.status() == 500));
    assert!(server.seen().iter().all(|seen| seen.body.is_err()), "never an end");
}
