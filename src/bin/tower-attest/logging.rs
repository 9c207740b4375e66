//! Where log lines go: standard error, so that standard output holds answers alone.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// What is logged, and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Logging {
    /// What to log: a level, or filters such as "info,tower_attest=debug".
    #[arg(long, env = "TOWER_ATTEST_LOG", default_value = "warn", global = true, value_name = "FILTER")]
    log: String,
    /// How log lines are written.
    #[arg(long, default_value = "text", global = true, value_name = "FORMAT")]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// One line for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Logging {
    /// Starts logging. A filter that does not parse is told and replaced, since a typo should not stop a service.
    pub(crate) fn start(&self) {
        let filter = EnvFilter::try_new(&self.log).unwrap_or_else(|error| {
            anstream::eprintln!("warning: --log {:?}: {error}; logging warnings", self.log);
            EnvFilter::new("warn")
        });
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
        match self.log_format {
            Format::Text => lines.init(),
            Format::Json => lines.json().flatten_event(true).init(),
        }
    }
}
