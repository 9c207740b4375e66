//! Collections in CBOR. The heads are read by `ciborium-ll`; nothing here recurses, and nothing is allocated for a
//! length before its bytes have been read.

use std::collections::BTreeSet;

use ciborium_ll::{Decoder, Error, Header};

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

pub(super) fn decode(mut bytes: &[u8]) -> Result<Collection, EvidenceError> {
    let collection = Reader { decoder: Decoder::from(&mut bytes) }.collection()?;
    if bytes.is_empty() { Ok(collection) } else { Err(EvidenceError::TrailingBytes(bytes.len())) }
}

struct Reader<'a, 'b> {
    decoder: Decoder<&'a mut &'b [u8]>,
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

impl Reader<'_, '_> {
    fn collection(mut self) -> Result<Collection, EvidenceError> {
        let mut left = match self.header()? {
            Header::Map(length) => Left::elements(length),
            other => return Err(wrong_type(COLLECTION, "a map", other)),
        };
        let mut collection = Collection::default();
        let mut seen = BTreeSet::new();
        while let Some(header) = self.next_of(&mut left)? {
            let label = self.label(header)?;
            let value = self.header()?;
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

    fn label(&mut self, header: Header) -> Result<AnyLabel, EvidenceError> {
        match header {
            Header::Positive(number) => Ok(AnyLabel::Positive(number)),
            Header::Negative(number) => Ok(AnyLabel::Negative(number)),
            Header::Text(length) => self.text(length).map(AnyLabel::Text),
            other => Err(wrong_type(COLLECTION, "labels that are text or integers", other)),
        }
    }

    fn kind(&mut self, value: Header) -> Result<String, EvidenceError> {
        match value {
            Header::Text(length) => self.text(length),
            other => Err(wrong_type(TYPE_LABEL, "text", other)),
        }
    }

    fn record(&mut self, label: &'static str, value: Header) -> Result<Record, EvidenceError> {
        let wrong_type = |found| Err(wrong_type(label, Record::EXPECTED, found));
        let mut left = match value {
            Header::Array(length) => Left::elements(length),
            other => return wrong_type(other),
        };
        let too_few = || EvidenceError::WrongType { label, expected: Record::EXPECTED, found: "too few elements" };
        let media_type = match self.next_of(&mut left)?.ok_or_else(too_few)? {
            Header::Text(length) => self.text(length)?,
            other => return wrong_type(other),
        };
        let bytes = match self.next_of(&mut left)?.ok_or_else(too_few)? {
            Header::Bytes(length) => self.bytes(length)?,
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

    fn header(&mut self) -> Result<Header, EvidenceError> {
        self.decoder.pull().map_err(|error| malformed(&error))
    }

    /// The head of the next element, or `None` at the end.
    fn next_of(&mut self, left: &mut Left) -> Result<Option<Header>, EvidenceError> {
        match left {
            Left::Counted(0) => Ok(None),
            Left::Counted(count) => {
                *count -= 1;
                self.header().map(Some)
            }
            Left::UntilBreak | Left::PairsUntilBreak { value_next: false } => match self.header()? {
                Header::Break => {
                    *left = Left::Counted(0);
                    Ok(None)
                }
                header => {
                    if let Left::PairsUntilBreak { value_next } = left {
                        *value_next = true;
                    }
                    Ok(Some(header))
                }
            },
            Left::PairsUntilBreak { value_next } => {
                *value_next = false;
                self.header().map(Some)
            }
        }
    }

    fn text(&mut self, length: Option<usize>) -> Result<String, EvidenceError> {
        let mut text = String::new();
        self.each_chunk_of_text(length, |chunk| text.push_str(chunk))?;
        Ok(text)
    }

    fn bytes(&mut self, length: Option<usize>) -> Result<Vec<u8>, EvidenceError> {
        let mut bytes = Vec::new();
        self.each_chunk_of_bytes(length, |chunk| bytes.extend_from_slice(chunk))?;
        Ok(bytes)
    }

    fn each_chunk_of_text(&mut self, length: Option<usize>, mut take: impl FnMut(&str)) -> Result<(), EvidenceError> {
        let mut buffer = [0; 1024];
        let mut segments = self.decoder.text(length);
        while let Some(mut segment) = segments.pull().map_err(|error| malformed(&error))? {
            while let Some(chunk) = segment.pull(&mut buffer).map_err(|error| malformed(&error))? {
                take(chunk);
            }
        }
        Ok(())
    }

    fn each_chunk_of_bytes(&mut self, length: Option<usize>, mut take: impl FnMut(&[u8])) -> Result<(), EvidenceError> {
        let mut buffer = [0; 1024];
        let mut segments = self.decoder.bytes(length);
        while let Some(mut segment) = segments.pull().map_err(|error| malformed(&error))? {
            while let Some(chunk) = segment.pull(&mut buffer).map_err(|error| malformed(&error))? {
                take(chunk);
            }
        }
        Ok(())
    }

    /// Reads the rest of a value whose head has been read, and drops it.
    fn skip(&mut self, header: Header) -> Result<(), EvidenceError> {
        let mut open: Vec<Left> = Vec::new();
        let mut header = Some(header);
        loop {
            match header {
                None => drop(open.pop()),
                Some(Header::Break) => return Err(syntax("a break outside of an indefinite length")),
                Some(Header::Text(length)) => self.each_chunk_of_text(length, |_| ())?,
                Some(Header::Bytes(length)) => self.each_chunk_of_bytes(length, |_| ())?,
                Some(Header::Tag(_)) => open.push(Left::Counted(1)),
                Some(Header::Array(length)) => open.push(Left::elements(length)),
                Some(Header::Map(length)) => open.push(Left::pairs(length)?),
                Some(Header::Positive(_) | Header::Negative(_) | Header::Float(_) | Header::Simple(_)) => {}
            }
            if open.len() > MAX_DEPTH {
                return Err(syntax("more than 64 levels"));
            }
            header = match open.last_mut() {
                Some(left) => self.next_of(left)?,
                None => return Ok(()),
            };
        }
    }
}

/// What is left to read of an array, a map or a tag.
enum Left {
    Counted(usize),
    UntilBreak,
    /// An indefinite map, which may not end before a value.
    PairsUntilBreak {
        value_next: bool,
    },
}

impl Left {
    fn elements(length: Option<usize>) -> Self {
        length.map_or(Self::UntilBreak, Self::Counted)
    }

    fn pairs(length: Option<usize>) -> Result<Self, EvidenceError> {
        match length {
            None => Ok(Self::PairsUntilBreak { value_next: false }),
            Some(length) => length.checked_mul(2).map(Self::Counted).ok_or_else(|| syntax("a length past the end")),
        }
    }
}

fn malformed<E>(error: &Error<E>) -> EvidenceError {
    match error {
        Error::Io(_) => syntax("an end within a value"),
        Error::Syntax(offset) => syntax(&format!("a malformed value at byte {offset}")),
    }
}

fn syntax(problem: &str) -> EvidenceError {
    EvidenceError::Syntax { encoding: "CBOR", problem: problem.to_owned() }
}

fn wrong_type(label: &'static str, expected: &'static str, found: Header) -> EvidenceError {
    let found = match found {
        Header::Positive(_) | Header::Negative(_) => "an integer",
        Header::Bytes(_) => "bytes",
        Header::Text(_) => "text",
        Header::Array(_) => "an array",
        Header::Map(_) => "a map",
        Header::Tag(_) => "a tag",
        Header::Float(_) | Header::Simple(_) => "a simple or floating-point value",
        Header::Break => "a break",
    };
    EvidenceError::WrongType { label, expected, found }
}
