//! Many requests, one preflight; and requests that are dropped on the way.

use std::collections::HashSet;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_test::task;
use tower::limit::ConcurrencyLimit;
use tower::{Service, ServiceExt};

use super::super::fake::Keys;
use super::*;
use crate::client::DEFAULT_MAX_EVIDENCE_AGE;
use crate::protocol::WELL_KNOWN_PATH;

fn gate(set: &Set) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    set.server.set(|b| b.gate = Some(Arc::clone(&gate)));
    gate
}

#[tokio::test]
async fn sixty_four_cold_calls_make_one_preflight() {
    let set = Set::new();
    let gate = gate(&set);
    let mut calls: Vec<_> = (0..64).map(|_| task::spawn(set.send())).collect();
    for call in &mut calls {
        assert!(call.poll().is_pending());
    }
    assert_eq!(set.server.counts(), (1, 0), "all wait for one");
    gate.add_permits(1);
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!((set.server.counts(), set.verifier.calls()), ((1, 64), 1));
    let nonces: HashSet<_> = set.server.seen().iter().map(|seen| seen.nonce.clone().unwrap().nonce).collect();
    assert_eq!(nonces.len(), 65);
}

#[tokio::test]
async fn one_failure_fails_all_who_waited() {
    let set = Set::new();
    let gate = gate(&set);
    set.server.set(|b| b.fails = true);
    let mut calls: Vec<_> = (0..64).map(|_| task::spawn(set.send())).collect();
    for call in &mut calls {
        assert!(call.poll().is_pending());
    }
    gate.add_permits(64);
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(kind(&call.await), ErrorKind::Transport);
        if number == 0 {
            // However late the others are polled, they waited for this failure.
            set.clock.advance(Duration::from_secs(5));
        }
    }
    assert_eq!(set.server.counts(), (1, 0));
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_second() {
    let set = Set::new();
    set.server.set(|b| b.fails = true);
    assert_eq!(set.refused().await, ErrorKind::Transport);
    set.server.set(|b| b.fails = false);
    set.clock.advance(Duration::from_millis(999));
    assert_eq!(set.refused().await, ErrorKind::Transport);
    assert_eq!(set.server.counts(), (1, 0));
    set.clock.advance(Duration::from_millis(1));
    set.send().await.unwrap();
}

#[tokio::test]
async fn a_failure_is_not_remembered_for_another_policy() {
    let set = Set::new();
    set.server.set(|b| b.fails = true);
    set.refused().await;
    set.server.set(|b| b.fails = false);
    set.verifier.bump();
    set.send().await.unwrap();
}

#[tokio::test]
async fn a_failure_to_ask_after_strange_keys_is_shared_too() {
    let set = Set::new();
    set.send().await.unwrap();
    set.server.set(|b| (b.keys, b.evidence_fits) = (Keys::new(2), false));
    let gate = gate(&set);
    let mut calls: Vec<_> = (0..8).map(|_| task::spawn(set.send())).collect();
    for call in &mut calls {
        assert!(call.poll().is_pending());
    }
    assert_eq!(set.server.counts(), (2, 9), "one asks for all");
    gate.add_permits(1);
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(set.server.counts(), (2, 9));
}

/// Readiness, response, body and verifier each yield once: the leader is dropped at each of its polls in turn.
#[tokio::test]
async fn a_leader_dropped_at_any_await_leaves_the_lead_to_the_next() {
    let mut polls = 0;
    loop {
        let set = Set::new();
        set.server.set(|b| b.yields = true);
        set.verifier.yields();
        let mut leader = task::spawn(set.send());
        let mut follower = task::spawn(set.send());
        let mut done = false;
        for _ in 0..polls {
            done = leader.poll().is_ready();
            if done {
                break;
            }
        }
        assert!(done || polls < 20, "the leader never ends");
        if polls > 0 {
            let _ = follower.poll();
        }
        drop(leader);
        follower.await.unwrap();
        let third = set.send().await;
        third.unwrap();
        if done {
            assert!(polls > 6, "there were awaits to drop at: {polls}");
            break;
        }
        polls += 1;
    }
}

#[tokio::test]
async fn waiters_dropped_while_they_wait_hold_nobody_up() {
    let set = Set::new();
    let gate = gate(&set);
    let mut calls: Vec<_> = (0..8).map(|_| task::spawn(set.send())).collect();
    for call in &mut calls {
        assert!(call.poll().is_pending());
    }
    let last = calls.pop().unwrap();
    drop(calls);
    gate.add_permits(2);
    last.await.unwrap();
    let asked = set.server.counts().0;
    assert_eq!(asked, 2, "the dropped leader's and one more");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_nobody_polls_does_not_hold_waiters_for_ever() {
    let set = Set::new();
    let _gate = gate(&set);
    let mut leader = task::spawn(set.send());
    assert!(leader.poll().is_pending());
    assert_eq!(set.refused().await, ErrorKind::Timeout);
    assert_eq!(set.server.counts(), (1, 0));
}

/// One permit: whoever waits for evidence gives its own back, so that the preflight can be sent.
#[tokio::test(start_paused = true)]
async fn waiting_holds_no_permit_of_the_inner_service() {
    let set = Set::new();
    let limited = ConcurrencyLimit::new(set.server.clone(), 1);
    let client = AttestLayer::new(set.verifier.clone()).accept_presence().layer(limited);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        calls.spawn(client.clone().oneshot(request()));
    }
    for sent in calls.join_all().await {
        sent.unwrap();
    }
    assert_eq!(set.server.counts(), (1, 4));
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_called() {
    let set = Set::new();
    let mut client = set.client.clone();
    for _ in 0..3 {
        // The fake panics where a clone is called that nobody polled.
        client.ready().await.unwrap().call(request()).await.unwrap();
    }
}

#[tokio::test]
async fn clones_share_trust_and_layers_do_not() {
    let set = Set::new();
    let layer = AttestLayer::new(set.verifier.clone()).accept_presence();
    let (first, second) = (layer.layer(set.server.clone()), layer.layer(set.server.clone()));
    first.clone().oneshot(request()).await.unwrap();
    first.clone().oneshot(request()).await.unwrap();
    assert_eq!(set.server.counts(), (1, 2));
    second.oneshot(request()).await.unwrap();
    assert_eq!(set.server.counts(), (2, 3));
}

/// Evidence is fetched past a limit while another holds the only permit; then something changes, and the permit is free.
async fn changed_while_not_ready(change: impl FnOnce(&Set)) -> (usize, usize) {
    let set = Set::new();
    let limited = ConcurrencyLimit::new(set.server.clone(), 1);
    let mut holder = limited.clone();
    let layer = AttestLayer::new(set.verifier.clone()).accept_presence().clock(set.clock.clone());
    let mut client = layer.preflight_via(set.server.clone()).layer(limited);
    client.ready().await.unwrap();
    let mut call = task::spawn(client.call(request()));
    assert!(task::spawn(holder.ready()).poll().is_ready(), "the call has given its permit back");
    assert!(call.poll().is_pending());
    assert_eq!(set.server.counts(), (1, 0));
    change(&set);
    drop(holder);
    call.await.unwrap();
    set.server.counts()
}

#[tokio::test]
async fn a_policy_that_changes_while_the_inner_service_is_not_ready_is_asked_about_before_sending() {
    assert_eq!(changed_while_not_ready(|_| ()).await, (1, 1));
    assert_eq!(changed_while_not_ready(|set| set.verifier.bump()).await, (2, 1));
}

#[tokio::test]
async fn evidence_that_grows_old_while_the_inner_service_is_not_ready_is_asked_for_before_sending() {
    let age = DEFAULT_MAX_EVIDENCE_AGE;
    assert_eq!(changed_while_not_ready(|set| set.clock.advance(age - Duration::from_secs(1))).await, (1, 1));
    assert_eq!(changed_while_not_ready(|set| set.clock.advance(age)).await, (2, 1));
}

#[tokio::test]
async fn a_transport_that_changes_while_the_inner_service_is_not_ready_is_asked_again_before_sending() {
    let set = Set::new();
    let binding = crate::ChannelBinding::from_tls_exporter([5; 32]);
    set.server.set(|b| (b.binding, b.attested) = (Some(binding), true));
    let gate = gate(&set);
    let client = AttestLayer::new(set.verifier.clone()).layer(ConcurrencyLimit::new(set.server.clone(), 1));

    let mut first = client.clone();
    first.ready().await.unwrap();
    let mut call = task::spawn(first.call(request()));
    assert!(call.poll().is_pending(), "its preflight has the permit");
    let mut second = client.clone();
    let mut ready = task::spawn(async move {
        second.ready().await.unwrap();
        second
    });
    assert!(ready.poll().is_pending());
    gate.add_permits(2);
    assert!(call.poll().is_pending(), "its preflight is done, and another is before it in the queue");
    let mut second = ready.await;
    set.server.set(|b| b.attested = false);
    assert_eq!(kind(&second.call(request()).await), ErrorKind::NotAttested);
    set.server.set(|b| b.attested = true);
    call.await.unwrap();
    assert_eq!(set.server.counts(), (2, 2));
}

/// The policy changes each time that readiness is asked for.
#[derive(Clone)]
struct Restless(FakeServer, FakeVerifier);

impl Service<http::Request<String>> for Restless {
    type Response = http::Response<FakeBody>;
    type Error = BoxError;
    type Future = <FakeServer as Service<http::Request<String>>>::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.1.bump();
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<String>) -> Self::Future {
        self.0.call(request)
    }
}

#[tokio::test]
async fn a_request_waits_for_evidence_three_times_and_no_more() {
    let set = Set::new();
    let layer = AttestLayer::new(set.verifier.clone()).accept_presence().preflight_via(set.server.clone());
    let client = layer.layer(Restless(set.server.clone(), set.verifier.clone()));
    let sent = tokio::time::timeout(Duration::from_secs(60), client.oneshot(request())).await.unwrap();
    assert_eq!(kind(&sent), ErrorKind::Unavailable);
    assert_eq!(set.server.counts(), (3, 0));
}

/// As a `select!` over a reference does that goes on with another branch: nobody can tell such a leader from a slow one until
/// its own time is over.
#[tokio::test(start_paused = true)]
async fn a_leader_that_nobody_polls_any_more_keeps_the_others_for_one_timeout() {
    let set = Set::new();
    let gate = gate(&set);
    let mut leader = tokio_test::task::spawn(set.client.clone().oneshot(request()));
    assert!(leader.poll().is_pending());
    gate.add_permits(9);
    assert_eq!(set.refused().await, ErrorKind::Timeout);
    assert_eq!(set.server.counts(), (1, 0));
    set.send().await.unwrap();
    assert_eq!(set.server.counts(), (2, 1));
    drop(leader);
    set.send().await.unwrap();
}

#[test]
fn a_service_that_is_not_send_works_and_sendness_propagates() {
    fn send<T: Send>(_: &T) {}
    let set = Set::new();
    send(&set.client);
    send(&set.client.clone().call_unpolled());

    let server = set.server.clone();
    let here = std::rc::Rc::new(());
    let local = tower::service_fn(move |request: http::Request<String>| {
        let (here, server) = (here.clone(), server.clone());
        async move {
            let response = server.oneshot(request).await;
            drop(here);
            response
        }
    });
    let client = AttestLayer::new(set.verifier.clone()).accept_presence().layer(local);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(client.oneshot(request())).unwrap();
    assert_eq!(set.server.seen()[0].path, WELL_KNOWN_PATH);
}

impl Attest<FakeServer> {
    fn call_unpolled(mut self) -> <Self as Service<http::Request<String>>>::Future {
        self.call(request())
    }
}

#[test]
fn the_inner_service_can_be_reached() {
    let mut set = Set::new();
    let _: (&FakeServer, bool) = (set.client.get_ref(), Poll::Ready(()).is_ready());
    let _: &mut FakeServer = set.client.get_mut();
    let server: FakeServer = set.client.into_inner();
    assert_eq!(server.counts(), (0, 0));
}
