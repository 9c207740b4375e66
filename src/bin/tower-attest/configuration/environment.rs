//! Settings from the environment: `TOWER_ATTEST_<FLAG>`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::flags::{Flag, Kind, nearest};
use crate::failure::Failure;

const PREFIX: &str = "TOWER_ATTEST_";

/// The variables that begin with `TOWER_ATTEST_` and are not empty: an empty one counts as none.
#[derive(Debug, Default)]
pub(super) struct Environment(BTreeMap<String, OsString>);

/// What the environment says of a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Set {
    /// A switch.
    Switch(bool),
    /// Values; one unless the flag can be repeated.
    Values(Vec<OsString>),
}

impl Environment {
    pub(super) fn of_process() -> Self {
        Self::new(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))))
    }

    pub(super) fn new(variables: impl IntoIterator<Item = (String, OsString)>) -> Self {
        let ours = |(name, value): &(String, OsString)| name.starts_with(PREFIX) && !value.is_empty();
        Self(variables.into_iter().filter(ours).collect())
    }

    pub(super) fn value(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }

    pub(super) fn get(&self, flag: &Flag) -> Result<Option<Set>, Failure> {
        let name = flag.variable();
        let Some(value) = self.value(&name) else { return Ok(None) };
        let wrong = |expected: &str| Failure::undecided(format_args!("{name}: expected {expected}, found {value:?}"));
        Ok(Some(match (flag.kind, flag.is_list) {
            (Kind::Switch, _) => {
                let expected = || wrong("true or false (or 1, 0, yes, no, on, off)");
                Set::Switch(value.to_str().and_then(truth).ok_or_else(expected)?)
            }
            (_, false) => Set::Values(vec![value.to_owned()]),
            (_, true) => {
                let text = value.to_str().ok_or_else(|| wrong("UTF-8"))?;
                Set::Values(text.split(',').map(|item| item.trim().into()).collect())
            }
        }))
    }

    /// Variables that are probably misspelt. Others may be somebody else's: Kubernetes makes a dozen for a service that is
    /// called `tower-attest`.
    pub(super) fn misspelt<'a>(&'a self, known: &'a [String]) -> impl Iterator<Item = String> + 'a {
        let flags = || known.iter().filter_map(|known| known.strip_prefix(PREFIX));
        self.0.keys().filter(|name| !known.contains(name)).filter_map(move |name| {
            let meant = nearest(name.strip_prefix(PREFIX)?, flags())?;
            Some(format!("{name} is no setting; is {PREFIX}{meant} meant?"))
        })
    }
}

/// As clap reads switches, and systemd.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}
