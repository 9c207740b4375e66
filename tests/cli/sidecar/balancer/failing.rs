//! Workers that die, hang, drain and come back, under load.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};

use super::support::{Worker, balancer, code, dir, policy};
use crate::sidecar::support::{Serve, client, eventually, get};

#[derive(Default)]
struct Tally {
    next: AtomicUsize,
    served: AtomicUsize,
    broken: AtomicUsize,
    stop: AtomicBool,
}

/// Keeps `at_once` requests in flight, each with a number of its own, until told to stop. An answer is a good one, or says
/// that the exchange had begun when its worker broke off.
fn load(addr: SocketAddr, method: &Method, at_once: usize) -> (Arc<Tally>, Vec<tokio::task::JoinHandle<()>>) {
    let (tally, client) = (Arc::new(Tally::default()), client());
    let tasks = (0..at_once).map(|_| {
        let (tally, client, method) = (Arc::clone(&tally), client.clone(), method.clone());
        tokio::spawn(async move {
            while !tally.stop.load(Ordering::SeqCst) {
                let id = tally.next.fetch_add(1, Ordering::SeqCst);
                let body = if method == Method::GET { Bytes::new() } else { Bytes::from_static(b"sent") };
                let request = Request::builder().method(&method).uri(format!("http://{addr}/echo"));
                let request = request.header("x-id", id).body(Full::new(body.clone())).unwrap();
                let response = client.request(request).await.expect("the balancer is there all the time");
                let status = response.status();
                let answer = response.into_body().collect().await;
                match status {
                    StatusCode::OK => match answer {
                        Ok(echoed) => {
                            assert_eq!(echoed.to_bytes(), body);
                            tally.served.fetch_add(1, Ordering::SeqCst);
                        }
                        // The worker died after it had begun to answer.
                        Err(_) => _ = tally.broken.fetch_add(1, Ordering::SeqCst),
                    },
                    StatusCode::BAD_GATEWAY => {
                        let problem: serde_json::Value = serde_json::from_slice(&answer.unwrap().to_bytes()).unwrap();
                        assert_eq!(problem["code"], "upstream-broke", "{problem}");
                        tally.broken.fetch_add(1, Ordering::SeqCst);
                    }
                    other => panic!("{other}"),
                }
            }
        })
    });
    let tasks = tasks.collect();
    (tally, tasks)
}

async fn more(tally: &Tally) {
    let before = tally.served.load(Ordering::SeqCst);
    eventually("requests are served", || tally.served.load(Ordering::SeqCst) > before + 50).await;
}

/// How often each request of this method reached a service.
fn arrivals(method: &Method, workers: &[&Worker]) -> HashMap<String, usize> {
    let mut seen = HashMap::new();
    for request in workers.iter().flat_map(|worker| worker.upstream.seen.requests()) {
        if let Some(id) = request.headers.get("x-id").filter(|_| request.method == *method) {
            *seen.entry(id.to_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    seen
}

const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_to_a_worker_that_is_killed_unless_it_had_begun_and_none_is_processed_twice() {
    let dir = dir();
    let one = Worker::start(&dir, &[]).await;
    let mut two = Worker::start(&dir, &[]).await;
    let front = balancer(&dir, &[one.url(), two.url()], &policy(&dir), &[]);
    let connect = front.connect(&[]);
    for method in [Method::GET, Method::POST] {
        let (tally, tasks) = load(connect.addr(), &method, AT_ONCE);
        for _ in 0..3 {
            let served = two.requests();
            eventually("the worker serves", || two.requests() > served + 20).await;
            let Worker { serve, upstream } = two;
            let at = serve.addr().to_string();
            // SIGKILL.
            drop(serve);
            more(&tally).await;
            let serve = Serve::start_at(&at, &upstream.url(), &[], Arc::clone(&dir));
            two = Worker { upstream, serve };
        }
        tally.stop.store(true, Ordering::SeqCst);
        for task in tasks {
            task.await.unwrap();
        }
        let broken = tally.broken.load(Ordering::SeqCst);
        // Bodies of answers that had begun cannot be taken back; the echo of nothing has none.
        let most = if method == Method::GET { 0 } else { 3 * AT_ONCE };
        assert!(broken <= most, "{method}: {broken} broken");
        if method == Method::POST {
            let seen = arrivals(&method, &[&one, &two]);
            assert!(seen.values().all(|times| *times == 1), "processed more than once");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_loses_nothing() {
    let dir = dir();
    let (one, two) = (Worker::start(&dir, &[]).await, Worker::start(&dir, &[]).await);
    let front = balancer(&dir, &[one.url(), two.url()], &policy(&dir), &[]);
    let connect = front.connect(&[]);
    let (tally, tasks) = load(connect.addr(), &Method::POST, AT_ONCE);
    eventually("the worker serves", || two.requests() > 20).await;
    let Worker { serve, upstream } = two;
    assert_eq!(serve.sidecar.terminate().await, Some(0));
    more(&tally).await;
    tally.stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(tally.broken.load(Ordering::SeqCst), 0);
    drop(upstream);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_given_up_and_taken_back_when_it_moves_again() {
    let dir = dir();
    let (one, two) = (Worker::start(&dir, &[]).await, Worker::start(&dir, &[]).await);
    let front = balancer(&dir, &[one.url(), two.url()], &policy(&dir), &["--upstream-keep-alive", "300ms"]);
    let connect = front.connect(&[]);
    let (tally, tasks) = load(connect.addr(), &Method::GET, AT_ONCE);
    eventually("the worker serves", || two.requests() > 20).await;
    two.serve.sidecar.signal("STOP");
    eventually("its connection is given up", || front.sidecar.log().contains("it broke off an exchange")).await;
    more(&tally).await;
    let stopped = two.requests();
    more(&tally).await;
    assert!(two.requests() <= stopped + AT_ONCE, "what was on its way at most");
    two.serve.sidecar.signal("CONT");
    let before = two.requests();
    eventually("it serves again", || two.requests() > before + AT_ONCE).await;
    tally.stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(tally.broken.load(Ordering::SeqCst), 0, "what was with it went to the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_service_is_gone_is_passed_over_and_still_there_if_it_is_the_last() {
    let dir = dir();
    let (one, two) = (Worker::start(&dir, &[]).await, Worker::start(&dir, &[]).await);
    let front = balancer(&dir, &[one.url(), two.url()], &policy(&dir), &[]);
    let connect = front.connect(&[]);
    let client = client();
    let Worker { serve, upstream } = two;
    drop(upstream);
    // Each answer of the broken one counts.
    while !front.sidecar.log().contains("worker paused") {
        get(&client, connect.addr(), "/").await;
    }
    let answers = async |n: usize| {
        let mut good = 0;
        for _ in 0..n {
            good += usize::from(get(&client, connect.addr(), "/").await.status() == StatusCode::OK);
        }
        good
    };
    assert!(answers(20).await >= 15, "the other is preferred");
    drop(one);
    // Its answer is worth more than none.
    loop {
        let response = get(&client, connect.addr(), "/").await;
        if code(&response).1 == "upstream-down" {
            break;
        }
    }
    drop(serve);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_returns_after_all_were_gone_serves_again() {
    let dir = dir();
    let worker = Worker::start(&dir, &[]).await;
    let front = balancer(&dir, &[worker.url()], &policy(&dir), &[]);
    let connect = front.connect(&[]);
    let client = client();
    assert_eq!(get(&client, connect.addr(), "/").await.status(), StatusCode::OK);
    let Worker { serve, upstream } = worker;
    let at = serve.addr().to_string();
    drop(serve);
    let response = get(&client, connect.addr(), "/").await;
    assert_eq!(code(&response), (StatusCode::BAD_GATEWAY, "no-worker".to_owned()));
    let serve = Serve::start_at(&at, &upstream.url(), &[], Arc::clone(&dir));
    while get(&client, connect.addr(), "/").await.status() != StatusCode::OK {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(serve);
}
