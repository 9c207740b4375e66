//! The set-up broken off at each of its steps, and what it costs the next calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_attest::mock::{Behaviour, MockTee};
use tower_attest::tls::{AttestedChannel, ChannelBuilder, Stage, Tls, TlsListener};
use tower_attest::{ErrorKind, GrpcCode};

use crate::support::{Attested, Counted, channel_error, get, roots, settle};

fn builder(port: u16, tls: &Tls) -> ChannelBuilder {
    let uri = format!("https://localhost:{port}").parse().unwrap();
    AttestedChannel::builder(uri, MockTee::new().verifier()).roots(roots(tls)).alpn(["http/1.1"])
}

/// A listener that hands each TLS connection to `peer`.
async fn peer<F>(peer: impl Fn(tower_attest::tls::TlsStream) -> F + Send + 'static) -> (u16, Tls)
where
    F: Future<Output = ()> + Send + 'static,
{
    let tls = Tls::self_signed("localhost").unwrap();
    let mut listener = TlsListener::bind("127.0.0.1:0", tls.clone()).await.unwrap();
    let port = listener.local_addr().port();
    tokio::spawn(async move {
        while let Some((stream, _)) = listener.accept().await {
            tokio::spawn(peer(stream));
        }
    });
    (port, tls)
}

async fn read_head(stream: &mut tower_attest::tls::TlsStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.unwrap());
    }
}

#[tokio::test]
async fn nobody_listens() {
    let tls = Tls::self_signed("localhost").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = builder(port, &tls).connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Connect, ErrorKind::Transport), "{error}");
    assert_eq!(error.attest_error().grpc_code(), GrpcCode::Unavailable);
}

#[tokio::test]
async fn the_peer_hangs_up_before_tls() {
    let tls = Tls::self_signed("localhost").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    let error = builder(port, &tls).connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Tls, ErrorKind::Transport), "{error}");
}

#[tokio::test]
async fn the_peer_never_answers_the_tls_handshake() {
    let tls = Tls::self_signed("localhost").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = builder(port, &tls).handshake_timeout(Duration::from_millis(50)).connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Tls, ErrorKind::Timeout), "{error}");
    drop(listener);
}

#[tokio::test]
async fn the_connector_never_answers() {
    let tls = Tls::self_signed("localhost").unwrap();
    let never = tower::service_fn(|_: http::Uri| std::future::pending::<Result<TokioIo<TcpStream>, std::io::Error>>());
    let builder = builder(1, &tls).connector(never).connect_timeout(Duration::from_millis(50));
    let error = builder.connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Connect, ErrorKind::Timeout), "{error}");
}

#[tokio::test]
async fn a_certificate_of_another_issuer_or_name_is_refused_as_such() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let stranger = Tls::self_signed("localhost").unwrap();
    let port = server.server.addr.port();
    let error = builder(port, &stranger).connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::WebPki, ErrorKind::Certificate), "{error}");
    assert_eq!(error.attest_error().grpc_code(), GrpcCode::Unauthenticated);

    let uri = format!("https://127.0.0.1:{port}").parse().unwrap();
    let error = AttestedChannel::builder(uri, tee.verifier()).roots(roots(&server.tls)).connect().await.unwrap_err();
    assert_eq!(error.stage(), Stage::WebPki, "another name: {error}");
    assert_eq!(server.record().requests().len(), 0);
}

#[tokio::test]
async fn no_common_protocol_is_a_tls_failure() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let error = server.builder(&tee).alpn(["spdy/1"]).connect().await.unwrap_err();
    assert_eq!(error.stage(), Stage::Tls, "{error}");
}

#[tokio::test]
async fn a_server_that_chooses_no_protocol_is_no_http2_server() {
    let tee = MockTee::new();
    let tls = Tls::self_signed("localhost").unwrap().alpn::<&str>([]);
    let server = Attested::start_at(&tee, ([127, 0, 0, 1], 0).into(), tls, |layer| layer).await;
    let error = server.builder(&tee).alpn(["h2"]).connect().await.unwrap_err();
    assert_eq!(error.stage(), Stage::Tls, "{error}");
    assert_eq!(server.record().requests().len(), 0);
    assert!(server.builder(&tee).connect().await.is_ok(), "over HTTP/1.1");
}

#[tokio::test]
async fn the_peer_hangs_up_after_tls() {
    let (port, tls) = peer(|stream| async move { drop(stream) }).await;
    let error = builder(port, &tls).connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Http, ErrorKind::Transport), "{error}");
}

#[tokio::test]
async fn the_peer_hangs_up_after_the_preflight() {
    let (port, tls) = peer(|mut stream| async move { read_head(&mut stream).await }).await;
    let error = builder(port, &tls).connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Http, ErrorKind::Transport), "{error}");
}

#[tokio::test]
async fn the_peer_never_answers_the_preflight() {
    let (port, tls) = peer(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let error = builder(port, &tls).verification_timeout(Duration::from_millis(50)).connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Evidence, ErrorKind::Timeout), "{error}");
}

#[tokio::test]
async fn a_peer_without_attestation_is_refused_for_good() {
    let (port, tls) = peer(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
        let _ = stream.flush().await;
        std::future::pending::<()>().await;
    })
    .await;
    let error = builder(port, &tls).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoReport { status: 404 }, "{error}");
    assert_eq!(error.attest_error().grpc_code(), GrpcCode::Unauthenticated);
}

#[tokio::test]
async fn a_redirect_of_the_preflight_is_not_followed() {
    let (port, tls) = peer(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 302 Found\r\nlocation: https://localhost:1/\r\ncontent-length: 0\r\n\r\n")
            .await;
        let _ = stream.flush().await;
        std::future::pending::<()>().await;
    })
    .await;
    let error = builder(port, &tls).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoReport { status: 302 }, "{error}");
}

#[tokio::test]
async fn a_refused_connection_is_closed() {
    let (closed, mut seen) = tokio::sync::mpsc::channel(1);
    let (port, tls) = peer(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.flush().await;
            let rest = stream.read(&mut [0; 16]).await;
            let _ = closed.send(rest.unwrap_or(0)).await;
        }
    })
    .await;
    assert!(builder(port, &tls).connect().await.is_err());
    assert_eq!(seen.recv().await, Some(0), "no byte more, and the end");
}

#[tokio::test]
async fn hardware_that_is_busy_is_worth_a_retry() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    server.provider.set_behaviour(Behaviour::Busy);
    let error = server.builder(&tee).connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Evidence, ErrorKind::Unavailable), "{error}");
}

#[tokio::test(start_paused = true)]
async fn while_it_pauses_calls_fail_at_once_with_the_same_error_and_then_it_tries_again() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&attempts);
    let failing = tower::service_fn(move |_: http::Uri| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Err::<TokioIo<TcpStream>, _>(std::io::Error::other("no route")) }
    });
    let tls = Tls::self_signed("localhost").unwrap();
    let channel = builder(1, &tls).connector(failing).connect_lazy().unwrap();
    for _ in 0..20 {
        let error = channel_error(&get(&channel, "/").await.unwrap_err());
        assert_eq!(error.stage(), Stage::Connect);
        assert!(error.to_string().contains("connecting to"), "{error}");
    }
    assert_eq!(attempts.load(Ordering::SeqCst), 1, "the first pause is on");
    tokio::time::advance(Duration::from_millis(200)).await;
    assert!(get(&channel, "/").await.is_err());
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
    tokio::time::advance(Duration::from_millis(90)).await;
    assert!(get(&channel, "/").await.is_err());
    assert_eq!(attempts.load(Ordering::SeqCst), 2, "the second pause is longer");
}

#[tokio::test]
async fn a_server_that_gives_evidence_and_hangs_up_is_not_asked_in_a_loop() {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let tls = server.tls.clone();
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, behind) = (front.local_addr().unwrap().port(), server.server.addr);
    let hang_up = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&hang_up);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = front.accept().await.unwrap();
            let mut upstream = TcpStream::connect(behind).await.unwrap();
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
                    () = told.notified() => {}
                }
            });
        }
    });
    let uri = format!("https://localhost:{port}").parse().unwrap();
    let builder = AttestedChannel::builder(uri, tee.verifier()).roots(roots(&tls));
    let attempts = Arc::new(AtomicUsize::new(0));
    let channel = builder.connector(Counted { attempts: Arc::clone(&attempts) }).connect().await.unwrap();
    hang_up.notify_waiters();
    settle().await;
    let error = channel_error(&get(&channel, "/").await.unwrap_err());
    assert_eq!(error.stage(), Stage::Http, "{error}");
    assert_eq!(attempts.load(Ordering::SeqCst), 1, "a pause comes first");
}
