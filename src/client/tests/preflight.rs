//! The request for evidence: what it carries, what its answer must be, and its limits.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};
use tower::ServiceExt;

use super::super::fake::{FakeBody, Keys};
use super::*;
use crate::protocol::{ATTESTATION_NONCE, ATTESTATION_REPORT, MAX_EVIDENCE, WELL_KNOWN_PATH};

#[tokio::test]
async fn it_carries_host_and_nonce_and_nothing_of_the_callers() {
    let set = Set::new();
    let mut request = request();
    *request.version_mut() = Version::HTTP_2;
    for (name, value) in
        [("authorization", "Bearer x"), ("cookie", "a=b"), ("te", "trailers"), ("host", "prover.example")]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    set.client.clone().oneshot(request).await.unwrap();
    let asked = set.server.seen().swap_remove(0);
    assert_eq!(asked.uri, format!("https://prover.example{WELL_KNOWN_PATH}").parse::<http::Uri>().unwrap());
    assert_eq!((asked.method, asked.body.as_str()), (Method::GET, ""));
    let mut names: Vec<_> = asked.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, [ATTESTATION_NONCE.as_str(), header::HOST.as_str()]);
    let nonce = asked.nonce.unwrap();
    assert!(nonce.have.is_empty() && !nonce.bind);
}

#[tokio::test]
async fn credentials_in_the_uri_do_not_go_with_it() {
    let set = Set::new();
    for uri in ["https://user:secret@prover.example/prove", "https://a@b:c@prover.example/prove"] {
        let Ok(request) = http::Request::get(uri).body(String::new()) else { continue };
        set.client.clone().oneshot(request).await.unwrap();
    }
    let asked = set.server.seen().swap_remove(0);
    assert_eq!(asked.uri, format!("https://prover.example{WELL_KNOWN_PATH}").parse::<http::Uri>().unwrap());
    assert_eq!(set.server.counts().0, 1, "it is one origin, whoever asks");
}

#[tokio::test]
async fn it_never_lists_keys_even_if_some_are_believed() {
    let set = Set::new();
    set.send().await.unwrap();
    set.server.set(|b| (b.keys, b.evidence_fits) = (Keys::new(2), false));
    set.send().await.unwrap();
    let asked: Vec<_> = set.server.seen().into_iter().filter(|seen| seen.path == WELL_KNOWN_PATH).collect();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|seen| seen.nonce.as_ref().unwrap().have.is_empty()));
}

#[tokio::test]
async fn a_uri_without_authority_asks_without_one() {
    let set = Set::new();
    let request = http::Request::post("/prove").body(String::new()).unwrap();
    set.client.clone().oneshot(request).await.unwrap();
    assert_eq!(set.server.seen()[0].uri, WELL_KNOWN_PATH);
}

#[tokio::test]
async fn origins_are_asked_apart() {
    let set = Set::new();
    for host in ["a.example", "b.example", "A.example"] {
        let request = http::Request::get(format!("https://{host}/")).body(String::new()).unwrap();
        set.client.clone().oneshot(request).await.unwrap();
    }
    assert_eq!(set.server.counts(), (2, 3));
}

#[tokio::test]
async fn a_status_other_than_200_is_refused_without_sending() {
    for (status, expected) in [
        (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unavailable),
        (StatusCode::TOO_MANY_REQUESTS, ErrorKind::Unavailable),
        (StatusCode::FOUND, ErrorKind::NoReport { status: 302 }),
        (StatusCode::NOT_FOUND, ErrorKind::NoReport { status: 404 }),
        (StatusCode::BAD_REQUEST, ErrorKind::NoReport { status: 400 }),
        (StatusCode::NO_CONTENT, ErrorKind::NoReport { status: 204 }),
    ] {
        let set = Set::new();
        set.server.set(|b| b.endpoint_status = status);
        assert_eq!(set.refused().await, expected);
        assert_eq!(set.server.counts(), (1, 0), "redirects are not followed");
    }
}

#[tokio::test]
async fn an_intermediary_that_answers_for_the_endpoint_is_named() {
    let set = Set::new();
    set.server.set(|b| (b.attests, b.status) = (false, StatusCode::BAD_GATEWAY));
    let error = set.send().await.unwrap_err();
    assert!(error.to_string().contains("an intermediary may have answered"), "{error}");
    assert!(!error.to_string().contains("proof"), "the body is not shown");
}

#[tokio::test]
async fn another_media_type_is_refused() {
    let cases: [(Option<&'static [u8]>, bool); 5] = [
        (Some(b"application/json"), false),
        (Some(b"application/cmw+cbor"), false),
        (Some(b"\x80"), false),
        (None, false),
        (Some(b"Application/CMW+JSON; charset=utf-8"), true),
    ];
    for (found, accepted) in cases {
        let set = Set::new();
        set.server.tamper(move |path, response| {
            if path == WELL_KNOWN_PATH {
                response.headers_mut().remove(header::CONTENT_TYPE);
                if let Some(found) = found {
                    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_bytes(found).unwrap());
                }
            }
        });
        match accepted {
            true => drop(set.send().await.unwrap()),
            false => assert_eq!(set.refused().await, ErrorKind::Malformed, "{found:?}"),
        }
    }
}

#[tokio::test]
async fn its_own_signature_is_verified() {
    let set = Set::new();
    set.server.tamper(|path, response| {
        if path == WELL_KNOWN_PATH {
            let text = response.headers()[ATTESTATION_REPORT].to_str().unwrap().to_owned();
            let (head, _) = text.split_once("sig=:").unwrap();
            let text = format!("{head}sig=:{}==:", "A".repeat(86));
            response.headers_mut().insert(ATTESTATION_REPORT, text.parse().unwrap());
        }
    });
    assert_eq!(set.refused().await, ErrorKind::BadSignature);
    assert_eq!(set.server.counts(), (1, 0));
}

#[tokio::test]
async fn a_body_past_the_limit_is_refused_before_it_is_read_whole() {
    let set = Set::new();
    set.server.tamper(|path, response| {
        if path == WELL_KNOWN_PATH {
            let chunk = || Ok(Bytes::from(vec![b' '; 64 * 1024]));
            response.body_mut().chunks = std::iter::repeat_with(chunk).take(4).collect();
            response.body_mut().chunks.push_back(Ok(Bytes::from_static(b" ")));
            response.body_mut().chunks.push_back(Err("read past the limit".into()));
        }
    });
    let error = set.send().await.unwrap_err();
    assert!(error.to_string().contains(&MAX_EVIDENCE.to_string()), "{error}");
    assert_eq!(error.downcast_ref::<AttestError>().unwrap().kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn a_body_of_frames_without_data_is_not_read_for_ever() {
    for (empty, accepted) in [(1024, true), (1025, false)] {
        let set = Set::new();
        set.server.tamper(move |path, response| {
            if path == WELL_KNOWN_PATH {
                for _ in 0..empty {
                    response.body_mut().chunks.push_front(Ok(Bytes::new()));
                }
            }
        });
        match accepted {
            true => drop(set.send().await.unwrap()),
            false => assert_eq!(set.refused().await, ErrorKind::Malformed),
        }
    }
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_not_read() {
    let set = Set::with(|layer| layer.accept_presence().evidence_limit(100_000));
    set.server.tamper(|_, response| {
        response.body_mut().announced = Some(100_001);
        response.body_mut().chunks = [Err("was read".into())].into();
    });
    assert_eq!(set.refused().await, ErrorKind::Malformed);
}

#[tokio::test]
async fn the_limit_is_inclusive_and_can_be_lowered() {
    let length = {
        let set = Set::new();
        set.send().await.unwrap();
        let nonce = set.server.seen()[0].nonce.clone().unwrap().nonce;
        Keys::new(1).evidence(&nonce, None).to_json().len()
    };
    let set = Set::with(|layer| layer.accept_presence().evidence_limit(length));
    set.send().await.unwrap();
    let set = Set::with(|layer| layer.accept_presence().evidence_limit(length - 1));
    assert_eq!(set.refused().await, ErrorKind::Malformed);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_failure_of_the_transport() {
    let set = Set::new();
    set.server.tamper(|path, response| {
        if path == WELL_KNOWN_PATH {
            *response.body_mut() = FakeBody::default();
            response.body_mut().chunks = [Ok(Bytes::from_static(b"{")), Err("reset".into())].into();
        }
    });
    let error = set.send().await.unwrap_err();
    let error = error.downcast_ref::<AttestError>().unwrap();
    assert_eq!((error.kind(), error.cause().unwrap().to_string().as_str()), (ErrorKind::Transport, "reset"));
}

#[tokio::test]
async fn an_inner_service_that_fails_is_a_failure_of_the_transport() {
    let set = Set::new();
    set.server.set(|b| b.fails = true);
    assert_eq!(set.refused().await, ErrorKind::Transport);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_ends_in_the_layers_own_timeout() {
    let set = Set::with(|layer| layer.accept_presence().verification_timeout(Duration::from_secs(3)));
    set.server.set(|b| b.gate = Some(Arc::new(tokio::sync::Semaphore::new(0))));
    let start = tokio::time::Instant::now();
    assert_eq!(set.refused().await, ErrorKind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(set.server.counts(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_verifier_that_does_not_answer_ends_in_the_layers_own_timeout() {
    let set = Set::new();
    let _gate = set.verifier.gate();
    let start = tokio::time::Instant::now();
    assert_eq!(set.refused().await, ErrorKind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 10);

    let set = Set::in_mode(Mode::Optional);
    let _gate = set.verifier.gate();
    assert_eq!(set.refused().await, ErrorKind::Timeout, "and so it does for evidence in the head");
}

#[tokio::test(start_paused = true)]
async fn the_requests_own_time_is_not_limited() {
    let set = Set::new();
    set.send().await.unwrap();
    let slow = tower::service_fn({
        let server = set.server.clone();
        move |request| {
            let server = server.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                server.oneshot(request).await
            }
        }
    });
    let layer = AttestLayer::new(set.verifier.clone()).accept_presence().preflight_via(set.server.clone());
    layer.layer(slow).oneshot(request()).await.unwrap();
}

#[tokio::test]
async fn another_service_may_fetch_the_evidence() {
    let via = FakeServer::new();
    let set = Set::with(|layer| layer.accept_presence().preflight_via(via.clone()));
    set.send().await.unwrap();
    assert_eq!((via.counts(), set.server.counts()), ((1, 0), (0, 1)));
    assert!(via.seen()[0].nonce.clone().unwrap().have.is_empty());
}

#[tokio::test]
async fn another_services_answer_is_judged_alike() {
    let via = FakeServer::new();
    let set = Set::with(|layer| layer.accept_presence().preflight_via(via.clone()));
    via.set(|b| b.endpoint_status = StatusCode::NOT_FOUND);
    assert_eq!(set.refused().await, ErrorKind::NoReport { status: 404 });
    set.clock.advance(Duration::from_secs(1));
    via.set(|b| b.endpoint_status = StatusCode::OK);
    via.tamper(|_, response| {
        response.headers_mut().remove(ATTESTATION_REPORT);
    });
    assert_eq!(set.refused().await, ErrorKind::NoReport { status: 200 });
    set.clock.advance(Duration::from_secs(1));
    via.tamper(|_, response| response.body_mut().chunks = [Ok(Bytes::from(vec![b' '; MAX_EVIDENCE + 1]))].into());
    assert_eq!(set.refused().await, ErrorKind::Malformed);
    set.clock.advance(Duration::from_secs(1));
    via.set(|b| b.fails = true);
    assert_eq!(set.refused().await, ErrorKind::Transport);
    assert_eq!(set.server.counts(), (0, 0));
}

/// What another service's transport says of itself does not count for the inner one.
#[tokio::test]
async fn another_services_attested_transport_does_not_attest_the_inner_one() {
    let via = FakeServer::new();
    via.set(|b| (b.binding, b.attested) = (Some(crate::ChannelBinding::from_tls_exporter([5; 32])), true));
    let set = Set::with(|layer| layer.preflight_via(via.clone()));
    assert_eq!(set.refused().await, ErrorKind::NotAttested);
    assert_eq!((via.counts(), set.server.counts()), ((0, 0), (0, 0)));
}
