//! The well-known endpoint.

use tower::limit::ConcurrencyLimitLayer;

use super::*;
use crate::KeysDigest;
use crate::mock::Behaviour;
use crate::time::ManualClock;

fn well_known() -> Asked {
    asked(Method::GET, WELL_KNOWN_PATH)
}

#[tokio::test]
async fn it_answers_with_fresh_evidence_in_json_and_exactly_these_fields() {
    let server = Server::start().await;
    server.provider.set_endorsements(Some(vec![1; 10].into()), Some(vec![2; 10_000].into()));
    for have in [vec![], vec![*server.keys().digest()]] {
        let asked = well_known();
        let reply = server.send(asked.request_with(&NonceHeader { have, ..NonceHeader::new(nonce()) })).await;
        assert_eq!(reply.status(), StatusCode::OK);
        assert_eq!(server.signed(&reply, &asked).evidence, None);
        let mut names: Vec<_> = reply.headers().keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["attestation-report", "cache-control", "content-type"]);
        assert_eq!(reply.headers()["content-type"], "application/cmw+json");
        assert_eq!(reply.headers()["cache-control"], "no-store");
        let json = text(reply).await;
        let evidence = Evidence::from_json(json.as_bytes(), &[Platform::MOCK]).unwrap();
        assert_eq!(KeysDigest::of(&evidence.keys), *server.keys().digest());
        assert!(evidence.report.vek().is_some() && evidence.report.collateral().is_some());
        server.assert_fresh(&evidence, &asked).await;
    }
    assert_eq!(server.attester.stats().reports, 1 + 2);
}

#[tokio::test]
async fn bound_evidence_is_bound() {
    let server = Server::start().await;
    let binding = ChannelBinding::from_tls_exporter([4; 32]);
    let asked = Asked { binding: Some(binding), ..well_known() };
    let mut request = asked.request();
    request.extensions_mut().insert(binding);
    let reply = server.send(request).await;
    server.signed(&reply, &asked);
    let evidence = Evidence::from_json(text(reply).await.as_bytes(), &[Platform::MOCK]).unwrap();
    server.assert_fresh(&evidence, &asked).await;
    let reply = server.send(asked.request()).await;
    assert_eq!(problem(reply).await["code"], "no-exporter");
}

#[tokio::test]
async fn after_a_rotation_it_vouches_for_the_new_keys_whatever_the_client_has() {
    let clock = ManualClock::new();
    let server = Server::start_with(|builder| builder.clock(clock.clone())).await;
    let old = *server.keys().digest();
    clock.advance(3600 * SECOND);
    let asked = well_known();
    let reply = server.send(asked.request_with(&NonceHeader { have: vec![old], ..NonceHeader::new(nonce()) })).await;
    server.signed(&reply, &asked);
    let evidence = Evidence::from_json(text(reply).await.as_bytes(), &[Platform::MOCK]).unwrap();
    assert_ne!(KeysDigest::of(&evidence.keys), old);
}

#[tokio::test]
async fn without_a_nonce_or_with_a_malformed_one_it_answers_400() {
    let server = Server::start().await;
    let reply = server.send(plain(Method::GET, WELL_KNOWN_PATH)).await;
    assert_eq!((reply.status(), reply.headers().get(ATTESTATION_REPORT)), (StatusCode::BAD_REQUEST, None));
    assert_eq!(problem(reply).await["code"], "missing-nonce");
    let mut request = plain(Method::GET, WELL_KNOWN_PATH);
    request.headers_mut().insert(ATTESTATION_NONCE, ":AAAA:".parse().unwrap());
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let reply = server.send(request).await;
    assert_eq!(reply.status(), StatusCode::BAD_REQUEST, "HTTP, whatever the content type");
    assert_eq!(problem(reply).await["code"], "malformed-nonce");
    let layer = server.layer().require_nonce().exempt(|_| true);
    assert_eq!(send(layer, plain(Method::GET, WELL_KNOWN_PATH)).await.status(), 400);
}

#[tokio::test]
async fn any_other_method_gets_405_and_a_path_that_only_resembles_it_gets_the_application() {
    let server = Server::start().await;
    for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS, Method::DELETE] {
        let asked = asked(method.clone(), WELL_KNOWN_PATH);
        let reply = server.send(asked.request()).await;
        assert_eq!(
            (reply.status(), &reply.headers()["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &"GET".parse().unwrap())
        );
        server.signed(&reply, &asked);
        let reply = server.send(plain(method, WELL_KNOWN_PATH)).await;
        assert_eq!(reply.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(!reply.headers().contains_key(ATTESTATION_REPORT));
    }
    assert_eq!(server.attester.stats().reports, 1);
    let similar =
        ["/.well-known/tower-attest/", "/.well-known/Tower-Attest", "/x/.well-known/tower-attest", SEALED_PATH];
    for path in similar {
        assert_eq!(text(server.send(plain(Method::GET, path)).await).await, "application");
    }
}

#[tokio::test(start_paused = true)]
async fn hardware_that_fails_is_a_signed_503_that_says_when_to_come_back() {
    let server = Server::start_with(|builder| builder.queue(1)).await;
    let unavailable = async |reply: Reply, retry_after: &str| {
        assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.headers()["retry-after"], retry_after);
        assert_eq!(server.signed(&reply, &well_known()).evidence, None);
        let body = problem(reply).await;
        assert_eq!(body["code"], "no-evidence");
        assert!(!body["detail"].as_str().unwrap().contains("the mock"), "what is wrong stays with the operator");
    };
    server.provider.set_behaviour(Behaviour::Failing);
    unavailable(server.send(well_known().request()).await, "5").await;
    server.provider.set_behaviour(Behaviour::Busy);
    unavailable(server.send(well_known().request()).await, "1").await;

    server.provider.set_behaviour(Behaviour::Hanging);
    let mut on_the_hardware = tokio_test::task::spawn(server.send(well_known().request()));
    assert!(on_the_hardware.poll().is_pending());
    server.provider.called(4).await;
    let mut queued = tokio_test::task::spawn(server.send(well_known().request()));
    assert!(queued.poll().is_pending());
    unavailable(server.send(well_known().request()).await, "1").await;
    unavailable(on_the_hardware.await, "10").await;
    unavailable(queued.await, "10").await;
    unavailable(server.send(well_known().request()).await, "10").await;
    server.provider.set_behaviour(Behaviour::Healthy);
    tokio::time::sleep(SECOND).await;
    assert_eq!(server.send(well_known().request()).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_two_reports_and_no_longer() {
    let server = Server::start_with(|builder| builder.batch(1).report_timeout(30 * SECOND)).await;
    server.provider.set_behaviour(Behaviour::Slow(29 * SECOND));
    let mut queue: Vec<_> = (0..3).map(|_| tokio_test::task::spawn(server.send(well_known().request()))).collect();
    for waiting in &mut queue {
        assert!(waiting.poll().is_pending());
    }
    let mut statuses = vec![];
    for waiting in queue {
        statuses.push(waiting.await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 503], "the third would come after 87 seconds");
    assert_eq!(server.attester.stats().queued, 0);
}

#[tokio::test]
async fn evidence_too_large_for_any_client_goes_without_its_collateral_or_not_at_all() {
    let server = Server::start().await;
    server.provider.set_endorsements(None, Some(vec![2; 256 * 1024].into()));
    let reply = server.send(well_known().request()).await;
    let evidence = Evidence::from_json(text(reply).await.as_bytes(), &[Platform::MOCK]).unwrap();
    assert_eq!(evidence.report.collateral(), None);
    server.provider.set_endorsements(Some(vec![2; 256 * 1024].into()), None);
    assert_eq!(server.send(well_known().request()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_answer_of_the_layers_own_keeps_no_permit_of_the_application() {
    let server = Server::start().await;
    let mut one =
        ServiceBuilder::new().layer(server.layer()).layer(ConcurrencyLimitLayer::new(1)).service(service_fn(echo));
    let mut two = one.clone();
    for request in [well_known().request(), plain(Method::POST, WELL_KNOWN_PATH)] {
        let _ = one.ready().await.unwrap().call(request).await.unwrap();
        let mut ready = tokio_test::task::spawn(two.ready());
        assert!(ready.poll().is_ready(), "an idle connection must not hold a permit");
        drop(ready);
        let _ = two.call(plain(Method::GET, "/")).await.unwrap();
    }
}
