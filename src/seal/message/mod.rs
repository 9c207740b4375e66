//! Binary HTTP (RFC 9292) inside chunks: whole messages, streamed both ways.
//!
//! [`SealBody`] turns a message into the body that carries it, [`OpenBody`] such a body into the message. Messages of
//! indeterminate length are written; both framings are read. What is held at any time is one chunk of 16 KiB, one frame of the
//! body below, and while a head or trailers are read at most [`MAX_HEAD`] of those.
//!
//! Not the crate `bhttp` 0.8: its streaming reader allocates whatever length is announced, has no limit on a head, returns
//! `Pending` after a partial read without having asked to be woken, and there is no streaming writer. It is the oracle of the
//! tests instead.

mod decode;
mod encode;
mod open_body;
mod seal_body;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderName, HeaderValue, header};

pub(crate) use self::decode::{Decoder, Event};
pub(crate) use self::encode::{request_head, response_head};
pub(crate) use self::open_body::{OpenBody, OpenError};
pub(crate) use self::seal_body::SealBody;

/// The most bytes of a message's head, and of its trailers, written and read: 64 KiB.
///
/// Each field counts for [`FIELD_OVERHEAD`] more than its bytes: a head of 64 KiB in fields of three bytes would take
/// megabytes in memory.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// What a field counts for beyond its bytes, as in HTTP/2 (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Framing indicators (RFC 9292 section 3.1).
const KNOWN_REQUEST: u64 = 0;
const KNOWN_RESPONSE: u64 = 1;
const INDETERMINATE_REQUEST: u64 = 2;
const INDETERMINATE_RESPONSE: u64 = 3;

/// Whether a field speaks of one HTTP/1 connection and not of the message (RFC 9110 section 7.6.1). `TE: trailers` speaks
/// of the message.
fn is_hop_by_hop(fields: &HeaderMap, name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => true,
        header::TE => !value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        _ if matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings") => true,
        _ => is_named_by_connection(fields, name),
    }
}

fn is_named_by_connection(fields: &HeaderMap, name: &HeaderName) -> bool {
    fields
        .get_all(header::CONNECTION)
        .iter()
        // As bytes: what is not ASCII in one option hides none of the others.
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()) && *name != header::TE)
}
