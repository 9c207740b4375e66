//! Where the settings of a sidecar come from: its flags, then the environment, then a file, then defaults.
//!
//! What stands in the environment and the file is handed to clap as flags. So every flag can stand there under its own
//! name, and what clap demands of flags (required, not together, of which form) it demands of all of them together.

mod environment;
mod file;
mod flags;
mod merge;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches};

use self::environment::Environment;
use self::merge::Merged;
use crate::Cli;
use crate::failure::Failure;

/// What `--help` of both sidecars ends with, after the examples.
macro_rules! after_help {
    ($examples:literal) => {
        concat!(
            $examples,
            "\n\n\
Every flag can also stand in the environment (TOWER_ATTEST_LISTEN for
--listen; lists with commas) or in a TOML file (--config-file; the key is the
flag's long name). A flag counts before the environment, that before the file.
A switch that is set there is unset by --SWITCH=false.

Signals: SIGTERM drains, a second one ends at once, SIGHUP reads files again.
Exit codes: 0 ended when told to, 2 could not start, 130 or 143 ended at once."
        )
    };
}
pub(crate) use after_help;

/// Where settings come from, and whether they are only to be checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct Source {
    /// A TOML file with settings, in the tables [serve] and [connect].
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Check the settings and the files that they name, and end with exit code 0 or 2. Nothing is opened to the network,
    /// and the hardware is not asked.
    #[arg(long)]
    pub(crate) check: bool,
}

impl Source {
    /// Says that all is well.
    pub(crate) fn checked(&self) -> ExitCode {
        match &self.config_file {
            Some(path) => anstream::println!("ok: {} and the other settings", path.display()),
            None => anstream::println!("ok"),
        }
        ExitCode::SUCCESS
    }
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum Stop {
    /// clap's own message, help among them, and where the flags come from that it names.
    Clap(Box<clap::Error>, Vec<String>),
    /// The environment or the file cannot be read.
    Failure(Failure),
}

impl Stop {
    /// Prints it, and says with which exit code to end.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Clap(error, notes) => {
                // There is nowhere left to say that it cannot be printed.
                let _ = error.print();
                notes.iter().for_each(|note| anstream::eprintln!("note: {note}"));
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(crate::failure::UNDECIDED))
            }
            Self::Failure(failure) => failure.report(),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        Self::Clap(Box::new(error), Vec::new())
    }
}

/// What this process was asked to do.
pub(crate) fn parse() -> Result<Cli, Stop> {
    let environment = Environment::of_process();
    let (cli, warnings) = parse_from(std::env::args_os().collect(), &environment)?;
    warnings.iter().for_each(|warning| anstream::eprintln!("warning: {warning}"));
    Ok(cli)
}

fn parse_from(arguments: Vec<OsString>, environment: &Environment) -> Result<(Cli, Vec<String>), Stop> {
    let command = Cli::command();
    let Merged { arguments, assignments, warnings } = merge::merge(&command, arguments, environment)?;
    let parsed = command.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => Ok((cli, warnings)),
        Err(error) => {
            let text = error.to_string();
            let notes = assignments.iter().filter(|assignment| assignment.is_named_in(&text));
            let notes = notes.map(ToString::to_string).chain(warnings).collect();
            Err(Stop::Clap(Box::new(error), notes))
        }
    }
}
