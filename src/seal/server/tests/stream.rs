//! Streaming, cancelling, waiting.

use tower::limit::ConcurrencyLimitLayer;

use super::*;

/// An application that echoes frame by frame.
fn echo() -> impl Service<
    Request<UnsealedBody<Body>>,
    Response = Response<UnsealedBody<Body>>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<UnsealedBody<Body>>, BoxError>> + Send,
> + Clone {
    service_fn(async |request: Request<UnsealedBody<Body>>| Ok(Response::new(request.into_body())))
}

#[tokio::test]
async fn both_ways_stream_at_once() {
    let server = Server::start().await;
    let (sender, body) = fed();
    let (request, key) = server.client().seal(post("https://a.example/echo", body));
    let response = server.layer().layer(echo()).oneshot(request).await.unwrap();
    let (parts, mut body) = head_of(response.into_body(), key).await;
    assert_eq!(parts.status, StatusCode::OK);
    for text in ["one", "two", "three"] {
        sender.send(Ok(Frame::data(text.into()))).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), text);
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    sender.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
    drop(sender);
    assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_request_is_served_when_its_head_is_there_and_a_response_goes_out_when_its_head_is() {
    let server = Server::start().await;
    let (sender, body) = fed();
    let (chunks, key) = server.client().prove();
    sender.send(Ok(Frame::data(chunks[0].clone().into()))).unwrap();
    let mut task = tokio_test::task::spawn(server.layer().layer(echo()).oneshot(server.client().outer(body)));
    let std::task::Poll::Ready(response) = task.poll() else { panic!("the head is enough") };
    let (_, mut body) = head_of(response.unwrap().into_body(), key).await;
    sender.send(Ok(Frame::data(chunks[1].clone().into()))).unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
}

#[tokio::test]
async fn a_response_whose_body_fails_ends_without_its_final_chunk() {
    let server = Server::start().await;
    let (sender, body) = fed();
    let (request, key) = server.client().seal(post("https://a.example/echo", body));
    let response = server.layer().layer(echo()).oneshot(request).await.unwrap();
    let (_, mut body) = head_of(response.into_body(), key).await;
    sender.send(Ok(Frame::data("some".into()))).unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "some");
    sender.send(Err("gone".into())).unwrap();
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_the_service_at_every_stage() {
    /// Tells when it is dropped.
    struct Tell(Arc<Mutex<usize>>);
    impl Drop for Tell {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let server = Server::start().await;
    let dropped = Arc::new(Mutex::new(0));
    let service = service_fn(|request: Request<UnsealedBody<Body>>| {
        let tell = Tell(Arc::clone(&dropped));
        async move {
            if request.uri().path() == "/work" {
                let _tell = tell;
                std::future::pending::<()>().await;
                unreachable!()
            }
            let body = StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, BoxError>>());
            let body = body.map_frame(move |frame| {
                let _ = &tell;
                frame
            });
            Ok::<_, BoxError>(Response::new(body.boxed_unsync()))
        }
    });
    let (request, _) = server.client().seal(post("https://a.example/work", full("")));
    let mut task = tokio_test::task::spawn(server.layer().layer(service).oneshot(request));
    assert!(task.poll().is_pending());
    assert_eq!(*dropped.lock().unwrap(), 0);
    drop(task);
    assert_eq!(*dropped.lock().unwrap(), 1, "while it works");

    let (request, _) = server.client().seal(post("https://a.example/stream", full("")));
    let mut response = server.layer().layer(service).oneshot(request).await.unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_ok(), "the head");
    assert_eq!(*dropped.lock().unwrap(), 1);
    drop(response);
    assert_eq!(*dropped.lock().unwrap(), 2, "while it streams");
}

#[tokio::test]
async fn a_request_that_is_not_open_yet_holds_no_permit() {
    let server = Server::start().await;
    let limited = ConcurrencyLimitLayer::new(1).layer(server.application());
    let service = server.layer().layer(limited);
    let (sender, body) = fed();
    let (chunks, key) = server.client().prove();
    sender.send(Ok(Frame::data(chunks[0][..45].to_vec().into()))).unwrap();
    let mut slow = tokio_test::task::spawn(service.clone().oneshot(server.client().outer(body)));
    assert!(slow.poll().is_pending());
    let (request, other) = server.client().seal(post("https://a.example/", full("")));
    open(service.clone().oneshot(request).await.unwrap(), other).await;
    assert_eq!(server.seen().len(), 1);

    // And one that is open waits until the service is ready.
    let mut held = service.clone();
    held.ready().await.unwrap();
    sender.send(Ok(Frame::data([&chunks[0][45..], &chunks[1..].concat()].concat().into()))).unwrap();
    drop(sender);
    assert!(slow.poll().is_pending());
    assert_eq!(server.seen().len(), 1);
    drop(held);
    assert!(slow.is_woken());
    open(slow.into_inner().await.unwrap(), key).await;
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn what_is_refused_gives_its_readiness_back() {
    let server = Server::start().await;
    let mut service = server.layer().sealed_only().layer(ConcurrencyLimitLayer::new(1).layer(server.application()));
    let response = service.ready().await.unwrap().call(post("/prove", full(""))).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let mut other = service.clone();
    assert!(tokio_test::task::spawn(other.ready()).poll().is_ready(), "the idle service holds no permit");
}
