//! Real evidence gets its expected verdict: walks the manifest in the folder that `ATTEST_VECTORS` names.
//!
//! No entry is named here, so another folder of the same format works by changing the variable. A relative path is
//! relative to the repository's root, wherever the test runs.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    clippy::expect_used
)]

#[cfg(feature = "snp")]
mod certs_table;
mod manifest;
#[cfg(feature = "snp")]
mod snp;
#[cfg(feature = "tdx")]
mod tdx;

use manifest::{Entry, Folder};

/// Judges one entry: what was agreed, or where the crate and the manifest disagree.
type Handler = fn(&Entry<'_>, &[Entry<'_>]) -> Result<Agreed, String>;

/// What stands behind an agreement.
#[derive(Debug, Default)]
pub(crate) struct Agreed {
    /// How many negatives were derived from the entry, each refused.
    pub(crate) derived: usize,
}

/// The handler of a kind; `None` where the crate, or this build of it, does not judge that kind.
fn handler(kind: &str) -> Option<Handler> {
    match kind {
        #[cfg(feature = "snp")]
        "snp" | "snp-negative" => Some(snp::report),
        #[cfg(feature = "snp")]
        "snp-cert" => Some(snp::certificate),
        #[cfg(feature = "snp")]
        "certs-table" => Some(certs_table::table),
        #[cfg(feature = "tdx")]
        "tdx" | "tdx-negative" => Some(tdx::quote),
        #[cfg(feature = "tdx")]
        "tdx-container" => Some(tdx::container),
        #[cfg(feature = "tdx")]
        "tdreport" => Some(tdx::td_report),
        #[cfg(feature = "tdx")]
        "sgx" => Some(tdx::sgx),
        _ => None,
    }
}

#[test]
fn every_vector_gets_its_expected_verdict() {
    let Some(folder) = Folder::from_environment() else {
        say("skipped: ATTEST_VECTORS is not set, so no real evidence was judged");
        return;
    };
    let entries = folder.entries();
    let (mut agreed, mut derived, mut disagreements) = (0, 0, Vec::new());
    let mut unhandled = std::collections::BTreeMap::<&str, usize>::new();
    for entry in &entries {
        let Some(handler) = handler(entry.kind()) else {
            *unhandled.entry(entry.kind()).or_default() += 1;
            continue;
        };
        match handler(entry, &entries) {
            Ok(more) => {
                agreed += 1;
                derived += more.derived;
            }
            Err(reason) => disagreements.push(format!("{}: {reason}", entry.id())),
        }
    }
    let not_handled: usize = unhandled.values().sum();
    say(&format!(
        "{agreed} agreed, {not_handled} of kinds not handled {unhandled:?}; {derived} derived negatives refused"
    ));
    assert!(disagreements.is_empty(), "{} disagree:\n{}", disagreements.len(), disagreements.join("\n"));
    assert!(agreed > 0 || !cfg!(any(feature = "snp", feature = "tdx")), "no entry of a kind that this build judges");
}

/// Past the harness, which hides what a passing test prints.
fn say(line: &str) {
    use std::io::Write as _;
    std::io::stderr().write_all(format!("vectors: {line}\n").as_bytes()).unwrap();
}
