//! Judges a genuine TD by every rule of a policy, and lists all that it fails.

use std::fmt;
use std::time::SystemTime;

use super::{AcceptedStatus, Bits, TUD, TdMeasurement, TdxPolicy};
use crate::platform::tdx::authenticate::Appraisal;
use crate::platform::tdx::encoding::show_time;
use crate::platform::tdx::pck::PckPlatform;
use crate::platform::tdx::quote::TdReport;
use crate::platform::tdx::tcb::{TcbStatus, Verdict};
use crate::platform::tdx::verifier::TdxDetails;
use crate::report::Hex;
use crate::verifier::{FailedRule, Judgement, RuleOutcome, VerifyError, VerifyErrorKind};

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub(in crate::platform::tdx) struct Subject<'a> {
    pub(in crate::platform::tdx) body: &'a TdReport,
    pub(in crate::platform::tdx) platform: &'a PckPlatform,
    pub(in crate::platform::tdx) appraisal: &'a Appraisal,
    pub(in crate::platform::tdx) now: SystemTime,
}

impl TdxPolicy {
    /// The rules that a policy can hold beyond genuineness, and what each is about.
    pub const RULES: &[(&str, &str)] = &[
        ("mrtd", "what was launched"),
        ("rtmr0 to rtmr3", "what the guest measured as it booted"),
        ("mr-config-id", "MRCONFIGID values that are trusted"),
        ("mr-owner", "MROWNER values that are trusted"),
        ("mr-owner-config", "MROWNERCONFIG values that are trusted"),
        ("mr-seam", "TDX modules that are trusted"),
        ("mr-signer-seam", "who signed the TDX module; Intel by default"),
        ("mr-service-td", "service TDs that may be bound; none by default"),
        ("td-attributes", "bits of TDATTRIBUTES; debug is refused by every policy"),
        ("xfam", "bits of XFAM"),
        ("min-tee-tcb-svn", "least TEE_TCB_SVN, by component"),
        ("tcb-status", "statuses beside UpToDate that are accepted, with their advisories"),
        ("denied-advisories", "advisories that are refused whatever the status"),
        ("min-tcb-evaluation-data-number", "oldest collateral that is accepted"),
        ("dynamic-platform", "whether packages can be added to the platform"),
        ("smt", "whether simultaneous multithreading is on"),
        ("cached-keys", "whether Intel keeps the platform's keys"),
        ("ppid", "machines that are trusted"),
        ("platform-instance", "platform instances that are trusted"),
    ];

    /// Applies every rule at `now`, and says of each whether it passed.
    ///
    /// # Errors
    ///
    /// [`VerifyErrorKind::Configuration`] if a rule cannot be applied to this platform.
    pub fn judge(&self, details: &TdxDetails, now: SystemTime) -> Result<Judgement, VerifyError> {
        let verdict = Verdict {
            status: details.tcb_status,
            advisories: details.advisories.clone(),
            tcb_date: details.tcb_date.clone(),
        };
        let appraisal = Appraisal {
            verdict,
            evaluation_number: details.tcb_evaluation_data_number,
            valid_until: details.valid_until,
        };
        let subject = Subject { body: &details.td_report, platform: &details.platform, appraisal: &appraisal, now };
        let mut rules = Rules { outcomes: Vec::new(), all: true };
        let measurement = self.apply(&subject, &mut rules)?;
        Ok(Judgement::new(rules.outcomes, measurement.and_then(|measurement| measurement.name.clone())))
    }

    /// The name of the measurement that matches, if it has one.
    pub(in crate::platform::tdx) fn evaluate(&self, subject: &Subject<'_>) -> Result<Option<&str>, VerifyError> {
        let mut rules = Rules { outcomes: Vec::new(), all: false };
        match self.apply(subject, &mut rules)? {
            Some(measurement) if rules.outcomes.is_empty() => Ok(measurement.name.as_deref()),
            _ => Err(rules.refusal()),
        }
    }

    /// Applies every rule; returns the measurement that matches.
    fn apply(&self, subject: &Subject<'_>, rules: &mut Rules) -> Result<Option<&TdMeasurement>, VerifyError> {
        self.check_applicable(subject)?;
        let body = subject.body;
        let measurement = self.judge_measurement(body, rules);
        rules.among("mr-config-id", self.mr_config_id.as_deref(), &body.mr_config_id);
        rules.among("mr-owner", self.mr_owner.as_deref(), &body.mr_owner);
        rules.among("mr-owner-config", self.mr_owner_config.as_deref(), &body.mr_owner_config);
        rules.among("mr-seam", self.mr_seam.as_deref(), &body.mr_seam);
        rules.among("mr-signer-seam", Some(&self.mr_signer_seam), &body.mr_signer_seam);
        if let Some(td15) = &body.td15 {
            rules.among("mr-service-td", Some(&self.mr_service_td), &td15.mr_service_td);
        }
        let attributes = Bits { forbid: self.td_attributes.forbid | TUD, ..self.td_attributes };
        rules.bits("td-attributes", attributes, body.td_attributes);
        rules.bits("xfam", self.xfam, body.xfam);
        if let Some(floor) = &self.min_tee_tcb_svn {
            let present = body.td15.as_ref().map(|td15| &td15.tee_tcb_svn_2);
            let meets = |svns: &[u8; 16]| floor.iter().zip(svns).all(|(floor, svn)| svn >= floor);
            let met = meets(&body.tee_tcb_svn) && present.is_none_or(meets);
            let expected = || format!("at least {} in each byte", Hex(floor));
            let found = || match present {
                Some(present) if *present != body.tee_tcb_svn => {
                    format!("{} at launch, {} now", Hex(&body.tee_tcb_svn), Hex(present))
                }
                _ => Hex(&body.tee_tcb_svn).to_string(),
            };
            rules.visit("min-tee-tcb-svn", met, expected, found);
        }
        self.judge_tcb(subject, rules);
        rules.flag("dynamic-platform", self.dynamic_platform, subject.platform.dynamic_platform);
        rules.flag("smt", self.smt, subject.platform.smt_enabled);
        rules.flag("cached-keys", self.cached_keys, subject.platform.cached_keys);
        rules.among("ppid", self.ppids.as_deref(), &subject.platform.ppid);
        if let Some(instance) = &subject.platform.instance_id {
            rules.among("platform-instance", self.platform_instances.as_deref(), instance);
        }
        Ok(measurement)
    }

    /// A rule about something that this quote or platform does not have can neither hold nor fail.
    fn check_applicable(&self, subject: &Subject<'_>) -> Result<(), VerifyError> {
        let platform = subject.platform;
        let processor_ca = "the PCK certificate of this platform, which the Processor CA issued, does not say";
        let td10 = "the quote holds a TDX 1.0 report, which has no such field";
        let rules = [
            ("dynamic-platform", self.dynamic_platform.is_some() && platform.dynamic_platform.is_none(), processor_ca),
            ("smt", self.smt.is_some() && platform.smt_enabled.is_none(), processor_ca),
            ("cached-keys", self.cached_keys.is_some() && platform.cached_keys.is_none(), processor_ca),
            ("platform-instance", self.platform_instances.is_some() && platform.instance_id.is_none(), processor_ca),
            ("mr-service-td", !self.mr_service_td.contains(&[0; 48]) && subject.body.td15.is_none(), td10),
        ];
        match rules.iter().find(|(_, inapplicable, _)| *inapplicable) {
            Some((rule, _, why)) => Err(VerifyError::new(
                VerifyErrorKind::Configuration,
                format!("the rule {rule} cannot be applied: {why}; leave it out, or keep to platforms that have it"),
            )),
            None => Ok(()),
        }
    }

    /// Names MRTD, or the RTMRs that keep the measurement with this MRTD from matching.
    fn judge_measurement(&self, body: &TdReport, rules: &mut Rules) -> Option<&TdMeasurement> {
        const RTMR: [&str; 4] = ["rtmr0", "rtmr1", "rtmr2", "rtmr3"];
        let found = self.measurements.iter().find(|measurement| measurement.matches(body));
        let known: Vec<&TdMeasurement> = match found {
            Some(measurement) => vec![measurement],
            None => self.measurements.iter().filter(|measurement| measurement.mr_td == body.mr_td).collect(),
        };
        if known.is_empty() || rules.all {
            let accepted: Vec<[u8; 48]> = self.measurements.iter().map(|measurement| measurement.mr_td).collect();
            rules.among("mrtd", Some(&accepted), &body.mr_td);
        }
        for measurement in known {
            for ((rule, accepted), found) in RTMR.into_iter().zip(&measurement.rtmr).zip(&body.rtmr) {
                rules.among(rule, accepted.as_deref(), found);
            }
        }
        found
    }

    /// Whether collateral is new enough by its `tcbEvaluationDataNumber`: the one rule that newer collateral can mend.
    pub(in crate::platform::tdx) fn check_floor(&self, evaluation_number: u32) -> Result<(), VerifyError> {
        let mut rules = Rules { outcomes: Vec::new(), all: false };
        self.judge_floor(evaluation_number, &mut rules);
        if rules.outcomes.is_empty() { Ok(()) } else { Err(rules.refusal()) }
    }

    fn judge_floor(&self, found: u32, rules: &mut Rules) {
        if let Some(floor) = self.min_evaluation_number {
            rules.visit("min-tcb-evaluation-data-number", found >= floor, || format!("at least {floor}"), || found);
        }
    }

    /// The entries that accept a status other than `UpToDate` at `now`.
    fn accepting(&self, verdict: &Verdict, now: SystemTime) -> impl Iterator<Item = &AcceptedStatus> {
        self.accepted.iter().filter(move |entry| {
            entry.status == verdict.status
                && entry.until.map_or(!entry.status.is_outdated(), |until| now < until)
                && verdict.advisories.iter().all(|advisory| entry.advisories.contains(advisory))
        })
    }

    /// Until when a verdict that passes at `now` is accepted: the latest end of the entries that accept it. `None`: for ever.
    pub(in crate::platform::tdx) fn accepted_until(&self, verdict: &Verdict, now: SystemTime) -> Option<SystemTime> {
        if verdict.status == TcbStatus::UpToDate {
            return None;
        }
        let ends: Option<Vec<SystemTime>> = self.accepting(verdict, now).map(|entry| entry.until).collect();
        ends?.into_iter().max()
    }

    fn judge_tcb(&self, subject: &Subject<'_>, rules: &mut Rules) {
        let verdict = &subject.appraisal.verdict;
        let passed = match verdict.status {
            TcbStatus::UpToDate => true,
            TcbStatus::Revoked => false,
            _ => self.accepting(verdict, subject.now).next().is_some(),
        };
        let expected = || {
            let mut expected = String::from("UpToDate");
            for entry in &self.accepted {
                expected.push_str(&format!(", {} with no advisories but {:?}", entry.status, entry.advisories));
                if let Some(until) = entry.until {
                    expected.push_str(&format!(" until {}", show_time(until)));
                }
            }
            expected
        };
        rules.visit("tcb-status", passed, expected, || format!("{} with {:?}", verdict.status, verdict.advisories));
        for denied in &self.denied_advisories {
            let absent = !verdict.advisories.contains(denied);
            let found = || if absent { "not among the advisories" } else { denied.as_str() };
            rules.visit("denied-advisories", absent, || format!("not {denied}"), found);
        }
        self.judge_floor(subject.appraisal.evaluation_number, rules);
    }
}

impl TdMeasurement {
    fn matches(&self, body: &TdReport) -> bool {
        self.mr_td == body.mr_td
            && self
                .rtmr
                .iter()
                .zip(&body.rtmr)
                .all(|(accepted, found)| accepted.as_ref().is_none_or(|accepted| accepted.contains(found)))
    }
}

/// What became of the rules so far: of those that failed, or of all.
struct Rules {
    outcomes: Vec<RuleOutcome>,
    all: bool,
}

impl Rules {
    fn refusal(self) -> VerifyError {
        let failed = self.outcomes.into_iter();
        let failed = failed.map(|outcome| FailedRule::new(outcome.rule, outcome.expected, outcome.found));
        VerifyError::failed(VerifyErrorKind::Policy, failed.collect())
    }

    /// Texts are made only where they are kept.
    fn visit<E: fmt::Display, F: fmt::Display>(
        &mut self,
        rule: &'static str,
        passed: bool,
        expected: impl FnOnce() -> E,
        found: impl FnOnce() -> F,
    ) {
        if self.all || !passed {
            let (expected, found) = (expected().to_string(), found().to_string());
            self.outcomes.push(RuleOutcome { rule, expected, found, passed });
        }
    }

    fn among<const N: usize>(&mut self, rule: &'static str, accepted: Option<&[[u8; N]]>, found: &[u8; N]) {
        let Some(accepted) = accepted else { return };
        let expected = || {
            let list: Vec<String> = accepted.iter().map(|value| Hex(value).to_string()).collect();
            format!("one of [{}]", list.join(", "))
        };
        self.visit(rule, accepted.contains(found), expected, || Hex(found));
    }

    fn bits(&mut self, rule: &'static str, bits: Bits, found: u64) {
        let missing = bits.require & !found;
        let forbidden = bits.forbid & found;
        let names = |mask: u64| {
            let bits: Vec<String> =
                (0..64_u32).filter(|bit| mask & (1_u64 << bit) != 0).map(|bit| bit.to_string()).collect();
            bits.join(", ")
        };
        // Of a failure the bits that are wrong; otherwise all that the rule asks for.
        let (require, forbid) =
            if missing == 0 && forbidden == 0 { (bits.require, bits.forbid) } else { (missing, forbidden) };
        self.visit(
            rule,
            missing == 0 && forbidden == 0,
            || format!("bits set [{}], bits clear [{}]", names(require), names(forbid)),
            || format!("{found:#018x}"),
        );
    }

    fn flag(&mut self, rule: &'static str, expected: Option<bool>, found: Option<bool>) {
        if let (Some(expected), Some(found)) = (expected, found) {
            self.visit(rule, expected == found, || expected, || found);
        }
    }
}
