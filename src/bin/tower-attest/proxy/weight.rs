//! How much a head weighs once HTTP/2 has encoded it: Huffman's code (RFC 7541, appendix B) makes rare bytes longer, up to fourfold.
//!
//! Who gets a head in more frames than fit its limit ends the whole connection, and with it the exchanges of everybody whose
//! requests are on it. So such a head is not sent.

use http::HeaderMap;

/// What everybody takes: a frame of headers and four that continue it. One more is h2's own least limit.
const FLOOR: usize = 5 * 16_384;
/// A field's index and lengths.
const FIELD: usize = 8;

/// Whether HTTP/2 can carry these fields, and a target of a request, to somebody whose limit is `max_header_bytes`.
pub(crate) fn fits(target: &str, fields: &HeaderMap, max_header_bytes: u32) -> bool {
    let limit = usize::try_from(max_header_bytes).unwrap_or(usize::MAX);
    weight(target, fields) <= FLOOR.max(limit.saturating_add(limit / 4))
}

/// Whether HTTP/2 can carry these trailers to anybody.
pub(crate) fn fits_all(trailers: &HeaderMap) -> bool {
    weight("", trailers) <= FLOOR
}

fn weight(target: &str, fields: &HeaderMap) -> usize {
    let fields = fields.iter().map(|(name, value)| FIELD + of(name.as_str().as_bytes()) + of(value.as_bytes()));
    fields.fold(of(target.as_bytes()), usize::saturating_add)
}

fn of(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| longest(*byte)).sum()
}

/// Bytes that its code takes at most.
fn longest(byte: u8) -> usize {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => 1,
        b' ' | b'%' | b'-' | b'.' | b'/' | b'=' | b'_' | b':' | b'&' | b'*' | b',' | b';' => 1,
        b'\\' => 3,
        b'!'..=b'~' => 2,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn field(byte: u8, length: usize) -> HeaderMap {
        HeaderMap::from_iter([(http::header::COOKIE, HeaderValue::from_bytes(&vec![byte; length]).unwrap())])
    }

    #[test]
    fn rare_bytes_weigh_more() {
        for (byte, length, expected) in [
            (b'a', 65_000, true),
            (b'"', 30_000, true),
            (b'"', 65_000, false),
            (b'\\', 30_000, false),
            (0xff, 15_000, true),
            (0xff, 30_000, false),
        ] {
            assert_eq!(fits("/", &field(byte, length), 65_536), expected, "{byte} {length}");
            assert_eq!(fits_all(&field(byte, length)), expected, "{byte} {length}");
        }
        assert!(fits("/", &field(0xff, 30_000), 1 << 20), "where more is allowed");
        assert!(!fits(&"/\u{e9}".repeat(15_000), &HeaderMap::new(), 65_536), "the target counts");
    }
}
