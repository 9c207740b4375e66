//! What must hold in every interleaving of tasks, tried in many: see `support::in_every_order`.
//!
//! `cargo test --manifest-path tools/shuttle/Cargo.toml --tests`

mod batcher;
mod preflight;
mod support;
mod trust;
