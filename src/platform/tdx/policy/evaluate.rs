//! Judges a genuine TD by every rule of a policy, and lists all that it fails.

use std::time::SystemTime;

use super::{Bits, TUD, TdMeasurement, TdxPolicy};
use crate::platform::tdx::authenticate::Appraisal;
use crate::platform::tdx::encoding::show_time;
use crate::platform::tdx::pck::Platform;
use crate::platform::tdx::quote::TdReport;
use crate::platform::tdx::tcb::TcbStatus;
use crate::report::Hex;
use crate::verifier::{FailedRule, VerifyError, VerifyErrorKind};

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub(in crate::platform::tdx) struct Subject<'a> {
    pub(in crate::platform::tdx) body: &'a TdReport,
    pub(in crate::platform::tdx) platform: &'a Platform,
    pub(in crate::platform::tdx) appraisal: &'a Appraisal,
    pub(in crate::platform::tdx) now: SystemTime,
}

impl TdxPolicy {
    /// The name of the measurement that matches, if it has one.
    pub(in crate::platform::tdx) fn evaluate(&self, subject: &Subject<'_>) -> Result<Option<&str>, VerifyError> {
        self.check_applicable(subject)?;
        let body = subject.body;
        let mut rules = Rules(Vec::new());
        let measurement = self.measurements.iter().find(|measurement| measurement.matches(body));
        if measurement.is_none() {
            self.explain_measurement(body, &mut rules);
        }
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
        if let Some(floor) = &self.min_tee_tcb_svn
            && floor.iter().zip(&body.tee_tcb_svn).any(|(floor, svn)| svn < floor)
        {
            rules.fail("min-tee-tcb-svn", format!("at least {} in each byte", Hex(floor)), Hex(&body.tee_tcb_svn));
        }
        self.judge_tcb(subject, &mut rules);
        rules.flag("dynamic-platform", self.dynamic_platform, subject.platform.dynamic_platform);
        rules.flag("smt", self.smt, subject.platform.smt_enabled);
        rules.flag("cached-keys", self.cached_keys, subject.platform.cached_keys);
        rules.among("ppid", self.ppids.as_deref(), &subject.platform.ppid);
        if let Some(instance) = &subject.platform.instance_id {
            rules.among("platform-instance", self.platform_instances.as_deref(), instance);
        }
        match measurement {
            Some(measurement) if rules.0.is_empty() => Ok(measurement.name.as_deref()),
            _ => Err(VerifyError::failed(VerifyErrorKind::Policy, rules.0)),
        }
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
    fn explain_measurement(&self, body: &TdReport, rules: &mut Rules) {
        let mut known = self.measurements.iter().filter(|measurement| measurement.mr_td == body.mr_td).peekable();
        if known.peek().is_none() {
            let accepted: Vec<[u8; 48]> = self.measurements.iter().map(|measurement| measurement.mr_td).collect();
            rules.among("mrtd", Some(&accepted), &body.mr_td);
        }
        for measurement in known {
            for ((index, accepted), found) in (0..).zip(&measurement.rtmr).zip(&body.rtmr) {
                rules.among(&format!("rtmr{index}"), accepted.as_deref(), found);
            }
        }
    }

    fn judge_tcb(&self, subject: &Subject<'_>, rules: &mut Rules) {
        let verdict = &subject.appraisal.verdict;
        let accepted = |entry: &&super::AcceptedStatus| {
            entry.status == verdict.status
                && entry.until.map_or(!entry.status.is_outdated(), |until| subject.now < until)
                && verdict.advisories.iter().all(|advisory| entry.advisories.contains(advisory))
        };
        let revoked = verdict.status == TcbStatus::Revoked;
        if revoked || (verdict.status != TcbStatus::UpToDate && self.accepted.iter().find(accepted).is_none()) {
            let mut expected = String::from("UpToDate");
            for entry in &self.accepted {
                expected.push_str(&format!(", {} with no advisories but {:?}", entry.status, entry.advisories));
                if let Some(until) = entry.until {
                    expected.push_str(&format!(" until {}", show_time(until)));
                }
            }
            rules.fail("tcb-status", expected, format!("{} with {:?}", verdict.status, verdict.advisories));
        }
        for denied in self.denied_advisories.iter().filter(|denied| verdict.advisories.contains(denied)) {
            rules.fail("denied-advisories", format!("not {denied}"), denied);
        }
        if let Some(floor) = self.min_evaluation_number
            && subject.appraisal.evaluation_number < floor
        {
            rules.fail(
                "min-tcb-evaluation-data-number",
                format!("at least {floor}"),
                subject.appraisal.evaluation_number,
            );
        }
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

/// The rules that failed so far.
struct Rules(Vec<FailedRule>);

impl Rules {
    fn fail(&mut self, rule: &str, expected: String, found: impl ToString) {
        self.0.push(FailedRule::new(rule, expected, found.to_string()));
    }

    fn among<const N: usize>(&mut self, rule: &str, accepted: Option<&[[u8; N]]>, found: &[u8; N]) {
        let Some(accepted) = accepted else { return };
        if !accepted.contains(found) {
            let list: Vec<String> = accepted.iter().map(|value| Hex(value).to_string()).collect();
            self.fail(rule, format!("one of [{}]", list.join(", ")), Hex(found));
        }
    }

    fn bits(&mut self, rule: &str, bits: Bits, found: u64) {
        let missing = bits.require & !found;
        let forbidden = bits.forbid & found;
        if missing != 0 || forbidden != 0 {
            let names = |mask: u64| {
                let bits: Vec<String> =
                    (0..64_u32).filter(|bit| mask & (1_u64 << bit) != 0).map(|bit| bit.to_string()).collect();
                bits.join(", ")
            };
            self.fail(
                rule,
                format!("bits set [{}], bits clear [{}]", names(missing), names(forbidden)),
                format!("{found:#018x}"),
            );
        }
    }

    fn flag(&mut self, rule: &str, expected: Option<bool>, found: Option<bool>) {
        if let (Some(expected), Some(found)) = (expected, found)
            && expected != found
        {
            self.fail(rule, expected.to_string(), found);
        }
    }
}
