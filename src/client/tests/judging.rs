//! How the layer comes to believe the keys that signed a response.

use std::time::Duration;

use super::super::fake::Keys;
use super::*;
use crate::protocol::ATTESTATION_REPORT;
use crate::time::Clock;
use crate::verifier::{VerifyError, VerifyErrorKind};

const AGE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_warm_request_lists_the_key_and_verifies_no_report() {
    let set = Set::new();
    set.send().await.unwrap();
    set.send().await.unwrap();
    let last = set.server.seen().pop().unwrap().nonce.unwrap();
    assert_eq!(last.have, [Keys::new(1).digest()]);
    assert_eq!((set.server.counts(), set.verifier.calls()), ((1, 2), 1));
}

#[tokio::test]
async fn keys_that_change_are_learnt_from_the_response_itself() {
    let set = Set::new();
    set.send().await.unwrap();
    set.server.set(|b| b.keys = Keys::new(2));
    let response = set.send().await.unwrap();
    let report = crate::VerifiedReport::of(&response).unwrap();
    assert_eq!(report.keys_digest(), &Keys::new(2).digest());
    assert_eq!(set.server.counts(), (1, 2));
    set.send().await.unwrap();
    let last = set.server.seen().pop().unwrap().nonce.unwrap();
    assert_eq!(last.have, [Keys::new(2).digest(), Keys::new(1).digest()]);
}

#[tokio::test]
async fn unknown_keys_without_evidence_are_asked_for_once() {
    let set = Set::new();
    set.send().await.unwrap();
    set.server.set(|b| (b.keys, b.evidence_fits) = (Keys::new(2), false));
    set.send().await.unwrap();
    assert_eq!(set.server.counts(), (2, 2));
    set.send().await.unwrap();
    assert_eq!(set.server.counts(), (2, 3));
}

#[tokio::test]
async fn unknown_keys_that_the_endpoint_does_not_vouch_for_are_refused() {
    let set = Set::new();
    set.send().await.unwrap();
    set.server.set(|b| {
        (b.keys, b.evidence_fits) = (Keys::new(2), false);
        b.endpoint_keys = Some(Keys::new(3));
    });
    assert_eq!(set.refused().await, ErrorKind::UnknownKeys);
    assert_eq!(set.server.counts(), (2, 2), "asked once");
}

#[tokio::test]
async fn bad_evidence_in_the_response_is_refused_whatever_is_believed() {
    let set = Set::new();
    set.send().await.unwrap();
    set.server.set(|b| b.keys = Keys::new(2));
    set.verifier.refuse(Some(VerifyError::new(VerifyErrorKind::Revoked, "VCEK")));
    assert_eq!(set.refused().await, ErrorKind::Refused);
    set.verifier.refuse(None);
    set.server.tamper(|path, response| {
        if path == "/prove" {
            let text = response.headers()[ATTESTATION_REPORT].to_str().unwrap().to_owned();
            let (head, _) = text.split_once(", evidence=").unwrap();
            response.headers_mut().insert(ATTESTATION_REPORT, format!("{head}, evidence=:AAAA:").parse().unwrap());
        }
    });
    assert_eq!(set.refused().await, ErrorKind::Malformed);
}

#[tokio::test]
async fn evidence_that_cannot_be_judged_now_leaves_believed_keys_believed_until_their_age() {
    let set = Set::new();
    set.send().await.unwrap();
    set.verifier.refuse(Some(VerifyError::new(VerifyErrorKind::Unavailable, "KDS is down")));
    set.clock.advance(AGE / 2);
    let response = set.send().await.unwrap();
    assert_eq!(set.verifier.calls(), 2, "the renewal was tried");
    assert_eq!(crate::VerifiedReport::of(&response).unwrap().age(), AGE / 2);
    assert_eq!(set.client.trust().keys, 1);
    set.clock.advance(AGE / 2);
    assert_eq!(set.refused().await, ErrorKind::Unavailable);
}

#[tokio::test]
async fn believed_keys_whose_new_evidence_is_refused_are_refused() {
    let set = Set::new();
    set.send().await.unwrap();
    set.verifier.refuse(Some(VerifyError::new(VerifyErrorKind::Revoked, "VCEK")));
    set.clock.advance(AGE / 2);
    assert_eq!(set.refused().await, ErrorKind::Refused);
    assert_eq!(set.server.counts(), (1, 2));
    assert_eq!(set.refused().await, ErrorKind::Refused, "what was refused once is believed for nobody");
    assert_eq!(set.server.counts(), (2, 2), "and nothing more is sent to it");
    assert_eq!(set.client.trust().keys, 0);
}

#[tokio::test]
async fn evidence_for_strange_keys_that_cannot_be_judged_now_is_unavailable() {
    let set = Set::new();
    set.send().await.unwrap();
    set.server.set(|b| b.keys = Keys::new(2));
    set.verifier.refuse(Some(VerifyError::new(VerifyErrorKind::Unavailable, "KDS is down")));
    assert_eq!(set.refused().await, ErrorKind::Unavailable);
}

#[tokio::test]
async fn evidence_that_lacks_its_certificate_is_completed_at_the_endpoint() {
    let missing = || Some(VerifyError::new(VerifyErrorKind::EndorsementMissing, "VCEK"));
    let set = Set::new();
    set.send().await.unwrap();
    set.server.set(|b| b.keys = Keys::new(2));
    set.verifier.refuse(missing());
    assert_eq!(set.refused().await, ErrorKind::Refused, "the endpoint lacks it too");
    assert_eq!(set.server.counts(), (2, 2), "asked once");

    set.clock.advance(Duration::from_secs(1));
    let verifier = set.verifier.clone();
    set.server.tamper(move |path, _| verifier.refuse(if path == "/prove" { missing() } else { None }));
    set.send().await.unwrap();
    assert_eq!(set.server.counts(), (3, 3));
}

#[tokio::test]
async fn after_half_the_age_one_request_renews_and_nobody_waits() {
    let set = Set::new();
    set.send().await.unwrap();
    set.clock.advance(AGE / 2);
    for _ in 0..4 {
        set.send().await.unwrap();
    }
    let listed: Vec<_> = set.server.seen().iter().skip(2).map(|seen| seen.nonce.clone().unwrap().have.len()).collect();
    assert_eq!(listed, [0, 1, 1, 1]);
    assert_eq!((set.server.counts(), set.verifier.calls()), ((1, 5), 2));
    set.clock.advance(AGE / 2);
    set.send().await.unwrap();
    assert_eq!(set.server.counts(), (1, 6), "the renewed evidence counts from its own nonce");
}

#[tokio::test]
async fn past_the_age_requests_wait_for_new_evidence() {
    let set = Set::new();
    set.send().await.unwrap();
    set.clock.advance(AGE);
    set.send().await.unwrap();
    assert_eq!(set.server.counts(), (2, 2));
    let seen = set.server.seen();
    assert!(seen[2].nonce.clone().unwrap().have.is_empty());
}

#[tokio::test]
async fn a_response_is_judged_by_what_was_believed_when_its_nonce_was_drawn() {
    let set = Set::new();
    set.send().await.unwrap();
    let clock = set.clock.clone();
    set.server.tamper(move |path, _| {
        if path == "/prove" {
            clock.advance(AGE * 2);
        }
    });
    set.send().await.unwrap();
    assert_eq!(set.server.counts(), (1, 2));
}

#[tokio::test]
async fn a_policy_that_changes_drops_all_trust() {
    let set = Set::new();
    set.send().await.unwrap();
    set.verifier.bump();
    set.send().await.unwrap();
    assert_eq!((set.server.counts(), set.verifier.calls()), ((2, 2), 2));
}

#[tokio::test]
async fn a_policy_that_changes_while_a_request_is_out_is_applied_to_its_response() {
    let set = Set::new();
    set.send().await.unwrap();
    let verifier = set.verifier.clone();
    set.server.tamper(move |path, _| {
        if path == "/prove" {
            verifier.bump();
            verifier.refuse(Some(VerifyError::new(VerifyErrorKind::Policy, "no longer")));
        }
    });
    assert_eq!(set.refused().await, ErrorKind::Refused);
}

#[tokio::test]
async fn a_policy_that_changes_while_evidence_is_judged_voids_the_judgement() {
    for (refuses, expected) in [(false, Ok(())), (true, Err(ErrorKind::Refused))] {
        let set = Set::new();
        let gate = set.verifier.gate();
        let mut future = tokio_test::task::spawn(set.send());
        assert!(future.poll().is_pending());
        set.verifier.bump();
        gate.add_permits(1);
        assert!(future.poll().is_pending(), "the new policy judges it anew");
        set.verifier.refuse(refuses.then(|| VerifyError::new(VerifyErrorKind::Policy, "measurement")));
        gate.add_permits(1);
        let sent = future.await;
        assert_eq!(sent.as_ref().map(drop).map_err(|_| kind(&sent)), expected);
        assert_eq!(set.verifier.calls(), 2);
    }
}

#[tokio::test]
async fn a_policy_that_changes_each_time_that_evidence_is_judged_is_not_waited_for() {
    let set = Set::new();
    let gate = set.verifier.gate();
    let mut future = tokio_test::task::spawn(set.send());
    for _ in 0..2 {
        assert!(future.poll().is_pending());
        set.verifier.bump();
        gate.add_permits(1);
    }
    assert_eq!(kind(&future.await), ErrorKind::Unavailable);
    assert_eq!((set.verifier.calls(), set.client.trust().keys), (2, 0));
}

#[tokio::test]
async fn claims_that_end_are_not_believed_past_their_end() {
    let set = Set::new();
    set.verifier.valid_until(set.clock.now().wall + Duration::from_secs(3600));
    set.send().await.unwrap();
    let end = set.clock.now().wall + Duration::from_secs(60);
    set.verifier.valid_until(end);
    set.verifier.bump();
    set.send().await.unwrap();
    set.clock.advance(Duration::from_secs(60));
    assert_eq!(set.refused().await, ErrorKind::Refused, "the verifier's claims have ended");
    assert_eq!(set.server.counts(), (3, 2));
}

#[tokio::test]
async fn an_age_of_zero_asks_before_and_with_every_request() {
    let set = Set::with(|layer| layer.accept_presence().max_evidence_age(Duration::ZERO));
    for _ in 0..2 {
        set.send().await.unwrap();
    }
    assert_eq!((set.server.counts(), set.verifier.calls()), ((2, 2), 4));
}
