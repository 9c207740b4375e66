//! Certificates and revocation lists from a key server over real sockets, up to the verifier's verdict.
#![cfg(all(feature = "sim", feature = "fetch"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::as_conversions)]
#![allow(clippy::disallowed_methods, reason = "certificates are judged at the present time")]

#[path = "kds/crl.rs"]
mod crl;
#[cfg(feature = "tdx")]
#[path = "kds/pcs.rs"]
mod pcs;
#[path = "kds/server.rs"]
mod server;
#[path = "kds/vek.rs"]
mod vek;
