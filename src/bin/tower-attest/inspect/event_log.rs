//! Event logs given beside a TDX quote.

use std::path::Path;

use tower_attest::platform::tdx::{EventLog, TdReport};

use super::input::read;
use crate::show::{Page, Section, Verdict};

pub(super) fn open(path: &Path) -> Result<EventLog, String> {
    let told = |error: String| format!("--event-log {}: {error}", path.display());
    EventLog::parse(read(path).map_err(told)?).map_err(|error| told(error.to_string()))
}

/// Shows the events and whether they lead to the quote's RTMRs. If they do not, nothing else makes the quote accepted.
pub(super) fn judge(page: &mut Page, log: &EventLog, report: &TdReport) {
    let mut events = Section::new("Event log");
    events.note(
        "What the guest says that it measured. Believed only if the quote is genuine and the replay below passes.",
    );
    for event in log.events() {
        let data = match (event.data().len(), event.data_is_measured()) {
            (0, _) => String::new(),
            (length, true) => format!(", {length} bytes, measured themselves"),
            (length, false) => format!(", {length} bytes of description"),
        };
        events.note(format!("{event}{data}"));
    }
    page.push(events);

    let mut replay = Section::new("Replay");
    let rules = ["rtmr0 by the log", "rtmr1 by the log", "rtmr2 by the log", "rtmr3 by the log"];
    for ((rule, quoted), replayed) in rules.into_iter().zip(&report.rtmr).zip(&log.replay()) {
        replay.rule(quoted == replayed, rule, &hex::encode(quoted), &hex::encode(replayed));
    }
    page.push(replay);
    if log.check(report).is_err() && page.accepted() != Some(false) {
        page.set_verdict(Verdict::refused("the event log does not lead to the quote's RTMRs"));
    }
}
