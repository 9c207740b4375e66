//! What whoever counts is told.

use std::sync::{Arc, Mutex};

use super::*;
use crate::mock::Behaviour;
use crate::protocol::KeysDigest;

type Told = Arc<Mutex<Vec<Outcome>>>;

fn telling(layer: ReportLayer) -> (ReportLayer, Told) {
    let told = Told::default();
    let sink = Arc::clone(&told);
    (layer.on_outcome(move |outcome| sink.lock().unwrap().push(outcome)), told)
}

/// The one outcome of one request.
async fn outcome(layer: ReportLayer, request: Request<Body>) -> Outcome {
    let (layer, told) = telling(layer);
    drop(send(layer, request).await);
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    told[0]
}

fn knowing(keys: KeysDigest) -> Request<Body> {
    asked(Method::GET, "/").request_with(&NonceHeader { have: vec![keys], ..NonceHeader::new(nonce()) })
}

#[tokio::test]
async fn what_became_of_each_request_is_told_once() {
    let server = Server::start().await;
    let known = *server.keys().digest();
    let refused = |code| Outcome::Refused(code);
    let mut malformed = plain(Method::GET, "/");
    malformed.headers_mut().insert(ATTESTATION_NONCE, "nonce".parse().unwrap());
    let mut informational = asked(Method::GET, "/").request();
    informational.headers_mut().insert("want", "101".parse().unwrap());
    let unbound = Asked { binding: Some(ChannelBinding::from_tls_exporter([1; 32])), ..asked(Method::GET, "/") };
    for (request, expected) in [
        (plain(Method::GET, "/"), Outcome::Unasked),
        (knowing(known), Outcome::Signed),
        (asked(Method::GET, "/").request(), Outcome::Attested),
        (asked(Method::CONNECT, "prover.example:443").request(), Outcome::Unsignable),
        (informational, Outcome::Unsignable),
        (asked(Method::GET, WELL_KNOWN_PATH).request(), Outcome::Evidence),
        (plain(Method::GET, WELL_KNOWN_PATH), refused("missing-nonce")),
        (asked(Method::POST, WELL_KNOWN_PATH).request(), refused("method-not-allowed")),
        (unbound.request(), refused("no-exporter")),
        (malformed, refused("malformed-nonce")),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(outcome(server.layer(), request).await, expected, "{shown}");
    }
    let required = server.layer().require_nonce();
    assert_eq!(outcome(required, plain(Method::GET, "/")).await, refused("nonce-required"));
}

#[tokio::test(start_paused = true)]
async fn evidence_that_is_omitted_is_told_with_its_reason() {
    let server = Server::start_with(|builder| builder.queue(1).report_timeout(30 * SECOND)).await;
    let asking = || asked(Method::GET, "/").request();
    let omitted = |omission| Outcome::Omitted(omission);
    let small = server.layer().header_limit(200);
    assert_eq!(outcome(small, asking()).await, omitted(Omission::TooLarge));

    server.provider.set_behaviour(Behaviour::Failing);
    let unavailable = |kind| omitted(Omission::Unavailable(kind));
    assert_eq!(outcome(server.layer(), asking()).await, unavailable(AttesterErrorKind::Hardware));
    let endpoint = asked(Method::GET, WELL_KNOWN_PATH).request();
    assert_eq!(outcome(server.layer(), endpoint).await, Outcome::Refused("no-evidence"));

    server.provider.set_behaviour(Behaviour::Hanging);
    assert_eq!(outcome(server.layer(), asking()).await, omitted(Omission::Late));
    let _queued = server.attester.request_evidence(&server.attester.current_keys(), &nonce(), None).unwrap();
    assert_eq!(outcome(server.layer(), asking()).await, unavailable(AttesterErrorKind::QueueFull));
    tokio::time::sleep(31 * SECOND).await;
    assert_eq!(outcome(server.layer(), asking()).await, unavailable(AttesterErrorKind::Stalled));
}

#[test]
fn reasons_have_stable_names() {
    let unavailable = |kind| Outcome::Omitted(Omission::Unavailable(kind));
    for (outcome, reason) in [
        (Outcome::Signed, None),
        (Outcome::Omitted(Omission::TooLarge), Some("too-large")),
        (Outcome::Omitted(Omission::Late), Some("late")),
        (unavailable(AttesterErrorKind::Configuration), Some("configuration")),
        (unavailable(AttesterErrorKind::QueueFull), Some("queue-full")),
        (unavailable(AttesterErrorKind::Hardware), Some("hardware")),
        (unavailable(AttesterErrorKind::Stalled), Some("stalled")),
        (unavailable(AttesterErrorKind::Stopped), Some("stopped")),
        (Outcome::Refused("no-exporter"), Some("no-exporter")),
    ] {
        assert_eq!(outcome.reason(), reason, "{outcome:?}");
    }
}

#[test]
fn clients_that_ask_are_told_from_those_that_do_not() {
    let unasked = [Outcome::Unasked, Outcome::Refused("nonce-required"), Outcome::Refused("missing-nonce")];
    let asked = [
        Outcome::Signed,
        Outcome::Attested,
        Outcome::Omitted(Omission::Late),
        Outcome::Unsignable,
        Outcome::Evidence,
        Outcome::Refused("malformed-nonce"),
        Outcome::Refused("no-evidence"),
    ];
    assert!(unasked.iter().all(|outcome| !outcome.asked()) && asked.iter().all(Outcome::asked));
}
