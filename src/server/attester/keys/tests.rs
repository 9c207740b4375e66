use super::*;
use crate::time::{Clock, ManualClock};

const HOUR: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

fn settings(names: Vec<String>) -> KeySettings {
    KeySettings {
        names,
        route: None,
        #[cfg(feature = "seal")]
        seal: None,
        epoch: HOUR,
        grace: GRACE,
    }
}

fn ring(clock: &ManualClock) -> KeyRing {
    KeyRing::new(settings(vec!["a.example".into()]), None, clock.now()).unwrap()
}

#[test]
fn keys_are_renewed_when_their_epoch_is_over_and_not_before() {
    let clock = ManualClock::new();
    let ring = ring(&clock);
    let first = ring.current(clock.now());
    clock.advance(HOUR - SECOND);
    assert_eq!(ring.current(clock.now()).digest(), first.digest());
    assert_eq!(ring.next_refresh(clock.now()), SECOND);
    clock.advance(SECOND);
    let second = ring.current(clock.now());
    assert_ne!(second.digest(), first.digest());
    assert_ne!(second.document().fields().sign, first.document().fields().sign);
    assert_eq!(second.document().fields().instance, first.document().fields().instance);
    assert_eq!((first.document().fields().epoch, second.document().fields().epoch), (1, 2));
}

#[test]
fn previous_keys_sign_while_have_names_only_them_and_their_grace_lasts() {
    let clock = ManualClock::new();
    let ring = ring(&clock);
    let first = *ring.current(clock.now()).digest();
    clock.advance(HOUR);
    let second = *ring.current(clock.now()).digest();
    let stranger = KeysDigest::from_bytes([9; 32]);
    let select = |have: &[KeysDigest]| {
        let (keys, trusted) = ring.select(have, clock.now());
        (*keys.digest(), trusted)
    };
    assert_eq!(select(&[stranger, first]), (first, true));
    assert_eq!(select(&[first, second]), (second, true));
    assert_eq!(select(&[stranger]), (second, false));
    assert_eq!(select(&[]), (second, false));
    clock.advance(GRACE - SECOND);
    assert_eq!(select(&[first]), (first, true));
    assert_eq!(ring.next_refresh(clock.now()), SECOND);
    clock.advance(SECOND);
    assert_eq!(select(&[first]), (second, false));
    assert_eq!(ring.next_refresh(clock.now()), HOUR - GRACE);
}

#[test]
fn keys_whose_grace_has_passed_unnoticed_get_none() {
    let clock = ManualClock::new();
    let ring = ring(&clock);
    let first = *ring.current(clock.now()).digest();
    clock.advance(HOUR + GRACE);
    assert!(!ring.select(&[first], clock.now()).1);
    let without = KeySettings { grace: Duration::ZERO, ..settings(vec![]) };
    let ring = KeyRing::new(without, None, clock.now()).unwrap();
    let first = *ring.current(clock.now()).digest();
    clock.advance(HOUR);
    assert!(!ring.select(&[first], clock.now()).1);
}

#[test]
fn keys_out_of_grace_are_gone_unless_a_response_still_needs_them() {
    let clock = ManualClock::new();
    let ring = ring(&clock);
    let in_flight = ring.current(clock.now());
    let idle = Arc::downgrade(&in_flight);
    clock.advance(HOUR);
    ring.refresh(clock.now());
    clock.advance(GRACE);
    ring.refresh(clock.now());
    assert!(idle.upgrade().is_some(), "the response in flight holds them");
    drop(in_flight);
    assert!(idle.upgrade().is_none());
}

#[test]
fn a_wall_clock_that_jumps_ahead_renews_and_one_that_goes_back_does_not() {
    let clock = ManualClock::new();
    let ring = ring(&clock);
    let first = *ring.current(clock.now()).digest();
    let wall = clock.now().wall;
    clock.set_wall(wall - 2 * HOUR);
    assert_eq!(*ring.current(clock.now()).digest(), first);
    clock.set_wall(wall + HOUR);
    assert_ne!(*ring.current(clock.now()).digest(), first);
}

#[test]
fn a_document_that_would_outgrow_its_limit_in_a_later_epoch_is_refused_at_once() {
    let clock = ManualClock::new();
    let now = clock.now();
    let fits = |names: usize, rest: usize| {
        let mut names = vec!["a".repeat(40); names];
        names.push("b".repeat(rest));
        make(&settings(names), [0; 16], 1, None, now)
    };
    // The largest document of epoch 1 that still fits.
    let names = (1..).find(|names| fits(*names + 1, 1).is_err()).unwrap();
    let rest = (1..).find(|rest| fits(names, *rest + 1).is_err()).unwrap();
    let mut all = vec!["a".repeat(40); names];
    all.push("b".repeat(rest));
    assert!(KeyRing::new(settings(all), None, now).is_err());
}

#[test]
fn another_configuration_makes_new_keys_at_once_and_gives_up_all_before_without_grace() {
    let clock = ManualClock::new();
    let ring = ring(&clock);
    let first = *ring.current(clock.now()).digest();
    clock.advance(HOUR);
    let second = ring.current(clock.now());
    ring.set_config([1; 32], clock.now()).unwrap();
    let third = ring.current(clock.now());
    assert_eq!((third.document().fields().config, third.document().fields().epoch), (Some([1; 32]), 3));
    assert_ne!(third.document().fields().sign, second.document().fields().sign);
    for before in [first, *second.digest()] {
        let (keys, trusted) = ring.select(&[before], clock.now());
        assert_eq!((keys.digest(), trusted), (third.digest(), false), "they vouch for another configuration");
    }
    assert_eq!(ring.next_refresh(clock.now()), HOUR, "a whole epoch begins");
    clock.advance(HOUR);
    assert_eq!(ring.current(clock.now()).document().fields().config, Some([1; 32]), "later keys vouch for it too");
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let clock = ManualClock::new();
    let ring = KeyRing::new(settings(vec![]), Some([1; 32]), clock.now()).unwrap();
    let first = *ring.current(clock.now()).digest();
    ring.set_config([1; 32], clock.now()).unwrap();
    assert_eq!(*ring.current(clock.now()).digest(), first);
}

#[test]
fn a_configuration_that_the_document_has_no_room_for_is_refused_and_nothing_changes() {
    let clock = ManualClock::new();
    let now = clock.now();
    let names = |names: usize| vec!["a".repeat(40); names];
    let most = (1..).find(|more| KeyRing::new(settings(names(*more + 1)), None, now).is_err()).unwrap();
    let ring = KeyRing::new(settings(names(most)), None, now).unwrap();
    let first = *ring.current(now).digest();
    assert!(ring.set_config([1; 32], now).is_err());
    assert_eq!(*ring.current(now).digest(), first);
    clock.advance(HOUR);
    assert_eq!(ring.current(clock.now()).document().fields().config, None);
}

#[test]
fn a_configuration_that_a_later_epoch_has_no_room_for_is_refused_at_once() {
    let now = ManualClock::new().now();
    let with = |count: usize, filler: usize| {
        let mut names = vec!["a".repeat(40); count];
        names.push("b".repeat(filler));
        settings(names)
    };
    // The largest document of epoch 2 that still fits.
    let fits = |count, filler| make(&with(count, filler), [0; 16], 2, Some([1; 32]), now).is_ok();
    let count = (1..).find(|count| !fits(*count + 1, 1)).unwrap();
    let filler = (1..).find(|filler| !fits(count, *filler + 1)).unwrap();
    assert!(fits(count, filler));
    let ring = KeyRing::new(with(count, filler), None, now).unwrap();
    assert!(ring.set_config([1; 32], now).is_err());
}

#[test]
fn no_private_key_is_in_debug_output() {
    let clock = ManualClock::new();
    let text = format!("{:?}", ring(&clock));
    assert!(text.contains("KeyEpoch") && !text.contains("SigningKey"), "{text}");
}

#[test]
fn the_route_stands_in_every_document() {
    let clock = ManualClock::new();
    let settings = KeySettings { route: Some("tee-1".into()), ..settings(vec![]) };
    let ring = KeyRing::new(settings, None, clock.now()).unwrap();
    for _ in 0..2 {
        assert_eq!(ring.current(clock.now()).document().fields().route.as_deref(), Some("tee-1"));
        clock.advance(HOUR);
    }
}

#[cfg(feature = "seal")]
mod sealing {
    use super::*;

    fn ring(clock: &ManualClock, opens: usize) -> KeyRing {
        KeyRing::new(KeySettings { seal: Some(opens), ..settings(vec![]) }, None, clock.now()).unwrap()
    }

    /// Current digest.
    fn current(ring: &KeyRing, clock: &ManualClock) -> KeysDigest {
        *ring.current(clock.now()).digest()
    }

    /// The public key that opens requests to these keys, if one does.
    fn opener(ring: &KeyRing, digest: &KeysDigest, clock: &ManualClock) -> Option<[u8; 32]> {
        ring.sealing(digest, clock.now(), |sealing| *sealing.key().public())
    }

    #[test]
    fn each_epoch_has_a_key_to_seal_to_and_its_document_names_it() {
        let clock = ManualClock::new();
        let ring = ring(&clock, 9);
        let mut publics = vec![];
        for epoch in 1..=3 {
            let keys = ring.current(clock.now());
            let config = keys.document().fields().seal.clone().unwrap();
            assert_eq!((config.id, opener(&ring, keys.digest(), &clock)), (epoch, Some(config.public)));
            publics.push(config.public);
            clock.advance(HOUR);
        }
        publics.dedup();
        assert_eq!(publics.len(), 3);
    }

    #[test]
    fn without_sealing_no_document_names_a_key_and_nothing_opens() {
        let clock = ManualClock::new();
        let ring = super::ring(&clock);
        let keys = ring.current(clock.now());
        assert_eq!(keys.document().fields().seal, None);
        assert_eq!(opener(&ring, keys.digest(), &clock), None);
        assert_eq!(ring.open(keys.digest(), &[1; 32], clock.now()), None);
    }

    #[test]
    fn the_previous_key_opens_during_its_grace_and_is_erased_after_it_whoever_holds_the_signing_key() {
        let clock = ManualClock::new();
        let ring = ring(&clock, 9);
        let signing = ring.current(clock.now());
        let first = *signing.digest();
        let private = Arc::downgrade(ring.ring.load().current.sealing.as_ref().unwrap());
        clock.advance(HOUR);
        assert_ne!(current(&ring, &clock), first);
        clock.advance(GRACE - SECOND);
        assert!(opener(&ring, &first, &clock).is_some());
        assert_eq!(ring.open(&first, &[1; 32], clock.now()), Some(Opening::First));
        clock.advance(SECOND);
        assert_eq!(ring.open(&first, &[2; 32], clock.now()), None);
        assert_eq!(opener(&ring, &first, &clock), None);
        assert!(private.upgrade().is_none(), "erased");
        assert!(opener(&ring, &current(&ring, &clock), &clock).is_some());
        drop(signing);
    }

    #[test]
    fn a_request_is_opened_once_in_an_epoch_and_in_its_grace() {
        let clock = ManualClock::new();
        let ring = ring(&clock, 9);
        let first = current(&ring, &clock);
        assert_eq!(ring.open(&first, &[1; 32], clock.now()), Some(Opening::First));
        assert_eq!(ring.open(&first, &[1; 32], clock.now()), Some(Opening::Repeated));
        clock.advance(HOUR);
        assert_eq!(ring.open(&first, &[1; 32], clock.now()), Some(Opening::Repeated));
        let second = current(&ring, &clock);
        assert_eq!(ring.open(&second, &[1; 32], clock.now()), Some(Opening::First), "another key, another request");
    }

    #[test]
    fn a_full_record_ends_its_epoch_early_and_without_grace() {
        let clock = ManualClock::new();
        let ring = ring(&clock, 2);
        let first = ring.current(clock.now());
        let private = Arc::downgrade(ring.ring.load().current.sealing.as_ref().unwrap());
        assert_eq!(ring.open(first.digest(), &[1; 32], clock.now()), Some(Opening::First));
        assert_eq!(current(&ring, &clock), *first.digest());
        clock.advance(GRACE);
        assert_eq!(ring.open(first.digest(), &[2; 32], clock.now()), Some(Opening::Last));
        let second = ring.current(clock.now());
        assert_eq!(second.document().fields().epoch, 2);
        assert_eq!(ring.open(first.digest(), &[3; 32], clock.now()), None);
        assert_eq!(ring.open(first.digest(), &[1; 32], clock.now()), None);
        assert!(private.upgrade().is_none(), "erased");
        assert!(!ring.select(&[*first.digest()], clock.now()).1, "clients need evidence for the new keys");
        assert_eq!(ring.next_refresh(clock.now()), HOUR, "a whole epoch begins");
    }

    #[test]
    fn another_configuration_erases_the_keys_that_open_what_was_sealed_under_the_one_before() {
        let clock = ManualClock::new();
        let ring = ring(&clock, 9);
        let first = current(&ring, &clock);
        let private = Arc::downgrade(ring.ring.load().current.sealing.as_ref().unwrap());
        ring.set_config([1; 32], clock.now()).unwrap();
        assert_eq!(opener(&ring, &first, &clock), None);
        assert_eq!(ring.open(&first, &[1; 32], clock.now()), None);
        assert!(private.upgrade().is_none(), "erased");
        assert!(opener(&ring, &current(&ring, &clock), &clock).is_some());
    }

    #[test]
    fn a_full_record_in_grace_ends_the_grace_and_leaves_the_current_keys() {
        let clock = ManualClock::new();
        let ring = ring(&clock, 1);
        let first = current(&ring, &clock);
        clock.advance(HOUR);
        let second = current(&ring, &clock);
        assert_eq!(ring.open(&first, &[1; 32], clock.now()), Some(Opening::Last));
        assert_eq!(ring.open(&first, &[1; 32], clock.now()), None);
        assert_eq!(current(&ring, &clock), second);
        assert!(opener(&ring, &second, &clock).is_some());
    }
}
