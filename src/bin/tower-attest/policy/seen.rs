//! What a server or a file shows, and that it is genuine.

use std::time::SystemTime;

pub(super) use crate::inspect::Details;

/// Genuine evidence, and what it says of the server.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) details: Details,
    /// The name under which the server was asked, which it answers for.
    pub(super) name: Option<String>,
    pub(super) config: Option<[u8; 32]>,
    pub(super) at: SystemTime,
}
