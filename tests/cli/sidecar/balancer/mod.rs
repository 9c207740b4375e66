//! One `serve` in front of several: workers that prove what they are, workers that do not, workers that come and go.

mod carried;
mod failing;
mod flags;
mod grpc;
mod refused;
mod reload;
pub(super) mod support;
mod watched;
