//! The layer's refusals outside its endpoint.

use http::HeaderValue;

use super::*;

fn with_nonce_lines(lines: &[&str], content_type: Option<&'static str>) -> Request<Body> {
    let mut request = plain(Method::POST, "/prove");
    for line in lines {
        request.headers_mut().append(ATTESTATION_NONCE, line.parse().unwrap());
    }
    if let Some(content_type) = content_type {
        request.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    }
    request
}

fn assert_trailers_only(reply: &Reply, status: &str, content_type: &str) {
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(reply.headers()["grpc-status"], status);
    assert_eq!(reply.headers()["content-type"], content_type);
    assert!(!reply.headers()["grpc-message"].is_empty());
    assert!(http_body::Body::is_end_stream(reply.body()));
}

#[tokio::test]
async fn a_malformed_nonce_is_refused_over_http_and_grpc_and_the_application_never_sees_it() {
    let server = Server::start().await;
    let good = NonceHeader::new(nonce()).to_value();
    let good = good.to_str().unwrap();
    for lines in [&["x"][..], &[""], &[":AAAA:"], &[good, good], &[good, "x"], &["1;bind=tls-exporter"]] {
        let reply = server.send(with_nonce_lines(lines, None)).await;
        assert_eq!((reply.status(), reply.headers().get(ATTESTATION_REPORT)), (StatusCode::BAD_REQUEST, None));
        let body = problem(reply).await;
        assert_eq!((body["code"].as_str(), body["status"].as_u64()), (Some("malformed-nonce"), Some(400)));
        assert!(!body.to_string().contains(good), "no nonce in an error");
        for grpc in ["application/grpc", "application/grpc+proto", "application/grpc-web+proto"] {
            let reply = server.send(with_nonce_lines(lines, Some(grpc))).await;
            assert_trailers_only(&reply, "3", grpc);
            assert!(!reply.headers().contains_key(ATTESTATION_REPORT));
        }
    }
    let unknown_channel = format!("{good};bind=something-newer");
    assert_eq!(server.send(with_nonce_lines(&[&unknown_channel], None)).await.status(), 400);
}

#[tokio::test]
async fn a_binding_that_cannot_be_had_is_refused_and_the_refusal_is_signed_as_bound_to_nothing() {
    let server = Server::start().await;
    let header = NonceHeader { bind: true, ..NonceHeader::new(nonce()) };
    let asked = asked(Method::POST, "/prove");
    let reply = server.send(asked.request_with(&header)).await;
    assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
    server.signed(&reply, &asked);
    assert_eq!(problem(reply).await["code"], "no-exporter");
    let mut request = asked.request_with(&header);
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let reply = server.send(request).await;
    assert_trailers_only(&reply, "3", "application/grpc");
    server.signed(&reply, &asked);
    assert_eq!(server.attester.stats().reports, 1, "a refusal costs no report");
}

#[tokio::test]
async fn a_required_nonce_is_required_of_all_but_the_exempt() {
    let server = Server::start().await;
    let layer = server.layer().require_nonce().exempt(|request| request.uri.path() == "/healthz");
    let reply = send(layer.clone(), plain(Method::GET, "/prove")).await;
    assert_eq!(reply.status(), StatusCode::PRECONDITION_REQUIRED);
    assert_eq!(problem(reply).await["code"], "nonce-required");
    assert_trailers_only(
        &send(layer.clone(), with_nonce_lines(&[], Some("application/grpc"))).await,
        "9",
        "application/grpc",
    );
    assert_eq!(text(send(layer.clone(), plain(Method::GET, "/healthz")).await).await, "application");
    let asked = asked(Method::GET, "/prove");
    server.signed(&send(layer.clone(), asked.request()).await, &asked);
    let exempt_and_malformed = {
        let mut request = plain(Method::GET, "/healthz");
        request.headers_mut().insert(ATTESTATION_NONCE, HeaderValue::from_static("x"));
        request
    };
    assert_eq!(send(layer, exempt_and_malformed).await.status(), 400, "malformed is never absent");
    assert_eq!(send(server.layer().exempt(|_| false), plain(Method::GET, "/")).await.status(), 200);
    assert_eq!(send(server.layer().require_nonce(), plain(Method::OPTIONS, "/")).await.status(), 428);
}
