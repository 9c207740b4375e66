//! Both verifiers side by side, and a tally of what they say.

use std::collections::BTreeMap;
use std::time::SystemTime;

use dcap_oracle::{Opinion, Oracle, collateral};
use tower_attest::platform::tdx::sim::SimulatedIntel;
use tower_attest::platform::tdx::{Genuineness, TdxDetails};
use tower_attest::{Platform, Report, VerifyError};

/// Both verifiers, under one root.
pub(crate) struct Judges {
    pub(crate) ours: Genuineness,
    pub(crate) oracle: Oracle,
}

/// One thing to judge.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) quote: Vec<u8>,
    pub(crate) collateral: Vec<u8>,
    pub(crate) time: SystemTime,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    BothAccept,
    BothRefuse,
    OnlyWe(String),
    OnlyDcap(VerifyError),
}

impl Judges {
    pub(crate) fn simulated() -> Self {
        let intel = SimulatedIntel::new();
        Self { ours: Genuineness::trusting_simulator(&intel), oracle: Oracle::new(&intel.root()) }
    }

    pub(crate) fn compare(&self, what: &str, case: &Case) -> Outcome {
        match self.opinions(case) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours, theirs, "{what}: two opinions");
                Outcome::BothAccept
            }
            (Err(_), Err(_)) => Outcome::BothRefuse,
            (Ok(_), Err(error)) => Outcome::OnlyWe(error),
            (Err(error), Ok(_)) => Outcome::OnlyDcap(error),
        }
    }

    /// Ours and dcap-qvl's.
    pub(crate) fn opinions(&self, case: &Case) -> (Result<Opinion, VerifyError>, Result<Opinion, String>) {
        let report = Report::new(Platform::TDX, case.quote.clone()).with_collateral(case.collateral.clone());
        let ours = self.ours.authenticate(&report, case.time);
        let theirs = collateral(&case.collateral)
            .map_err(|error| error.to_string())
            .and_then(|collateral| self.oracle.judge(&case.quote, &collateral, case.time));
        (ours.map(|details| opinion(&details)), theirs)
    }
}

fn opinion(details: &TdxDetails) -> Opinion {
    let mut advisories = details.advisories.clone();
    advisories.sort();
    Opinion { status: details.tcb_status.to_string(), advisories }
}

/// How often each outcome was seen; prints itself at the end of a test.
#[derive(Default)]
pub(crate) struct Tally(pub(crate) BTreeMap<&'static str, usize>);

impl Tally {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn of(&self, what: &str) -> usize {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// Counts an outcome of which both sides' refusals need no word, and one side's alone need `reason`.
    #[track_caller]
    pub(crate) fn expect(&mut self, what: &str, outcome: Outcome, reason: Option<&'static str>) {
        match (outcome, reason) {
            (Outcome::BothAccept, _) => self.count("both accept"),
            (Outcome::BothRefuse, _) => self.count("both refuse"),
            (_, Some(reason)) => self.count(reason),
            (Outcome::OnlyWe(error), None) => panic!("{what}: only we accept; dcap-qvl says {error}"),
            (Outcome::OnlyDcap(error), None) => panic!("{what}: only dcap-qvl accepts; we say {error}"),
        }
    }
}
