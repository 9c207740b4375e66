//! Clients that do not read, and services that do not: each holds up its own exchange, and nobody else's.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::balancer::support::{Worker, balancer, dir, policy};
use super::http2::{END_HEADERS, END_STREAM, HEADERS, frame, get_block, opening};
use super::support::{PATIENCE, Serve, client, collected, eventually, get, raw};
use super::upstream::{Seen, Upstream};

/// More responses than the windows of one connection have room for, unless each stream has its share of it.
const STREAMS: u32 = 16;

/// Asks for responses without end over HTTP/2 and reads none of them.
async fn does_not_read<I: AsyncRead + AsyncWrite + Unpin>(mut io: I, seen: &Seen) -> I {
    let asks = (0..STREAMS).map(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &get_block("/endless")));
    io.write_all(&[opening(), asks.collect::<Vec<_>>().concat()].concat()).await.unwrap();
    eventually("they are being answered", || seen.running() == STREAMS as usize).await;
    seen.stalled().await;
    io
}

async fn others_are_served(connect: std::net::SocketAddr) {
    // A client that answers no ping either, as this one, is given up in a minute, and others are served then.
    let answered = tokio::time::timeout(PATIENCE / 3, get(&client(), connect, "/version")).await;
    assert_eq!(answered.expect("others are served").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_from_an_upstream_of_http2_holds_up_no_other_client() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--upstream-protocol", "h2c"]);
    let connect = serve.connect(&[]);
    let _stuck = does_not_read(serve.tls("h2").await, &upstream.seen).await;
    others_are_served(connect.addr()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_from_connect_holds_up_no_other_program() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&[]);
    let tcp = TcpStream::connect(connect.addr()).await.unwrap();
    let _stuck = does_not_read(tcp, &upstream.seen).await;
    others_are_served(connect.addr()).await;
}

/// Sends the same again and again and reads no answer, until nothing moves any more.
async fn reads_no_answer<I: AsyncRead + AsyncWrite + Unpin>(mut io: I, beginning: &[u8], again: &[u8]) -> I {
    io.write_all(beginning).await.unwrap();
    let (chunk, pause) = (again.repeat(1000), std::time::Duration::from_secs(1));
    while let Ok(Ok(())) = tokio::time::timeout(pause, io.write_all(&chunk)).await {}
    io
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_no_answer_does_not_keep_a_connection() {
    let upstream = Upstream::start().await;
    let flags = ["--header-timeout", "1s", "--idle-timeout", "1s", "--max-connections", "1"];
    let serve = Serve::start(&upstream.url(), &flags);
    // Answered by `serve` itself, and so at once.
    let asks = b"GET /.well-known/tower-attest HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let ping = frame(6, 0, 0, b"12345678");
    for (alpn, beginning, again) in [("http/1.1", vec![], &asks[..]), ("h2", opening(), &ping)] {
        let _stuck = reads_no_answer(serve.tls(alpn).await, &beginning, again).await;
        let request = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let asked = async { raw(serve.tls("http/1.1").await, request).await };
        let answered = tokio::time::timeout(PATIENCE, asked).await.expect("there is room for others");
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_http2_makes_larger_ends_nobody_elses_exchange() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&[]);
    let request = Request::get(format!("http://{}/events", connect.addr())).body(Full::<Bytes>::default()).unwrap();
    let others = client();
    let mut events = others.request(request).await.unwrap().into_body();
    let rare = [&b"X-A: "[..], &[0xff; 60_000], b"\r\n"].concat();
    let target = "\u{e9}".repeat(30_000);
    for (target, field, status) in [("large", &rare[..], "431"), (&target, b"", "431"), ("rare-bytes", b"", "502")] {
        let head = format!("GET /{target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n").into_bytes();
        let request = [&head[..], field, b"\r\n"].concat();
        let answer = raw(TcpStream::connect(connect.addr()).await.unwrap(), &request).await;
        assert_eq!(answer.get(9..12), Some(status), "{answer}");
        upstream.seen.send("data: 1\n\n").await;
        let event =
            tokio::time::timeout(PATIENCE, events.frame()).await.unwrap().expect("it goes on").expect("unbroken");
        assert_eq!(event.into_data().unwrap(), "data: 1\n\n");
    }
}

/// Uploads to a service that does not read, until nothing moves any more.
async fn is_not_read(connect: std::net::SocketAddr) -> TcpStream {
    let mut io = TcpStream::connect(connect).await.unwrap();
    io.write_all(b"POST /hang HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n").await.unwrap();
    let (chunk, pause) = ([b'x'; 64 * 1024], std::time::Duration::from_secs(2));
    while let Ok(written) = tokio::time::timeout(pause, io.write_all(&chunk)).await {
        written.unwrap();
    }
    io
}

async fn uploads_arrive(connect: std::net::SocketAddr) {
    let body = Bytes::from(vec![b'y'; 300_000]);
    let request = Request::post(format!("http://{connect}/echo")).body(Full::new(body.clone())).unwrap();
    let client = client();
    let answered = tokio::time::timeout(PATIENCE, client.request(request)).await.expect("other uploads arrive");
    assert_eq!(collected(answered.unwrap()).await.body(), &body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_reads_holds_up_no_other_upload() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&[]);
    let _stuck = is_not_read(connect.addr()).await;
    uploads_arrive(connect.addr()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_a_workers_service_does_not_read_holds_up_no_other_clients_upload() {
    let dir = dir();
    let worker = Worker::start(&dir, &[]).await;
    let front = balancer(&dir, &[worker.url()], &policy(&dir), &[]);
    let (one, another) = (front.connect(&[]), front.connect(&[]));
    let _stuck = is_not_read(one.addr()).await;
    uploads_arrive(another.addr()).await;
}
