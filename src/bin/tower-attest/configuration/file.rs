//! Settings from a TOML file: one table for each sidecar, logging above them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Set;
use super::flags::{Flag, Kind, nearest};
use crate::failure::Failure;

/// The flags that may stand in a file: above all tables, and in each.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) common: Vec<Flag>,
    pub(super) tables: Vec<(&'static str, Vec<Flag>)>,
}

/// What a file sets, by table (none for the settings above them) and key, with the line.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    set: BTreeMap<(Option<&'static str>, String), (Set, usize)>,
}

impl File {
    /// Reads all tables, those of the other sidecar too: one file serves both, and a mistake is one wherever it stands.
    pub(super) fn read(path: &Path, layout: &Layout) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::during(path.display(), &error))?;
        let mut reader = Reader { path, text: &text, layout, set: BTreeMap::new() };
        reader.document()?;
        Ok(Self { path: path.to_owned(), set: reader.set })
    }

    /// What is set of a flag, and where.
    pub(super) fn get(&self, table: Option<&'static str>, flag: &Flag) -> Option<(Set, String)> {
        let (set, line) = self.set.get(&(table, flag.long.clone()))?;
        Some((set.clone(), format!("{}:{line}", self.path.display())))
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    layout: &'a Layout,
    set: BTreeMap<(Option<&'static str>, String), (Set, usize)>,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<(), Failure> {
        // Without the line itself, which the error would show: it may hold what does not belong into a log.
        let document = DeTable::parse(self.text)
            .map_err(|error| self.wrong(error.span().unwrap_or_default(), format_args!("{}", error.message())))?;
        for (key, value) in document.get_ref() {
            let name: &str = key.get_ref();
            let tables = &self.layout.tables;
            if let Some((table, flags)) = tables.iter().find(|(table, _)| *table == name) {
                let DeValue::Table(entries) = value.get_ref() else {
                    return Err(self.mistyped(value, name, "a table"));
                };
                for (key, value) in entries {
                    let flag = flags.iter().find(|flag| flag.long == **key.get_ref());
                    let flag = flag.ok_or_else(|| self.unknown(key, Some(table)))?;
                    self.take(Some(table), flag, value)?;
                }
            } else {
                let flag = self.layout.common.iter().find(|flag| flag.long == name);
                let flag = flag.ok_or_else(|| self.unknown(key, None))?;
                self.take(None, flag, value)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, table: Option<&'static str>, flag: &Flag, value: &Spanned<DeValue<'_>>) -> Result<(), Failure> {
        let set = match (flag.kind, value.get_ref()) {
            (Kind::Switch, DeValue::Boolean(on)) => Set::Switch(*on),
            (Kind::Number | Kind::Text, DeValue::Array(items)) if flag.is_list => {
                let items = items.iter().map(|item| self.item(flag, item));
                Set::Values(items.collect::<Result<_, _>>()?)
            }
            _ => Set::Values(vec![self.item(flag, value)?]),
        };
        self.set.insert((table, flag.long.clone()), (set, self.line(value.span())));
        Ok(())
    }

    fn item(&self, flag: &Flag, value: &Spanned<DeValue<'_>>) -> Result<OsString, Failure> {
        match (flag.kind, value.get_ref()) {
            (Kind::Number | Kind::Text, DeValue::String(text)) => Ok(OsString::from(&**text)),
            (Kind::Number, DeValue::Integer(number)) => u64::from_str_radix(number.as_str(), number.radix())
                .map(|number| number.to_string().into())
                .map_err(|_| self.mistyped(value, &flag.long, "a number that is not negative")),
            (kind, _) => Err(self.mistyped(value, &flag.long, expected(kind, flag.is_list))),
        }
    }

    fn mistyped(&self, value: &Spanned<DeValue<'_>>, key: &str, expected: &str) -> Failure {
        let found = match value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(true) => "true",
            DeValue::Boolean(false) => "false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.wrong(value.span(), format_args!("{key}: expected {expected}, found {found}"))
    }

    /// Names where such a key belongs, or the one that it resembles.
    fn unknown(&self, key: &Spanned<std::borrow::Cow<'_, str>>, table: Option<&'static str>) -> Failure {
        let (name, Layout { common, tables }) = (&**key.get_ref(), self.layout);
        let elsewhere = tables.iter().filter(|(other, _)| table != Some(*other));
        let holders = elsewhere.filter(|(_, flags)| flags.iter().any(|flag| flag.long == name));
        let holders: Vec<_> = holders.map(|(table, _)| format!("[{table}]")).collect();
        let own = tables.iter().find(|(other, _)| table == Some(*other)).map(|(_, flags)| flags);
        let longs = own.unwrap_or(common).iter().map(|flag| flag.long.as_str());
        let names = tables.iter().map(|(table, _)| *table).filter(|_| table.is_none());
        let place = table.map_or_else(|| "above the tables".to_owned(), |table| format!("in [{table}]"));
        let hint = if common.iter().any(|flag| flag.long == name) {
            "; it belongs above the tables".to_owned()
        } else if !holders.is_empty() {
            format!("; it belongs in {}", holders.join(" or "))
        } else {
            nearest(name, longs.chain(names)).map_or_else(String::new, |meant| format!("; is {meant:?} meant?"))
        };
        self.wrong(key.span(), format_args!("{name:?} is no setting {place}{hint}"))
    }

    fn wrong(&self, span: Range<usize>, what: std::fmt::Arguments<'_>) -> Failure {
        Failure::undecided(format_args!("{}:{}: {what}", self.path.display(), self.line(span)))
    }

    fn line(&self, span: Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
    }
}

fn expected(kind: Kind, is_list: bool) -> &'static str {
    match (kind, is_list) {
        (Kind::Switch, _) => "true or false",
        (Kind::Number, false) => "a number",
        (Kind::Number, true) => "a list of numbers",
        (Kind::Text, false) => "text",
        (Kind::Text, true) => "text or a list of texts",
    }
}
