//! Collections in JSON.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use super::{COLLECTION, Collection, EvidenceError, Label, Record, TYPE, TYPE_LABEL};
use crate::protocol::excerpt;

pub(super) fn encode(collection: &Collection) -> Vec<u8> {
    let mut text = format!("{{\"{TYPE_LABEL}\":\"{TYPE}\"");
    for (label, Record { media_type, bytes }) in &collection.records {
        // `Platform` keeps quotes and controls out of media types, but not backslashes.
        let media_type = Value::from(media_type.as_str());
        text.push_str(&format!(",\"{}\":[{media_type},\"{}\"]", label.name(), URL_SAFE_NO_PAD.encode(bytes)));
    }
    text.push('}');
    text.into_bytes()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Collection, EvidenceError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| EvidenceError::Syntax { encoding: "JSON", problem: error.to_string() })?;
    let Members { known, repeated } = serde_json::from_str(text).map_err(|error| refusal(&error))?;
    if let Some(label) = repeated {
        return Err(EvidenceError::Repeated(format!("{:?}", excerpt(&label))));
    }
    let mut collection = Collection::default();
    for (known, value) in known {
        match known {
            Known::Type => collection.kind = Some(kind(value)?),
            Known::Record(label) => {
                collection.records.insert(label, record(label, value)?);
            }
        }
    }
    Ok(collection)
}

/// An error that shows where, but nothing of the text.
fn refusal(error: &serde_json::Error) -> EvidenceError {
    if error.classify() == Category::Data {
        return EvidenceError::WrongType { label: COLLECTION, expected: "an object", found: "another JSON value" };
    }
    let problem = format!("a syntax error at line {} column {}", error.line(), error.column());
    EvidenceError::Syntax { encoding: "JSON", problem }
}

fn kind(value: Value) -> Result<String, EvidenceError> {
    match value {
        Value::String(kind) => Ok(kind),
        other => Err(wrong_type(TYPE_LABEL, "a string", &other)),
    }
}

fn record(label: Label, value: Value) -> Result<Record, EvidenceError> {
    let label = label.name();
    match value {
        Value::Array(elements) => match <[Value; 2]>::try_from(elements).or_else(first_two_of_three) {
            Ok([Value::String(media_type), Value::String(bytes)]) => {
                let bytes = URL_SAFE_NO_PAD.decode(bytes).map_err(|_| EvidenceError::Base64(label))?;
                Ok(Record { media_type, bytes })
            }
            _ => {
                Err(EvidenceError::WrongType { label, expected: Record::EXPECTED, found: "an array of other elements" })
            }
        },
        other => Err(wrong_type(label, Record::EXPECTED, &other)),
    }
}

fn first_two_of_three(elements: Vec<Value>) -> Result<[Value; 2], Vec<Value>> {
    <[Value; 3]>::try_from(elements).map(|[media_type, bytes, _]| [media_type, bytes])
}

fn wrong_type(label: &'static str, expected: &'static str, found: &Value) -> EvidenceError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a Boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    EvidenceError::WrongType { label, expected, found }
}

enum Known {
    Type,
    Record(Label),
}

/// The members whose labels mean something, and the first label that occurs again.
#[derive(Default)]
struct Members {
    known: Vec<(Known, Value)>,
    repeated: Option<String>,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        let mut seen = BTreeSet::new();
        while let Some(label) = map.next_key::<String>()? {
            let known = if label == TYPE_LABEL { Some(Known::Type) } else { Label::named(&label).map(Known::Record) };
            match known {
                Some(known) => members.known.push((known, map.next_value()?)),
                None => map.next_value::<IgnoredAny>().map(drop)?,
            }
            if let Some(label) = seen.replace(label) {
                members.repeated.get_or_insert(label);
            }
        }
        Ok(members)
    }
}
