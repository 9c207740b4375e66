//! Rules that contradict each other, found before any report is judged.

use super::list::Names;
use super::{SnpPolicy, TcbFloor, TcbKind};
use crate::platform::snp::cert::VekKind;
use crate::platform::snp::fields::{GuestPolicy, PlatformInfo};
use crate::platform::snp::tcb::Product;
use crate::report::Hex;
use crate::verifier::{FailedRule, VerifyError, VerifyErrorKind};

impl SnpPolicy {
    /// Whether the rules can be applied at all. Call it at start-up; a verifier repeats it for each report.
    ///
    /// # Errors
    ///
    /// [`VerifyErrorKind::Configuration`] with each rule that contradicts another, can never be met or could never refuse.
    pub fn validate(&self) -> Result<(), VerifyError> {
        let mut faults = Vec::new();
        self.identity_faults(&mut faults);
        self.key_faults(&mut faults);
        self.mask_faults(&mut faults);
        self.floor_faults(&mut faults);
        if faults.is_empty() { Ok(()) } else { Err(VerifyError::failed(VerifyErrorKind::Configuration, faults)) }
    }

    fn identity_faults(&self, faults: &mut Vec<FailedRule>) {
        let mut fault = |rule: &str, expected: &str, found: String| faults.push(FailedRule::new(rule, expected, found));
        if self.products.is_empty() {
            fault("products", "at least one product", "none".to_owned());
        }
        for vmpl in self.vmpls.iter().filter(|vmpl| **vmpl > 3) {
            fault("vmpls", "levels from 0 to 3", vmpl.to_string());
        }
        let empty = |list: &Option<Vec<_>>| list.as_ref().is_some_and(Vec::is_empty);
        let lists = [
            ("vmpls", self.vmpls.is_empty()),
            ("family-ids", empty(&self.family_ids)),
            ("image-ids", empty(&self.image_ids)),
            ("id-key-digests", self.id_key_digests.as_ref().is_some_and(Vec::is_empty)),
            ("author-key-digests", self.author_key_digests.as_ref().is_some_and(Vec::is_empty)),
            ("host-data", self.host_data.as_ref().is_some_and(Vec::is_empty)),
            ("chip-ids", self.chip_ids.as_ref().is_some_and(Vec::is_empty)),
            ("csp-ids", self.csp_ids.as_ref().is_some_and(Vec::is_empty)),
        ];
        for (rule, _) in lists.iter().filter(|(_, empty)| *empty) {
            fault(rule, "at least one value", "an empty list".to_owned());
        }
        for (position, one) in self.measurements.iter().enumerate() {
            if self.measurements.iter().skip(position + 1).any(|other| other.value == one.value) {
                fault("measurement", "each measurement once", format!("{} twice", Hex(&one.value)));
            }
        }
    }

    fn key_faults(&self, faults: &mut Vec<FailedRule>) {
        let mut fault = |rule: &str, expected: &str, found: String| faults.push(FailedRule::new(rule, expected, found));
        let vlek = self.signing_keys.contains(&VekKind::Vlek);
        if self.signing_keys.is_empty() {
            fault("signing-keys", "at least one of vcek and vlek", "none".to_owned());
        }
        if vlek && self.csp_ids.is_none() {
            fault("csp-ids", "the providers whose VLEKs are trusted", "no list, although VLEKs are trusted".to_owned());
        }
        if !vlek && self.csp_ids.is_some() {
            fault("csp-ids", "no list, as VLEKs are not trusted", "a list".to_owned());
        }
        let chip_ids = self.chip_ids.as_deref().unwrap_or_default();
        if vlek && !chip_ids.is_empty() {
            fault("chip-ids", "no list, as VLEKs hide the chip", "a list".to_owned());
        }
        for id in chip_ids {
            let fits = |product: &Product| product.chip_id_len() == id.len();
            if !self.products.iter().any(fits) || id.iter().all(|byte| *byte == 0) {
                fault("chip-ids", "64 bytes (8 for Turin) of a trusted product, not all zero", Hex(id).to_string());
            }
        }
    }

    fn mask_faults(&self, faults: &mut Vec<FailedRule>) {
        for (rule, bits, names) in [
            ("guest-policy", self.guest_policy, GuestPolicy::NAMES),
            ("platform-info", self.platform_info, PlatformInfo::NAMES),
        ] {
            let both = bits.require & bits.forbid;
            if both != 0 {
                let found = format!("both for {}", Names(both, names));
                faults.push(FailedRule::new(rule, "each bit required or forbidden", found));
            }
        }
    }

    fn floor_faults(&self, faults: &mut Vec<FailedRule>) {
        for (position, floor) in self.tcb_floors.iter().enumerate() {
            let TcbFloor { product, stepping, kind, least } = floor;
            let rule = kind.rule();
            if !self.products.contains(product) {
                faults.push(FailedRule::new(rule, "floors for trusted products only", format!("one for {product}")));
            }
            if least.fmc.is_some() && *product != Product::Turin {
                faults.push(FailedRule::new(rule, "an FMC level for Turin only", format!("one for {product}")));
            }
            let twice = |other: &&TcbFloor| (other.product, other.stepping, other.kind) == (*product, *stepping, *kind);
            if self.tcb_floors.iter().skip(position + 1).any(|other| twice(&other)) {
                faults.push(FailedRule::new(rule, "one floor per product and stepping", format!("two for {product}")));
            }
        }
    }

    /// The floor of `kind` for a chip, `None` if the policy has none of that kind.
    ///
    /// # Errors
    ///
    /// The policy has floors of that kind, and none that applies to this chip.
    pub(super) fn floor(
        &self,
        kind: TcbKind,
        product: Product,
        stepping: Option<u8>,
    ) -> Result<Option<&TcbFloor>, FailedRule> {
        let mut floors = self.tcb_floors.iter().filter(|floor| floor.kind == kind).peekable();
        if floors.peek().is_none() {
            return Ok(None);
        }
        let of_product = floors.filter(|floor| floor.product == product);
        let applies = of_product.filter(|floor| floor.stepping.is_none() || floor.stepping == stepping);
        let closest = applies.max_by_key(|floor| floor.stepping.is_some());
        let found = || match stepping {
            Some(stepping) => format!("none for {product}, stepping {stepping}"),
            None => format!("none for {product} of an unknown stepping"),
        };
        closest.map(Some).ok_or_else(|| FailedRule::new(kind.rule(), "a floor for this chip", found()))
    }
}
