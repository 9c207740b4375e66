//! What is refused, and what the service never sees.

use super::*;
use crate::protocol::WELL_KNOWN_PATH;

/// The answer to sealed bytes, if the service did not see them.
async fn refused(server: &Server, sealed: Vec<u8>) -> (u16, String) {
    let before = server.seen().len();
    let refused = code(server.send(server.client().outer(full(sealed))).await).await;
    assert_eq!(server.seen().len(), before, "the service saw it");
    refused
}

/// The body error that the service met.
async fn body_error(server: &Server, sealed: Vec<u8>) -> String {
    server.send(server.client().outer(full(sealed))).await;
    server.seen().pop().unwrap().body.unwrap_err()
}

fn not_opened() -> (u16, String) {
    (400, "not-opened".to_owned())
}

#[tokio::test]
async fn a_head_with_any_byte_changed_is_not_opened_and_every_reason_looks_the_same() {
    let server = Server::start().await;
    let (chunks, _) = server.client().prove();
    let length = chunks[0].len();
    let mut details = std::collections::BTreeSet::new();
    for byte in 0..length {
        let mut sealed = chunks.concat();
        sealed[byte] ^= 1;
        let response = server.send(server.client().outer(full(sealed))).await;
        let (status, _, problem) = problem(response).await;
        details.insert((status, problem.to_string()));
    }
    assert_eq!(details.len(), 1, "{details:?}");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_head_that_is_cut_anywhere_is_not_opened() {
    let server = Server::start().await;
    let (chunks, _) = server.client().prove();
    for length in 0..chunks[0].len() {
        assert_eq!(refused(&server, chunks[0][..length].to_vec()).await, not_opened(), "{length}");
    }
}

#[tokio::test]
async fn what_is_sealed_to_another_key_is_not_opened_under_this_ones_name() {
    let server = Server::start().await;
    let other = Client { keys: server.client().keys, ..Server::start().await.client() };
    assert_eq!(refused(&server, other.prove().0.concat()).await, not_opened());
    let mut client = server.client();
    client.config.id = client.config.id.wrapping_add(1);
    assert_eq!(refused(&server, client.prove().0.concat()).await, not_opened(), "another key id");
}

#[tokio::test]
async fn a_stream_cut_after_its_head_is_a_body_error_and_never_an_end() {
    let server = Server::start().await;
    let whole = server.client().prove().0;
    let (head, length) = (whole[0].len(), whole.concat().len());
    for cut in (head..length).step_by(7).chain([head, length - 1]) {
        // Sealed anew for each cut: the same bytes would be a repetition.
        let sealed = server.client().prove().0.concat();
        let error = body_error(&server, sealed[..cut].to_vec()).await;
        assert!(error.contains("not whole"), "{cut}: {error}");
    }
    server.send(server.client().outer(full(server.client().prove().0.concat()))).await;
    assert_eq!(server.seen().pop().unwrap().body.unwrap().0, "firstsecond");
}

#[tokio::test]
async fn chunks_changed_swapped_repeated_or_left_out_are_a_body_error() {
    let server = Server::start().await;
    type Spoil = fn(&mut Vec<Vec<u8>>);
    let cases: [(&str, Spoil); 5] = [
        ("changed", |chunks| *chunks[2].last_mut().unwrap() ^= 1),
        ("swapped", |chunks| chunks.swap(1, 2)),
        ("repeated", |chunks| chunks.insert(2, chunks[1].clone())),
        ("left out", |chunks| drop(chunks.remove(1))),
        ("followed by more", |chunks| chunks.push(vec![0])),
    ];
    for (how, spoil) in cases {
        let mut chunks = server.client().prove().0;
        spoil(&mut chunks);
        let error = body_error(&server, chunks.concat()).await;
        assert!(error.contains("not whole"), "{how}: {error}");
    }
}

#[tokio::test]
async fn the_body_error_says_whether_the_stream_or_the_connection_failed() {
    let server = Server::start().await;
    for (fails, tampered) in [(true, false), (false, true)] {
        let (chunks, _) = server.client().prove();
        let (sender, body) = fed();
        sender.send(Ok(Frame::data(chunks[..2].concat().into()))).unwrap();
        if fails {
            sender.send(Err("reset".into())).unwrap();
        }
        drop(sender);
        let seen = Arc::new(Mutex::new(None));
        let service = service_fn(|request: Request<UnsealedBody<Body>>| {
            let seen = Arc::clone(&seen);
            async move {
                let error = request.into_body().collect().await.unwrap_err();
                *seen.lock().unwrap() = Some(error.is_tampered());
                Ok::<_, BoxError>(Response::new(full("")))
            }
        });
        server.layer().layer(service).oneshot(server.client().outer(body)).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(tampered));
    }
}

#[tokio::test]
async fn a_repeated_request_is_refused_before_the_service_sees_it() {
    let server = Server::start().await;
    let sealed = server.client().prove().0.concat();
    let response = server.send(server.client().outer(full(sealed.clone()))).await;
    assert_eq!(response.headers()["content-type"], "message/ohttp-chunked-res");
    assert_eq!(refused(&server, sealed.clone()).await, not_opened());
    server.clock.advance(HOUR);
    let client = server.client();
    let mut late = client.outer(full(sealed));
    *late.headers_mut() =
        Client { keys: *server.seen()[0].sealed.unwrap().keys(), ..client }.outer(full("")).headers().clone();
    assert_eq!(code(server.send(late).await).await, not_opened(), "in the grace of its keys");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn of_two_that_are_opened_at_the_same_time_one_is_served() {
    let server = Server::start().await;
    let chunks = server.client().prove().0;
    let service = server.layer().layer(server.application());
    let mut running = vec![];
    for _ in 0..2 {
        let (sender, body) = fed();
        sender.send(Ok(Frame::data(chunks[0][..45].to_vec().into()))).unwrap();
        let mut task = tokio_test::task::spawn(service.clone().oneshot(server.client().outer(body)));
        assert!(task.poll().is_pending(), "decapsulated, and waiting for the head");
        sender.send(Ok(Frame::data([&chunks[0][45..], &chunks[1..].concat()].concat().into()))).unwrap();
        running.push((task, sender));
    }
    let mut types = vec![];
    for (task, sender) in running {
        drop(sender);
        let response = task.into_inner().await.unwrap();
        types.push(response.headers()["content-type"].to_str().unwrap().to_owned());
    }
    assert_eq!(types, ["message/ohttp-chunked-res", "application/problem+json"]);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn noise_fills_no_record_and_a_full_record_changes_the_keys() {
    let server = Server::start_with(|builder| builder.replay_cache(1)).await;
    let client = server.client();
    let mut noise = client.prove().0.concat();
    noise[50] ^= 1;
    for _ in 0..3 {
        assert_eq!(refused(&server, noise.clone()).await, not_opened());
    }
    assert_eq!(server.client().keys, client.keys);
    let opened = client.send(&server, post("https://a.example/", full(""))).await;
    assert_eq!(opened.status(), StatusCode::OK, "the request that fills it is served");
    assert_ne!(server.client().keys, client.keys);
    let (request, _) = client.seal(post("https://a.example/", full("")));
    assert_eq!(code(server.send(request).await).await, (400, "unknown-keys".into()));
    let opened = server.client().send(&server, post("https://a.example/", full(""))).await;
    assert_eq!(opened.status(), StatusCode::OK);
}

#[tokio::test]
async fn keys_that_end_while_a_request_is_opened_are_unknown() {
    let server = Server::start_with(|builder| builder.grace(Duration::ZERO)).await;
    let client = server.client();
    for before in [3, 45] {
        let chunks = Client::of(&server.attester.key_document()).prove().0.concat();
        let (sender, body) = fed();
        let request = server.client().outer(body);
        sender.send(Ok(Frame::data(chunks[..before].to_vec().into()))).unwrap();
        let mut task = tokio_test::task::spawn(server.layer().layer(server.application()).oneshot(request));
        assert!(task.poll().is_pending());
        server.clock.advance(HOUR);
        sender.send(Ok(Frame::data(chunks[before..].to_vec().into()))).unwrap();
        drop(sender);
        assert_eq!(code(task.into_inner().await.unwrap()).await, (400, "unknown-keys".into()), "{before}");
    }
    assert!(server.seen().is_empty() && server.client().keys != client.keys);
}

#[tokio::test]
async fn unknown_keys_are_told_before_the_body_is_read_as_rfc_9458_has_it() {
    let server = Server::start().await;
    let stranger = Server::start().await.client();
    let (sender, body) = fed();
    let response = server.send(stranger.outer(body)).await;
    drop(sender);
    let (status, code, problem) = problem(response).await;
    assert_eq!((status, &code[..]), (400, "unknown-keys"));
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#ohttp-key");
    assert_eq!(problem["title"], "key identifier unknown");
}

#[tokio::test]
async fn the_request_outside_must_name_its_keys_once_and_well() {
    let server = Server::start().await;
    let sealed = || full(server.client().prove().0.concat());
    let mut without = server.client().outer(sealed());
    without.headers_mut().remove(ATTESTATION_KEYS);
    assert_eq!(code(server.send(without).await).await, (400, "missing-keys".into()));
    let mut malformed = server.client().outer(sealed());
    malformed.headers_mut().insert(ATTESTATION_KEYS, ":AAAA:".parse().unwrap());
    assert_eq!(code(server.send(malformed).await).await, (400, "malformed-keys".into()));
    let mut twice = server.client().outer(sealed());
    twice.headers_mut().append(ATTESTATION_KEYS, KeysHeader { keys: server.client().keys }.to_value());
    assert_eq!(code(server.send(twice).await).await, (400, "malformed-keys".into()));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn sealed_requests_are_posted_with_their_media_type() {
    let server = Server::start().await;
    let mut get = server.client().outer(full(""));
    *get.method_mut() = Method::PUT;
    let response = server.send(get).await;
    assert_eq!(response.headers()["allow"], "POST");
    assert_eq!(code(response).await, (405, "method-not-allowed".into()));
    for other in [Some("message/ohttp-req"), Some("application/grpc"), None] {
        let mut request = server.client().outer(full(server.client().prove().0.concat()));
        request.headers_mut().remove("content-type");
        if let Some(other) = other {
            request.headers_mut().insert("content-type", other.parse().unwrap());
        }
        let response = server.send(request).await;
        assert_eq!(response.headers()["accept-post"], SEALED_REQUEST);
        assert_eq!(code(response).await, (415, "media-type".into()), "{other:?}");
    }
    assert!(server.seen().is_empty());
    let mut capitals = server.client().outer(full(server.client().prove().0.concat()));
    capitals.headers_mut().insert("content-type", "Message/OHTTP-chunked-req".parse().unwrap());
    server.send(capitals).await;
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn sealed_only_refuses_plaintext_but_for_the_exempt_and_the_well_known() {
    let server = Server::start().await;
    let layer = || server.layer().sealed_only().exempt(|request| request.uri.path() == "/healthz");
    let response = server.send_by(layer(), post("/prove", full("witness"))).await;
    assert_eq!(code(response).await, (403, "sealed-only".into()));
    let mut grpc = post("/prover.v1.Prover/Prove", full("witness"));
    grpc.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let response = server.send_by(layer(), grpc).await;
    assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"7".parse().unwrap()));
    assert!(server.seen().is_empty());

    for path in ["/healthz", WELL_KNOWN_PATH] {
        assert_eq!(server.send_by(layer(), post(path, full(""))).await.headers()["x-inner"], "1", "{path}");
    }
    let mut preflight = post(SEALED_PATH, full(""));
    *preflight.method_mut() = Method::OPTIONS;
    preflight.headers_mut().insert("origin", "https://a.example".parse().unwrap());
    preflight.headers_mut().insert("access-control-request-method", "POST".parse().unwrap());
    assert_eq!(server.send_by(layer(), preflight).await.headers()["x-inner"], "1", "a browser's question");
    assert!(server.seen().iter().all(|seen| seen.sealed.is_none()));

    let (request, key) = server.client().seal(post("https://a.example/prove", full("witness")));
    assert_eq!(open(server.send_by(layer(), request).await, key).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_the_layers_answer_themselves_is_not_asked_sealed() {
    let server = Server::start().await;
    for path in [WELL_KNOWN_PATH, SEALED_PATH] {
        let (request, key) = server.client().seal(post(&format!("https://a.example{path}"), full("")));
        assert_eq!(sealed_code(server.send(request).await, key).await, (400, "sealed-target".into()));
    }
    let mut grpc = post(&format!("https://a.example{WELL_KNOWN_PATH}"), full(""));
    grpc.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let opened = server.client().send(&server, grpc).await;
    assert_eq!((opened.status().as_u16(), &opened.headers()["grpc-status"]), (200, &"3".parse().unwrap()));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn what_is_no_request_is_refused_for_its_client_alone() {
    let server = Server::start().await;
    let connect = b"\x02\x07CONNECT\x05https\x09a.example\x01/\x00\x00\x00";
    let response_in_place = b"\x03\x40\xc8\x00\x00\x00";
    for message in
        [&connect[..], response_in_place, b"\x07", b"\x02\x03GET\x05https\x01a\x00\x00\x00\x00", b"\x02\x03GE"]
    {
        let (chunks, key) = server.client().chunks(&[message]);
        let response = server.send(server.client().outer(full(chunks.concat()))).await;
        assert_eq!(sealed_code(response, key).await, (400, "malformed-message".into()), "{message:?}");
    }
    let mut request = post("https://a.example/", full("x"));
    request.headers_mut().append("content-length", "1".parse().unwrap());
    request.headers_mut().append("content-length", "2".parse().unwrap());
    let (request, key) = server.client().seal(request);
    assert_eq!(sealed_code(server.send(request).await, key).await, (400, "malformed-message".into()));

    let mut large = head(Method::GET, "https://a.example/");
    large.truncate(large.len() - 1);
    let field = [b"\x01a\x7f\xff", &vec![b'x'; 16_383][..]].concat();
    let chunks = [
        &large[..],
        &field[..16_000],
        &field[16_000..],
        &field[..16_000],
        &field[16_000..],
        &field[..16_000],
        &field[16_000..],
        &field[..16_000],
        &field[16_000..],
        END,
    ];
    let (chunks, key) = server.client().chunks(&chunks);
    let response = server.send(server.client().outer(full(chunks.concat()))).await;
    assert_eq!(sealed_code(response, key).await, (431, "head-too-large".into()));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn content_of_another_length_than_announced_is_a_body_error() {
    let server = Server::start().await;
    for announced in ["0", "6", "8"] {
        let mut request = post("https://a.example/", full("seven b"));
        request.headers_mut().insert("content-length", announced.parse().unwrap());
        server.client().send(&server, request).await;
        let error = server.seen().pop().unwrap().body.unwrap_err();
        assert!(error.contains("Content-Length"), "{announced}: {error}");
    }
}

#[tokio::test]
async fn a_response_that_cannot_be_sealed_is_an_error_that_is_sealed() {
    let server = Server::start().await;
    let (request, key) = server.client().seal(post("https://a.example/large", full("")));
    assert_eq!(sealed_code(server.send(request).await, key).await, (500, "response-not-sealed".into()));
    let mut request = post("https://a.example/", full(""));
    request.headers_mut().insert("want", "101".parse().unwrap());
    let (request, key) = server.client().seal(request);
    assert_eq!(sealed_code(server.send(request).await, key).await, (500, "response-not-sealed".into()));
}

#[tokio::test]
async fn an_attester_without_a_key_to_seal_to_has_no_such_layer() {
    let attester = Attester::builder(MockTee::new().provider()).name("a.example").start().await.unwrap();
    let error = UnsealLayer::new(attester).unwrap_err();
    assert_eq!(error.kind(), crate::AttesterErrorKind::Configuration);
    assert!(error.to_string().contains("AttesterBuilder::seal()"), "{error}");
}
