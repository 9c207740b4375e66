//! Just enough DER to look into certificates. Nothing is believed by it.

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Reads elements one after the other. Every method is `None` for what is not there; nothing panics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next element's tag and contents.
    pub(crate) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let [tag, length, rest @ ..] = self.0 else { return None };
        let (length, rest) = match *length {
            short @ 0..=0x7f => (usize::from(short), rest),
            0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
            0x82 => rest.split_first_chunk().map(|(bytes, rest)| (usize::from(u16::from_be_bytes(*bytes)), rest))?,
            0x83 => {
                let ([high, middle, low], rest) = rest.split_first_chunk()?;
                (usize::try_from(u32::from_be_bytes([0, *high, *middle, *low])).ok()?, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, contents))
    }

    /// The contents of the next element if it has this tag; otherwise nothing is read.
    pub(crate) fn take(&mut self, tag: u8) -> Option<Self> {
        let before = self.0;
        match self.next() {
            Some((found, contents)) if found == tag => Some(Self(contents)),
            _ => {
                self.0 = before;
                None
            }
        }
    }

    /// A time as RFC 3339 writes it.
    pub(crate) fn time(&mut self) -> Option<String> {
        let text = self.take(UTC_TIME).map(|time| (time, 2)).or_else(|| Some((self.take(GENERALIZED_TIME)?, 4)));
        let (time, year_len) = text?;
        let text = std::str::from_utf8(time.0).ok()?.strip_suffix('Z')?;
        if text.len() != year_len + 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (year, rest) = text.split_at_checked(year_len)?;
        let century = match year_len {
            2 if year >= "50" => "19",
            2 => "20",
            _ => "",
        };
        let pair = |index: usize| rest.get(index * 2..index * 2 + 2);
        let (month, day, hour, minute, second) = (pair(0)?, pair(1)?, pair(2)?, pair(3)?, pair(4)?);
        Some(format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
    }
}
