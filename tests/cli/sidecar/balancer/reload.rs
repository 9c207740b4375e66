//! SIGHUP at a balancer: another policy is another configuration, in force at once and promised to nobody before.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Worker, balancer, code, dir, policy};
use crate::sidecar::support::{HttpClient, Serve, client, collected, eventually, get};

/// Sends SIGHUP and waits until the log has this once more.
async fn reload(front: &Serve, outcome: &str) {
    let said = || front.sidecar.log().lines().filter(|line| line.contains(outcome)).count();
    let before = said();
    front.sidecar.signal("HUP");
    eventually(outcome, || said() > before).await;
}

const RELOADED: &str = "\"message\":\"reloaded\",\"reload\":\"upstream-policy\"";

/// The configuration that a verified answer was given under.
async fn config(client: &HttpClient, connect: SocketAddr) -> String {
    loop {
        let response = get(client, connect, "/").await;
        if response.status() == StatusCode::OK {
            let result = response.headers()["attestation-result"].to_str().unwrap();
            return result.split("config=\"").nth(1).unwrap()[..64].to_owned();
        }
        // The connection was told of the configuration before.
        assert_eq!(code(&response), (StatusCode::MISDIRECTED_REQUEST, "configuration-changed".to_owned()));
    }
}

/// The policy without one of its platforms.
fn without(policy: &Path, platform: &str) -> String {
    let text = std::fs::read_to_string(policy).unwrap();
    let (snp, tdx) = text.split_at(text.find("[[tdx").unwrap());
    if platform == "tdx" { snp.to_owned() } else { tdx.to_owned() }
}

/// A stream of events from a worker, by way of the balancer.
async fn events(client: &HttpClient, connect: SocketAddr, from: &Worker) -> hyper::body::Incoming {
    loop {
        let request = Request::get(format!("http://{connect}/events")).body(Full::<Bytes>::default()).unwrap();
        let response = client.request(request).await.unwrap();
        if from.upstream.seen.running() > 0 {
            return response.into_body();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_tightened_stops_traffic_to_whom_it_refuses_and_what_runs_there() {
    let dir = dir();
    let snp = Worker::start(&dir, &[]).await;
    let tdx = Worker::start(&dir, &["--platform", "sim-tdx"]).await;
    let policy = policy(&dir);
    let front = balancer(&dir, &[snp.url(), tdx.url()], &policy, &[]);
    let connect = front.connect(&[]);
    let client = client();
    let before = config(&client, connect.addr()).await;
    let mut kept = events(&client, connect.addr(), &snp).await;
    let mut cut = events(&client, connect.addr(), &tdx).await;

    let whole = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, without(&policy, "tdx")).unwrap();
    reload(&front, RELOADED).await;
    let after = config(&client, connect.addr()).await;
    assert_ne!(after, before);
    let served = tdx.requests();
    for _ in 0..20 {
        let request = Request::post(format!("http://{}/", connect.addr())).body(Full::from("secret")).unwrap();
        assert_eq!(collected(client.request(request).await.unwrap()).await.status(), StatusCode::OK);
    }
    assert_eq!(tdx.requests(), served);
    while let Some(frame) = cut.frame().await {
        if frame.is_err() {
            break;
        }
    }
    eventually("its service is told", || tdx.upstream.seen.running() == 0).await;
    snp.upstream.seen.send("data: on\n\n").await;
    assert_eq!(kept.frame().await.unwrap().unwrap().into_data().unwrap(), "data: on\n\n", "what may go on does");

    std::fs::write(&policy, whole).unwrap();
    reload(&front, RELOADED).await;
    assert_eq!(config(&client, connect.addr()).await, before, "the same policy is the same configuration");
    while tdx.requests() == served {
        get(&client, connect.addr(), "/").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_bad_or_the_same_changes_nothing() {
    let dir = dir();
    let worker = Worker::start(&dir, &[]).await;
    let policy = policy(&dir);
    let front = balancer(&dir, &[worker.url()], &policy, &[]);
    let connect = front.connect(&[]);
    let client = client();
    let before = config(&client, connect.addr()).await;
    let mut running = events(&client, connect.addr(), &worker).await;
    let good = std::fs::read_to_string(&policy).unwrap();
    for bad in ["[snp]\nunknown = 1", "", "[server]\nname = \"localhost\"\n"] {
        std::fs::write(&policy, bad).unwrap();
        reload(&front, "not reloaded").await;
        let response = get(&client, connect.addr(), "/").await;
        assert_eq!(response.status(), StatusCode::OK, "not even a connection was ended");
    }
    std::fs::write(&policy, good).unwrap();
    reload(&front, RELOADED).await;
    let response = get(&client, connect.addr(), "/").await;
    assert!(response.headers()["attestation-result"].to_str().unwrap().contains(&before));
    worker.upstream.seen.send("data: on\n\n").await;
    assert_eq!(running.frame().await.unwrap().unwrap().into_data().unwrap(), "data: on\n\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_told_of_another_configuration_is_asked_to_come_again_and_nothing_is_sent_on() {
    let dir = dir();
    let worker = Worker::start(&dir, &[]).await;
    let policy = policy(&dir);
    let front = balancer(&dir, &[worker.url()], &policy, &[]);
    let client = client();
    let loose = front.connect(&[]);
    let before = config(&client, loose.addr()).await;
    let pinned = front.connect(&["--config", &before]);
    assert_eq!(get(&client, pinned.addr(), "/").await.status(), StatusCode::OK);

    // A request that is on its way while the configuration changes.
    let mut tls = front.tls("http/1.1").await;
    tls.write_all(b"POST /under-way HTTP/1.1\r\nHost: localhost\r\nContent-").await.unwrap();
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, format!("{text}\n# another\n")).unwrap();
    reload(&front, RELOADED).await;
    // Closed, or asked to come again: which of the two depends on how much of it had been read.
    let mut answer = String::new();
    if tls.write_all(b"Length: 6\r\n\r\nsecret").await.is_ok() {
        let _ = tls.read_to_string(&mut answer).await;
    }
    let asked_again = answer.starts_with("HTTP/1.1 421 ") && answer.contains("\"code\":\"configuration-changed\"");
    assert!(answer.is_empty() || asked_again, "{answer}");

    loop {
        let response = get(&client, pinned.addr(), "/pinned").await;
        if response.status() == StatusCode::BAD_GATEWAY {
            let problem = super::support::problem(&response);
            assert_eq!((&problem["code"], &problem["check"]), (&"not-attested".into(), &"config-mismatch".into()));
            break;
        }
        assert_eq!(code(&response).1, "configuration-changed");
    }
    assert_ne!(config(&client, loose.addr()).await, before);
    assert!(worker.upstream.seen.paths().iter().all(|path| path == "/"), "{:?}", worker.upstream.seen.paths());
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_a_reload_fails_no_request_but_those_that_are_asked_to_come_again() {
    let dir = dir();
    let (one, two) = (Worker::start(&dir, &[]).await, Worker::start(&dir, &[]).await);
    let policy = policy(&dir);
    let front = balancer(&dir, &[one.url(), two.url()], &policy, &[]);
    let connect = front.connect(&[]);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (stop, served, client, addr) = (Arc::clone(&stop), Arc::clone(&served), client(), connect.addr());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let request = Request::post(format!("http://{addr}/")).body(Full::from("sent")).unwrap();
                    let response = collected(client.request(request).await.unwrap()).await;
                    match response.status() {
                        StatusCode::OK => _ = served.fetch_add(1, Ordering::SeqCst),
                        _ => assert_eq!(code(&response).1, "configuration-changed", "{response:?}"),
                    }
                }
            })
        })
        .collect();
    let text = std::fs::read_to_string(&policy).unwrap();
    for n in 0..4 {
        let before = served.load(Ordering::SeqCst);
        eventually("requests are served", || served.load(Ordering::SeqCst) > before + 50).await;
        std::fs::write(&policy, format!("{text}\n# {n}\n")).unwrap();
        reload(&front, RELOADED).await;
    }
    let before = served.load(Ordering::SeqCst);
    eventually("requests are served", || served.load(Ordering::SeqCst) > before + 50).await;
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        assert!(task.await.is_ok(), "{}", connect.log());
    }
}
