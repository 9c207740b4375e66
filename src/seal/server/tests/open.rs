//! What is opened, and how it is answered.

use super::*;
use crate::ChannelBinding;
use crate::ConnectionInfo;

#[tokio::test]
async fn a_sealed_request_reaches_the_service_as_it_was_sealed() {
    let server = Server::start().await;
    let client = server.client();
    let trailers = HeaderMap::from_iter([("x-end".parse().unwrap(), "1".parse().unwrap())]);
    let frames = [
        Frame::data(Bytes::from_static(b"wit")),
        Frame::data(Bytes::from_static(b"ness")),
        Frame::trailers(trailers.clone()),
    ];
    let body = StreamBody::new(tokio_stream::iter(frames.map(Ok))).boxed_unsync();
    let request = Request::put("https://prover.example:8443/prove/%41?x=1&y=").header("x-a", "1").header("x-a", "2");
    let request = request.header("authorization", "secret").body(body).unwrap();
    let (mut outer, key) = client.seal(request);
    outer.headers_mut().insert("x-carrier", "1".parse().unwrap());
    outer.extensions_mut().insert(ConnectionInfo::new(ChannelBinding::from_tls_exporter([1; 32])));
    let opened = open(server.send(outer).await, key).await;
    assert_eq!((opened.status(), &opened.body().0[..]), (StatusCode::OK, &b"application"[..]));

    let [seen] = &server.seen()[..] else { panic!() };
    assert_eq!((&seen.method, seen.version), (&Method::PUT, Version::HTTP_2));
    assert_eq!(seen.uri, "https://prover.example:8443/prove/%41?x=1&y=");
    let fields: Vec<_> = seen.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(fields, [("x-a", "1"), ("x-a", "2"), ("authorization", "secret")]);
    assert_eq!(seen.body, Ok((Bytes::from_static(b"witness"), Some(trailers))));
    assert_eq!(seen.sealed.unwrap().keys(), &client.keys);
    assert!(seen.info, "what is known of the connection");
}

#[tokio::test]
async fn the_response_goes_back_sealed_and_nothing_of_it_shows_outside() {
    let server = Server::start().await;
    let (request, key) = server.client().seal({
        let mut request = post("https://a.example/trailers", full("x"));
        request.headers_mut().insert("want", "418".parse().unwrap());
        request
    });
    let response = server.send(request).await;
    let mut names: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!((response.status(), &names[..]), (StatusCode::OK, &["cache-control", "content-type"][..]));
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(response.extensions().is_empty());
    let opened = open(response, key).await;
    assert_eq!((opened.status(), &opened.headers()["x-inner"]), (StatusCode::IM_A_TEAPOT, &"1".parse().unwrap()));
    let (content, trailers) = opened.body();
    assert_eq!((&content[..], &trailers.as_ref().unwrap()["x-end"]), (&b"content"[..], &"2".parse().unwrap()));
}

#[tokio::test]
async fn fields_of_attestation_pass_neither_in_nor_out() {
    let server = Server::start().await;
    let mut request = post("https://a.example/", full(""));
    for field in ["attestation-nonce", "attestation-report", "attestation-keys", "attestation-route"] {
        request.headers_mut().insert(field, "forged".parse().unwrap());
    }
    let opened = server.client().send(&server, request).await;
    assert!(server.seen()[0].headers.is_empty(), "{:?}", server.seen()[0].headers);
    assert!(!opened.headers().contains_key("attestation-report"));
}

#[tokio::test]
async fn a_body_says_how_long_it_is_if_that_is_known() {
    let server = Server::start().await;
    let client = server.client();
    let get = |body| Request::get("https://a.example/").body(body).unwrap();
    client.send(&server, get(full(""))).await;
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.said_empty, seen.exact), (true, Some(0)));

    let mut request = get(full("seven b"));
    request.headers_mut().insert("content-length", "7".parse().unwrap());
    client.send(&server, request).await;
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.said_empty, seen.exact), (false, Some(7)));
    assert_eq!(seen.body.unwrap().0, "seven b");

    let (sender, body) = fed();
    let (request, key) = client.seal(get(body));
    let layer = server.layer();
    let service = layer.layer(server.application());
    let response = tokio::spawn(service.oneshot(request));
    sender.send(Ok(Frame::data("later".into()))).unwrap();
    drop(sender);
    open(response.await.unwrap().unwrap(), key).await;
    assert_eq!(server.seen().pop().unwrap().body.unwrap().0, "later");
}

#[tokio::test]
async fn responses_that_have_no_content_on_any_connection_have_none_inside() {
    let server = Server::start().await;
    for (method, want, length) in
        [(Method::HEAD, "200", 0), (Method::GET, "204", 0), (Method::GET, "304", 0), (Method::GET, "200", 11)]
    {
        let mut request = post("https://a.example/", full(""));
        request.headers_mut().insert("want", want.parse().unwrap());
        *request.method_mut() = method;
        let opened = server.client().send(&server, request).await;
        assert_eq!((opened.status().as_str(), opened.body().0.len()), (want, length));
    }
}

#[tokio::test]
async fn plaintext_passes_as_it_is_and_is_no_sealed_request() {
    let server = Server::start().await;
    let response = server.send(post("/prove", full("in the clear"))).await;
    assert_eq!(response.headers()["x-inner"], "1");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "application");
    let [seen] = &server.seen()[..] else { panic!() };
    assert_eq!((seen.sealed, seen.version, seen.exact), (None, Version::HTTP_11, Some(12)));
    assert_eq!(seen.body.as_ref().unwrap().0, "in the clear");
}

#[tokio::test]
async fn previous_keys_open_during_their_grace_and_not_after_it() {
    let server = Server::start().await;
    let client = server.client();
    server.clock.advance(HOUR);
    assert_ne!(server.client().keys, client.keys);
    let opened = client.send(&server, post("https://a.example/", full(""))).await;
    assert_eq!(opened.status(), StatusCode::OK);
    assert_eq!(server.seen()[0].sealed.unwrap().keys(), &client.keys);
    server.clock.advance(300 * SECOND);
    let (request, _) = client.seal(post("https://a.example/", full("")));
    assert_eq!(code(server.send(request).await).await, (400, "unknown-keys".into()));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn what_would_be_in_a_log_is_not_in_debug_output() {
    let body = UnsealedBody::plain(full("secret"));
    let reply = SealedBody::plain(full("secret"));
    let text = format!("{body:?} {reply:?}");
    assert_eq!(text, "UnsealedBody(plain) SealedBody(plain)");
}
