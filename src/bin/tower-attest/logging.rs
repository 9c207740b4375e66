//! Where log lines go: standard error, so that standard output holds answers alone.
//!
//! No line holds a nonce, a key, a body, or a field or target of a request. This program's own lines are written so; those
//! of the libraries below it are let through from `info` upwards alone, whatever the filter says, since what they tell
//! below that is theirs to choose (h2 tells targets that it cannot parse).

use std::fmt::{self, Debug};
use std::io::IsTerminal;

use anstyle::Style;
use clap::{Args, ValueEnum};
use tracing::Level;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::show::harmless;

/// What is logged, and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Logging {
    /// What to log: a level, or filters such as "info,tower_attest::tls=debug". Default: info for serve and connect, warn for
    /// the others. Libraries log nothing below info. In the environment: TOWER_ATTEST_LOG.
    #[arg(long, global = true, value_name = "FILTER", value_parser = filter)]
    log: Option<String>,
    /// How log lines are written. Default: text on a terminal, else json for serve and connect. In the environment:
    /// TOWER_ATTEST_LOG_FORMAT.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Who logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logger {
    /// A sidecar: runs for months, and its log is read by machines.
    Sidecar,
    /// A command that somebody waits for.
    Tool,
}

impl Logging {
    /// Starts logging.
    pub(crate) fn start(&self, logger: Logger) {
        let terminal = std::io::stderr().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
        let lines = match format(self.log_format, logger, terminal) {
            Format::Text => lines.fmt_fields(debug_fn(field).delimited(" ")).boxed(),
            Format::Json => lines.json().flatten_event(true).boxed(),
        };
        // Parsed before, with the other flags.
        let filter = EnvFilter::new(self.log.as_deref().unwrap_or(default_filter(logger)));
        let bound = filter_fn(|metadata| is_own(metadata.target()) || *metadata.level() <= Level::INFO);
        tracing_subscriber::registry().with(filter).with(bound).with(lines).init();
    }
}

/// A field of an event, or its message. What a far end says in an error begins no other line, and does not steer the terminal.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = harmless(&format!("{value:?}"));
    match field.name() {
        "message" => writer.write_str(&value),
        name if writer.has_ansi_escapes() => {
            let (name_style, equals) = (Style::new().italic(), Style::new().dimmed());
            write!(writer, "{name_style}{name}{name_style:#}{equals}={equals:#}{value}")
        }
        name => write!(writer, "{name}={value}"),
    }
}

fn default_filter(logger: Logger) -> &'static str {
    match logger {
        Logger::Sidecar => "info",
        Logger::Tool => "warn",
    }
}

fn format(given: Option<Format>, logger: Logger, terminal: bool) -> Format {
    given.unwrap_or(if terminal || logger == Logger::Tool { Format::Text } else { Format::Json })
}

/// Whether the library or the binary of this crate speaks.
fn is_own(target: &str) -> bool {
    target.strip_prefix("tower_attest").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// A bare word would be taken for a target, and a misspelt level would log nothing.
fn filter(text: &str) -> Result<String, String> {
    let expected = |found: &str| {
        format!("expected error, warn, info, debug, trace, off, or TARGET=LEVEL, joined by commas, found {found:?}")
    };
    for directive in text.split(',').map(str::trim).filter(|directive| !directive.contains(['=', '['])) {
        // Nothing at all would be taken for a level, too.
        if directive.is_empty() || directive.parse::<LevelFilter>().is_err() {
            return Err(expected(directive));
        }
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| expected(text))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written, for a look at it afterwards.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_far_end_says_begins_no_line_and_does_not_steer_the_terminal() {
        for colour in [false, true] {
            let written = Shared::default();
            let sink = written.clone();
            let lines = tracing_subscriber::fmt::layer().with_writer(move || sink.clone()).with_ansi(colour);
            let lines = lines.fmt_fields(debug_fn(field).delimited(" "));
            tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
                let said = "no\n2026-11-26T00:00:00Z  INFO serving\r\u{1b}[2J\u{9b}2J";
                tracing::warn!(reason = %said, stage = "policy", "far end not attested: {said}");
                let error: &(dyn std::error::Error + 'static) = &std::io::Error::other(said);
                tracing::warn!(error, "another");
            });
            let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert_eq!(written.lines().count(), 2, "{written}");
            assert!(!written.contains(['\r', '\u{9b}']) && !written.contains("\u{1b}[2J"), "{written}");
            assert_eq!(written.contains('\u{1b}'), colour, "{written}");
            let plain = anstream::adapter::strip_str(&written).to_string();
            let first = plain.lines().next().unwrap();
            assert!(first.contains("reason=no\\u{a}2026") && first.ends_with("stage=\"policy\""), "{plain}");
        }
    }

    #[test]
    fn people_get_text_and_machines_json_unless_something_else_is_said() {
        for (given, logger, terminal, expected) in [
            (None, Logger::Sidecar, true, Format::Text),
            (None, Logger::Sidecar, false, Format::Json),
            (None, Logger::Tool, false, Format::Text),
            (Some(Format::Json), Logger::Sidecar, true, Format::Json),
            (Some(Format::Text), Logger::Sidecar, false, Format::Text),
            (Some(Format::Json), Logger::Tool, true, Format::Json),
        ] {
            assert_eq!(format(given, logger, terminal), expected, "{given:?} {logger:?} {terminal}");
        }
    }

    #[test]
    fn a_filter_that_would_log_nothing_by_mistake_is_refused() {
        for text in ["info", "off", "WARN", "info,tower_attest=debug", "tower_attest::tls=trace, warn"] {
            assert_eq!(filter(text).as_deref(), Ok(text));
        }
        for text in ["", "infoo", "info,", "info,h2", "tower_attest=loud", "=info="] {
            assert!(filter(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_names_of_this_crate_are_its_own() {
        for target in ["tower_attest", "tower_attest::server", "tower_attest::proxy::service"] {
            assert!(is_own(target), "{target}");
        }
        for target in ["h2::server", "tower", "tower::buffer", "tower_attest_other", "hyper_util::client"] {
            assert!(!is_own(target), "{target}");
        }
    }
}
