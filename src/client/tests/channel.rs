//! Transports that say which connection served a response, and whether it was attested.

use super::*;
use crate::client::{Strength, VerifiedReport};
use crate::protocol::ChannelBinding;

const BINDING: ChannelBinding = ChannelBinding::from_tls_exporter([5; 32]);
const OTHER: ChannelBinding = ChannelBinding::from_tls_exporter([6; 32]);

fn attested(set: &Set) {
    set.server.set(|b| (b.binding, b.attested) = (Some(BINDING), true));
}

#[tokio::test]
async fn nothing_is_sent_over_a_transport_that_nobody_attested_unless_presence_is_accepted() {
    let set = Set::with(|layer| layer);
    assert_eq!(set.refused().await, ErrorKind::NotAttested);
    assert_eq!(set.server.counts(), (1, 0));
    assert_eq!(set.verdicts().len(), 1);
}

/// What any transport can say is not what only this crate's own can.
#[tokio::test]
async fn a_channel_binding_alone_does_not_make_a_transport_attested() {
    let set = Set::with(|layer| layer.bind_channel());
    set.server.set(|b| b.binding = Some(BINDING));
    assert_eq!(set.refused().await, ErrorKind::NotAttested);
    assert_eq!(set.server.counts(), (1, 0));
}

#[tokio::test]
async fn over_an_attested_transport_signatures_are_bound_and_make_a_channel() {
    let set = Set::with(|layer| layer);
    attested(&set);
    for _ in 0..2 {
        let response = set.send().await.unwrap();
        let report = VerifiedReport::of(&response).unwrap();
        assert_eq!((report.strength(), report.channel_bound()), (Strength::Channel, true));
    }
    assert!(set.server.seen().iter().skip(1).all(|seen| seen.nonce.as_ref().unwrap().bind));
    assert_eq!(set.server.counts(), (1, 2));
}

#[tokio::test]
async fn over_an_attested_transport_a_signature_for_another_channel_is_refused() {
    let set = Set::with(|layer| layer);
    attested(&set);
    set.send().await.unwrap();
    set.server.set(|b| b.server_binding = Some(OTHER));
    assert_eq!(set.refused().await, ErrorKind::BadSignature);
}

#[tokio::test]
async fn each_response_is_judged_by_the_connection_that_served_it() {
    let set = Set::with(|layer| layer);
    attested(&set);
    set.send().await.unwrap();
    set.server.set(|b| b.binding = Some(OTHER));
    let response = set.send().await.unwrap();
    assert_eq!(VerifiedReport::of(&response).unwrap().strength(), Strength::Channel);
}

#[tokio::test]
async fn a_transport_that_is_no_longer_attested_ends_the_exchange_and_the_next_asks_again() {
    let set = Set::with(|layer| layer);
    attested(&set);
    set.send().await.unwrap();
    set.server.set(|b| b.attested = false);
    assert_eq!(set.refused().await, ErrorKind::NotAttested);
    assert_eq!(set.refused().await, ErrorKind::NotAttested);
    assert_eq!(set.server.counts(), (2, 2), "the second was not sent");
}

#[tokio::test]
async fn a_bound_channel_stays_presence() {
    let set = Set::with(|layer| layer.accept_presence().bind_channel());
    set.server.set(|b| b.binding = Some(BINDING));
    let response = set.send().await.unwrap();
    let report = VerifiedReport::of(&response).unwrap();
    assert_eq!((report.strength(), report.channel_bound()), (Strength::Presence, true));
    assert!(set.server.seen().iter().all(|seen| seen.nonce.as_ref().unwrap().bind));
}

#[tokio::test]
async fn a_relay_on_another_channel_is_refused_before_and_after() {
    let set = Set::with(|layer| layer.accept_presence().bind_channel());
    set.server.set(|b| (b.binding, b.server_binding) = (Some(BINDING), Some(OTHER)));
    assert_eq!(set.refused().await, ErrorKind::Stale);
    set.server.set(|b| b.server_binding = None);
    set.clock.advance(std::time::Duration::from_secs(1));
    set.send().await.unwrap();
    set.server.set(|b| b.server_binding = Some(OTHER));
    assert_eq!(set.refused().await, ErrorKind::BadSignature);
}

#[tokio::test]
async fn a_transport_that_gives_no_binding_is_a_matter_of_configuration() {
    let set = Set::with(|layer| layer.accept_presence().bind_channel());
    assert_eq!(set.refused().await, ErrorKind::Configuration);
    assert_eq!(set.server.counts(), (1, 0));
}

#[tokio::test]
async fn a_server_that_cannot_bind_is_a_matter_of_configuration() {
    let set = Set::with(|layer| layer.accept_presence().bind_channel());
    set.server.set(|b| {
        (b.attests, b.binding, b.status) = (false, Some(BINDING), http::StatusCode::BAD_REQUEST);
    });
    assert_eq!(set.refused().await, ErrorKind::Configuration);
}

/// A binding that nobody asked for changes nothing.
#[tokio::test]
async fn without_bind_channel_a_binding_is_ignored() {
    let set = Set::new();
    set.server.set(|b| b.binding = Some(BINDING));
    let response = set.send().await.unwrap();
    assert!(!VerifiedReport::of(&response).unwrap().channel_bound());
    assert!(set.server.seen().iter().all(|seen| !seen.nonce.as_ref().unwrap().bind));
}

#[tokio::test]
async fn an_optional_layer_binds_once_it_has_seen_an_attested_transport() {
    let set = Set::in_mode(Mode::Optional);
    attested(&set);
    assert_eq!(set.observed().await.report().unwrap().strength(), Strength::Presence);
    assert_eq!(set.observed().await.report().unwrap().strength(), Strength::Channel);
}

#[tokio::test]
async fn a_missing_report_passes_an_optional_layer_whatever_the_transport_says() {
    let set = Set::with(|layer| layer.mode(Mode::Optional).bind_channel());
    set.server.set(|b| b.attests = false);
    assert!(matches!(set.observed().await, Observation::Missing));
}
