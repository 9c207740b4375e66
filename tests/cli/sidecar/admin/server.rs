//! The listener itself: what is reachable where, and what clients can do to it.

use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use super::super::support::{Serve, client, collected, get, raw};
use super::super::upstream::Upstream;
use super::{ADMIN, admin, readyz};
use crate::run::run;

#[tokio::test(flavor = "multi_thread")]
async fn neither_port_answers_for_the_other() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &ADMIN);
    let connect = serve.connect(&ADMIN);
    let client = client();
    for path in ["/livez", "/readyz", "/metrics"] {
        let response = get(&client, connect.addr(), path).await;
        assert_eq!(
            (response.status(), response.body().as_ref()),
            (StatusCode::OK, b"".as_slice()),
            "the upstream's echo"
        );
        assert_eq!(upstream.seen.paths().last().unwrap(), path);
    }
    let forwarded = upstream.seen.requests().len();
    for addr in [admin(&serve.sidecar), admin(&connect)] {
        assert_eq!(get(&client, addr, "/livez").await.body(), "alive\n");
        assert_eq!(get(&client, addr, "/").await.body(), "/livez\n/readyz\n/metrics\n");
        for path in ["/echo", "/.well-known/tower-attest", "/livez/", "/Livez", "//livez", "/metrics/x"] {
            assert_eq!(get(&client, addr, path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(get(&client, addr, "/livez?x=y").await.status(), StatusCode::OK, "as probes may ask");
        let http2 = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        assert_eq!(get(&http2, addr, "/livez").await.body(), "alive\n", "some probes speak HTTP/2");
    }
    assert_eq!(upstream.seen.requests().len(), forwarded, "nothing of it was sent on");
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_change_things_are_405_and_head_has_no_body() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &ADMIN);
    let addr = admin(&serve.sidecar);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "MARKED"] {
        let request = Request::builder().method(method).uri(format!("http://{addr}/livez")).body(Full::from("a body"));
        let response = collected(client().request(request.unwrap()).await.unwrap()).await;
        assert_eq!(
            (response.status(), &response.headers()["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &"GET, HEAD".parse().unwrap())
        );
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let head = format!("HEAD {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let answer = raw(TcpStream::connect(addr).await.unwrap(), head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_keep_no_probe_out() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &ADMIN);
    let addr = admin(&serve.sidecar);
    let mut slow = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        // Half of them begin a request and do not end it.
        if number % 2 == 0 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost: ").await.unwrap();
        }
        slow.push(stream);
    }
    for _ in 0..5 {
        assert_eq!(get(&client(), addr, "/livez").await.status(), StatusCode::OK);
    }
    // The oldest have been closed to make room.
    let answer = raw(slow.remove(0), b"").await;
    assert!(!answer.contains("200"), "{answer}");
    assert_eq!(readyz(&client(), addr).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_and_heads_without_end_are_refused() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &ADMIN);
    let addr = admin(&serve.sidecar);
    let answer = raw(TcpStream::connect(addr).await.unwrap(), b"\x16\x03\x01\x00\xffclient hello\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let mut flood = b"GET /livez HTTP/1.1\r\nhost: a\r\nx: ".to_vec();
    flood.resize(64 * 1024, b'x');
    let answer = raw(TcpStream::connect(addr).await.unwrap(), &flood).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(get(&client(), addr, "/livez").await.status(), StatusCode::OK);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_serves_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (upstream, dir) = (Upstream::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("admin");
    let serve = Serve::start(&upstream.url(), &["--admin", &format!("unix:{}", path.display())]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let request = b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw(UnixStream::connect(&path).await.unwrap(), request).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("alive\n"), "{answer}");
    assert_eq!(serve.sidecar.terminate().await, Some(0));
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_nothing_listens_and_an_address_in_use_is_told() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    assert!(!serve.sidecar.banner.contains("admin"), "{}", serve.sidecar.banner);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = std::net::TcpListener::bind(taken).unwrap();
    let taken = taken.to_string();
    let output = run([
        "serve",
        "--host",
        "a",
        "--upstream",
        &upstream.url(),
        "--listen",
        "127.0.0.1:0",
        "--platform",
        "mock",
        "--insecure-no-hardware",
        "--admin",
        &taken,
    ]);
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert!(output.stderr.contains(&format!("--admin {taken}")), "{}", output.stderr);
}
