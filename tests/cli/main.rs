//! The binary `tower-attest`, run as its users run it.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    clippy::expect_used
)]

mod acme;
mod collateral;
mod configuration;
mod doctor;
mod event_log;
mod inspect;
mod inspect_flags;
mod policy;
mod report;
mod run;
mod server;
mod sidecar;
mod vectors;
mod verify;
