//! What the sidecars log, and what they never do.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpStream;

use super::http2::{END_HEADERS, END_STREAM, HEADERS, exchange, frame, get_block, opening};
use super::support::{Serve, Sidecar, client, collected, eventually, get, raw};
use super::upstream::Upstream;
use crate::run::{Files, run};

const TRACE: [&str; 2] = ["--log", "trace"];
/// One in each place that may hold a secret.
const MARKS: [&str; 5] = ["MARK-FIELD", "MARK-COOKIE", "MARK-BODY", "MARK-PATH", "MARK-QUERY"];
const NONCE: [u8; 32] = *b"MARK-NONCE is thirty-two bytes..";

fn marked() -> Request<Full<Bytes>> {
    Request::post("http://localhost/MARK-PATH?token=MARK-QUERY")
        .header("authorization", "Bearer MARK-FIELD")
        .header("x-api-key", "MARK-FIELD")
        .header("cookie", "session=MARK-COOKIE")
        .body(Full::from("MARK-BODY"))
        .unwrap()
}

/// The same by HTTP/1.1, with the nonce of a client that wants evidence.
fn with_nonce(port: u16) -> String {
    use base64::Engine as _;
    let nonce = base64::engine::general_purpose::STANDARD.encode(NONCE);
    format!(
        "POST /MARK-PATH?token=MARK-QUERY HTTP/1.1\r\nhost: localhost:{port}\r\nauthorization: Bearer MARK-FIELD\r\n\
         cookie: MARK-COOKIE\r\nattestation-nonce: :{nonce}:\r\ncontent-length: 9\r\nconnection: close\r\n\r\nMARK-BODY"
    )
}

async fn send(sidecar: &Sidecar, http2: bool) -> StatusCode {
    let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
    let mut request = marked();
    let uri = format!("http://{}{}", sidecar.addr(), request.uri().path_and_query().unwrap());
    *request.uri_mut() = uri.parse().unwrap();
    let response = collected(client.request(request).await.unwrap()).await;
    response.status()
}

/// In every form that a library might write bytes in.
fn forms(secret: &[u8]) -> Vec<String> {
    use base64::Engine as _;
    let (plain, hexadecimal) = (String::from_utf8_lossy(secret).into_owned(), hex::encode(secret));
    let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret);
    let list = format!("{secret:?}");
    let head = |text: &str| text.chars().take(20).collect::<String>();
    vec![
        plain,
        hexadecimal.clone(),
        hexadecimal.to_uppercase(),
        head(&encoded),
        list.trim_matches(['[', ']']).to_owned(),
    ]
}

fn assert_silent(sidecar: &Sidecar, serve: &Serve, at_least: usize) {
    let log = sidecar.log();
    assert!(log.lines().count() >= at_least, "it logs at all: {log}");
    for secret in MARKS.map(str::as_bytes).iter().copied().chain([&NONCE[..]]) {
        for form in forms(secret) {
            let told: Vec<_> = log.lines().filter(|line| line.contains(&form)).collect();
            assert!(told.is_empty(), "{form}: {told:?}");
        }
    }
    let key = std::fs::read_to_string(serve.file("key.pem")).unwrap();
    assert!(!log.contains(key.lines().nth(1).unwrap().get(..40).unwrap()), "the private key");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_request_is_logged_at_any_level() {
    for (format, modes) in [("text", [&[][..], &[]]), ("json", [&["--sealed"][..], &["--sealed"]])] {
        let upstream = Upstream::start().await;
        let common = [&TRACE[..], &["--log-format", format]].concat();
        let serve = Serve::start(&upstream.url(), &[&common[..], modes[0]].concat());
        let connect = serve.connect(&[&common[..], modes[1]].concat());
        for http2 in [false, true] {
            assert_eq!(send(&connect, http2).await, StatusCode::OK);
        }
        let answer = raw(serve.tls("http/1.1").await, with_nonce(serve.addr().port()).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("attestation-report"), "{answer}");
        // What HTTP/2 cannot take apart, a target with a space: the library tells it at debug level.
        let block = get_block("/MARK-PATH b?token=MARK-QUERY");
        let bytes = [opening(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block), b"no frame".repeat(9)].concat();
        exchange(serve.tls("h2").await, &bytes).await;
        exchange(TcpStream::connect(connect.addr()).await.unwrap(), &bytes).await;
        // The same where the upstream is down, and where nobody is believed.
        drop(upstream);
        for http2 in [false, true] {
            while send(&connect, http2).await == StatusCode::OK {}
        }
        assert_silent(&serve.sidecar, &serve, 3);
        assert_silent(&connect, &serve, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_request_is_logged_where_the_far_end_is_refused() {
    let (upstream, files) = (Upstream::start().await, Files::new());
    let serve = Serve::start(&upstream.url(), &[]);
    let policy = files.write("policy", format!("[[snp.measurement]]\nvalue = \"{}\"\n", "4d".repeat(48)));
    let connect = Sidecar::start(&[
        "connect",
        "--to",
        &format!("https://localhost:{}", serve.addr().port()),
        "--policy",
        policy.to_str().unwrap(),
        "--dangerous-trust-attestation-alone",
        "--insecure-simulator",
        "--listen",
        "127.0.0.1:0",
        "--log",
        "trace",
    ]);
    for http2 in [false, true] {
        assert_eq!(send(&connect, http2).await, StatusCode::BAD_GATEWAY);
    }
    eventually("it says why", || connect.log().contains("far end not attested")).await;
    assert_silent(&connect, &serve, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_looks_every_line_is_json_and_the_level_is_info() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&[]);
    assert_eq!(get(&client(), connect.addr(), "/version").await.status(), 200);
    for sidecar in [serve.sidecar, connect] {
        sidecar.signal("HUP");
        eventually("a reload", || sidecar.log().contains("\"reloaded\"")).await;
        let log = sidecar.log();
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            assert!(
                line["timestamp"].is_string() && line["target"].is_string() && line["message"].is_string(),
                "{line}"
            );
            assert!(["INFO", "WARN", "ERROR"].contains(&line["level"].as_str().unwrap()), "{line}");
        }
        let started: Value =
            serde_json::from_str(log.lines().find(|line| line.contains("\"serving\"")).unwrap()).unwrap();
        assert_eq!(started["address"], sidecar.listening);
        assert_eq!(started["measurement"], hex::encode("tower-attest simulated measurement, not hardware"));
    }
}

#[test]
fn a_filter_that_does_not_parse_stops_the_start() {
    for filter in ["infoo", "tower_attest=loud"] {
        let refused = run(["serve", "--host", "a", "--upstream", "unix:/u", "--check", "--log", filter]);
        assert_eq!(refused.code, 2);
        assert!(refused.stderr.contains("expected error, warn, info"), "{}", refused.stderr);
    }
}
