//! HTTP through both sidecars: curl, server-sent events, WebSocket, trailers, and what is told to whom.

use std::process::{Command, Output};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Serve, client, collected, eventually, get, raw};
use super::upstream::{Upstream, unix};

async fn curl(arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i"]).args(arguments);
    match tokio::task::spawn_blocking(move || command.output()).await.unwrap() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: curl: {error}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_speaks_both_versions_through_both_sidecars() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&[]);
    let url = format!("http://{}/echo?a=b%20c&", connect.addr());
    for (version, head) in [("--http1.1", "HTTP/1.1 200"), ("--http2-prior-knowledge", "HTTP/2 200")] {
        let Some(output) = curl(&[version, "-d", "a body", &url]).await else { return };
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(answer.starts_with(head), "{answer}");
        assert!(answer.ends_with("\r\n\r\na body"), "{answer}");
        assert!(answer.contains("attestation-result: verified;strength=\"channel\";platform=\"snp\""), "{answer}");
    }
    assert!(upstream.seen.requests().iter().all(|request| request.uri.path_and_query().unwrap() == "/echo?a=b%20c&"));
    // Past curl's own limit it asks first (100-continue), and the length is told anew on each hop.
    let body = "x".repeat(2_000_000);
    let file = serve.file("body");
    std::fs::write(&file, &body).unwrap();
    let data = format!("@{}", file.display());
    let output = curl(&["--http1.1", "-H", "Expect: 100-continue", "--data-binary", &data, &url]).await.unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().ends_with(&body));
    assert_eq!(upstream.seen.last()["content-length"], "2000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_learns_who_asked_and_nothing_forged() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&[]);
    let request = Request::get(format!("http://{}/", connect.addr()))
        .header("x-forwarded-for", "1.2.3.4")
        .header("forwarded", "for=1.2.3.4")
        .header("attestation-report", "v=1")
        .header("attestation-nonce", "forged")
        .header("attestation-result", "verified")
        .header("attestation_result", "verified")
        .header("x_forwarded_for", "1.2.3.4")
        .header("x-hop", "1")
        .header("connection", "x-hop")
        .header("x-end", "2");
    let response = client().request(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let seen = upstream.seen.last();
    let host = format!("localhost:{}", serve.addr().port());
    assert_eq!((&seen["host"], &seen["x-forwarded-host"]), (&host.parse().unwrap(), &host.parse().unwrap()));
    assert_eq!(seen["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen["x-forwarded-proto"], "https");
    assert_eq!(seen["forwarded"], format!("for=127.0.0.1;host=\"{host}\";proto=https"));
    assert_eq!(seen["x-end"], "2");
    assert!(!seen.contains_key("x-hop"));
    assert!(seen.keys().all(|name| !name.as_str().starts_with("attestation")), "{seen:?}");
    assert!(!seen.contains_key("x_forwarded_for"), "CGI reads it as X-Forwarded-For");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_cannot_mean_well_does_not_reach_the_upstream() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&[]);
    let (sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(TcpStream::connect(connect.addr()).await.unwrap()),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let mut sender = sender;
    let request = Request::get(format!("http://{}/", connect.addr()))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("proxy", "http://evil.example");
    let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let seen = upstream.seen.last();
    assert!(!seen.contains_key("proxy"), "CGI reads it as HTTP_PROXY");
    let cookies: Vec<_> = seen.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2"], "RFC 9113, section 8.2.3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_forges_does_not_reach_the_client() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let response = get(&client(), serve.connect(&[]).addr(), "/forged").await;
    let results: Vec<_> = response.headers().get_all("attestation-result").iter().collect();
    assert_eq!(results.len(), 1);
    assert!(results[0].to_str().unwrap().contains("measurement="), "{results:?}");
    for name in ["attestation-report", "attestation-other", "x-private"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_does_not_lead_a_program_past_connect() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--sealed"]);
    for flags in [&[][..], &["--sealed"]] {
        let response = get(&client(), serve.connect(flags).addr(), "/redirect").await;
        assert_eq!(response.status(), StatusCode::FOUND);
        assert_eq!(response.headers()["location"], "/version?a#b", "{flags:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_trailers_and_empty_answers_pass() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&[]);
    assert_eq!(get(&client(), connect.addr(), "/teapot").await.status(), StatusCode::IM_A_TEAPOT);
    let request = Request::get(format!("http://{}/trailers", connect.addr())).header("te", "trailers");
    let response = client().request(request.body(Full::default()).unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().expect("trailers");
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"42".parse().unwrap()), "nothing forged: {trailers:?}");
    let head = Request::head(format!("http://{}/version", connect.addr())).body(Full::default()).unwrap();
    let response = client().request(head).await.unwrap();
    assert_eq!((response.status(), &response.headers()["content-length"]), (StatusCode::OK, &"8".parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_arrive_one_by_one_and_end_when_the_client_leaves() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let request = Request::get(format!("http://{}/events", serve.connect(&[]).addr()));
    // The sidecar must outlive the client.
    drop(request);
    let connect = serve.connect(&[]);
    let request = Request::get(format!("http://{}/events", connect.addr())).body(Full::default()).unwrap();
    let mut events = client().request(request).await.unwrap().into_body();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        upstream.seen.send(event).await;
        let frame = events.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, Bytes::from_static(event.as_bytes()), "it came before the next was sent");
    }
    drop(events);
    eventually("the upstream is told that nobody listens", || upstream.seen.running() == 0).await;

    let request = Request::get(format!("http://{}/events", connect.addr())).body(Full::default()).unwrap();
    let events = client().request(request).await.unwrap();
    upstream.seen.end_events();
    assert_eq!(collected(events).await.body(), "");
}

/// The handshake of RFC 6455, section 1.3.
const HANDSHAKE: &str = "GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn head(io: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_through_both_sidecars() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&[]);
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut io = TcpStream::connect(connect.addr()).await.unwrap();
        io.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let head = head(&mut io).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        for field in ["upgrade: websocket", "connection: upgrade", "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
        {
            assert!(head.contains(field), "{head}");
        }
        assert!(head.contains("attestation-result: verified"), "{head}");
        sockets.push(io);
    }
    // A masked text frame, "Hello" (RFC 6455, section 5.7). Whatever the bytes, they come back.
    let frame = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    for io in &mut sockets {
        io.write_all(&frame).await.unwrap();
        let mut echoed = [0; 11];
        io.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, frame);
    }
    assert_eq!(get(&client(), connect.addr(), "/version").await.status(), 200, "others are served meanwhile");
    for mut io in sockets {
        io.shutdown().await.unwrap();
        assert_eq!(io.read(&mut [0]).await.unwrap(), 0, "the end is passed on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_counts_as_one() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&["--max-connections", "1"]);
    let mut socket = TcpStream::connect(connect.addr()).await.unwrap();
    socket.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    assert!(head(&mut socket).await.starts_with("HTTP/1.1 101"));
    let mut waits = TcpStream::connect(connect.addr()).await.unwrap();
    waits.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), waits.read(&mut [0])).await;
    assert!(early.is_err(), "it is not served yet");
    drop(socket);
    assert!(head(&mut waits).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_h2c_is_not_granted() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let request = HANDSHAKE.replace("websocket", "h2c").replace("/socket", "/version").replace("keep-alive,", "close,");
    let answer = raw(TcpStream::connect(serve.connect(&[]).addr()).await.unwrap(), request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!upstream.seen.last().contains_key("upgrade"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets_do_at_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (below, above) = (dir.path().join("upstream"), dir.path().join("connect"));
    let seen = unix(&below);
    let serve = Serve::start(&format!("unix:{}", below.display()), &[]);
    let connect = serve.connect(&["--listen", &format!("unix:{}", above.display())]);
    assert_eq!(connect.listening, format!("unix:{}", above.display()));
    let Some(output) = curl(&["--unix-socket", above.to_str().unwrap(), "http://any.name/echo"]).await else { return };
    assert!(output.stdout.starts_with(b"HTTP/1.1 200"), "{output:?}");
    assert_eq!(seen.paths(), ["/echo"]);
    connect.terminate().await;
    assert!(!above.exists(), "the socket goes with the sidecar");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_upstream_protocol_is_spoken_where_it_should_be() {
    let upstream = Upstream::start().await;
    for (protocol, json, grpc) in
        [("auto", "HTTP/1.1", "HTTP/2.0"), ("h1", "HTTP/1.1", "HTTP/1.1"), ("h2c", "HTTP/2.0", "HTTP/2.0")]
    {
        let serve = Serve::start(&upstream.url(), &["--upstream-protocol", protocol]);
        let connect = serve.connect(&[]);
        for (content_type, expected) in [("application/json", json), ("application/grpc", grpc)] {
            let request =
                Request::get(format!("http://{}/version", connect.addr())).header("content-type", content_type);
            let response = client().request(request.body(Full::default()).unwrap()).await.unwrap();
            assert_eq!(collected(response).await.body(), expected, "{protocol} {content_type}");
        }
    }
}
