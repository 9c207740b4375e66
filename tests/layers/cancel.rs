//! Calls that are dropped at each of their await points: no slot is lost and no batch is stuck.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tower::{Layer, ServiceExt};
use tower_attest::mock::MockTee;
use tower_attest::{Attester, ReportLayer, VerifiedReport};

use crate::support::{echo, get, http2, layer, serve};

/// Polls `future` until it has been woken `polls` times, then drops it. Whether it ended before.
async fn ends_within<F: Future>(future: F, polls: usize) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}

#[tokio::test]
async fn a_cold_call_dropped_at_any_await_point_leaves_both_ends_whole() {
    let tee = MockTee::new();
    let attester = Attester::builder(tee.provider()).name("localhost").queue(4).start().await.unwrap();
    let address = serve(ReportLayer::new(attester.clone()).layer(echo())).await;
    let mut finished = false;
    for polls in 0..64 {
        let client = layer(&tee).layer(http2());
        let dropped = client.clone().oneshot(get(address, "/x"));
        finished = ends_within(dropped, polls).await;
        let after = tokio::time::timeout(Duration::from_secs(30), client.oneshot(get(address, "/x")));
        let response = after.await.expect("a later call is not stuck").unwrap();
        assert!(VerifiedReport::of(&response).is_some());
        if finished {
            break;
        }
    }
    assert!(finished, "the last round polled the call to its end, so every await point was met");
    assert_eq!(attester.stats().queued, 0);
}

#[tokio::test]
async fn waiters_behind_a_dropped_leader_go_on() {
    let tee = MockTee::new();
    let provider = tee.provider();
    let attester = Attester::builder(provider.clone()).name("localhost").start().await.unwrap();
    let address = serve(ReportLayer::new(attester).layer(echo())).await;
    let before = provider.calls();
    provider.hold();
    let client = layer(&tee).layer(http2());
    let leader = tokio::spawn(client.clone().oneshot(get(address, "/leader")));
    while provider.calls() == before {
        tokio::task::yield_now().await;
    }
    let waiters: Vec<_> = (0..16).map(|_| tokio::spawn(client.clone().oneshot(get(address, "/waiter")))).collect();
    tokio::task::yield_now().await;
    leader.abort();
    provider.release();
    for waiter in waiters {
        let response = waiter.await.unwrap().unwrap();
        assert!(VerifiedReport::of(&response).is_some());
    }
}

#[tokio::test]
async fn servers_forget_clients_that_hang_up() {
    let tee = MockTee::new();
    let provider = tee.provider();
    let attester = Attester::builder(provider.clone()).name("localhost").queue(8).start().await.unwrap();
    let address = serve(ReportLayer::new(attester.clone()).layer(echo())).await;
    provider.hold();
    for _ in 0..4 {
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let client = layer(&tee).layer(http2());
                tokio::spawn(client.oneshot(get(address, "/x")))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        calls.iter().for_each(|call| call.abort());
        for call in calls {
            assert!(call.await.unwrap_err().is_cancelled());
        }
    }
    provider.release();
    let response = layer(&tee).layer(http2()).oneshot(get(address, "/x")).await.unwrap();
    assert!(VerifiedReport::of(&response).is_some());
    assert_eq!(attester.stats().queued, 0);
}
