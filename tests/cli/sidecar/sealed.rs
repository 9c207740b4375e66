//! `connect --sealed` to `serve --sealed-only`: what is between reads nothing, TLS or not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_attest::seal::SealLayer;
use tower_attest::seal::client::CarrierRequestBody;
use tower_attest::snp::sim::SimulatedAmd;
use tower_attest::snp::{SnpPolicy, SnpVerifier};

use super::support::{Serve, client, collected, get, raw};
use super::upstream::Upstream;

#[tokio::test(flavor = "multi_thread")]
async fn requests_pass_sealed_and_come_back_sealed() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--sealed-only"]);
    let connect = serve.connect(&["--sealed"]);
    for _ in 0..3 {
        let request = Request::post(format!("http://{}/echo?a=b", connect.addr())).header("x-end", "2");
        let response = client().request(request.body(Full::from("a body")).unwrap()).await.unwrap();
        let result = response.headers()["attestation-result"].to_str().unwrap().to_owned();
        assert!(result.starts_with("verified;strength=\"sealed\";platform=\"snp\""), "{result}");
        assert_eq!(collected(response).await.body(), "a body");
    }
    let seen = upstream.seen.requests().pop().unwrap();
    assert_eq!(
        (seen.uri.path_and_query().unwrap().as_str(), &seen.headers["x-end"]),
        ("/echo?a=b", &"2".parse().unwrap())
    );
    assert_eq!(seen.headers["host"], format!("localhost:{}", serve.addr().port()));
    assert!(seen.headers.keys().all(|name| !name.as_str().starts_with("attestation-")), "{seen:?}");

    assert_eq!(get(&client(), connect.addr(), "/teapot").await.status(), StatusCode::IM_A_TEAPOT);
    let request = Request::get(format!("http://{}/trailers", connect.addr())).header("te", "trailers");
    let response = client().request(request.body(Full::default()).unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().expect("trailers");
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"42".parse().unwrap()), "nothing forged: {trailers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_stream_and_end_with_their_client() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--sealed"]);
    let connect = serve.connect(&["--sealed"]);
    let request = Request::get(format!("http://{}/events", connect.addr())).body(Full::<Bytes>::default()).unwrap();
    let client = client();
    let mut events = client.request(request).await.unwrap().into_body();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        upstream.seen.send(event).await;
        assert_eq!(events.frame().await.unwrap().unwrap().into_data().unwrap(), event);
    }
    drop(events);
    super::support::eventually("the upstream is told", || upstream.seen.running() == 0).await;
}

/// As tonic's channel does, which puts scheme and authority in below whatever layer seals.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_host_to_its_transport_is_served() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--sealed-only"]);
    let dial = Arc::new(serve.dial());
    let transport = service_fn(move |mut request: Request<CarrierRequestBody<Full<Bytes>>>| {
        let dial = Arc::clone(&dial);
        async move {
            let io = TokioIo::new(dial.tls("http/1.1").await);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            tokio::spawn(connection);
            request.headers_mut().insert("host", "localhost".parse().unwrap());
            sender.send_request(request).await
        }
    });
    let policy = SnpPolicy::pin(*b"tower-attest simulated measurement, not hardware");
    let layer = SealLayer::new(SnpVerifier::trusting_simulator(policy, &SimulatedAmd::new())).name("localhost");
    let client = ServiceBuilder::new().layer(layer).service(transport);
    let response = client.oneshot(Request::post("/echo").body(Full::from("a body")).unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "a body");
    let seen = upstream.seen.requests().pop().unwrap();
    assert_eq!(seen.headers["host"], "localhost", "the server's own name");
}

/// Ends TLS with the server's own certificate and passes the bytes on, as a balancer with the key would.
async fn reading(serve: &Serve) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let tls = tower_attest::Tls::pem(serve.file("cert.pem"), serve.file("key.pem")).unwrap().alpn(["http/1.1"]);
    let mut listener = tower_attest::TlsListener::bind("127.0.0.1:0", tls).await.unwrap();
    let (addr, read) = (listener.local_addr(), Arc::new(Mutex::new(Vec::new())));
    let (log, dial) = (Arc::clone(&read), serve.dial());
    tokio::spawn(async move {
        while let Some((mut stream, _)) = listener.accept().await {
            let (mut onward, log) = (dial.tls("http/1.1").await, Arc::clone(&log));
            tokio::spawn(async move {
                let (mut there, mut back) = ([0; 4096], [0; 4096]);
                loop {
                    tokio::select! {
                        read = stream.read(&mut there) => match read {
                            Ok(read @ 1..) => {
                                log.lock().unwrap().extend_from_slice(&there[..read]);
                                if onward.write_all(&there[..read]).await.is_err() { return }
                            }
                            _ => return,
                        },
                        read = onward.read(&mut back) => match read {
                            Ok(read @ 1..) => {
                                log.lock().unwrap().extend_from_slice(&back[..read]);
                                if stream.write_all(&back[..read]).await.is_err() { return }
                            }
                            _ => return,
                        },
                    }
                }
            });
        }
    });
    (addr, read)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_that_ends_tls_reads_nothing_of_a_sealed_request() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--sealed"]);
    let (balancer, read) = reading(&serve).await;
    let connect = serve.connect_to(balancer.port(), &["--sealed"]);
    let request =
        Request::post(format!("http://{}/echo?secret-query", connect.addr())).header("x-secret", "secret-field");
    let response = client().request(request.body(Full::from("secret-body")).unwrap()).await.unwrap();
    assert_eq!(collected(response).await.body(), "secret-body");
    let read = String::from_utf8_lossy(&read.lock().unwrap()).into_owned();
    assert!(read.contains("/.well-known/tower-attest/sealed"), "it did pass there");
    assert!(!read.contains("secret"), "{read}");

    // Attested channels are refused there, which is their point.
    let connect = serve.connect_to(balancer.port(), &[]);
    assert_eq!(get(&client(), connect.addr(), "/").await.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_can_route_sealed_requests_to_the_server_that_opens_them() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--sealed-only", "--route", "tee-7"]);
    let (balancer, read) = reading(&serve).await;
    let connect = serve.connect_to(balancer.port(), &["--sealed"]);
    assert_eq!(get(&client(), connect.addr(), "/").await.status(), StatusCode::OK);
    let read = String::from_utf8_lossy(&read.lock().unwrap()).into_owned();
    let (_, sealed) = read.split_once("POST /.well-known/tower-attest/sealed").expect("it did pass there");
    let (head, _) = sealed.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nattestation-route: tee-7\r\n"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_believed_gets_nothing() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--sealed"]);
    let connect = serve.connect(&["--sealed", "--config", &"5e".repeat(32)]);
    let response = get(&client(), connect.addr(), "/").await;
    assert_eq!(
        (response.status(), &response.headers()["attestation-result"]),
        (StatusCode::BAD_GATEWAY, &"refused".parse().unwrap())
    );
    let problem: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!((&problem["code"], &problem["check"]), (&"not-attested".into(), &"config-mismatch".into()));
    assert!(upstream.seen.paths().is_empty());

    let unsealed = Serve::start(&upstream.url(), &[]);
    assert_eq!(get(&client(), unsealed.connect(&["--sealed"]).addr(), "/").await.status(), StatusCode::BAD_GATEWAY);
    assert!(upstream.seen.paths().is_empty(), "nothing goes unsealed instead");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_cannot_be_sealed() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--sealed"]);
    let connect = serve.connect(&["--sealed"]);
    let request = "GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n";
    let answer = raw(tokio::net::TcpStream::connect(connect.addr()).await.unwrap(), request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 501"), "{answer}");
}
