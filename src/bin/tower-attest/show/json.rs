//! Pages as JSON.
//!
//! ```json
//! { "kind": "snp-report", "title": "…", "source": "report.bin",
//!   "sections": [ { "section": "report", "fields": { "VERSION": "3" }, "checks": [], "notes": [] } ],
//!   "verdict": { "accepted": true, "reason": "…", "valid_until": "2026-01-01T00:00:00Z" } }
//! ```
//!
//! What cannot be read has `kind` (null where it is not recognised), `source` and `error` alone.
//!
//! `verdict` is null where something is merely shown. A check has `outcome` (`pass`, `fail`, `not-reached`) and, where
//! they mean something, `expected` and `found`.

use serde_json::{Map, Value, json};

use super::{Check, Item, Outcome, Page, Section, time};

pub(super) fn page(page: &Page) -> Value {
    let verdict = page.verdict.as_ref().map(|verdict| {
        json!({
            "accepted": verdict.accepted,
            "reason": verdict.reason,
            "valid_until": verdict.valid_until.map(time),
        })
    });
    let sections: Vec<Value> = page.sections.iter().map(section).collect();
    json!({ "kind": page.kind, "title": page.title, "source": page.source, "sections": sections, "verdict": verdict })
}

pub(super) fn problem(source: &str, kind: Option<&str>, message: &str) -> Value {
    json!({ "kind": kind, "source": source, "error": message })
}

fn section(section: &Section) -> Value {
    let (mut fields, mut checks, mut notes) = (Map::new(), Vec::new(), Vec::new());
    for item in &section.items {
        match item {
            Item::Field { name, value, .. } => {
                fields.insert((*name).to_owned(), Value::from(value.as_str()));
            }
            Item::Check(item) => checks.push(check(item)),
            Item::Note(note) => notes.push(note.as_str()),
        }
    }
    json!({
        "section": section.title.to_ascii_lowercase().replace(' ', "-"),
        "fields": fields,
        "checks": checks,
        "notes": notes,
    })
}

fn check(check: &Check) -> Value {
    let outcome = match check.outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::NotReached => "not-reached",
    };
    let mut value = Map::new();
    value.insert("check".to_owned(), Value::from(check.name.as_str()));
    value.insert("outcome".to_owned(), Value::from(outcome));
    for (name, text) in [("expected", &check.expected), ("found", &check.found)] {
        if let Some(text) = text {
            value.insert(name.to_owned(), Value::from(text.as_str()));
        }
    }
    Value::Object(value)
}
