//! Tag, length, value: the encoding of everything that is hashed or signed.

/// Writes `tag: u8 ‖ length: u16 big-endian ‖ value` fields. Statements are only ever written, never parsed.
#[derive(Debug)]
pub(super) struct Tlv {
    bytes: Vec<u8>,
    last_tag: u8,
}

/// Every field of every statement but the method and the target, with its tag and length.
const FIXED: usize = 192;

impl Tlv {
    /// An empty statement with room for its fields, `variable` bytes of method and target among them: it grows without
    /// being moved.
    pub(super) fn with_room_for(variable: usize) -> Self {
        Self { bytes: Vec::with_capacity(FIXED.saturating_add(variable)), last_tag: 0 }
    }

    /// Adds a field. Tags ascend strictly and every value fits its length: callers pass values of types that are
    /// already bounded.
    pub(super) fn field(mut self, tag: u8, value: &[u8]) -> Self {
        debug_assert!(tag > self.last_tag, "tags ascend");
        debug_assert!(u16::try_from(value.len()).is_ok(), "values are bounded by their types");
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
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
