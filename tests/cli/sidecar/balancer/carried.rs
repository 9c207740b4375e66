//! What passes through a balancer: everything that passes through a `serve`.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Worker, balancer, dir, policy};
use crate::sidecar::support::{client, eventually, get, raw};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_spread_over_workers_of_both_platforms_and_each_is_told_what_it_may_know() {
    let dir = dir();
    let snp = Worker::start(&dir, &[]).await;
    let tdx = Worker::start(&dir, &["--platform", "sim-tdx"]).await;
    let front = balancer(&dir, &[snp.url(), tdx.url()], &policy(&dir), &[]);
    let connect = front.connect(&[]);
    let client = client();
    while snp.requests() < 5 || tdx.requests() < 5 {
        let response = get(&client, connect.addr(), "/version").await;
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        let result = response.headers()["attestation-result"].to_str().unwrap();
        let config = front.sidecar.banner.lines().find_map(|line| line.strip_prefix("config")).unwrap().trim();
        assert!(result.contains(&format!("config=\"{config}\"")), "the balancer's own: {result}");
    }
    for worker in [&snp, &tdx] {
        let seen = worker.upstream.seen.last();
        assert_eq!(seen["host"], format!("localhost:{}", worker.serve.addr().port()), "a worker's own name");
        assert!(seen.keys().all(|name| !name.as_str().starts_with("attestation-")), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_trailers_events_and_what_workers_forge() {
    let dir = dir();
    let worker = Worker::start(&dir, &[]).await;
    let front = balancer(&dir, &[worker.url()], &policy(&dir), &[]);
    let connect = front.connect(&[]);
    let client = client();
    let send = async |request: http::request::Builder, body: Bytes| {
        client.request(request.body(Full::new(body)).unwrap()).await.unwrap()
    };
    let at = |path: &str| format!("http://{}{path}", connect.addr());

    let large = Bytes::from(vec![7; 5_000_000]);
    let echoed = send(Request::post(at("/echo?a=b%20c&")), large.clone()).await;
    assert_eq!(echoed.into_body().collect().await.unwrap().to_bytes(), large);
    assert_eq!(worker.upstream.seen.requests().last().unwrap().uri.path_and_query().unwrap(), "/echo?a=b%20c&");

    let response = send(Request::get(at("/trailers")).header("te", "trailers"), Bytes::new()).await;
    assert_eq!(response.into_body().collect().await.unwrap().trailers().expect("trailers")["x-sum"], "42");
    assert_eq!(get(&client, connect.addr(), "/teapot").await.status(), StatusCode::IM_A_TEAPOT);

    let response = get(&client, connect.addr(), "/forged").await;
    for name in ["attestation-report", "attestation-other", "x-private"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }

    // A client without a sidecar of its own, which would remove them.
    let request = b"GET /forged HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = raw(front.tls("http/1.1").await, request).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("attestation-"), "{answer}");

    let mut events = send(Request::get(at("/events")), Bytes::new()).await.into_body();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        worker.upstream.seen.send(event).await;
        let frame = events.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, Bytes::from_static(event.as_bytes()), "it came before the next was sent");
    }
    drop(events);
    eventually("the service is told that nobody listens", || worker.upstream.seen.running() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_get_an_attested_connection_of_their_own() {
    let dir = dir();
    let worker = Worker::start(&dir, &[]).await;
    let front = balancer(&dir, &[worker.url()], &policy(&dir), &[]);
    let connect = front.connect(&[]);
    let mut io = TcpStream::connect(connect.addr()).await.unwrap();
    let handshake = "GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    io.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let own = format!("localhost:{}", worker.serve.addr().port());
    assert_eq!(worker.upstream.seen.last()["host"], own, "a worker's own name over HTTP/1.1 too");
    for message in [b"ping", b"pong"] {
        io.write_all(message).await.unwrap();
        let mut echoed = [0; 4];
        io.read_exact(&mut echoed).await.unwrap();
        assert_eq!(&echoed, message);
    }
}
