//! What an exchange showed, for people and programs.

use tower_attest::{Strength, VerifiedReport};

use super::exchange::Refusal;
use crate::show::{Page, Section, Verdict, time};

/// The page of a server that was verified.
pub(super) fn verified(url: &str, report: &VerifiedReport) -> Page {
    let mut page = Page::new("server", "Attested server", url);
    page.push(server(report));
    page.push(tee(report));
    page.push(strength(report));
    let who = report
        .measurement_name()
        .map_or("a program without a name in the policy".to_owned(), |name| format!("{name:?}"));
    page.set_verdict(Verdict::accepted(format!("verified: {who}"), report.claims().valid_until()));
    page
}

/// Who answered.
fn server(report: &VerifiedReport) -> Section {
    let mut section = Section::new("Server");
    section.field("names", report.server_names().join(", "));
    section.field("config", report.config_digest().map_or("not stated".to_owned(), hex::encode));
    section.field("keys", hex::encode(report.keys_digest().as_bytes()));
    section
}

fn tee(report: &VerifiedReport) -> Section {
    let mut section = Section::new("TEE");
    section.field("platform", report.platform());
    section.field("measurement", hex::encode(report.measurement()));
    section.field("called", report.measurement_name().unwrap_or("(no name in the policy)"));
    for (name, value) in report.claims().facts() {
        section.field(name, value);
    }
    section
}

fn strength(report: &VerifiedReport) -> Section {
    let mut section = Section::new("Strength");
    section.field("strength", report.strength());
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    section.field("request secret", yes(report.secret_before_send()));
    section.field("response intact", yes(report.response_intact()));
    section.field("evidence drawn", time(report.drawn_at()));
    section.field("age", format_args!("{} s", report.age().as_secs()));
    section.note(match report.strength() {
        Strength::Presence => {
            "A TEE with these keys answered this exchange. Whoever ends TLS on the way can read and change requests and \
             response bodies."
        }
        Strength::Channel => "This TLS connection ends in the TEE: nobody on the way reads or changes anything.",
        _ => "Requests are encrypted to a key of the TEE: nobody on the way reads or changes them.",
    });
    section
}

/// The page of a server that was refused: the check, and each rule that failed.
pub(super) fn refused(url: &str, refusal: &Refusal) -> Page {
    let mut page = Page::new("server", "Server", url);
    let mut section = Section::new("Checks");
    let rules = refusal.failed_rules();
    let check = refusal.attest_error().map_or("the exchange".to_owned(), |error| error.kind().to_string());
    if rules.is_empty() {
        section.fail(check, refusal.to_string());
    }
    for rule in rules {
        section.rule(false, &rule.rule, &rule.expected, &rule.found);
    }
    page.push(section);
    let reason = refusal.attest_error().map_or(String::new(), |error| error.kind().to_string());
    page.set_verdict(Verdict::refused(reason));
    page
}
