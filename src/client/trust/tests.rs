use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};

use super::super::exchange::{Carrier, Encoded, Exchange, Expectations};
use super::super::fake::{Keys, claims_of};
use super::*;
use crate::error::ErrorKind;
use crate::protocol::{ATTESTATION_REPORT, Nonce, ResponseStatement, Target};
use crate::report::Platform;

const MINUTE: Duration = Duration::from_secs(60);
const AGE: Duration = Duration::from_secs(600);

fn at(monotonic: Duration) -> Now {
    Now { monotonic, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + monotonic }
}

fn origin(host: &str) -> Origin {
    Origin::of(&format!("https://{host}/x").parse().unwrap())
}

fn trusting(seeds: &[u8]) -> (Trust, Origin) {
    let (trust, origin) = (Trust::new(AGE), origin("a"));
    for seed in seeds {
        trust.trust(&origin, &verified(&Keys::new(*seed), at(MINUTE), None), 0);
    }
    (trust, origin)
}

fn believes(trust: &Trust, origin: &Origin, seed: u8, now: Now) -> bool {
    let digest = Keys::new(seed).digest();
    let plan = trust.draw(origin, now, 0);
    assert_eq!(plan.keys(&digest).is_some(), trust.keys(origin, &digest, now, 0).is_some());
    assert_eq!(plan.is_empty(), trust.any(origin, now, 0).is_none());
    plan.keys(&digest).is_some()
}

#[test]
fn keys_are_believed_until_their_age_and_not_at_it() {
    let (trust, origin) = trusting(&[1]);
    assert!(believes(&trust, &origin, 1, at(MINUTE)));
    assert!(believes(&trust, &origin, 1, at(MINUTE + AGE - Duration::from_nanos(1))));
    assert!(!believes(&trust, &origin, 1, at(MINUTE + AGE)));
}

#[test]
fn keys_past_their_age_are_believed_by_no_way_of_asking() {
    let (trust, origin) = trusting(&[1]);
    let (digest, young, old) = (Keys::new(1).digest(), at(MINUTE), at(MINUTE + AGE));
    assert!(trust.keys(&origin, &digest, young, 0).is_some() && trust.any(&origin, young, 0).is_some());
    assert!(trust.keys(&origin, &digest, old, 0).is_none());
    assert!(trust.any(&origin, old, 0).is_none());
    assert!(trust.draw(&origin, old, 0).is_empty());
}

#[test]
fn either_clock_alone_ends_belief() {
    let (trust, origin) = trusting(&[1]);
    let wall_alone = Now { monotonic: MINUTE, ..at(MINUTE + AGE) };
    assert!(!believes(&trust, &origin, 1, wall_alone));
    let (trust, origin) = trusting(&[1]);
    let monotonic_alone = Now { wall: at(MINUTE).wall, ..at(MINUTE + AGE) };
    assert!(!believes(&trust, &origin, 1, monotonic_alone));
}

#[test]
fn a_wall_clock_that_steps_back_extends_nothing() {
    let (trust, origin) = trusting(&[1]);
    let stepped = |monotonic| Now { monotonic, wall: SystemTime::UNIX_EPOCH };
    assert!(believes(&trust, &origin, 1, stepped(MINUTE)));
    assert!(!believes(&trust, &origin, 1, stepped(MINUTE + AGE)));

    let trust = Trust::new(AGE);
    trust.trust(&origin, &verified(&Keys::new(1), at(MINUTE), Some(at(3 * MINUTE).wall)), 0);
    assert!(!believes(&trust, &origin, 1, stepped(3 * MINUTE)));
}

#[test]
fn claims_that_end_earlier_end_belief_earlier() {
    let trust = Trust::new(AGE);
    let origin = origin("a");
    trust.trust(&origin, &verified(&Keys::new(1), at(MINUTE), Some(at(3 * MINUTE).wall)), 0);
    assert!(believes(&trust, &origin, 1, at(3 * MINUTE - Duration::from_nanos(1))));
    assert!(!believes(&trust, &origin, 1, at(3 * MINUTE)));
}

#[test]
fn claims_that_end_later_do_not_extend_belief() {
    let trust = Trust::new(AGE);
    let origin = origin("a");
    trust.trust(&origin, &verified(&Keys::new(1), at(MINUTE), Some(at(90 * MINUTE).wall)), 0);
    assert!(!believes(&trust, &origin, 1, at(MINUTE + AGE)));
}

#[test]
fn a_plan_keeps_what_was_believed_when_it_was_drawn() {
    let (trust, origin) = trusting(&[1]);
    let plan = trust.draw(&origin, at(MINUTE), 0);
    assert!(trust.draw(&origin, at(MINUTE + AGE), 0).is_empty());
    assert!(plan.keys(&Keys::new(1).digest()).is_some());
}

#[test]
fn another_revision_drops_all_trust() {
    let (trust, origin) = trusting(&[1, 2]);
    trust.note_transport(&origin, true);
    let plan = trust.draw(&origin, at(MINUTE), 1);
    assert!(plan.is_empty() && plan.have.is_empty() && !plan.attested);
    assert!(trust.draw(&origin, at(MINUTE), 0).is_empty(), "nor does it come back");
}

#[test]
fn after_half_the_age_exactly_one_request_leaves_the_key_out() {
    let (trust, origin) = trusting(&[1, 2]);
    let before = at(MINUTE + AGE / 2 - Duration::from_nanos(1));
    assert_eq!(trust.draw(&origin, before, 0).have.len(), 2);

    trust.trust(&origin, &verified(&Keys::new(2), at(MINUTE + AGE / 2), None), 0);
    let half = at(MINUTE + AGE / 2);
    let lists: Vec<_> = (0..100).map(|_| trust.draw(&origin, half, 0).have).collect();
    let old = Keys::new(1).digest();
    assert_eq!(lists.iter().filter(|have| !have.contains(&old)).count(), 1);
    assert!(!lists[0].contains(&old), "the first that comes");
    assert!(lists.iter().all(|have| have.contains(&Keys::new(2).digest())), "the young key stays");
}

#[test]
fn the_request_that_renews_still_believes_the_key() {
    let (trust, origin) = trusting(&[1]);
    let plan = trust.draw(&origin, at(MINUTE + AGE / 2), 0);
    assert!(plan.have.is_empty() && plan.keys(&Keys::new(1).digest()).is_some());
}

#[test]
fn a_renewal_that_brought_nothing_is_tried_again_after_an_eighth() {
    let (trust, origin) = trusting(&[1]);
    let half = MINUTE + AGE / 2;
    assert!(trust.draw(&origin, at(half), 0).have.is_empty());
    assert_eq!(trust.draw(&origin, at(half + AGE / 8 - Duration::from_nanos(1)), 0).have.len(), 1);
    assert!(trust.draw(&origin, at(half + AGE / 8), 0).have.is_empty());
}

#[test]
fn renewed_evidence_counts_from_its_own_nonce_and_older_never_replaces_newer() {
    let (trust, origin) = trusting(&[1]);
    trust.trust(&origin, &verified(&Keys::new(1), at(6 * MINUTE), None), 0);
    trust.trust(&origin, &verified(&Keys::new(1), at(2 * MINUTE), None), 0);
    assert!(believes(&trust, &origin, 1, at(15 * MINUTE)));
    assert!(!believes(&trust, &origin, 1, at(16 * MINUTE)));
}

#[test]
fn of_two_verdicts_on_one_nonces_moment_the_later_counts() {
    let (trust, origin) = trusting(&[1]);
    trust.trust(&origin, &verified(&Keys::new(1), at(MINUTE), Some(at(3 * MINUTE).wall)), 0);
    assert!(!believes(&trust, &origin, 1, at(3 * MINUTE)));
}

#[test]
fn have_lists_eight_keys_the_most_recently_used_first() {
    let (trust, origin) = trusting(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    trust.used(&origin, &Keys::new(2).digest());
    let have = trust.draw(&origin, at(MINUTE), 0).have;
    let expected: Vec<_> = [2, 10, 9, 8, 7, 6, 5, 4].map(|seed| Keys::new(seed).digest()).to_vec();
    assert_eq!(have, expected);
}

#[test]
fn the_seventeenth_key_pushes_out_the_least_recently_used() {
    let seeds: Vec<u8> = (1..=16).collect();
    let (trust, origin) = trusting(&seeds);
    trust.used(&origin, &Keys::new(1).digest());
    trust.trust(&origin, &verified(&Keys::new(17), at(MINUTE), None), 0);
    assert!(believes(&trust, &origin, 1, at(MINUTE)));
    assert!(!believes(&trust, &origin, 2, at(MINUTE)));
    assert!(believes(&trust, &origin, 17, at(MINUTE)));
}

#[test]
fn the_1025th_origin_pushes_out_the_least_recently_used() {
    let trust = Trust::new(AGE);
    let keys = verified(&Keys::new(1), at(MINUTE), None);
    for number in 0..MAX_ORIGINS {
        trust.trust(&origin(&format!("h{number}")), &keys, 0);
    }
    assert!(!trust.draw(&origin("h0"), at(MINUTE), 0).is_empty());
    trust.trust(&origin("new"), &keys, 0);
    assert!(!trust.draw(&origin("h0"), at(MINUTE), 0).is_empty());
    assert!(trust.draw(&origin("h1"), at(MINUTE), 0).is_empty());
    assert!(trust.state(0).origins.len() <= MAX_ORIGINS);
}

#[test]
fn asking_for_evidence_of_an_origin_is_using_it() {
    let trust = Trust::new(AGE);
    let keys = verified(&Keys::new(1), at(MINUTE), None);
    let origins: Vec<Origin> = (0..MAX_ORIGINS).map(|number| origin(&format!("h{number}"))).collect();
    origins.iter().for_each(|origin| trust.trust(origin, &keys, 0));
    origins.iter().rev().for_each(|origin| drop(trust.draw(origin, at(MINUTE), 0)));
    trust.trust(&origin("new"), &keys, 0);
    let gone: Vec<&Origin> = origins.iter().filter(|origin| trust.any(origin, at(MINUTE), 0).is_none()).collect();
    assert_eq!(gone, [&origins[MAX_ORIGINS - 1]], "the first that was drawn for");
}

#[test]
fn what_is_remembered_is_counted() {
    let (trust, _) = trusting(&[1, 2, 3]);
    trust.trust(&origin("b"), &verified(&Keys::new(1), at(MINUTE), None), 0);
    assert_eq!(trust.stats(), TrustStats { origins: 2, keys: 4 });
    assert_eq!(Trust::new(AGE).stats(), TrustStats::default());
}

#[test]
fn an_origin_is_attested_as_its_transport_said_last() {
    let (trust, known) = trusting(&[1]);
    for origin in [known, origin("b")] {
        assert!(!trust.attested(&origin));
        trust.note_transport(&origin, true);
        assert!(trust.attested(&origin) && trust.draw(&origin, at(MINUTE), 0).attested);
        trust.note_transport(&origin, false);
        assert!(!trust.attested(&origin));
    }
    assert!(!trust.attested(&origin("c")));
}

#[cfg(feature = "seal")]
#[test]
fn requests_are_sealed_to_the_key_used_last_that_has_one() {
    let (trust, origin) = trusting(&[1]);
    assert!(trust.draw(&origin, at(MINUTE), 0).sealable().is_none());
    for keys in [Keys::with_seal(2), Keys::with_seal(3), Keys::new(4)] {
        trust.trust(&origin, &verified(&keys, at(MINUTE), None), 0);
    }
    let sealed_to = || trust.draw(&origin, at(MINUTE), 0).sealable().map(|keys| *keys.digest());
    assert_eq!(sealed_to(), Some(Keys::with_seal(3).digest()));
    trust.used(&origin, &Keys::with_seal(2).digest());
    assert_eq!(sealed_to(), Some(Keys::with_seal(2).digest()));
}

#[cfg(feature = "seal")]
#[test]
fn keys_that_are_forgotten_are_believed_no_longer_and_others_are() {
    let (trust, origin) = trusting(&[1, 2]);
    trust.forget(&origin, &Keys::new(1).digest());
    assert!(!believes(&trust, &origin, 1, at(MINUTE)));
    assert!(believes(&trust, &origin, 2, at(MINUTE)));
}

#[test]
fn asking_about_strange_origins_remembers_nothing() {
    let trust = Trust::new(AGE);
    trust.draw(&origin("a"), at(MINUTE), 0);
    trust.note_transport(&origin("a"), false);
    assert!(trust.state(0).origins.is_empty());
}

#[test]
fn keys_are_believed_for_their_origin_alone() {
    let (trust, own) = trusting(&[1]);
    assert!(believes(&trust, &own, 1, at(MINUTE)));
    for other in ["https://b/x", "http://a/x", "https://a:8443/x", "/x"] {
        let other = Origin::of(&other.parse().unwrap());
        assert!(!believes(&trust, &other, 1, at(MINUTE)), "{other:?}");
    }
    assert_eq!(own, Origin::of(&"https://A/other?y".parse().unwrap()));
}

#[test]
fn a_failure_settles_those_who_waited_and_is_remembered_for_a_second() {
    let (trust, origin) = (Trust::new(AGE), origin("a"));
    let waiting = trust.flight(&origin);
    assert!(trust.failure(&origin, &waiting, at(MINUTE), 0).is_none());
    trust.failed(&origin, &AttestError::new(ErrorKind::Transport, "down"), at(MINUTE), 0);
    assert!(trust.failure(&origin, &waiting, at(9 * MINUTE), 0).is_some(), "however late it is polled");

    let newcomer = trust.flight(&origin);
    let within = at(MINUTE + FAILURE_MEMORY - Duration::from_nanos(1));
    assert!(trust.failure(&origin, &newcomer, within, 0).is_some());
    assert!(trust.failure(&origin, &newcomer, at(MINUTE + FAILURE_MEMORY), 0).is_none());
}

#[test]
fn a_failure_under_another_revision_is_forgotten() {
    let (trust, origin) = (Trust::new(AGE), origin("a"));
    trust.failed(&origin, &AttestError::new(ErrorKind::Refused, "policy"), at(MINUTE), 0);
    let newcomer = trust.flight(&origin);
    assert!(trust.failure(&origin, &newcomer, at(MINUTE), 1).is_none());
}

#[test]
fn fresh_evidence_ends_the_memory_of_a_failure() {
    let (trust, origin) = (Trust::new(AGE), origin("a"));
    trust.failed(&origin, &AttestError::new(ErrorKind::Transport, "down"), at(MINUTE), 0);
    trust.trust(&origin, &verified(&Keys::new(1), at(MINUTE), None), 0);
    assert!(trust.failure(&origin, &trust.flight(&origin), at(MINUTE), 0).is_none());
}

/// Keys with evidence drawn at `drawn`, verified by the one way there is.
fn verified(keys: &Keys, drawn: Now, valid_until: Option<SystemTime>) -> Arc<VerifiedKeys> {
    let nonce = Nonce::from_bytes([7; 32]);
    let target = Target::of(&Method::GET, &http::Uri::from_static("/")).unwrap();
    let digest = keys.digest();
    let header = keys.sign(&ResponseStatement {
        nonce: &nonce,
        binding: None,
        keys: &digest,
        method: &Method::GET,
        target: &target,
        status: StatusCode::OK,
    });
    let headers = HeaderMap::from_iter([(ATTESTATION_REPORT, header.to_value())]);
    let exchange = Exchange::new(nonce, drawn, Method::GET, target.clone());
    let head = exchange.judge_head(Ok(Carrier::Unbound), StatusCode::OK, &headers).unwrap();
    let evidence = keys.evidence(&nonce, None).to_cbor();
    let expected = Expectations { platforms: vec![Platform::SNP], ..Expectations::default() };
    let pending = exchange.judge_evidence(&head, Encoded::Cbor(&evidence), &expected).unwrap();
    let claims = claims_of(pending.report());
    let claims = match valid_until {
        Some(end) => claims.with_valid_until(end),
        None => claims,
    };
    pending.finish(Ok(claims), drawn.wall).unwrap()
}
