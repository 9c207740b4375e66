//! Little-endian fields one after the other, with their place for errors.

use bytes::Bytes;

use super::EventLogError;

/// What is left of the bytes, and where it begins.
pub(super) struct Reader {
    bytes: Bytes,
    offset: usize,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Whether nothing is left, or nothing but what fills a buffer.
    pub(super) fn is_padding(&self) -> bool {
        [0x00, 0xff].iter().any(|fill| self.bytes.iter().all(|byte| byte == fill))
    }

    pub(super) fn take(&mut self, count: usize, part: &'static str) -> Result<Bytes, EventLogError> {
        if count > self.bytes.len() {
            return Err(EventLogError::Truncated { offset: self.offset, part });
        }
        self.offset += count;
        Ok(self.bytes.split_to(count))
    }

    /// A field that begins with its length in 4 bytes.
    pub(super) fn part(&mut self, part: &'static str) -> Result<Self, EventLogError> {
        let offset = self.offset;
        let length = self.u32(part)?;
        let length = usize::try_from(length).map_err(|_| EventLogError::Truncated { offset, part })?;
        let offset = self.offset;
        Ok(Self { bytes: self.take(length, part)?, offset })
    }

    pub(super) fn rest(self) -> Bytes {
        self.bytes
    }

    pub(super) fn end(self, part: &'static str) -> Result<(), EventLogError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let found = format!("{} bytes more", self.bytes.len());
        Err(EventLogError::Unexpected { offset: self.offset, part, expected: "its end", found })
    }

    pub(super) fn expect_u32(
        &mut self,
        part: &'static str,
        expected: &'static str,
        fits: impl FnOnce(u32) -> bool,
    ) -> Result<u32, EventLogError> {
        let offset = self.offset;
        let value = self.u32(part)?;
        if fits(value) {
            return Ok(value);
        }
        Err(EventLogError::Unexpected { offset, part, expected, found: value.to_string() })
    }

    pub(super) fn u8(&mut self, part: &'static str) -> Result<u8, EventLogError> {
        self.array(part).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self, part: &'static str) -> Result<u16, EventLogError> {
        self.array(part).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, part: &'static str) -> Result<u32, EventLogError> {
        self.array(part).map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], EventLogError> {
        let offset = self.offset;
        self.take(N, part)?.as_ref().try_into().map_err(|_| EventLogError::Truncated { offset, part })
    }
}
