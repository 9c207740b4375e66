//! Tag, length, value: the encoding of everything that is hashed or signed.

/// Writes `tag: u8 ‖ length: u16 big-endian ‖ value` fields. Statements are only ever written, never parsed.
#[derive(Debug, Default)]
pub(super) struct Tlv {
    bytes: Vec<u8>,
    last_tag: u8,
}

impl Tlv {
    /// Adds a field. Tags ascend strictly and every value fits its length: callers pass values of types that are
    /// already bounded.
    pub(super) fn field(mut self, tag: u8, value: &[u8]) -> Self {
        debug_assert!(tag > self.last_tag, "tags ascend");
        debug_assert!(u16::try_from(value.len()).is_ok(), "values are bounded by their types");
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.bytes.reserve(3 + value.len());
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.last_tag = tag;
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
