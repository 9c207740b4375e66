//! Applies a policy to a report that has proved genuine.

use std::fmt;

use super::list::{Bits, List, Names, hex_list};
use super::{Measurement, SnpPolicy, TcbKind};
use crate::platform::snp::cert::VekKind;
use crate::platform::snp::fields::{BitNames, GuestPolicy, PlatformInfo};
use crate::platform::snp::genuine::SnpDetails;
use crate::platform::snp::tcb::Product;
use crate::report::Hex;
use crate::verifier::{FailedRule, Judgement, RuleOutcome, VerifyError, VerifyErrorKind};

/// Takes each rule as it is applied. Texts are made only by who wants them.
type Visit<'a> = dyn FnMut(&'static str, bool, &dyn fmt::Display, &dyn fmt::Display) + 'a;

impl SnpPolicy {
    /// The rules that a policy can hold beyond genuineness, and what each is about.
    pub const RULES: &[(&str, &str)] = &[
        ("measurement", "what was launched"),
        ("products", "product lines that are trusted"),
        ("signing-keys", "VCEK (the chip's) or VLEK (a provider's)"),
        ("csp-ids", "providers whose VLEK is trusted"),
        ("chip-ids", "chips that are trusted"),
        ("vmpls", "privilege levels that may ask for reports"),
        ("guest-policy", "bits of POLICY, and the least ABI that it asks for"),
        ("platform-info", "bits of PLATFORM_INFO"),
        ("migration-agent", "no migration agent stands behind the guest"),
        ("min-firmware", "least SNP firmware version"),
        ("provisional-firmware", "the platform has committed to the firmware that it runs"),
        ("tcb-floor", "least reported, committed, current and launch TCB, by component"),
        ("mitigations", "bits of LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR"),
        ("min-guest-svn", "least security version in the guest's ID block"),
        ("family-ids", "FAMILY_IDs that are trusted"),
        ("image-ids", "IMAGE_IDs that are trusted"),
        ("id-key-digests", "keys that may sign the guest's ID block"),
        ("author-key-digests", "keys that may certify the ID key"),
        ("host-data", "HOST_DATA values that are trusted"),
        ("require-crl", "a revocation list was consulted"),
    ];

    /// Applies every rule, and says of each whether it passed.
    ///
    /// # Errors
    ///
    /// [`VerifyErrorKind::Configuration`] if the policy fails [`validate`](Self::validate), or a rule cannot be applied to
    /// this report: mitigations before version 4, or floors of which none is for this chip.
    pub fn judge(&self, details: &SnpDetails) -> Result<Judgement, VerifyError> {
        let mut rules = Vec::new();
        self.visit(details, &mut |rule, passed, expected, found| {
            rules.push(RuleOutcome { rule, expected: expected.to_string(), found: found.to_string(), passed });
        })?;
        Ok(Judgement::new(rules, self.name_of(details).map(str::to_owned)))
    }

    /// The name of the report's measurement, if every rule passed.
    pub(in crate::platform::snp) fn accept(&self, details: &SnpDetails) -> Result<Option<&str>, VerifyError> {
        let mut failed = Vec::new();
        self.visit(details, &mut |rule, passed, expected, found| {
            if !passed {
                failed.push(FailedRule::new(rule, expected.to_string(), found.to_string()));
            }
        })?;
        if failed.is_empty() {
            Ok(self.name_of(details))
        } else {
            Err(VerifyError::failed(VerifyErrorKind::Policy, failed))
        }
    }

    fn name_of(&self, details: &SnpDetails) -> Option<&str> {
        let found = details.report().measurement();
        self.measurements.iter().find(|known| known.value == found)?.name.as_deref()
    }

    fn visit(&self, details: &SnpDetails, visit: &mut Visit<'_>) -> Result<(), VerifyError> {
        self.validate()?;
        self.identity(details, visit);
        self.masks(details, visit);
        self.versions(details, visit)
    }

    /// Who signed, and what was launched.
    fn identity(&self, details: &SnpDetails, visit: &mut Visit<'_>) {
        let report = details.report();
        let found = report.measurement();
        let pinned = self.measurements.iter().any(|known| known.value == found);
        let show = |known: &Measurement| match &known.name {
            Some(name) => format!("{name} ({})", Hex(&known.value)),
            None => Hex(&known.value).to_string(),
        };
        visit("measurement", pinned, &List(&self.measurements, show), &Hex(&found));

        let products: Vec<_> = self.products.iter().copied().collect();
        let product = details.product();
        visit(
            "products",
            self.products.contains(&product),
            &List(&products, |product: &Product| product.name()),
            &product,
        );
        let keys: Vec<_> = self.signing_keys.iter().copied().collect();
        let key = details.vek_kind();
        visit("signing-keys", self.signing_keys.contains(&key), &List(&keys, VekKind::to_string), &key);
        if let (VekKind::Vlek, Some(csp_ids)) = (key, &self.csp_ids) {
            let found = details.vek().csp_id().unwrap_or("none");
            visit("csp-ids", csp_ids.iter().any(|known| known == found), &List(csp_ids, String::clone), &found);
        }
        if let Some(chip_ids) = &self.chip_ids {
            let chip_id = details.chip_id();
            let show = |id: &Vec<u8>| Hex(id).to_string();
            visit("chip-ids", chip_ids.contains(&chip_id), &List(chip_ids, show), &Hex(&chip_id));
        }
        let vmpls: Vec<_> = self.vmpls.iter().copied().collect();
        visit("vmpls", self.vmpls.contains(&report.vmpl()), &List(&vmpls, u32::to_string), &report.vmpl());
        if let Some(least) = self.min_guest_svn {
            visit("min-guest-svn", report.guest_svn() >= least, &format_args!("at least {least}"), &report.guest_svn());
        }
        one_of(visit, "family-ids", self.family_ids.as_deref(), &report.family_id());
        one_of(visit, "image-ids", self.image_ids.as_deref(), &report.image_id());
        one_of(visit, "id-key-digests", self.id_key_digests.as_deref(), &report.id_key_digest());
        one_of(visit, "author-key-digests", self.author_key_digests.as_deref(), &report.author_key_digest());
        one_of(visit, "host-data", self.host_data.as_deref(), &report.host_data());
        if self.require_crl {
            let found = if details.revocation_checked() { "checked" } else { "no list" };
            visit("require-crl", details.revocation_checked(), &"a revocation list of the product", &found);
        }
    }

    /// Bits of POLICY and PLATFORM_INFO.
    fn masks(&self, details: &SnpDetails, visit: &mut Visit<'_>) {
        let report = details.report();
        let policy = report.policy();
        bits(
            visit,
            ["guest-policy.require", "guest-policy.forbid"],
            self.guest_policy,
            policy.bits(),
            GuestPolicy::NAMES,
        );
        if let Some((major, minor)) = self.min_abi {
            let (found_major, found_minor) = policy.abi();
            visit(
                "guest-policy.min-abi",
                policy.abi() >= (major, minor),
                &format_args!("at least {major}.{minor}"),
                &format_args!("{found_major}.{found_minor}"),
            );
        }
        if self.guest_policy.forbid & GuestPolicy::MIGRATE_MA != 0 {
            let agent = report.report_id_ma();
            let none = agent == [0xff; 32] || agent == [0; 32];
            visit("migration-agent", none, &"none (REPORT_ID_MA all ff)", &Hex(&agent));
        }
        bits(
            visit,
            ["platform-info.require", "platform-info.forbid"],
            self.platform_info,
            report.platform_info().bits(),
            PlatformInfo::NAMES,
        );
    }

    /// Firmware, TCBs and mitigations.
    fn versions(&self, details: &SnpDetails, visit: &mut Visit<'_>) -> Result<(), VerifyError> {
        let report = details.report();
        let (current, committed) = (report.current_version(), report.committed_version());
        if let Some(least) = self.min_firmware {
            visit(
                "min-firmware",
                current >= least && committed >= least,
                &format_args!("at least {least}"),
                &format_args!("current {current}, committed {committed}"),
            );
        }
        if !self.permit_provisional_firmware {
            let same = current == committed && details.current_tcb() == details.committed_tcb();
            let committed_tcb = details.committed_tcb();
            visit(
                "provisional-firmware",
                same,
                &format_args!("committed to what runs (firmware {committed}; {committed_tcb})"),
                &format_args!("running firmware {current}; {}", details.current_tcb()),
            );
        }
        let stepping = report.cpuid().map(|[_, _, stepping]| stepping);
        let mut inapplicable = Vec::new();
        for (kind, found) in [
            (TcbKind::Reported, details.reported_tcb()),
            (TcbKind::Committed, details.committed_tcb()),
            (TcbKind::Current, details.current_tcb()),
            (TcbKind::Launch, details.launch_tcb()),
        ] {
            match self.floor(kind, details.product(), stepping) {
                Ok(Some(floor)) => {
                    visit(kind.rule(), found.meets(&floor.least), &format_args!("at least {}", floor.least), &found);
                }
                Ok(None) => {}
                Err(fault) => inapplicable.push(fault),
            }
        }
        for (rule, required, found) in [
            ("mitigations.launch", self.launch_mitigations, report.launch_mit_vector()),
            ("mitigations.current", self.current_mitigations, report.current_mit_vector()),
        ] {
            match found {
                _ if required == 0 => {}
                Some(found) => {
                    let all = found & required == required;
                    visit(rule, all, &format_args!("{required:#x} set"), &format_args!("{found:#x}"));
                }
                None => inapplicable.push(FailedRule::new(
                    rule,
                    "a report of version 4 or later, which names mitigations",
                    format!("version {}", report.version()),
                )),
            }
        }
        if inapplicable.is_empty() {
            Ok(())
        } else {
            Err(VerifyError::failed(VerifyErrorKind::Configuration, inapplicable))
        }
    }
}

fn one_of<const N: usize>(visit: &mut Visit<'_>, rule: &'static str, list: Option<&[[u8; N]]>, found: &[u8; N]) {
    if let Some(list) = list {
        visit(rule, list.contains(found), &hex_list(list), &Hex(found));
    }
}

/// Two rules: the required bits are set, the forbidden ones are not.
fn bits(visit: &mut Visit<'_>, [require, forbid]: [&'static str; 2], rule: Bits, found: u64, names: BitNames) {
    let missing = rule.require & !found;
    if rule.require != 0 {
        let found = format_args!("missing: {}", Names(missing, names)).to_string();
        visit(require, missing == 0, &format_args!("set: {}", Names(rule.require, names)), &found);
    }
    let excess = rule.forbid & found;
    let named = names.iter().fold(0, |mask, (bit, _)| mask | 1 << bit);
    let unknown = if rule.forbid & !named == 0 { "" } else { ", and bits without a name" };
    visit(
        forbid,
        excess == 0,
        &format_args!("not set: {}{unknown}", Names(rule.forbid & named, names)),
        &format_args!("set: {}", Names(excess, names)),
    );
}
