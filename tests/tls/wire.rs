//! What leaves before the verdict: the bare preflight, counted in frames and bytes on the server's side of TLS.

use http::{Request, header};
use tower::ServiceExt;
use tower_attest::mock::MockTee;

use crate::support::{Attested, WELL_KNOWN, body, settle, text, until};

const HEADERS: u8 = 1;
const DATA: u8 = 0;

/// The (type, stream) of each HTTP/2 frame that a client sent.
fn frames(bytes: &[u8]) -> Vec<(u8, u32)> {
    let mut rest = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("the connection preface");
    let mut frames = Vec::new();
    while let [a, b, c, kind, _flags, s1, s2, s3, s4, payload @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        frames.push((*kind, u32::from_be_bytes([*s1, *s2, *s3, *s4])));
        rest = payload.get(length..).unwrap_or_default();
    }
    frames
}

/// Three requests with secrets, made while the hardware is held.
async fn held(alpn: &str, check: impl FnOnce(&Attested)) {
    let tee = MockTee::new();
    let attested = Attested::start(&tee).await;
    attested.provider.hold();
    let calls = attested.provider.calls();
    let channel = attested.builder(&tee).alpn([alpn]).connect_lazy().unwrap();
    let requests: Vec<_> = (0..3)
        .map(|_| {
            let request = Request::post("/echo")
                .header(header::AUTHORIZATION, "Bearer secret-token")
                .header(header::COOKIE, "session=secret-cookie")
                .body(body("secret witness"))
                .unwrap();
            tokio::spawn(channel.clone().oneshot(request))
        })
        .collect();
    until(|| attested.provider.calls() > calls).await;
    settle().await;

    let seen = attested.record().requests();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].path, WELL_KNOWN);
    let mut fields: Vec<_> = seen[0].headers.keys().map(|name| name.as_str().to_owned()).collect();
    fields.retain(|name| name != "host");
    assert_eq!(fields, ["attestation-nonce"], "host and nonce, and nothing of the user's");
    let nonce = seen[0].headers["attestation-nonce"].to_str().unwrap().to_owned();
    assert!(nonce.ends_with(":;bind=tls-exporter") && !nonce.contains("have"), "{nonce}");
    assert_eq!(attested.record().connections(), 1);
    assert!(!attested.record().bytes(0).windows(6).any(|bytes| bytes == b"secret"));
    check(&attested);

    attested.provider.release();
    for request in requests {
        assert_eq!(text(request.await.unwrap().unwrap()).await, "secret witness");
    }
    assert_eq!(attested.record().applications(), 3);
    assert_eq!(attested.record().preflights(), 1);
}

#[tokio::test]
async fn on_http2_no_stream_overtakes_the_preflight() {
    held("h2", |attested| {
        let frames = frames(&attested.record().bytes(0));
        let headers: Vec<_> = frames.iter().filter(|(kind, _)| *kind == HEADERS).collect();
        assert_eq!(headers, [&(HEADERS, 1)], "{frames:?}");
        assert!(!frames.iter().any(|(kind, _)| *kind == DATA), "{frames:?}");
    })
    .await;
}

#[tokio::test]
async fn on_http1_no_second_request_follows_before_the_verdict() {
    held("http/1.1", |attested| {
        let sent = String::from_utf8(attested.record().bytes(0)).unwrap();
        assert!(sent.starts_with(&format!("GET {WELL_KNOWN} HTTP/1.1\r\n")), "{sent}");
        assert!(sent.ends_with("\r\n\r\n"), "{sent}");
        assert_eq!(sent.matches("\r\n\r\n").count(), 1, "{sent}");
        assert_eq!(sent.lines().filter(|line| !line.is_empty()).count(), 3, "request line, nonce, host: {sent}");
    })
    .await;
}
