//! I-JSON (RFC 7493) as a tree, in which no member may occur twice.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::excerpt;

/// A JSON value. Numbers that are not unsigned integers are told apart from the rest, and otherwise dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    Null,
    Boolean,
    Unsigned(u64),
    OtherNumber,
    String(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// The type's name, for errors.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a Boolean",
            Self::Unsigned(_) => "an unsigned integer",
            Self::OtherNumber => "another number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Why a text is not I-JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JsonError {
    /// What is wrong, and where. Holds nothing of the text.
    Syntax(String),
    /// A member that occurs again in its object.
    Repeated(String),
}

/// Parses a whole text. Nesting past 128 levels is a syntax error.
pub(super) fn parse(bytes: &[u8]) -> Result<Json, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|error| JsonError::Syntax(error.to_string()))?;
    let repeated = OnceCell::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed =
        Node { repeated: &repeated }.deserialize(&mut deserializer).and_then(|json| deserializer.end().map(|()| json));
    match (repeated.into_inner(), parsed) {
        (Some(member), _) => Err(JsonError::Repeated(member)),
        (None, parsed) => parsed.map_err(|error| JsonError::Syntax(error.to_string())),
    }
}

#[derive(Clone, Copy)]
struct Node<'a> {
    repeated: &'a OnceCell<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Boolean)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Json, E> {
        checked(text.to_owned()).map(Json::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element_seed(self)? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let name = checked(name)?;
            if members.contains_key(&name) {
                self.repeated.get_or_init(|| excerpt(&name));
                return Err(A::Error::custom("a repeated member"));
            }
            let value = map.next_value_seed(self)?;
            members.insert(name, value);
        }
        Ok(Json::Object(members))
    }
}

/// RFC 7493, section 2.1: no code points that Unicode sets aside as noncharacters. Lone surrogates are serde_json's.
fn checked<E: serde::de::Error>(text: String) -> Result<String, E> {
    let noncharacter = |c: char| matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    if text.contains(noncharacter) { Err(E::custom("a Unicode noncharacter")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(text: &str) -> Result<Json, JsonError> {
        parse(text.as_bytes())
    }

    #[test]
    fn repeated_members_are_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"\u0061":3}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"[[{"y":[{"a":null,"a":null}]}]]"#,
            r#"{"a":{},"a":{}}"#,
        ] {
            assert_eq!(repeated(text), Err(JsonError::Repeated("a".into())), "{text}");
        }
        assert!(repeated(r#"{"a":{"a":{"a":1}},"b":{"a":1},"A":2}"#).is_ok());
    }

    #[test]
    fn what_is_not_i_json_is_refused() {
        let deep = "[".repeat(200_000);
        for text in [
            "",
            "{",
            "{}x",
            "{} {}",
            "{'a':1}",
            "{a:1}",
            "[1,]",
            "01",
            "+1",
            "1.",
            "NaN",
            "\"\\x\"",
            "\"\n\"",
            "\u{feff}{}",
            "\"\\ud800\"",
            "\"\\udc00\\ud800\"",
            "\"\u{fdd0}\"",
            "\"\\uffff\"",
            "{\"\\ufffe\":1}",
            "1e999",
            "// x\n1",
            &deep,
        ] {
            assert!(matches!(parse(text.as_bytes()), Err(JsonError::Syntax(_))), "{}", excerpt(text));
        }
        for bytes in [&b"\"\xff\""[..], b"\"\xed\xa0\x80\"", b"{\"x\":\"\xc0\x80\"}"] {
            assert!(matches!(parse(bytes), Err(JsonError::Syntax(_))));
        }
    }

    #[test]
    fn white_space_around_the_text_is_json() {
        assert_eq!(parse(b" \r\n\t[0, -1, 1.0, true, null] \n").map(|json| json.type_name()), Ok("an array"));
    }
}
