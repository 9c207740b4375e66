//! The flags of a command, as the environment and the file name them.

use std::any::TypeId;

use clap::{Arg, ArgAction, Command};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: it is there or not.
    Switch,
    /// A number, or text that stands for one, such as `64KiB`.
    Number,
    /// Text.
    Text,
}

/// A flag that is a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    /// clap's name for it.
    pub(super) id: String,
    /// As it is written after `--`, and as the file's key.
    pub(super) long: String,
    pub(super) kind: Kind,
    pub(super) is_list: bool,
}

/// The file's name comes before the file, and what says what to do is no setting.
const NOT_IN_FILES: [&str; 3] = ["config-file", "check", "show-config"];

/// The flags of `command` itself that the environment and the file may set.
pub(super) fn settings(command: &Command) -> Vec<Flag> {
    command.get_arguments().filter_map(flag).filter(|flag| !NOT_IN_FILES.contains(&flag.long.as_str())).collect()
}

fn flag(arg: &Arg) -> Option<Flag> {
    let long = arg.get_long()?.to_owned();
    let (kind, is_list) = match arg.get_action() {
        ArgAction::SetTrue => (Kind::Switch, false),
        ArgAction::Set => (kind(arg), false),
        ArgAction::Append => (kind(arg), true),
        _ => return None,
    };
    Some(Flag { id: arg.get_id().to_string(), long, kind, is_list })
}

fn kind(arg: &Arg) -> Kind {
    let parsed = arg.get_value_parser().type_id();
    let numbers = [TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>()];
    if numbers.iter().any(|number| parsed == *number) { Kind::Number } else { Kind::Text }
}

impl Flag {
    /// Its variable in the environment.
    pub(super) fn variable(&self) -> String {
        format!("TOWER_ATTEST_{}", self.long.to_ascii_uppercase().replace('-', "_"))
    }
}

/// What was probably meant.
pub(super) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = known.into_iter().map(|known| (strsim::damerau_levenshtein(found, known), known));
    let (distance, known) = likeness.min_by_key(|(distance, _)| *distance)?;
    // A third of its letters may be wrong.
    (distance * 3 <= known.len().max(found.len())).then_some(known)
}
