//! Which genuine TDs are acceptable: [`TdxPolicy`], in code or as TOML.

mod evaluate;
mod file;
mod import;

use std::time::SystemTime;

use super::tcb::TcbStatus;

pub(super) use self::evaluate::Subject;
pub use self::file::InvalidPolicy;
pub(in crate::platform) use self::file::PolicyTable;
pub use self::import::{InvalidMeasurementList, MeasurementList, OtherMeasurement};

/// TDATTRIBUTES bits 0 to 7, TD under debug: the host reads the TD's memory and state. No policy accepts them.
pub(super) const TUD: u64 = 0xff;
/// TDATTRIBUTES bit 28: a page that the host takes away and gives back empty kills the TD rather than raising a #VE that
/// it may mishandle.
pub(super) const SEPT_VE_DISABLE: u64 = 1 << 28;
/// Bits of TDATTRIBUTES that may be set by default: ICSSD 16, LASS 27, SEPT_VE_DISABLE 28, PKS 30, KL 31, PERFMON 63.
/// MIGRATABLE, service TDs and all that have no meaning yet must be asked for.
const KNOWN_TD_ATTRIBUTES: u64 = (1 << 16) | (1 << 27) | SEPT_VE_DISABLE | (1 << 30) | (1 << 31) | (1 << 63);
/// XFAM bits that the TDX module sets in every TD: x87 and SSE.
const XFAM_FIXED: u64 = 0x3;
/// XFAM bits that TDX 1.5 defines.
const KNOWN_XFAM: u64 = 0x0006_dbe7;

/// Which TDs, of all that are genuine, a client accepts.
///
/// Starts strict: one measurement, TCB status `UpToDate` alone, SEPT_VE_DISABLE required, everything under debug,
/// migratable, with service TDs or with unknown bits refused. Each method below changes one rule; a value that is not
/// named (MRCONFIGID, RTMRs, …) is not judged.
///
/// ```
/// use tower_attest::platform::tdx::{TdMeasurement, TdxPolicy};
///
/// let policy = TdxPolicy::pin([0x42; 48]).or(TdMeasurement::new([0x43; 48]).with_name("canary").with_rtmr(1, [[7; 48]]));
/// let same = TdxPolicy::from_toml(&format!(
///     "[[measurement]]\nmrtd = '{}'\n[[measurement]]\nname = 'canary'\nmrtd = '{}'\nrtmr1 = '{}'\n",
///     "42".repeat(48), "43".repeat(48), "07".repeat(48),
/// ))?;
/// assert_eq!(policy, same);
/// # Ok::<(), tower_attest::platform::tdx::InvalidPolicy>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxPolicy {
    measurements: Vec<TdMeasurement>,
    mr_config_id: Option<Vec<[u8; 48]>>,
    mr_owner: Option<Vec<[u8; 48]>>,
    mr_owner_config: Option<Vec<[u8; 48]>>,
    mr_seam: Option<Vec<[u8; 48]>>,
    mr_signer_seam: Vec<[u8; 48]>,
    mr_service_td: Vec<[u8; 48]>,
    td_attributes: Bits,
    xfam: Bits,
    min_tee_tcb_svn: Option<[u8; 16]>,
    accepted: Vec<AcceptedStatus>,
    denied_advisories: Vec<String>,
    min_evaluation_number: Option<u32>,
    dynamic_platform: Option<bool>,
    smt: Option<bool>,
    cached_keys: Option<bool>,
    ppids: Option<Vec<[u8; 16]>>,
    platform_instances: Option<Vec<[u8; 16]>>,
}

/// A program that is accepted: an MRTD, and RTMR values where they are pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdMeasurement {
    name: Option<String>,
    mr_td: [u8; 48],
    rtmr: [Option<Vec<[u8; 48]>>; 4],
}

impl TdMeasurement {
    /// Any TD with this MRTD.
    pub fn new(mr_td: [u8; 48]) -> Self {
        Self { name: None, mr_td, rtmr: [None, None, None, None] }
    }

    /// Names the program; the name is in the verdict.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Pins RTMR `index`, 0 to 3, to any of `values`.
    ///
    /// # Panics
    ///
    /// There is no such RTMR.
    #[must_use]
    #[expect(clippy::panic, reason = "an index that is not 0 to 3 is a mistake in the program that no input can make")]
    pub fn with_rtmr(mut self, index: usize, values: impl IntoIterator<Item = [u8; 48]>) -> Self {
        match self.rtmr.get_mut(index) {
            Some(rtmr) => *rtmr = Some(values.into_iter().collect()),
            None => panic!("RTMRs are numbered 0 to 3, found {index}"),
        }
        self
    }
}

/// Two masks over 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bits {
    require: u64,
    forbid: u64,
}

/// A TCB status other than `UpToDate` that is accepted nevertheless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedStatus {
    status: TcbStatus,
    advisories: Vec<String>,
    until: Option<SystemTime>,
}

impl AcceptedStatus {
    /// Accepts `status` where Intel gives no advisories but these (such as `INTEL-SA-00960`).
    ///
    /// `OutOfDate` and `OutOfDateConfigurationNeeded` are accepted only with an [end](Self::until); `Revoked` never is.
    pub fn new<A: Into<String>>(status: TcbStatus, advisories: impl IntoIterator<Item = A>) -> Self {
        Self { status, advisories: advisories.into_iter().map(Into::into).collect(), until: None }
    }

    /// Ends the acceptance: a grace period for an update that is under way.
    #[must_use]
    pub fn until(mut self, end: SystemTime) -> Self {
        self.until = Some(end);
        self
    }
}

impl TdxPolicy {
    /// Accepts the program with this MRTD, on platforms that are up to date.
    pub fn pin(mr_td: [u8; 48]) -> Self {
        Self::of(TdMeasurement::new(mr_td))
    }

    /// The same for a measurement with a name or pinned RTMRs.
    pub fn of(measurement: TdMeasurement) -> Self {
        Self {
            measurements: vec![measurement],
            mr_config_id: None,
            mr_owner: None,
            mr_owner_config: None,
            mr_seam: None,
            mr_signer_seam: vec![[0; 48]],
            mr_service_td: vec![[0; 48]],
            td_attributes: Bits { require: SEPT_VE_DISABLE, forbid: !KNOWN_TD_ATTRIBUTES },
            xfam: Bits { require: XFAM_FIXED, forbid: !KNOWN_XFAM },
            min_tee_tcb_svn: None,
            accepted: Vec::new(),
            denied_advisories: Vec::new(),
            min_evaluation_number: None,
            dynamic_platform: None,
            smt: None,
            cached_keys: None,
            ppids: None,
            platform_instances: None,
        }
    }

    /// Accepts one more program.
    #[must_use]
    pub fn or(mut self, measurement: TdMeasurement) -> Self {
        self.measurements.push(measurement);
        self
    }

    /// Pins MRCONFIGID to any of `values`.
    #[must_use]
    pub fn with_mr_config_id(mut self, values: impl IntoIterator<Item = [u8; 48]>) -> Self {
        self.mr_config_id = Some(values.into_iter().collect());
        self
    }

    /// Pins MROWNER to any of `values`.
    #[must_use]
    pub fn with_mr_owner(mut self, values: impl IntoIterator<Item = [u8; 48]>) -> Self {
        self.mr_owner = Some(values.into_iter().collect());
        self
    }

    /// Pins MROWNERCONFIG to any of `values`.
    #[must_use]
    pub fn with_mr_owner_config(mut self, values: impl IntoIterator<Item = [u8; 48]>) -> Self {
        self.mr_owner_config = Some(values.into_iter().collect());
        self
    }

    /// Pins MRSEAM, the TDX module, to any of `values`.
    #[must_use]
    pub fn with_mr_seam(mut self, values: impl IntoIterator<Item = [u8; 48]>) -> Self {
        self.mr_seam = Some(values.into_iter().collect());
        self
    }

    /// Accepts these MRSIGNERSEAM instead of zero, which stands for Intel. Intel's TCB info must agree.
    #[must_use]
    pub fn with_mr_signer_seam(mut self, values: impl IntoIterator<Item = [u8; 48]>) -> Self {
        self.mr_signer_seam = values.into_iter().collect();
        self
    }

    /// Accepts these MRSERVICETD instead of zero, which stands for no service TD. Applies to TDX 1.5 alone, unless zero
    /// is among them.
    #[must_use]
    pub fn with_mr_service_td(mut self, values: impl IntoIterator<Item = [u8; 48]>) -> Self {
        self.mr_service_td = values.into_iter().collect();
        self
    }

    /// Which bits of TDATTRIBUTES must be set and which must not. The bits of a TD under debug stay forbidden.
    #[must_use]
    pub fn with_td_attributes(mut self, require: u64, forbid: u64) -> Self {
        self.td_attributes = Bits { require, forbid };
        self
    }

    /// Which bits of XFAM must be set and which must not.
    #[must_use]
    pub fn with_xfam(mut self, require: u64, forbid: u64) -> Self {
        self.xfam = Bits { require, forbid };
        self
    }

    /// Refuses a TEE_TCB_SVN that is lower in any of its 16 components, at launch or, as TDX 1.5 tells it, now.
    #[must_use]
    pub fn with_min_tee_tcb_svn(mut self, svn: [u8; 16]) -> Self {
        self.min_tee_tcb_svn = Some(svn);
        self
    }

    /// Accepts a TCB status other than `UpToDate`. `Revoked` is refused all the same.
    #[must_use]
    pub fn accept(mut self, status: AcceptedStatus) -> Self {
        self.accepted.push(status);
        self
    }

    /// Refuses platforms with this advisory, such as `INTEL-SA-01397`, whatever their status.
    #[must_use]
    pub fn deny_advisory(mut self, advisory: impl Into<String>) -> Self {
        self.denied_advisories.push(advisory.into());
        self
    }

    /// Refuses collateral with a lower `tcbEvaluationDataNumber`: older collateral, still within its dates, that does
    /// not know the newest advisories.
    #[must_use]
    pub fn with_min_tcb_evaluation_data_number(mut self, number: u32) -> Self {
        self.min_evaluation_number = Some(number);
        self
    }

    /// Requires that packages can (or cannot) be added to the platform. Applies to PCKs of the Platform CA alone.
    #[must_use]
    pub fn with_dynamic_platform(mut self, expected: bool) -> Self {
        self.dynamic_platform = Some(expected);
        self
    }

    /// Requires that simultaneous multithreading is on (or off). Applies to PCKs of the Platform CA alone.
    #[must_use]
    pub fn with_smt(mut self, expected: bool) -> Self {
        self.smt = Some(expected);
        self
    }

    /// Requires that Intel does (or does not) keep the platform's keys. Applies to PCKs of the Platform CA alone.
    #[must_use]
    pub fn with_cached_keys(mut self, expected: bool) -> Self {
        self.cached_keys = Some(expected);
        self
    }

    /// Accepts these machines alone, by the PPID in their PCK certificate.
    #[must_use]
    pub fn with_ppids(mut self, values: impl IntoIterator<Item = [u8; 16]>) -> Self {
        self.ppids = Some(values.into_iter().collect());
        self
    }

    /// Accepts these machines alone, by their platform instance id. Applies to PCKs of the Platform CA alone.
    #[must_use]
    pub fn with_platform_instances(mut self, values: impl IntoIterator<Item = [u8; 16]>) -> Self {
        self.platform_instances = Some(values.into_iter().collect());
        self
    }
}

#[cfg(test)]
mod tests;
