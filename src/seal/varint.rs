//! Variable-length integers (RFC 9000 section 16), which both layers of framing use.

/// An encoded integer: its bytes, and how many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Varint {
    bytes: [u8; 8],
    length: usize,
}

impl Varint {
    pub(crate) fn len(&self) -> usize {
        self.length
    }
}

impl AsRef<[u8]> for Varint {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The greatest integer that has an encoding.
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// The shortest encoding; of what is greater than [`MAX`], that of `MAX`.
pub(crate) fn encode(value: u64) -> Varint {
    let value = value.min(MAX);
    let (length, form) = match value {
        0..0x40 => (1, 0),
        0x40..0x4000 => (2, 1),
        0x4000..0x4000_0000 => (4, 2),
        _ => (8, 3),
    };
    let mut bytes = (value << (8 * (8 - length))).to_be_bytes();
    if let Some(first) = bytes.first_mut() {
        *first |= form << 6;
    }
    Varint { bytes, length }
}

/// The integer at the front, and its length; `None` if there are too few bytes. Longer encodings than needed are read too.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let length = 1 << (bytes.first()? >> 6);
    let encoded = bytes.get(..length)?;
    let value = encoded.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((value & (MAX >> (8 * (8 - length))), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_9000_read_and_write() {
        let examples: [(u64, &[u8]); 4] = [
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (15_293, &[0x7b, 0xbd]),
            (37, &[0x25]),
        ];
        for (value, bytes) in examples {
            assert_eq!(encode(value).as_ref(), bytes);
            assert_eq!(decode(bytes), Some((value, bytes.len())));
            for length in 0..bytes.len() {
                assert_eq!(decode(&bytes[..length]), None);
            }
        }
        assert_eq!(decode(&[0x40, 0x25]), Some((37, 2)), "longer than needed");
    }

    #[test]
    fn each_length_begins_and_ends_where_it_should() {
        for (value, length) in
            [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), ((1 << 30) - 1, 4), (1 << 30, 8), (MAX, 8)]
        {
            assert_eq!(encode(value).len(), length, "{value}");
            assert_eq!(decode(encode(value).as_ref()), Some((value, length)));
        }
        assert_eq!(encode(u64::MAX).as_ref(), encode(MAX).as_ref());
    }
}
