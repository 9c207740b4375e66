//! The port without TLS.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::sidecar::support::{PATIENCE, Serve, raw};

fn serve(more: &[&str]) -> (Serve, String) {
    let serve = Serve::start("http://127.0.0.1:1", &[&["--redirect", "127.0.0.1:0"], more].concat());
    let line = serve.sidecar.banner.lines().find_map(|line| line.strip_prefix("redirecting")).unwrap();
    let redirect = line.trim().to_owned();
    (serve, redirect)
}

#[tokio::test]
async fn every_request_is_sent_to_this_servers_own_name_and_the_connection_ends() {
    let (_serve, addr) = serve(&["--redirect-port", "8443"]);
    for request in [
        "GET /a?b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /a?b HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/a?b HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET /a?b HTTP/1.0\r\n\r\n",
        "POST /a?b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nsecret",
        "POST /a?b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600000\r\n\r\nsecret",
    ] {
        let answer = raw(TcpStream::connect(&addr).await.unwrap(), request.as_bytes()).await;
        assert!(answer.contains(" 308 Permanent Redirect"), "{request}: {answer}");
        assert!(answer.contains("\r\nlocation: https://localhost:8443/a?b\r\n"), "{request}: {answer}");
        assert!(!answer.contains("evil"), "{answer}");
    }
    let request = "GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = raw(TcpStream::connect(&addr).await.unwrap(), request.as_bytes()).await;
    assert!(answer.contains(" 308 "), "no CA is to be answered: {answer}");
}

#[tokio::test]
async fn what_is_no_request_to_redirect_is_refused() {
    let (_serve, addr) = serve(&["--max-header-bytes", "16KiB"]);
    for (request, status) in [
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "400"),
        ("CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), "400"),
        (format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(9_000)), "414"),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n", "a".repeat(20_000)), "431"),
        ("\x16\x03\x01 no HTTP\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = raw(TcpStream::connect(&addr).await.unwrap(), request.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) || answer.starts_with(&format!("HTTP/1.0 {status}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_off_and_keeps_no_other_waiting_for_ever() {
    let (_serve, addr) = serve(&["--header-timeout", "100ms", "--max-connections", "1"]);
    let mut silent = TcpStream::connect(&addr).await.unwrap();
    let waiting = raw(TcpStream::connect(&addr).await.unwrap(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(waiting.await.contains(" 308 "));
    let ended = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 64])).await.unwrap();
    assert_eq!(ended.unwrap_or(0), 0);
}

#[tokio::test]
async fn it_ends_with_the_server_and_what_has_begun_is_answered() {
    let (serve, addr) = serve(&[]);
    let mut begun = TcpStream::connect(&addr).await.unwrap();
    begun.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    // Accepted, and read so far.
    let other = raw(TcpStream::connect(&addr).await.unwrap(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(other.contains(" 308 "));
    serve.sidecar.signal("TERM");
    tokio::time::timeout(PATIENCE, async { while TcpStream::connect(&addr).await.is_ok() {} }).await.unwrap();
    begun.write_all(b"Host: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, begun.read_to_end(&mut answer)).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains(" 308 "), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(serve.sidecar.ended().await, Some(0));
}
