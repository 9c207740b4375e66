//! What the tools say: a page of fields, checks and a verdict, as text of 80 columns or as JSON.

mod json;
mod text;

use std::fmt;
use std::time::SystemTime;

pub(crate) use self::text::harmless;

/// Everything that is said about one thing: a file, a server, a machine.
#[derive(Debug)]
pub(crate) struct Page {
    /// What kind of thing it is, for programs: `snp-report`.
    kind: &'static str,
    /// The same for people.
    title: String,
    /// Where it came from.
    source: String,
    sections: Vec<Section>,
    verdict: Option<Verdict>,
}

/// A titled part of a page.
#[derive(Debug)]
pub(crate) struct Section {
    /// The title; programs get it in lower case with hyphens.
    title: &'static str,
    items: Vec<Item>,
}

#[derive(Debug)]
enum Item {
    Field { offset: Option<&'static str>, name: &'static str, value: String },
    Check(Check),
    Note(String),
}

/// One thing that was checked.
#[derive(Debug)]
struct Check {
    outcome: Outcome,
    name: String,
    expected: Option<String>,
    found: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Pass,
    Fail,
    NotReached,
}

/// What follows from the checks.
#[derive(Debug)]
pub(crate) struct Verdict {
    accepted: bool,
    /// What was accepted, or why not.
    reason: String,
    valid_until: Option<SystemTime>,
}

/// How pages are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people: at most 80 columns, colours where the terminal wants them.
    Text,
    /// For programs: one JSON object per page.
    Json,
}

impl Page {
    pub(crate) fn new(kind: &'static str, title: impl Into<String>, source: impl Into<String>) -> Self {
        Self { kind, title: title.into(), source: source.into(), sections: Vec::new(), verdict: None }
    }

    pub(crate) fn push(&mut self, section: Section) {
        self.sections.push(section);
    }

    pub(crate) fn set_verdict(&mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }

    /// `None` where the thing is merely shown.
    pub(crate) fn accepted(&self) -> Option<bool> {
        self.verdict.as_ref().map(|verdict| verdict.accepted)
    }

    pub(crate) fn print(&self, format: Format) {
        match format {
            Format::Text => anstream::print!("{}", text::Text(self)),
            Format::Json => anstream::println!("{:#}", json::page(self)),
        }
    }

    /// What is printed, without styles.
    #[cfg(test)]
    pub(crate) fn plain(&self, format: Format) -> String {
        match format {
            Format::Text => anstream::adapter::strip_str(&text::Text(self).to_string()).to_string(),
            Format::Json => format!("{:#}", json::page(self)),
        }
    }
}

impl Section {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, items: Vec::new() }
    }

    pub(crate) fn field(&mut self, name: &'static str, value: impl fmt::Display) {
        self.items.push(Item::Field { offset: None, name, value: value.to_string() });
    }

    /// A field with its offset in the structure that the section shows.
    pub(crate) fn field_at(&mut self, offset: &'static str, name: &'static str, value: impl fmt::Display) {
        self.items.push(Item::Field { offset: Some(offset), name, value: value.to_string() });
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.items.push(Item::Note(text.into()));
    }

    pub(crate) fn pass(&mut self, name: impl Into<String>) {
        self.check(Outcome::Pass, name, None, None);
    }

    pub(crate) fn fail(&mut self, name: impl Into<String>, found: impl Into<String>) {
        self.check(Outcome::Fail, name, None, Some(found.into()));
    }

    pub(crate) fn not_reached(&mut self, name: impl Into<String>) {
        self.check(Outcome::NotReached, name, None, None);
    }

    /// A rule of a policy with what it accepts and what was found.
    pub(crate) fn rule(&mut self, passed: bool, name: &str, expected: &str, found: &str) {
        let outcome = if passed { Outcome::Pass } else { Outcome::Fail };
        self.check(outcome, name, Some(expected.to_owned()), Some(found.to_owned()));
    }

    /// Steps in their order, of which the one at `failed` was refused for `reason`.
    pub(crate) fn steps(&mut self, steps: &[&str], failed: Option<(usize, &dyn fmt::Display)>) {
        for (position, step) in steps.iter().enumerate() {
            match failed {
                Some((at, reason)) if position == at => self.fail(*step, reason.to_string()),
                Some((at, _)) if position > at => self.not_reached(*step),
                _ => self.pass(*step),
            }
        }
    }

    fn check(&mut self, outcome: Outcome, name: impl Into<String>, expected: Option<String>, found: Option<String>) {
        self.items.push(Item::Check(Check { outcome, name: name.into(), expected, found }));
    }
}

impl Verdict {
    pub(crate) fn accepted(reason: impl Into<String>, valid_until: Option<SystemTime>) -> Self {
        Self { accepted: true, reason: reason.into(), valid_until }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self { accepted: false, reason: reason.into(), valid_until: None }
    }
}

/// A time as policies, flags and pages write it (RFC 3339, UTC, seconds).
pub(crate) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// What cannot be read or decided: on standard error, or as JSON on standard output, where a program that reads pages
/// expects it. `kind` is what it was recognised as, for programs and for people.
pub(crate) fn problem(format: Format, source: &str, kind: Option<(&str, &str)>, message: &str) {
    match format {
        Format::Text => {
            let title = kind.map_or(String::new(), |(_, title)| format!("{title}: "));
            anstream::eprintln!("{}", text::problem(source, &format!("{title}{message}")));
        }
        Format::Json => anstream::println!("{:#}", json::problem(source, kind.map(|(kind, _)| kind), message)),
    }
}
