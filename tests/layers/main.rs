//! Both layers over real loopback sockets: what crosses rooms.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions
)]

#[path = "../../examples/support/prover.rs"]
mod prover;

mod cancel;
mod faults;
mod grpc;
mod http_stacks;
mod logs;
mod modes;
mod replicas;
mod smuggling;
mod support;
#[cfg(feature = "tdx")]
mod tdx;
mod web;
