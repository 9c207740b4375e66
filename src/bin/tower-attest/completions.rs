//! `completions`: what a shell completes after `tower-attest`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::failure::Failure;

const NAME: &str = "tower-attest";
const EXAMPLES: &str = "\
Examples:
  tower-attest completions bash > /etc/bash_completion.d/tower-attest
  tower-attest completions zsh > /usr/share/zsh/site-functions/_tower-attest
  tower-attest completions fish > ~/.config/fish/completions/tower-attest.fish";

/// Writes completions of commands and flags for a shell.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<ExitCode, Failure> {
        let script = if self.shell == Shell::Bash { bash() } else { script(self.shell, NAME) };
        std::io::stdout().write_all(&script).map_err(|error| Failure::during("standard output", &error))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn script(shell: Shell, name: &str) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), name, &mut script);
    script
}

/// clap_complete writes scripts for bash that complete nothing after a subcommand where the name has a hyphen
/// (<https://github.com/clap-rs/clap/issues/6421>): so its functions get a name without one, and complete for the real one.
fn bash() -> Vec<u8> {
    let plain = NAME.replace('-', "_");
    let mut script = String::from_utf8_lossy(&script(Shell::Bash, &plain)).into_owned();
    script = script.replace(&format!("-o default {plain}\n"), &format!("-o default {NAME}\n"));
    script.into_bytes()
}
