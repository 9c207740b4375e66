//! Sealed requests: the whole request encrypted to a key that verified evidence vouches for, whatever carries it.
#![allow(dead_code, unused_imports, reason = "the layers that use it land next")]

pub(crate) mod config;
pub(crate) mod error;
pub(crate) mod framing;
pub(crate) mod hpke;
pub(crate) mod message;
pub mod server;
mod varint;

pub use self::server::{SealedRequest, Unseal, UnsealError, UnsealLayer};
