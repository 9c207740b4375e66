//! What happens to the responses of the application.

use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Notify;

use super::*;
use crate::mock::Behaviour;
use crate::time::ManualClock;

fn evidence(report: &ReportHeader) -> Option<Evidence> {
    report.evidence.as_ref().map(|cbor| Evidence::from_cbor(cbor, &[Platform::MOCK]).unwrap())
}

#[tokio::test]
async fn every_status_is_signed_with_method_and_target_as_the_client_sees_them() {
    let server = Server::start().await;
    for (method, uri, status) in [
        (Method::GET, "/prove?a=%2F&b", "200"),
        (Method::POST, "/", "404"),
        (Method::PUT, "/?", "500"),
        (Method::GET, "http://prover.example", "503"),
        (Method::HEAD, "/x", "304"),
        (Method::OPTIONS, "*", "204"),
        (Method::from_bytes(b"proVe").unwrap(), "//", "299"),
    ] {
        let asked = asked(method, uri);
        let mut request = asked.request();
        request.headers_mut().insert("want", status.parse().unwrap());
        let reply = server.send(request).await;
        assert_eq!(reply.status().as_str(), status);
        let report = server.signed(&reply, &asked);
        server.assert_fresh(&evidence(&report).unwrap(), &asked).await;
        assert_eq!(text(reply).await, "application");
    }
}

#[tokio::test]
async fn a_bound_request_gets_a_bound_signature_and_bound_evidence_from_any_source_of_bindings() {
    let server = Server::start().await;
    let binding = ChannelBinding::from_tls_exporter([3; 32]);
    let asked = Asked { binding: Some(binding), ..asked(Method::GET, "/") };
    let mut with_extension = asked.request();
    with_extension.extensions_mut().insert(binding);
    let mut requests = vec![with_extension];
    if cfg!(feature = "axum") {
        let mut with_connect_info = asked.request();
        with_connect_info.extensions_mut().insert(axum::extract::ConnectInfo(binding));
        requests.push(with_connect_info);
    }
    for request in requests {
        let reply = server.send(request).await;
        let report = server.signed(&reply, &asked);
        server.assert_fresh(&evidence(&report).unwrap(), &asked).await;
    }
    let layer = server
        .layer()
        .binding_from(|extensions| extensions.get::<u8>().map(|_| ChannelBinding::from_tls_exporter([3; 32])));
    let mut request = asked.request();
    request.extensions_mut().insert(1_u8);
    server.signed(&send(layer.clone(), request).await, &asked);
    let mut request = asked.request();
    request.extensions_mut().insert(binding);
    assert_eq!(send(layer, request).await.status(), 400, "binding_from alone decides");
}

#[tokio::test]
async fn an_exporter_that_the_client_did_not_ask_for_is_not_signed() {
    let server = Server::start().await;
    let asked = asked(Method::GET, "/");
    let mut request = asked.request();
    request.extensions_mut().insert(ChannelBinding::from_tls_exporter([3; 32]));
    server.signed(&server.send(request).await, &asked);
}

#[tokio::test]
async fn a_client_that_knows_the_keys_gets_a_signature_alone_and_costs_no_report() {
    let server = Server::start().await;
    let asked = asked(Method::GET, "/");
    let have = vec![crate::KeysDigest::from_bytes([1; 32]), *server.keys().digest()];
    let reply = server.send(asked.request_with(&NonceHeader { have, ..NonceHeader::new(nonce()) })).await;
    assert_eq!(server.signed(&reply, &asked).evidence, None);
    let have = vec![crate::KeysDigest::from_bytes([1; 32])];
    let reply = server.send(asked.request_with(&NonceHeader { have, ..NonceHeader::new(nonce()) })).await;
    assert!(server.signed(&reply, &asked).evidence.is_some());
    assert_eq!(server.attester.stats().reports, 1 + 1);
}

#[tokio::test]
async fn the_hardware_works_while_the_application_does() {
    let server = Server::start().await;
    let provider = server.provider.clone();
    let application = service_fn(move |_: Request<Body>| {
        let provider = provider.clone();
        async move {
            provider.called(2).await;
            Ok::<_, Infallible>(Response::new(Body::default()))
        }
    });
    let service = ServiceBuilder::new().layer(server.layer()).service(application);
    let asked = asked(Method::GET, "/");
    assert!(server.signed(&service.oneshot(asked.request()).await.unwrap(), &asked).evidence.is_some());
}

#[tokio::test]
async fn what_does_not_fit_is_left_out_the_vek_first_and_collateral_always() {
    let server = Server::start().await;
    let asked = asked(Method::GET, "/");
    let (vek, collateral) = (Bytes::from(vec![1; 1000]), Bytes::from(vec![2; 20_000]));
    server.provider.set_endorsements(Some(vek.clone()), Some(collateral));
    let whole = server.send(asked.request()).await;
    let length = |reply: &Reply| reply.headers()[ATTESTATION_REPORT].len();
    let found = evidence(&server.signed(&whole, &asked)).unwrap();
    assert_eq!((found.report.vek(), found.report.collateral()), (Some(&vek), None));
    assert!(length(&whole) > 1400);

    let exact = send(server.layer().header_limit(length(&whole)), asked.request()).await;
    assert!(evidence(&server.signed(&exact, &asked)).unwrap().report.vek().is_some());

    let without_vek = send(server.layer().header_limit(length(&whole) - 1), asked.request()).await;
    let found = evidence(&server.signed(&without_vek, &asked)).unwrap();
    assert_eq!(found.report.vek(), None);
    server.assert_fresh(&found, &asked).await;

    let bare = send(server.layer().header_limit(length(&without_vek) - 1), asked.request()).await;
    assert_eq!(server.signed(&bare, &asked).evidence, None);
    let default = server.send(asked.request()).await;
    assert!(length(&default) <= 4000);
    server.provider.set_endorsements(Some(vec![1; 2500].into()), None);
    let default = server.send(asked.request()).await;
    assert_eq!(evidence(&server.signed(&default, &asked)).unwrap().report.vek(), None, "4 000 bytes by default");
}

#[tokio::test(start_paused = true)]
async fn the_applications_answer_never_depends_on_the_hardware() {
    let server = Server::start_with(|builder| builder.evidence_wait(5 * SECOND).queue(1)).await;
    let asked = asked(Method::GET, "/");
    server.provider.hold();
    let mut hanging = tokio_test::task::spawn(server.send(asked.request()));
    assert!(hanging.poll().is_pending());
    tokio::time::sleep(4 * SECOND).await;
    assert!(hanging.poll().is_pending(), "evidence may take as long as evidence_wait");
    let mut second = tokio_test::task::spawn(server.send(asked.request()));
    assert!(second.poll().is_pending());
    let full = server.send(asked.request()).await;
    assert_eq!((full.status(), server.signed(&full, &asked).evidence), (StatusCode::OK, None), "queue full");
    tokio::time::sleep(2 * SECOND).await;
    let Poll::Ready(late) = hanging.poll() else { panic!("waits for longer than evidence_wait") };
    assert_eq!((late.status(), server.signed(&late, &asked).evidence), (StatusCode::OK, None), "late");
    drop(second);

    server.provider.release();
    tokio::time::sleep(SECOND).await;
    server.provider.set_behaviour(Behaviour::Failing);
    let failed = server.send(asked.request()).await;
    assert_eq!((failed.status(), server.signed(&failed, &asked).evidence), (StatusCode::OK, None), "failed");
    server.provider.set_behaviour(Behaviour::Hanging);
    let _ = server.attester.evidence(&nonce(), None).await;
    assert_eq!(server.attester.health(), Health::Stalled);
    let stalled = server.send(asked.request()).await;
    assert_eq!((stalled.status(), server.signed(&stalled, &asked).evidence), (StatusCode::OK, None), "stalled");
    server.attester.drain().await;
    let drained = server.send(asked.request()).await;
    assert_eq!((drained.status(), server.signed(&drained, &asked).evidence), (StatusCode::OK, None), "drained");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_gives_its_slot_back_wherever_it_stands() {
    let server = Server::start_with(|builder| builder.queue(1)).await;
    server.provider.hold();
    let asked = asked(Method::GET, "/");
    let mut on_the_hardware = tokio_test::task::spawn(server.send(asked.request()));
    assert!(on_the_hardware.poll().is_pending());
    server.provider.called(2).await;
    for polls in 0..3 {
        let mut queued = tokio_test::task::spawn(server.send(asked.request()));
        for _ in 0..polls {
            assert!(queued.poll().is_pending());
        }
        assert_eq!(server.attester.stats().queued, polls.min(1));
        drop(queued);
        assert_eq!(server.attester.stats().queued, 0, "after {polls} polls");
    }
    assert_eq!(server.attester.stats().refused, 0);
}

#[tokio::test]
async fn previous_keys_sign_for_who_knows_only_them_and_for_responses_on_their_way() {
    let clock = ManualClock::new();
    let server = Server::start_with(|builder| builder.clock(clock.clone())).await;
    let asked = asked(Method::GET, "/");
    let old = server.keys();
    let knows_old = NonceHeader { have: vec![*old.digest()], ..NonceHeader::new(nonce()) };
    let proceed = Arc::new(Notify::new());
    let slow = service_fn({
        let proceed = Arc::clone(&proceed);
        move |_: Request<Body>| {
            let proceed = Arc::clone(&proceed);
            async move {
                proceed.notified().await;
                Ok::<_, Infallible>(Response::new(Body::default()))
            }
        }
    });
    let service = ServiceBuilder::new().layer(server.layer()).service(slow);
    let mut in_flight = tokio_test::task::spawn(service.oneshot(asked.request_with(&knows_old)));
    assert!(in_flight.poll().is_pending());

    clock.advance(3600 * SECOND);
    let reply = server.send(asked.request_with(&knows_old)).await;
    assert_eq!(server.signed_by(&old, &reply, &asked).evidence, None, "grace");
    assert!(server.signed(&server.send(asked.request()).await, &asked).evidence.is_some());
    clock.advance(300 * SECOND);
    let reply = server.send(asked.request_with(&knows_old)).await;
    assert_ne!(server.keys().digest(), old.digest());
    assert!(server.signed(&reply, &asked).evidence.is_some(), "grace is over");
    proceed.notify_one();
    server.signed_by(&old, &in_flight.await.unwrap(), &asked);
}

#[tokio::test]
async fn reports_from_elsewhere_are_removed_on_the_way_in_and_out() {
    let server = Server::start().await;
    let asked = asked(Method::GET, "/");
    for (mut request, signed) in [(asked.request(), true), (plain(Method::GET, "/"), false)] {
        request.headers_mut().append(ATTESTATION_REPORT, "v=1".parse().unwrap());
        request.headers_mut().append("answer-attestation-report", "v=1, forged".parse().unwrap());
        request.headers_mut().append("answer-attestation-report", "v=2".parse().unwrap());
        let reply = server.send(request).await;
        assert!(!reply.headers().contains_key("saw"));
        assert_eq!(reply.headers().get_all(ATTESTATION_REPORT).iter().count(), usize::from(signed));
        assert_eq!(reply.headers().get_all(ATTESTATION_REPORT).iter().filter(|value| *value == "v=2").count(), 0);
    }
}

#[tokio::test]
async fn without_a_nonce_nothing_changes_and_the_hardware_rests() {
    let server = Server::start().await;
    let mut request = plain(Method::GET, "/");
    request.headers_mut().insert("answer-access-control-allow-origin", "*".parse().unwrap());
    let reply = server.send(request).await;
    assert_eq!(reply.headers().len(), 1, "{:?}", reply.headers());
    assert_eq!(text(reply).await, "application");
    assert_eq!(server.attester.stats().reports, 1);
}

#[tokio::test]
async fn a_plain_connect_passes_unsigned_and_so_does_an_informational_response() {
    let server = Server::start().await;
    let tunnel = Asked { uri: "prover.example:443".parse().unwrap(), ..asked(Method::CONNECT, "/") };
    let mut upgrade = asked(Method::GET, "/").request();
    upgrade.headers_mut().insert("want", "101".parse().unwrap());
    for request in [tunnel.request(), upgrade] {
        let reply = server.send(request).await;
        assert!(!reply.headers().contains_key(ATTESTATION_REPORT));
        assert_eq!(text(reply).await, "application");
    }
    let extended = asked(Method::CONNECT, "https://prover.example/chat");
    server.signed(&server.send(extended.request()).await, &extended);
}

#[tokio::test]
async fn the_applications_error_passes_as_it_is() {
    let server = Server::start().await;
    let application = service_fn(async |_: Request<Body>| Err::<Response<Body>, _>(std::fmt::Error));
    let service = ServiceBuilder::new().layer(server.layer()).service(application);
    let result: Result<Reply, std::fmt::Error> = service.oneshot(asked(Method::GET, "/").request()).await;
    assert!(result.is_err());
}

#[tokio::test]
async fn cors_lists_name_the_fields_where_the_application_has_a_policy() {
    let server = Server::start().await;
    let preflight_of = |path: &str, policy: &[(&'static str, &str)]| {
        let mut request = plain(Method::OPTIONS, path);
        request.headers_mut().insert("origin", "https://a.example".parse().unwrap());
        request.headers_mut().insert("access-control-request-method", "GET".parse().unwrap());
        for (name, value) in policy {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        server.send(request)
    };
    let preflight = |policy: &[(&'static str, &str)]| preflight_of(WELL_KNOWN_PATH, policy);
    let origin = ("answer-access-control-allow-origin", "https://a.example");
    let reply = preflight(&[origin, ("answer-access-control-allow-headers", "content-type")]).await;
    assert_eq!(reply.headers()["access-control-allow-headers"], "content-type, attestation-nonce");
    let reply = preflight(&[]).await;
    assert!(reply.headers().is_empty(), "{:?}", reply.headers());
    let reply = preflight_of(SEALED_PATH, &[origin, ("answer-access-control-allow-headers", "x")]).await;
    let sealed = "x, attestation-nonce, attestation-keys, attestation-route, content-type";
    assert_eq!(reply.headers()["access-control-allow-headers"], sealed);
    let reply = preflight_of("/prove", &[origin, ("answer-access-control-allow-headers", "x")]).await;
    assert_eq!(reply.headers()["access-control-allow-headers"], "x, attestation-nonce");

    let asked = asked(Method::GET, "/");
    let mut request = asked.request();
    request.headers_mut().insert(origin.0, origin.1.parse().unwrap());
    request.headers_mut().insert("answer-access-control-expose-headers", "x".parse().unwrap());
    let reply = server.send(request).await;
    assert_eq!(reply.headers()["access-control-expose-headers"], "x, attestation-report");
    let reply = server.send(asked.request()).await;
    assert!(!reply.headers().contains_key("access-control-expose-headers"));
}
