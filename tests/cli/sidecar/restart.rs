//! Each part is killed and started again while requests are in flight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use super::support::{Serve, client, eventually, get};
use super::upstream::Upstream;

#[derive(Default)]
pub(super) struct Tally {
    pub(super) served: AtomicUsize,
    pub(super) failed: AtomicUsize,
    pub(super) broken: AtomicUsize,
    pub(super) stop: AtomicBool,
}

/// Every answer is a verified one, or one that says in a known way that there is none.
fn judge(response: &Response<hyper::body::Incoming>, tally: &Tally) {
    let result = response.headers().get("attestation-result").map(|value| value.to_str().unwrap().to_owned());
    match response.status() {
        StatusCode::OK => {
            assert!(result.unwrap().starts_with("verified;"), "{response:?}");
            tally.served.fetch_add(1, Ordering::SeqCst);
        }
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            tally.failed.fetch_add(1, Ordering::SeqCst);
        }
        other => panic!("{other}: {response:?}"),
    }
}

/// Keeps `at_once` requests in flight until told to stop.
pub(super) fn load(addr: SocketAddr, at_once: usize) -> (Arc<Tally>, Vec<tokio::task::JoinHandle<()>>) {
    let (tally, client) = (Arc::new(Tally::default()), client());
    let tasks = (0..at_once).map(|_| {
        let (tally, client) = (Arc::clone(&tally), client.clone());
        tokio::spawn(async move {
            while !tally.stop.load(Ordering::SeqCst) {
                let request = Request::post(format!("http://{addr}/echo")).body(Full::from("sent")).unwrap();
                match client.request(request).await {
                    Ok(response) => {
                        judge(&response, &tally);
                        let whole = response.status() == StatusCode::OK;
                        match response.into_body().collect().await {
                            Ok(body) if whole => assert_eq!(body.to_bytes(), Bytes::from_static(b"sent")),
                            _ => {}
                        }
                    }
                    // The sidecar itself was away.
                    Err(_) => {
                        tally.broken.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                }
            }
        })
    });
    let tasks = tasks.collect();
    (tally, tasks)
}

async fn more(counter: &AtomicUsize, what: &str) {
    let before = counter.load(Ordering::SeqCst);
    eventually(what, || counter.load(Ordering::SeqCst) > before + 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_in_flight_outlive_the_death_of_every_part() {
    let mut upstream = Upstream::start().await;
    let (at, url) = (upstream.addr, upstream.url());
    let mut serve = Serve::start(&url, &[]);
    let listen = serve.addr().to_string();
    let mut connect = serve.connect(&[]);
    let port = connect.listening.clone();
    let (tally, tasks) = load(connect.addr(), 1000);
    more(&tally.served, "requests are served").await;

    for _ in 0..2 {
        drop(upstream);
        more(&tally.failed, "the upstream is gone, and each request is told").await;
        upstream = Upstream::start_at(at).await;
        more(&tally.served, "the upstream is back").await;

        let dir = Arc::clone(&serve.dir);
        drop(serve);
        more(&tally.failed, "serve is gone, and each request is told").await;
        serve = Serve::start_at(&listen, &url, &[], dir);
        more(&tally.served, "serve is back with other keys, and is attested anew").await;

        drop(connect);
        more(&tally.broken, "connect is gone").await;
        connect = serve.connect(&["--listen", &port]);
        more(&tally.served, "connect is back").await;
    }
    tally.stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(get(&client(), connect.addr(), "/version").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_returns_to_its_level() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&[]);
    let burst = async || {
        let (tally, tasks) = load(connect.addr(), 64);
        eventually("a burst", || tally.served.load(Ordering::SeqCst) > 1000).await;
        tally.stop.store(true, Ordering::SeqCst);
        for task in tasks {
            task.await.unwrap();
        }
    };
    burst().await;
    let before = [serve.sidecar.memory(), connect.memory()];
    for _ in 0..3 {
        burst().await;
    }
    for (before, after) in before.into_iter().zip([serve.sidecar.memory(), connect.memory()]) {
        assert!(after < before + 8 * 1024, "{before} KiB grew to {after} KiB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_exchange_ends_before_the_sidecars_do() {
    let upstream = Upstream::start().await;
    // Nothing but the shutdown itself ends connections in the time of this test.
    let long = ["--drain-timeout", "1h", "--header-timeout", "1h"];
    let serve = Serve::start(&upstream.url(), &long);
    let connect = serve.connect(&long);
    let (serve_addr, addr) = (serve.addr(), connect.addr());
    let request = Request::get(format!("http://{addr}/events")).body(Full::<Bytes>::default()).unwrap();
    let client = client();
    let mut events = client.request(request).await.unwrap().into_body();
    let ending = [tokio::spawn(serve.sidecar.terminate()), tokio::spawn(connect.terminate())];
    for addr in [serve_addr, addr] {
        eventually("it stops listening", || std::net::TcpStream::connect(addr).is_err()).await;
    }
    upstream.seen.send("data: late\n\n").await;
    assert_eq!(events.frame().await.unwrap().unwrap().into_data().unwrap(), "data: late\n\n");
    upstream.seen.end_events();
    assert!(events.frame().await.is_none());
    for ended in ending {
        assert_eq!(ended.await.unwrap(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_does_not_end_is_cut_off_after_the_drain_timeout() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--drain-timeout", "200ms"]);
    let connect = serve.connect(&["--drain-timeout", "200ms"]);
    let request = Request::get(format!("http://{}/events", connect.addr())).body(Full::<Bytes>::default()).unwrap();
    let client = client();
    let events = client.request(request).await.unwrap();
    assert_eq!(connect.terminate().await, Some(0));
    assert_eq!(serve.sidecar.terminate().await, Some(0));
    assert!(events.into_body().collect().await.is_err(), "a body that is cut off does not look whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_up_and_a_bad_one_is_not() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let (cert, key) = (serve.file("cert.pem"), serve.file("key.pem"));
    super::support::certificate(&cert, &key);
    // The new certificate is its own root: only a server that shows it passes.
    assert_eq!(get(&client(), serve.connect(&[]).addr(), "/").await.status(), 200);
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, "no key").unwrap();
    assert_eq!(get(&client(), serve.connect(&[]).addr(), "/").await.status(), 200, "the last good pair serves");
    eventually("it says so", || serve.sidecar.log().contains("tls certificate not reloaded")).await;
    std::fs::write(&key, good).unwrap();
    assert_eq!(get(&client(), serve.connect(&[]).addr(), "/").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_the_servers_that_are_left() {
    let upstream = Upstream::start().await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let one = Serve::start_at("127.0.0.1:0", &upstream.url(), &[], Arc::clone(&dir));
    let two = Serve::start_at("127.0.0.1:0", &upstream.url(), &[], dir);
    let addresses = [one.addr().to_string(), two.addr().to_string()];
    let connect = one.connect(&["--address", &addresses[0], "--address", &addresses[1]]);
    let client = client();
    assert_eq!(get(&client, connect.addr(), "/").await.status(), 200);
    drop(two);
    let mut in_a_row = 0;
    while in_a_row < 10 {
        in_a_row = if get(&client, connect.addr(), "/").await.status() == 200 { in_a_row + 1 } else { 0 };
    }
}
