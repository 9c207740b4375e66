//! Heads and strings of RFC 8949, section 3, read from memory: nothing recurses and nothing is allocated.

/// The head of a value. A length is `None` where the value is of indefinite length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    Positive(u64),
    /// Stands for `-1 - n`.
    Negative(u64),
    Bytes(Option<u64>),
    Text(Option<u64>),
    Array(Option<u64>),
    Map(Option<u64>),
    Tag,
    /// A simple value, or a floating-point number, with whatever follows its first byte.
    SimpleOrFloat,
    Break,
}

/// Why bytes are not CBOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// They end within a value.
    End,
    /// The value that begins at this byte is not well-formed (RFC 8949, appendix C).
    At(usize),
}

#[derive(Debug)]
pub(super) struct Input<'a> {
    left: &'a [u8],
    len: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes, len: bytes.len() }
    }

    /// How many bytes have not been read.
    pub(super) fn left(&self) -> usize {
        self.left.len()
    }

    pub(super) fn head(&mut self) -> Result<Head, Malformed> {
        let start = self.len - self.left.len();
        let [first] = self.array()?;
        let (major, minor) = (first >> 5, first & 0x1f);
        let argument = match minor {
            0..=23 => Some(u64::from(minor)),
            24 => Some(u8::from_be_bytes(self.array()?).into()),
            25 => Some(u16::from_be_bytes(self.array()?).into()),
            26 => Some(u32::from_be_bytes(self.array()?).into()),
            27 => Some(u64::from_be_bytes(self.array()?)),
            31 => None,
            _ => return Err(Malformed::At(start)),
        };
        match (major, argument) {
            (0, Some(number)) => Ok(Head::Positive(number)),
            (1, Some(number)) => Ok(Head::Negative(number)),
            (2, length) => Ok(Head::Bytes(length)),
            (3, length) => Ok(Head::Text(length)),
            (4, length) => Ok(Head::Array(length)),
            (5, length) => Ok(Head::Map(length)),
            (6, Some(_)) => Ok(Head::Tag),
            // Simple values below 32 have one byte alone.
            (7, Some(0..=31)) if minor == 24 => Err(Malformed::At(start)),
            (7, Some(_)) => Ok(Head::SimpleOrFloat),
            (7, None) => Ok(Head::Break),
            _ => Err(Malformed::At(start)),
        }
    }

    /// Hands each piece of a byte string, whose head has been read, to `take`.
    pub(super) fn bytes(&mut self, length: Option<u64>, mut take: impl FnMut(&'a [u8])) -> Result<(), Malformed> {
        let Some(length) = length else {
            loop {
                let start = self.len - self.left.len();
                match self.head()? {
                    Head::Bytes(Some(length)) => take(self.take(length)?),
                    Head::Break => return Ok(()),
                    _ => return Err(Malformed::At(start)),
                }
            }
        };
        take(self.take(length)?);
        Ok(())
    }

    /// Hands each piece of a text, whose head has been read, to `take`. Each piece is UTF-8 by itself.
    pub(super) fn text(&mut self, length: Option<u64>, mut take: impl FnMut(&'a str)) -> Result<(), Malformed> {
        let Some(length) = length else {
            loop {
                let start = self.len - self.left.len();
                match self.head()? {
                    Head::Text(Some(length)) => take(self.utf8(length)?),
                    Head::Break => return Ok(()),
                    _ => return Err(Malformed::At(start)),
                }
            }
        };
        take(self.utf8(length)?);
        Ok(())
    }

    fn utf8(&mut self, length: u64) -> Result<&'a str, Malformed> {
        let start = self.len - self.left.len();
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed::At(start))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed::End)?;
        let (taken, left) = self.left.split_at_checked(length).ok_or(Malformed::End)?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, left) = self.left.split_first_chunk().ok_or(Malformed::End)?;
        self.left = left;
        Ok(*array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(bytes: &[u8]) -> Result<Head, Malformed> {
        let mut input = Input::new(bytes);
        let head = input.head()?;
        assert_eq!(input.left(), 0, "{bytes:02x?}");
        Ok(head)
    }

    #[test]
    fn heads_of_each_type_and_width_are_read() {
        for (bytes, expected) in [
            (&[0x17][..], Head::Positive(23)),
            (&[0x18, 0xff], Head::Positive(0xff)),
            (&[0x19, 1, 0], Head::Positive(0x100)),
            (&[0x1a, 0, 1, 0, 0], Head::Positive(0x1_0000)),
            (&[0x1b, 0xff, 0, 0, 0, 0, 0, 0, 1], Head::Positive(0xff00_0000_0000_0001)),
            (&[0x20], Head::Negative(0)),
            (&[0x42], Head::Bytes(Some(2))),
            (&[0x5f], Head::Bytes(None)),
            (&[0x78, 0x20], Head::Text(Some(0x20))),
            (&[0x7f], Head::Text(None)),
            (&[0x80], Head::Array(Some(0))),
            (&[0x9f], Head::Array(None)),
            (&[0xb7], Head::Map(Some(23))),
            (&[0xbf], Head::Map(None)),
            (&[0xd8, 0x2a], Head::Tag),
            (&[0xf4], Head::SimpleOrFloat),
            (&[0xf8, 0x20], Head::SimpleOrFloat),
            (&[0xf9, 0x7e, 0], Head::SimpleOrFloat),
            (&[0xfb, 0, 0, 0, 0, 0, 0, 0, 0], Head::SimpleOrFloat),
            (&[0xff], Head::Break),
        ] {
            assert_eq!(head(bytes), Ok(expected), "{bytes:02x?}");
        }
    }

    /// RFC 8949, appendix F.
    #[test]
    fn what_is_not_well_formed_is_refused() {
        for bytes in
            [&[0x1c][..], &[0x1d], &[0x1e], &[0x3c], &[0x5d], &[0xfc], &[0x1f], &[0x3f], &[0xdf], &[0xf8, 0x1f]]
        {
            assert_eq!(head(bytes), Err(Malformed::At(0)), "{bytes:02x?}");
        }
        for bytes in [&[][..], &[0x18], &[0x19, 1], &[0x1a, 1, 2, 3], &[0x1b, 1, 2, 3, 4, 5, 6, 7], &[0xf8], &[0xf9, 0]]
        {
            assert_eq!(head(bytes), Err(Malformed::End), "{bytes:02x?}");
        }
    }

    fn text(bytes: &[u8]) -> Result<String, Malformed> {
        let mut input = Input::new(bytes);
        let Head::Text(length) = input.head()? else { panic!("text expected") };
        let mut text = String::new();
        input.text(length, |piece| text.push_str(piece)).map(|()| text)
    }

    fn bytes(encoded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut input = Input::new(encoded);
        let Head::Bytes(length) = input.head()? else { panic!("bytes expected") };
        let mut bytes = Vec::new();
        input.bytes(length, |piece| bytes.extend_from_slice(piece)).map(|()| bytes)
    }

    #[test]
    fn strings_are_read_whole_or_in_pieces_of_their_own_type() {
        assert_eq!(text(b"\x63abc"), Ok("abc".to_owned()));
        assert_eq!(text(b"\x7f\x61a\x60\x62bc\xff"), Ok("abc".to_owned()));
        assert_eq!(bytes(b"\x42\x01\x02"), Ok(vec![1, 2]));
        assert_eq!(bytes(b"\x5f\x41\x01\x41\x02\xff"), Ok(vec![1, 2]));
        assert_eq!(text(b"\x63ab"), Err(Malformed::End));
        assert_eq!(text(b"\x7b\xff\xff\xff\xff\xff\xff\xff\xffab"), Err(Malformed::End));
        assert_eq!(text(b"\x7f\x61a"), Err(Malformed::End));
        assert_eq!(text(b"\x7f\x61a\x41b\xff"), Err(Malformed::At(3)));
        assert_eq!(text(b"\x7f\x7f\x61a\xff\xff"), Err(Malformed::At(1)));
        assert_eq!(bytes(b"\x5f\x61a\xff"), Err(Malformed::At(1)));
        assert_eq!(bytes(b"\x5f\x41\x01\x61a\xff"), Err(Malformed::At(3)));
        assert_eq!(text(b"\x62\xc3\x28"), Err(Malformed::At(1)));
        // A character may not be split between pieces.
        assert_eq!(text(b"\x7f\x61\xc3\x61\xa9\xff"), Err(Malformed::At(2)));
    }
}
