//! Clients that mean harm, over real sockets: limits answer, nothing is smuggled, and others are served.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Serve, Sidecar, client, eventually, get, raw};
use super::upstream::Upstream;

async fn sidecars(flags: &[&str]) -> (Upstream, Serve, Sidecar) {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), flags);
    let connect = serve.connect(flags);
    (upstream, serve, connect)
}

async fn tcp(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).await.unwrap()
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("none")
}

/// Sends the same to both sidecars, and checks that others are served afterwards.
async fn both(serve: &Serve, connect: &Sidecar, bytes: &[u8]) -> [String; 2] {
    let answers = [raw(serve.tls("http/1.1").await, bytes).await, raw(tcp(connect.addr()).await, bytes).await];
    assert_eq!(get(&client(), connect.addr(), "/version").await.status(), 200);
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_two_readers_may_read_differently_are_refused_or_read_in_one_way() {
    let (upstream, serve, connect) = sidecars(&[]).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (name, head, expected) in [
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", "400"),
        ("a list of lengths", "Content-Length: 5, 6\r\n", "400"),
        ("a signed length", "Content-Length: +5\r\n", "400"),
        ("a folded field", "X-A: b\r\n Content-Length: 5\r\n", "400"),
        ("a space before the colon", "Content-Length : 5\r\n", "400"),
        ("a field without colon", "Content-Length\r\n", "400"),
        ("a NUL", "X-A: b\0c\r\n", "400"),
        ("a bare CR", "X-A: b\rTransfer-Encoding: chunked\r\n", "400"),
        ("an encoding that is not last", "Transfer-Encoding: chunked, identity\r\n", "400"),
        ("an encoding in disguise", "Transfer-Encoding: xchunked\r\n", "400"),
        ("an encoding before", "Transfer-Encoding: gzip, chunked\r\n", "501"),
        ("two encodings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "501"),
        ("two hosts", "Host: other.example\r\n", "400"),
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n{smuggled}");
        for answer in both(&serve, &connect, request.as_bytes()).await {
            assert_eq!(status(&answer), expected, "{name}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        }
    }
    assert!(upstream.seen.paths().iter().all(|path| path == "/version"), "{:?}", upstream.seen.paths());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beside_chunks_does_not_count_and_ends_the_connection() {
    let (upstream, serve, connect) = sidecars(&[]).await;
    for lengths in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"]
    {
        let request = format!(
            "POST /echo HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n3\r\nabc\r\n0\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
        );
        for answer in both(&serve, &connect, request.as_bytes()).await {
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("abc"), "{answer}");
        }
        let seen = upstream.seen.requests();
        let echo = seen.iter().rev().find(|request| request.uri.path() == "/echo").unwrap();
        assert!(!(echo.headers.contains_key("content-length") && echo.headers.contains_key("transfer-encoding")));
    }
    assert!(!upstream.seen.paths().contains(&"/smuggled".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_are_no_request_to_forward_are_refused() {
    let (upstream, serve, connect) = sidecars(&[]).await;
    for (line, expected) in [
        ("CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost", "405"),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost", "501"),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost", "400"),
        ("GET / HTTP/1.1", "400"),
        ("GET / HTTP/3.0\r\nHost: localhost", "400"),
    ] {
        let request = format!("{line}\r\nConnection: close\r\n\r\n");
        for answer in both(&serve, &connect, request.as_bytes()).await {
            // `connect` looks at the host first.
            assert!(status(&answer) == expected || status(&answer) == "421", "{line}: {answer}");
        }
    }
    assert!(upstream.seen.paths().iter().all(|path| path == "/version"));
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_fields_are_431() {
    let (upstream, serve, connect) = sidecars(&["--max-header-bytes", "16KiB"]).await;
    let many = "X-A: b\r\n".repeat(200);
    let large = format!("X-A: {}\r\n", "b".repeat(20_000));
    for flood in [many, large] {
        let request = format!("GET /flood HTTP/1.1\r\nHost: localhost\r\n{flood}\r\n");
        for answer in both(&serve, &connect, request.as_bytes()).await {
            assert_eq!(status(&answer), "431", "{answer}");
        }
    }
    assert!(!upstream.seen.paths().contains(&"/flood".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_within_the_limit_pass_over_both_versions() {
    let (upstream, serve, connect) = sidecars(&[]).await;
    let large = "b".repeat(40_000);
    let request = format!("GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-A: {large}\r\n\r\n");
    for answer in both(&serve, &connect, request.as_bytes()).await {
        assert_eq!(status(&answer), "200", "{answer}");
    }
    // The second came by way of `connect`, and so over HTTP/2.
    let seen = upstream.seen.requests();
    assert_eq!(seen.iter().filter(|request| request.headers.get("x-a").is_some_and(|x| x.len() == 40_000)).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_given_up() {
    let (upstream, serve, connect) = sidecars(&["--header-timeout", "2s", "--idle-timeout", "2s"]).await;
    for (name, sent) in [
        ("nothing at all", ""),
        ("part of a request line", "GET /sl"),
        ("part of the fields", "GET /slow HTTP/1.1\r\nHost: localhost\r\nX-A: "),
    ] {
        // `both` reads until the sidecar closes: that it returns at all is what is shown.
        for answer in both(&serve, &connect, sent.as_bytes()).await {
            assert!(answer.is_empty() || status(&answer) == "408", "{name}: {answer}");
        }
    }
    let stalls = "POST /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10\r\n\r\nabc";
    for answer in both(&serve, &connect, stalls.as_bytes()).await {
        assert_eq!(status(&answer), "504", "{answer}");
    }
    eventually("the upstream is rid of them", || upstream.seen.running() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_given_up() {
    let (upstream, serve, connect) = sidecars(&["--idle-timeout", "2s"]).await;
    let request = "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stuck = Vec::new();
    for _ in 0..2 {
        let (mut tls, mut tcp) = (serve.tls("http/1.1").await, tcp(connect.addr()).await);
        tls.write_all(request.as_bytes()).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        tls.read_u8().await.unwrap();
        tcp.read_u8().await.unwrap();
        stuck.push((tls, tcp));
    }
    eventually("the upstream is rid of them", || upstream.seen.running() == 0).await;
    assert_eq!(get(&client(), connect.addr(), "/version").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_past_their_limit_are_413() {
    let (upstream, serve, connect) = sidecars(&["--max-body-bytes", "8"]).await;
    for (body, expected) in [
        ("Content-Length: 8\r\n\r\n12345678", "200"),
        ("Content-Length: 9\r\n\r\n123456789", "413"),
        ("Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n0\r\n\r\n", "200"),
        ("Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n1\r\n9\r\n0\r\n\r\n", "413"),
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{body}");
        for answer in both(&serve, &connect, request.as_bytes()).await {
            assert_eq!(status(&answer), expected, "{body:?}: {answer}");
        }
    }
    drop(upstream);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_reset_their_connections_leave_nothing_behind() {
    let (upstream, serve, connect) = sidecars(&[]).await;
    let request = "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..20 {
        let (mut tls, mut tcp) = (serve.tls("http/1.1").await, tcp(connect.addr()).await);
        tls.write_all(request.as_bytes()).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        tls.read_u8().await.unwrap();
        tcp.read_u8().await.unwrap();
        // Closed with bytes unread, the system resets the connection.
        drop((tls, tcp));
    }
    eventually("the upstream is rid of them", || upstream.seen.running() == 0).await;
    assert_eq!(get(&client(), connect.addr(), "/version").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_past_their_limit_wait_for_others_to_end() {
    let (_upstream, serve, connect) = sidecars(&["--max-connections", "2"]).await;
    let held = [tcp(connect.addr()).await, tcp(connect.addr()).await];
    let mut waits = tcp(connect.addr()).await;
    waits.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut first = [0];
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), waits.read(&mut first)).await;
    assert!(early.is_err(), "it is not served yet");
    drop(held);
    assert_eq!(waits.read(&mut first).await.unwrap(), 1);
    drop(serve);
}
