//! Collections in CBOR. Nothing here recurses, and nothing is allocated for a length before its bytes are there.

mod input;

use std::collections::BTreeSet;

use self::input::{Head, Input, Malformed};
use super::{COLLECTION, Collection, EvidenceError, Label, Record, TYPE, TYPE_LABEL};
use crate::protocol::excerpt;

const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// How deep values may nest that are skipped.
const MAX_DEPTH: usize = 64;

/// RFC 8949, section 4.2.1: shortest heads, definite lengths, map keys in the order of their encoded bytes.
pub(super) fn encode(collection: &Collection) -> Vec<u8> {
    let mut entries = vec![(text(TYPE_LABEL), text(TYPE))];
    for (label, Record { media_type, bytes }) in &collection.records {
        entries.push((text(label.name()), [head(ARRAY, 2), text(media_type), string(BYTES, bytes)].concat()));
    }
    entries.sort();
    let mut encoded = head(MAP, entries.len());
    for (label, value) in entries {
        encoded.extend(label);
        encoded.extend(value);
    }
    encoded
}

fn text(text: &str) -> Vec<u8> {
    string(TEXT, text.as_bytes())
}

fn string(major: u8, bytes: &[u8]) -> Vec<u8> {
    [&head(major, bytes.len()), bytes].concat()
}

fn head(major: u8, length: usize) -> Vec<u8> {
    let bytes = u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes();
    let [.., low] = bytes;
    let (minor, width) = match length {
        0..=23 => (low, 0),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    std::iter::once(major << 5 | minor).chain(bytes.into_iter().skip(8 - width)).collect()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Collection, EvidenceError> {
    let mut reader = Reader { input: Input::new(bytes) };
    let collection = reader.collection()?;
    match reader.input.left() {
        0 => Ok(collection),
        left => Err(EvidenceError::TrailingBytes(left)),
    }
}

struct Reader<'a> {
    input: Input<'a>,
}

/// RFC 9999, section 3.2: labels in CBOR are integers or text.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum AnyLabel {
    Positive(u64),
    Negative(u64),
    Text(String),
}

impl AnyLabel {
    fn shown(&self) -> String {
        match self {
            Self::Positive(number) => number.to_string(),
            Self::Negative(number) => (-1 - i128::from(*number)).to_string(),
            Self::Text(text) => format!("{:?}", excerpt(text)),
        }
    }
}

impl Reader<'_> {
    fn collection(&mut self) -> Result<Collection, EvidenceError> {
        let mut left = match self.head()? {
            Head::Map(length) => Left::elements(length),
            other => return Err(wrong_type(COLLECTION, "a map", other)),
        };
        let mut collection = Collection::default();
        let mut seen = BTreeSet::new();
        while let Some(head) = self.next_of(&mut left)? {
            let label = self.label(head)?;
            let value = self.head()?;
            match &label {
                AnyLabel::Text(text) if text == TYPE_LABEL => collection.kind = Some(self.kind(value)?),
                AnyLabel::Text(text) => match Label::named(text) {
                    Some(label) => drop(collection.records.insert(label, self.record(label.name(), value)?)),
                    None => self.skip(value)?,
                },
                _ => self.skip(value)?,
            }
            if let Some(label) = seen.replace(label) {
                return Err(EvidenceError::Repeated(label.shown()));
            }
        }
        Ok(collection)
    }

    fn label(&mut self, head: Head) -> Result<AnyLabel, EvidenceError> {
        match head {
            Head::Positive(number) => Ok(AnyLabel::Positive(number)),
            Head::Negative(number) => Ok(AnyLabel::Negative(number)),
            Head::Text(length) => self.text(length).map(AnyLabel::Text),
            other => Err(wrong_type(COLLECTION, "labels that are text or integers", other)),
        }
    }

    fn kind(&mut self, value: Head) -> Result<String, EvidenceError> {
        match value {
            Head::Text(length) => self.text(length),
            other => Err(wrong_type(TYPE_LABEL, "text", other)),
        }
    }

    fn record(&mut self, label: &'static str, value: Head) -> Result<Record, EvidenceError> {
        let wrong_type = |found| Err(wrong_type(label, Record::EXPECTED, found));
        let mut left = match value {
            Head::Array(length) => Left::elements(length),
            other => return wrong_type(other),
        };
        let too_few = || EvidenceError::WrongType { label, expected: Record::EXPECTED, found: "too few elements" };
        let media_type = match self.next_of(&mut left)?.ok_or_else(too_few)? {
            Head::Text(length) => self.text(length)?,
            other => return wrong_type(other),
        };
        let bytes = match self.next_of(&mut left)?.ok_or_else(too_few)? {
            Head::Bytes(length) => self.bytes(length)?,
            other => return wrong_type(other),
        };
        if let Some(third) = self.next_of(&mut left)? {
            self.skip(third)?;
        }
        match self.next_of(&mut left)? {
            None => Ok(Record { media_type, bytes }),
            Some(_) => Err(EvidenceError::WrongType { label, expected: Record::EXPECTED, found: "more elements" }),
        }
    }

    fn head(&mut self) -> Result<Head, EvidenceError> {
        self.input.head().map_err(malformed)
    }

    /// The head of the next element, or `None` at the end.
    fn next_of(&mut self, left: &mut Left) -> Result<Option<Head>, EvidenceError> {
        match left {
            Left::Counted(0) => Ok(None),
            Left::Counted(count) => {
                *count -= 1;
                self.head().map(Some)
            }
            Left::UntilBreak | Left::PairsUntilBreak { value_next: false } => match self.head()? {
                Head::Break => {
                    *left = Left::Counted(0);
                    Ok(None)
                }
                head => {
                    if let Left::PairsUntilBreak { value_next } = left {
                        *value_next = true;
                    }
                    Ok(Some(head))
                }
            },
            Left::PairsUntilBreak { value_next } => {
                *value_next = false;
                self.head().map(Some)
            }
        }
    }

    fn text(&mut self, length: Option<u64>) -> Result<String, EvidenceError> {
        let mut text = String::new();
        self.input.text(length, |piece| text.push_str(piece)).map_err(malformed)?;
        Ok(text)
    }

    fn bytes(&mut self, length: Option<u64>) -> Result<Vec<u8>, EvidenceError> {
        let mut bytes = Vec::new();
        self.input.bytes(length, |piece| bytes.extend_from_slice(piece)).map_err(malformed)?;
        Ok(bytes)
    }

    /// Reads the rest of a value whose head has been read, and drops it.
    fn skip(&mut self, head: Head) -> Result<(), EvidenceError> {
        let mut open: Vec<Left> = Vec::new();
        let mut head = Some(head);
        loop {
            match head {
                None => drop(open.pop()),
                Some(Head::Break) => return Err(syntax("a break outside of an indefinite length")),
                Some(Head::Text(length)) => self.input.text(length, |_| ()).map_err(malformed)?,
                Some(Head::Bytes(length)) => self.input.bytes(length, |_| ()).map_err(malformed)?,
                Some(Head::Tag) => open.push(Left::Counted(1)),
                Some(Head::Array(length)) => open.push(Left::elements(length)),
                Some(Head::Map(length)) => open.push(Left::pairs(length)?),
                Some(Head::Positive(_) | Head::Negative(_) | Head::SimpleOrFloat) => {}
            }
            if open.len() > MAX_DEPTH {
                return Err(syntax("more than 64 levels"));
            }
            head = match open.last_mut() {
                Some(left) => self.next_of(left)?,
                None => return Ok(()),
            };
        }
    }
}

/// What is left to read of an array, a map or a tag.
enum Left {
    Counted(u64),
    UntilBreak,
    /// An indefinite map, which may not end before a value.
    PairsUntilBreak {
        value_next: bool,
    },
}

impl Left {
    fn elements(length: Option<u64>) -> Self {
        length.map_or(Self::UntilBreak, Self::Counted)
    }

    fn pairs(length: Option<u64>) -> Result<Self, EvidenceError> {
        match length {
            None => Ok(Self::PairsUntilBreak { value_next: false }),
            Some(length) => length.checked_mul(2).map(Self::Counted).ok_or_else(|| syntax("a length past the end")),
        }
    }
}

fn malformed(error: Malformed) -> EvidenceError {
    match error {
        Malformed::End => syntax("an end within a value"),
        Malformed::At(offset) => syntax(&format!("a malformed value at byte {offset}")),
    }
}

fn syntax(problem: &str) -> EvidenceError {
    EvidenceError::Syntax { encoding: "CBOR", problem: problem.to_owned() }
}

fn wrong_type(label: &'static str, expected: &'static str, found: Head) -> EvidenceError {
    let found = match found {
        Head::Positive(_) | Head::Negative(_) => "an integer",
        Head::Bytes(_) => "bytes",
        Head::Text(_) => "text",
        Head::Array(_) => "an array",
        Head::Map(_) => "a map",
        Head::Tag => "a tag",
        Head::SimpleOrFloat => "a simple or floating-point value",
        Head::Break => "a break",
    };
    EvidenceError::WrongType { label, expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_the_fewest_bytes() {
        for (length, expected) in [
            (0, &[0x40][..]),
            (23, &[0x57]),
            (24, &[0x58, 24]),
            (0xff, &[0x58, 0xff]),
            (0x100, &[0x59, 1, 0]),
            (0xffff, &[0x59, 0xff, 0xff]),
            (0x1_0000, &[0x5a, 0, 1, 0, 0]),
            (0xffff_ffff, &[0x5a, 0xff, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(head(BYTES, length), expected, "{length}");
        }
    }
}
