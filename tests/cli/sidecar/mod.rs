//! `serve` and `connect` as processes, with real peers at both ends.

mod abuse;
mod admin;
mod balancer;
mod flags;
mod grpc;
mod http;
mod http2;
mod lifecycle;
mod logs;
mod refusals;
mod reload;
mod restart;
mod sealed;
mod stalls;
pub(crate) mod support;
mod systemd;
pub(crate) mod upstream;
