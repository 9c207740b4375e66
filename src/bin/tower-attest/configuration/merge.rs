//! Makes one command line of flags, environment and file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::Stop;
use super::environment::{Environment, Set};
use super::file::{File, Layout};
use super::flags::{Flag, Kind, settings};
use crate::failure::Failure;

/// The commands that take settings from elsewhere, which are also the tables of the file.
const SIDECARS: [&str; 2] = ["serve", "connect"];
const FILE_FLAG: &str = "--config-file";
const FILE_VARIABLE: &str = "TOWER_ATTEST_CONFIG_FILE";

/// What clap is to read.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) arguments: Vec<OsString>,
    /// What was added, and from where.
    pub(super) assignments: Vec<Assignment>,
    pub(super) warnings: Vec<String>,
}

/// A flag that does not come from the command line.
#[derive(Debug)]
pub(super) struct Assignment {
    flag: String,
    origin: String,
}

impl Assignment {
    /// Whether clap's message speaks of it.
    pub(super) fn is_named_in(&self, text: &str) -> bool {
        text.match_indices(&self.flag).any(|(at, flag)| {
            let next = text.get(at + flag.len()..).and_then(|rest| rest.chars().next());
            next.is_none_or(|next| !next.is_alphanumeric() && next != '-')
        })
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is set by {}", self.flag, self.origin)
    }
}

/// The command line with what the environment and the file add to it. Other commands than the sidecars take the settings of
/// logging from the environment, and nothing else.
pub(super) fn merge(command: &Command, arguments: Vec<OsString>, environment: &Environment) -> Result<Merged, Stop> {
    let flags_of = |name: &str| command.find_subcommand(name).map(settings).unwrap_or_default();
    let layout = Layout { common: settings(command), tables: SIDECARS.map(|name| (name, flags_of(name))).into() };
    let (given, unset) = unset(&arguments, &layout);
    // Errors are clap's to report, of the whole. Help and version are reported here.
    let seen = command.clone().ignore_errors(true).try_get_matches_from(&given)?;
    let Some((name, _)) = seen.subcommand() else {
        return Ok(Merged { arguments, assignments: Vec::new(), warnings: Vec::new() });
    };
    let table = SIDECARS.into_iter().find(|own| *own == name);
    let (given, unset) = if table.is_some() { (given, unset) } else { (arguments, BTreeSet::new()) };
    // No flag is one behind `--`.
    let end = given.iter().position(|argument| argument == "--").unwrap_or(given.len());
    let (flags, rest) = given.split_at(end);
    let mut merged = Merged { arguments: flags.to_vec(), assignments: Vec::new(), warnings: Vec::new() };

    let matches = innermost(&seen);
    let path = if table.is_some() { file_path(matches, environment, &mut merged) } else { None };
    let file = path.map(|path| File::read(&path, &layout)).transpose()?;
    for (place, flag) in layout.flags_for(table) {
        let is_given = matches.value_source(&flag.id) == Some(ValueSource::CommandLine);
        if unset.contains(&flag.long) {
            if is_given {
                let message = format_args!("--{0} and --{0}=false contradict each other", flag.long);
                return Err(Failure::undecided(message).into());
            }
            continue;
        }
        if is_given {
            continue;
        }
        let set = match environment.get(flag)? {
            Some(set) => Some((set, flag.variable())),
            None => file.as_ref().and_then(|file| file.get(place, flag)),
        };
        if let Some((set, origin)) = set {
            merged.add(flag, set, origin);
        }
    }
    merged.arguments.extend_from_slice(rest);
    if table.is_some() {
        merged.warnings.extend(environment.misspelt(&layout.variables()));
    }
    Ok(merged)
}

/// What the last of the commands was given, which knows the global flags too.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

impl Merged {
    fn add(&mut self, flag: &Flag, set: Set, origin: String) {
        let name = format!("--{}", flag.long);
        match set {
            Set::Switch(false) => return,
            Set::Switch(true) => self.arguments.push(name.clone().into()),
            Set::Values(values) => self.arguments.extend(values.iter().map(|value| {
                let mut argument = OsString::from(format!("{name}="));
                argument.push(value);
                argument
            })),
        }
        self.assignments.push(Assignment { flag: name, origin });
    }
}

impl Layout {
    /// The settings of one sidecar, or of none, each with the table in which it stands.
    fn flags_for(&self, table: Option<&'static str>) -> impl Iterator<Item = (Option<&'static str>, &Flag)> {
        let own = self.tables.iter().filter(move |(name, _)| Some(*name) == table).flat_map(|(_, flags)| flags);
        self.common.iter().map(|flag| (None, flag)).chain(own.map(move |flag| (table, flag)))
    }

    fn all(&self) -> impl Iterator<Item = &Flag> {
        self.common.iter().chain(self.tables.iter().flat_map(|(_, flags)| flags))
    }

    fn variables(&self) -> Vec<String> {
        self.all().map(Flag::variable).chain([FILE_VARIABLE.to_owned()]).collect()
    }
}

fn file_path(matches: &ArgMatches, environment: &Environment, merged: &mut Merged) -> Option<PathBuf> {
    if let Some(path) = matches.get_one::<PathBuf>("config_file") {
        return Some(path.clone());
    }
    let path = environment.value(FILE_VARIABLE)?;
    let mut argument = OsString::from(format!("{FILE_FLAG}="));
    argument.push(path);
    merged.arguments.push(argument);
    Some(Path::new(path).to_owned())
}

/// Takes `--SWITCH=false` out, which clap does not know, and makes `--SWITCH` of `--SWITCH=true`.
fn unset(arguments: &[OsString], layout: &Layout) -> (Vec<OsString>, BTreeSet<String>) {
    let (mut given, mut unset) = (Vec::new(), BTreeSet::new());
    let switches: BTreeSet<_> =
        layout.all().filter(|flag| flag.kind == Kind::Switch).map(|flag| flag.long.as_str()).collect();
    for argument in arguments {
        let text = argument.to_str().and_then(|text| text.strip_prefix("--"));
        match text.and_then(|text| text.split_once('=')) {
            Some((long, "false")) if switches.contains(long) => {
                unset.insert(long.to_owned());
            }
            Some((long, "true")) if switches.contains(long) => given.push(format!("--{long}").into()),
            _ => given.push(argument.clone()),
        }
    }
    (given, unset)
}
