//! What `connect` answers where the far end is not believed, and `serve` where its upstream does not answer.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{HttpClient, Serve, Sidecar, client, collected, eventually, get};
use super::upstream::Upstream;

fn problem(response: &Response<Bytes>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(problem["status"], response.status().as_u16());
    problem
}

async fn grpc(client: &HttpClient, sidecar: &Sidecar, path: &str) -> Response<Bytes> {
    let request = Request::post(format!("http://{}{path}", sidecar.addr())).header("content-type", "application/grpc");
    collected(client.request(request.body(Full::default()).unwrap()).await.unwrap()).await
}

/// A `connect` whose trust is told by flags and a policy alone.
fn connect(serve: &Serve, policy: &str, flags: &[&str]) -> Sidecar {
    let path = serve.file("other-policy.toml");
    std::fs::write(&path, policy).unwrap();
    let to = format!("https://localhost:{}", serve.addr().port());
    let arguments =
        ["connect", "--to", &to, "--policy", path.to_str().unwrap(), "--listen", "127.0.0.1:0", "--offline"];
    Sidecar::start(&[&arguments[..], flags].concat())
}

const OTHER: &str = "7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_believed_gets_nothing_and_the_client_learns_why() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let good = std::fs::read_to_string(serve.file("policy.toml")).unwrap();
    let wrong_measurement = format!("[[snp.measurement]]\nvalue = \"{OTHER}\"\n");
    let wrong_config = format!("[server]\nconfig = \"{}\"\n{good}", "5e".repeat(32));
    let wrong_name = format!("[server]\nname = \"other.example\"\n{good}");
    let tdx_alone = format!("[[tdx.measurement]]\nmrtd = \"{OTHER}\"\n");
    let roots = serve.file("cert.pem");
    let (simulator, roots) = ("--insecure-simulator", ["--roots-file", roots.to_str().unwrap()]);
    for (policy, flags, stage, check) in [
        (&wrong_measurement, &[simulator, roots[0], roots[1]][..], "policy", "refused"),
        (&wrong_config, &[simulator, roots[0], roots[1]], "policy", "config-mismatch"),
        (&wrong_name, &[simulator, roots[0], roots[1]], "policy", "name-mismatch"),
        (&tdx_alone, &[roots[0], roots[1]], "evidence", "malformed"),
        (&good, &[roots[0], roots[1]], "evidence", "refused"),
        (&good, &[simulator], "certificate", "certificate"),
    ] {
        let connect = connect(&serve, policy, flags);
        eventually("it warns at the start", || connect.log().contains("nothing is forwarded")).await;
        let response = get(&client(), connect.addr(), "/secret?key").await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        let found = problem(&response);
        assert_eq!(
            (&found["code"], &found["stage"], &found["check"]),
            (&"not-attested".into(), &stage.into(), &check.into()),
            "{found}"
        );
        assert_eq!(response.headers()["attestation-result"], "refused");
        let response = grpc(&client(), &connect, "/secret.Service/Call").await;
        assert_eq!((response.status(), &response.headers()["grpc-status"]), (StatusCode::OK, &"16".parse().unwrap()));
        assert!(!response.headers()["grpc-message"].is_empty() && response.body().is_empty());
    }
    assert!(upstream.seen.paths().is_empty(), "{:?}", upstream.seen.paths());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failed_rule_is_named_with_what_was_expected_and_found() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let policy = format!("[[snp.measurement]]\nvalue = \"{OTHER}\"\n");
    let connect = connect(&serve, &policy, &["--insecure-simulator", "--dangerous-trust-attestation-alone"]);
    let found = problem(&get(&client(), connect.addr(), "/").await);
    let rules = found["failed_rules"].as_array().unwrap();
    assert_eq!(rules.len(), 1, "{rules:?}");
    assert_eq!(rules[0]["rule"], "measurement");
    assert!(rules[0]["expected"].as_str().unwrap().contains("7a7a"), "{rules:?}");
    assert!(rules[0]["found"].as_str().unwrap().contains(&hex::encode("tower-attest")), "{rules:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_configuration_that_is_the_servers_own_passes() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let line = serve.sidecar.banner.lines().find_map(|line| line.strip_prefix("config")).unwrap();
    assert_eq!(get(&client(), serve.connect(&["--config", line.trim()]).addr(), "/").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_is_502_and_unavailable() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    drop(upstream);
    let connect = serve.connect(&[]);
    let response = get(&client(), connect.addr(), "/").await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(problem(&response)["code"], "upstream-down");
    assert!(response.headers()["attestation-result"].to_str().unwrap().starts_with("verified"), "the TEE says so");
    assert_eq!(grpc(&client(), &connect, "/").await.headers()["grpc-status"], "14");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_slow_is_504_and_deadline_exceeded() {
    let upstream = Upstream::start().await;
    for flag in ["--idle-timeout", "--total-timeout"] {
        let serve = Serve::start(&upstream.url(), &[flag, "2s"]);
        let connect = serve.connect(&[]);
        let response = get(&client(), connect.addr(), "/hang").await;
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(problem(&response)["code"], "timeout");
        assert_eq!(grpc(&client(), &connect, "/hang").await.headers()["grpc-status"], "4");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sidecars_own_answers_are_signed() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    drop(upstream);
    let mut tls = serve.tls("http/1.1").await;
    let nonce = tower_attest::protocol::NonceHeader::new(tower_attest::Nonce::from_bytes([7; 32])).to_value();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAttestation-Nonce: {}\r\n\r\n",
        nonce.to_str().unwrap()
    );
    let answer = super::support::raw(&mut tls, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("attestation-report: v=1, keys=:"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_name_resolves_to_loopback_is_421() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    for (flags, expected) in [(&[][..], 421), (&["--allow-host", "evil.example"], 200)] {
        let connect = serve.connect(flags);
        let request = Request::get(format!("http://{}/", connect.addr())).header("host", "evil.example");
        let response = client().request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_gets_403_and_no_websocket() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    for (flags, expected, switched) in [(&[][..], 403, "403"), (&["--allow-host", "evil.example"], 200, "101")] {
        let connect = serve.connect(flags);
        let request = Request::post(format!("http://{}/echo", connect.addr())).header("origin", "https://evil.example");
        let response = client().request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), expected);
        // An image: no origin, whatever the flags allow.
        let request = Request::get(format!("http://{}/image", connect.addr())).header("sec-fetch-site", "cross-site");
        let response = client().request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 403);
        let asks = "GET /socket HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut io = tokio::net::TcpStream::connect(connect.addr()).await.unwrap();
        io.write_all(asks.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        io.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *format!("HTTP/1.1 {switched}").as_bytes());
    }
    assert_eq!(upstream.seen.paths(), ["/echo", "/socket"], "nothing of a page that was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_for_sealed_requests_alone_refuses_others_and_attests_all_the_same() {
    let upstream = Upstream::start().await;
    for (flag, status, code) in [("--sealed", 200, None), ("--sealed-only", 403, Some("7"))] {
        let serve = Serve::start(&upstream.url(), &[flag]);
        let connect = serve.connect(&[]);
        let response = get(&client(), connect.addr(), "/").await;
        assert_eq!(response.status(), status, "{flag}");
        assert!(response.headers()["attestation-result"].to_str().unwrap().starts_with("verified"));
        let response = grpc(&client(), &connect, "/").await;
        assert_eq!(response.headers().get("grpc-status").map(|code| code.to_str().unwrap()), code, "{flag}");
    }
    assert_eq!(upstream.seen.paths(), ["/", "/"], "those that --sealed let through");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_name_that_no_field_can_hold_is_left_out() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let policy = std::fs::read_to_string(serve.file("policy.toml")).unwrap();
    for (name, shown) in [("prover \\\"1.4\\\"", Some(r#"measurement-name="prover \"1.4\"""#)), ("pr\u{fc}fer", None)] {
        let policy = policy.replace("name = \"simulated\"", &format!("name = \"{name}\""));
        let connect = connect(&serve, &policy, &["--insecure-simulator", "--dangerous-trust-attestation-alone"]);
        let response = get(&client(), connect.addr(), "/").await;
        let result = response.headers()["attestation-result"].to_str().unwrap();
        assert!(result.contains("measurement=") && result.contains("age="), "{result}");
        assert_eq!(result.contains("measurement-name"), shown.is_some(), "{result}");
        assert!(shown.is_none_or(|shown| result.contains(shown)), "{result}");
    }
}
