//! Structured fields as maps, in which nothing may occur twice. The grammar is the `sfv` crate's.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use sfv::visitor::{DictionaryVisitor, EntryVisitor, InnerListVisitor, ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef, Parser};

use super::HeaderError;
use crate::protocol::excerpt;

/// What stands under one key: a bare item, or `None` for an inner list, which no known key may have.
pub(super) type Value<'de> = Option<BareItemFromInput<'de>>;

/// Parses an Item and its parameters.
pub(super) fn item<'de>(
    field: &'static str,
    value: &'de [u8],
) -> Result<(BareItemFromInput<'de>, BTreeMap<&'de str, Value<'de>>), HeaderError> {
    let (item, parameters) = Parser::new(value).parse_item_with_visitor(ItemWithParameters).map_err(syntax(field))?;
    Ok((item, parameters.unique(field)?))
}

/// Parses a Dictionary. Its members' own parameters are checked for repeats and then dropped.
pub(super) fn dictionary<'de>(
    field: &'static str,
    value: &'de [u8],
) -> Result<BTreeMap<&'de str, Value<'de>>, HeaderError> {
    Parser::new(value).parse_dictionary_with_visitor(Members::default()).map_err(syntax(field))?.unique(field)
}

fn syntax(field: &'static str) -> impl Fn(sfv::Error) -> HeaderError {
    move |error| HeaderError::Syntax { field, problem: error.to_string() }
}

/// Collects the members of a dictionary or the parameters of an item, and notes the first key that is not unique.
#[derive(Default)]
struct Members<'de> {
    by_key: BTreeMap<&'de str, Value<'de>>,
    repeated: Option<&'de str>,
}

impl<'de> Members<'de> {
    fn insert(&mut self, key: &'de KeyRef, value: Value<'de>) {
        if self.by_key.insert(key.as_str(), value).is_some() {
            self.repeated.get_or_insert(key.as_str());
        }
    }

    fn unique(self, field: &'static str) -> Result<BTreeMap<&'de str, Value<'de>>, HeaderError> {
        match self.repeated {
            Some(key) => Err(HeaderError::RepeatedKey { field, key: excerpt(key) }),
            None => Ok(self.by_key),
        }
    }
}

struct ItemWithParameters;

struct Parameters<'de> {
    item: BareItemFromInput<'de>,
    parameters: Members<'de>,
}

impl<'de> ItemVisitor<'de> for ItemWithParameters {
    type Out = (BareItemFromInput<'de>, Members<'de>);
    type Error = Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = Self::Out>, Self::Error> {
        Ok(Parameters { item, parameters: Members::default() })
    }
}

impl<'de> ParameterVisitor<'de> for Parameters<'de> {
    type Out = (BareItemFromInput<'de>, Members<'de>);
    type Error = Infallible;

    fn parameter(&mut self, key: &'de KeyRef, value: BareItemFromInput<'de>) -> Result<(), Self::Error> {
        self.parameters.insert(key, Some(value));
        Ok(())
    }

    fn finish(self) -> Result<Self::Out, Self::Error> {
        Ok((self.item, self.parameters))
    }
}

impl<'de> DictionaryVisitor<'de> for Members<'de> {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Self::Error> {
        Ok(Entry { key, members: self })
    }

    fn finish(self) -> Result<Self::Out, Self::Error> {
        Ok(self)
    }
}

struct Entry<'a, 'de> {
    key: &'de KeyRef,
    members: &'a mut Members<'de>,
}

impl<'de> EntryVisitor<'de> for Entry<'_, 'de> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Self::Error> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Self::Error> {
        self.members.insert(self.key, None);
        Ok(InnerList { repeated: &mut self.members.repeated })
    }
}

impl<'de> ItemVisitor<'de> for Entry<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        value: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = Self::Out>, Self::Error> {
        self.members.insert(self.key, Some(value));
        Ok(Dropped::new(&mut self.members.repeated))
    }
}

struct InnerList<'a, 'de> {
    repeated: &'a mut Option<&'de str>,
}

impl<'de> InnerListVisitor<'de> for InnerList<'_, 'de> {
    type Error = Infallible;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Self::Error> {
        Ok(Dropped::new(self.repeated))
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, Self::Error> {
        Ok(Dropped::new(self.repeated))
    }
}

/// Parameters that mean nothing here, and yet may not repeat.
struct Dropped<'a, 'de> {
    seen: BTreeSet<&'de str>,
    repeated: &'a mut Option<&'de str>,
}

impl<'a, 'de> Dropped<'a, 'de> {
    fn new(repeated: &'a mut Option<&'de str>) -> Self {
        Self { seen: BTreeSet::new(), repeated }
    }
}

impl<'de> ItemVisitor<'de> for Dropped<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(self, _: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = Self::Out>, Self::Error> {
        Ok(self)
    }
}

impl<'de> ParameterVisitor<'de> for Dropped<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn parameter(&mut self, key: &'de KeyRef, _: BareItemFromInput<'de>) -> Result<(), Self::Error> {
        if !self.seen.insert(key.as_str()) {
            self.repeated.get_or_insert(key.as_str());
        }
        Ok(())
    }

    fn finish(self) -> Result<Self::Out, Self::Error> {
        Ok(())
    }
}
