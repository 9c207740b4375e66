//! Why a command ends without having done its work, and the exit code that says so.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::show::harmless;

/// What was asked was judged, and refused.
pub(crate) const REFUSED: u8 = 1;
/// Nothing could be judged: a flag, a file, the network. clap exits with the same code.
pub(crate) const UNDECIDED: u8 = 2;

const ERROR: Style = AnsiColor::Red.on_default().bold();

/// A command's end, with the message for whoever typed it.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Exit code 1.
    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        Self { code: REFUSED, message: message.to_string() }
    }

    /// Exit code 2.
    pub(crate) fn undecided(message: impl fmt::Display) -> Self {
        Self { code: UNDECIDED, message: message.to_string() }
    }

    /// Exit code 2, with what was being done and each cause that says something new.
    pub(crate) fn during(doing: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self::undecided(format_args!("{doing}: {}", chain(error)))
    }

    /// What a far end says may stand in it, and must not steer the terminal.
    fn shown(&self) -> String {
        self.message.lines().map(harmless).collect::<Vec<_>>().join("\n")
    }

    /// Prints the message on standard error, in colour where that is a terminal.
    pub(crate) fn report(&self) -> ExitCode {
        anstream::eprintln!("{ERROR}error:{ERROR:#} {}", self.shown());
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error and its causes in one line. Many errors of other crates leave the reason to their source; many of ours
/// repeat it.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_far_end_says_does_not_steer_the_terminal() {
        let failure = Failure::undecided("valid for \u{1b}[2J\u{9b}31m\r\u{202e}\nand a line of ours");
        assert_eq!(failure.shown(), "valid for \\u{1b}[2J\\u{9b}31m\\u{d}\\u{202e}\nand a line of ours");
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = std::io::Error::other("no such host");
        assert_eq!(chain(&std::io::Error::other(cause)), "no such host");
        #[derive(Debug, thiserror::Error)]
        #[error("connect")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(chain(&Outer(std::io::Error::other("refused"))), "connect: refused");
    }
}
