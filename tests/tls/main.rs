//! Attested TLS over real sockets: what leaves, what is refused, what is renewed.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    clippy::expect_used
)]

mod adversaries;
mod certificate;
mod channel;
mod deployed;
mod grpc;
mod hyper_client;
mod layers;
mod listener;
mod observe;
#[path = "../support/proxy.rs"]
mod proxy;
mod renewal;
mod setup;
mod support;
mod verify;
mod wire;
