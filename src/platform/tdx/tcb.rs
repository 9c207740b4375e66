//! Intel's TCB info and QE identity (PCS v4), and the TCB status that follows from them.
//!
//! Rules: Intel PCS v4 API, "Get TCB Info" and "Get TD Quoting Enclave Identity"; convergence as in Intel's Quote
//! Verification Library.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::platform::hex::hex_array;

/// How up to date the platform, its TDX module and its quoting enclave are, in Intel's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[non_exhaustive]
pub enum TcbStatus {
    /// Nothing is known to be wrong.
    UpToDate,
    /// Software in the TD must mitigate the advisories itself.
    #[serde(rename = "SWHardeningNeeded")]
    SwHardeningNeeded,
    /// The platform's configuration must change.
    ConfigurationNeeded,
    /// Both.
    #[serde(rename = "ConfigurationAndSWHardeningNeeded")]
    ConfigurationAndSwHardeningNeeded,
    /// Microcode, firmware, module or quoting enclave must be updated.
    OutOfDate,
    /// The same, and the configuration must change.
    OutOfDateConfigurationNeeded,
    /// The keys at this TCB are not to be trusted. No policy accepts it.
    Revoked,
    /// TDX 1.5: the TDX module was updated since this TD was launched; relaunch it.
    #[serde(rename = "TDRelaunchAdvised")]
    TdRelaunchAdvised,
    /// The same, and the configuration must change.
    #[serde(rename = "TDRelaunchAdvisedConfigurationNeeded")]
    TdRelaunchAdvisedConfigurationNeeded,
}

impl TcbStatus {
    pub(super) const ALL: [(Self, &'static str); 9] = [
        (Self::UpToDate, "UpToDate"),
        (Self::SwHardeningNeeded, "SWHardeningNeeded"),
        (Self::ConfigurationNeeded, "ConfigurationNeeded"),
        (Self::ConfigurationAndSwHardeningNeeded, "ConfigurationAndSWHardeningNeeded"),
        (Self::OutOfDate, "OutOfDate"),
        (Self::OutOfDateConfigurationNeeded, "OutOfDateConfigurationNeeded"),
        (Self::Revoked, "Revoked"),
        (Self::TdRelaunchAdvised, "TDRelaunchAdvised"),
        (Self::TdRelaunchAdvisedConfigurationNeeded, "TDRelaunchAdvisedConfigurationNeeded"),
    ];

    /// Intel's spelling.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(status, _)| *status == self).map_or("", |(_, name)| name)
    }

    /// Whether an update is due. No policy accepts that for ever.
    pub(super) fn is_outdated(self) -> bool {
        matches!(self, Self::OutOfDate | Self::OutOfDateConfigurationNeeded)
    }

    /// The platform's status once a component's (TDX module, quoting enclave) is counted in: only `OutOfDate` and
    /// `Revoked` of a component matter.
    fn converge(self, component: Self) -> Self {
        match (component, self) {
            (Self::Revoked, _) => Self::Revoked,
            (Self::OutOfDate, Self::UpToDate | Self::SwHardeningNeeded) => Self::OutOfDate,
            (Self::OutOfDate, Self::ConfigurationNeeded | Self::ConfigurationAndSwHardeningNeeded) => {
                Self::OutOfDateConfigurationNeeded
            }
            _ => self,
        }
    }

    /// The status of a TD whose platform had `self` at its launch and has `current` now. Never better than either, but that
    /// an update after launch asks for a relaunch alone.
    fn since_launch(self, current: Self) -> Self {
        let either = |is: fn(Self) -> bool| is(self) || is(current);
        let configuration = either(|status| {
            matches!(
                status,
                Self::ConfigurationNeeded
                    | Self::ConfigurationAndSwHardeningNeeded
                    | Self::OutOfDateConfigurationNeeded
                    | Self::TdRelaunchAdvisedConfigurationNeeded
            )
        });
        let hardening =
            either(|status| matches!(status, Self::SwHardeningNeeded | Self::ConfigurationAndSwHardeningNeeded));
        let relaunch =
            either(|status| matches!(status, Self::TdRelaunchAdvised | Self::TdRelaunchAdvisedConfigurationNeeded));
        match (configuration, hardening) {
            _ if either(|status| status == Self::Revoked) => Self::Revoked,
            (true, _) if current.is_outdated() => Self::OutOfDateConfigurationNeeded,
            (false, _) if current.is_outdated() => Self::OutOfDate,
            (true, _) if self.is_outdated() || relaunch => Self::TdRelaunchAdvisedConfigurationNeeded,
            (false, _) if self.is_outdated() || relaunch => Self::TdRelaunchAdvised,
            (true, true) => Self::ConfigurationAndSwHardeningNeeded,
            (true, false) => Self::ConfigurationNeeded,
            (false, true) => Self::SwHardeningNeeded,
            (false, false) => Self::UpToDate,
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TcbStatus {
    type Err = UnknownTcbStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(status, _)| *status)
            .ok_or_else(|| UnknownTcbStatus(text.to_owned()))
    }
}

/// A TCB status that Intel does not define.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a TCB status: {0:?} (such as UpToDate, SWHardeningNeeded, OutOfDate)")]
pub struct UnknownTcbStatus(String);

/// What the quote and the PCK certificate say about the platform's TCB.
#[derive(Debug, Clone)]
pub(super) struct PlatformTcb {
    /// The 16 SGX components of the PCK certificate.
    pub(super) cpu_svn: [u8; 16],
    pub(super) pce_svn: u16,
    /// TEE_TCB_SVN at launch.
    pub(super) tee_tcb_svn: [u8; 16],
    /// TEE_TCB_SVN_2, of a TDX 1.5 report.
    pub(super) current_tee_tcb_svn: Option<[u8; 16]>,
}

/// A status with the advisories and the date behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) status: TcbStatus,
    pub(super) advisories: Vec<String>,
    /// `tcbDate` of the oldest part.
    pub(super) tcb_date: String,
}

impl Verdict {
    fn of(status: TcbStatus, advisories: &[String], tcb_date: &str) -> Self {
        Self { status, advisories: advisories.to_vec(), tcb_date: tcb_date.to_owned() }
    }

    fn converge(mut self, component: &Self) -> Self {
        self.status = self.status.converge(component.status);
        for advisory in &component.advisories {
            if !self.advisories.contains(advisory) {
                self.advisories.push(advisory.clone());
            }
        }
        // Dates all have one spelling, so that their order is the order of their text.
        if component.tcb_date < self.tcb_date {
            self.tcb_date.clone_from(&component.tcb_date);
        }
        self
    }
}

/// Why no status follows from the collateral.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TcbError {
    #[error("no TCB level of Intel's TCB info matches this platform: its TCB is not supported")]
    NoLevel,
    #[error("the TCB info has no identity for TDX module {0}")]
    NoModule(String),
    #[error("the TDX module's ISVSVN {0} is below every level of its identity")]
    NoModuleLevel(u8),
    #[error("the TDX module's signer or attributes are not those of its identity ({0})")]
    Module(String),
    #[error("the TCB info has {0} components where 16 are expected")]
    Components(usize),
    #[error("the TCB info's field {0} is not hexadecimal of the right length")]
    Hex(&'static str),
}

/// The signed body of a TCB info, version 3.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TcbInfo {
    pub(super) issue_date: String,
    pub(super) next_update: String,
    pub(super) fmspc: String,
    pub(super) pce_id: String,
    pub(super) tcb_evaluation_data_number: u32,
    tdx_module: Module,
    #[serde(default)]
    tdx_module_identities: Vec<ModuleIdentity>,
    tcb_levels: Vec<Level<Tcb>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Module {
    mrsigner: String,
    attributes: String,
    attributes_mask: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModuleIdentity {
    id: String,
    #[serde(flatten)]
    module: Module,
    tcb_levels: Vec<Level<IsvSvn>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Level<T> {
    tcb: T,
    tcb_date: String,
    tcb_status: TcbStatus,
    #[serde(rename = "advisoryIDs", default)]
    advisory_ids: Vec<String>,
}

impl<T> Level<T> {
    fn verdict(&self) -> Verdict {
        Verdict::of(self.tcb_status, &self.advisory_ids, &self.tcb_date)
    }
}

#[derive(Debug, Clone, Deserialize)]
struct IsvSvn {
    isvsvn: u16,
}

#[derive(Debug, Clone, Deserialize)]
struct Tcb {
    sgxtcbcomponents: Vec<Component>,
    pcesvn: u16,
    tdxtcbcomponents: Vec<Component>,
}

#[derive(Debug, Clone, Deserialize)]
struct Component {
    svn: u8,
}

impl TcbInfo {
    /// The status of the platform and its TDX module, at launch and now. Levels stand from the newest to the oldest;
    /// the first that the platform meets counts.
    pub(super) fn evaluate(&self, platform: &PlatformTcb) -> Result<(Verdict, Option<Verdict>), TcbError> {
        let launch = self.evaluate_svn(platform, &platform.tee_tcb_svn)?;
        let current = platform.current_tee_tcb_svn.map(|svn| self.evaluate_svn(platform, &svn)).transpose()?;
        Ok((launch, current))
    }

    fn evaluate_svn(&self, platform: &PlatformTcb, tee_tcb_svn: &[u8; 16]) -> Result<Verdict, TcbError> {
        for level in &self.tcb_levels {
            if level.tcb.met_by(platform, tee_tcb_svn)? {
                let verdict = level.verdict();
                return Ok(match self.module_identity(tee_tcb_svn)? {
                    Some(identity) => verdict.converge(&identity.level(tee_tcb_svn)?.verdict()),
                    None => verdict,
                });
            }
        }
        Err(TcbError::NoLevel)
    }

    /// Compares the TDX module's signer and attributes with the identity that TEE_TCB_SVN selects.
    pub(super) fn check_module(
        &self,
        tee_tcb_svn: &[u8; 16],
        mr_signer_seam: &[u8; 48],
        seam_attributes: u64,
    ) -> Result<(), TcbError> {
        let (id, module) = match self.module_identity(tee_tcb_svn)? {
            Some(identity) => (identity.id.as_str(), &identity.module),
            None => ("tdxModule", &self.tdx_module),
        };
        let signer = hex_array::<48>(&module.mrsigner).ok_or(TcbError::Hex("mrsigner"))?;
        let bits = |text: &str, field| hex_array(text).map(u64::from_le_bytes).ok_or(TcbError::Hex(field));
        let attributes = bits(&module.attributes, "attributes")?;
        let mask = bits(&module.attributes_mask, "attributesMask")?;
        // Bits outside the mask have no meaning that Intel vouches for.
        if signer != *mr_signer_seam || seam_attributes & mask != attributes & mask || seam_attributes & !mask != 0 {
            return Err(TcbError::Module(id.to_owned()));
        }
        Ok(())
    }

    /// The identity of a module whose version, TEE_TCB_SVN\[1\], is not 0.
    fn module_identity(&self, tee_tcb_svn: &[u8; 16]) -> Result<Option<&ModuleIdentity>, TcbError> {
        let [_, version, ..] = tee_tcb_svn;
        if *version == 0 {
            return Ok(None);
        }
        let id = format!("TDX_{version:02X}");
        match self.tdx_module_identities.iter().find(|identity| identity.id.eq_ignore_ascii_case(&id)) {
            Some(identity) => Ok(Some(identity)),
            None => Err(TcbError::NoModule(id)),
        }
    }
}

impl ModuleIdentity {
    fn level(&self, tee_tcb_svn: &[u8; 16]) -> Result<&Level<IsvSvn>, TcbError> {
        let [svn, ..] = tee_tcb_svn;
        self.tcb_levels.iter().find(|level| u16::from(*svn) >= level.tcb.isvsvn).ok_or(TcbError::NoModuleLevel(*svn))
    }
}

impl Tcb {
    fn met_by(&self, platform: &PlatformTcb, tee_tcb_svn: &[u8; 16]) -> Result<bool, TcbError> {
        for components in [&self.sgxtcbcomponents, &self.tdxtcbcomponents] {
            if components.len() != 16 {
                return Err(TcbError::Components(components.len()));
            }
        }
        // Where the module has a version of its own, bytes 0 and 1 are its SVN and version, judged by its identity.
        let [_, version, ..] = tee_tcb_svn;
        let judged_elsewhere = if *version == 0 { 0 } else { 2 };
        let meets = |svns: &[u8], components: &[Component], skip| {
            svns.iter().zip(components).skip(skip).all(|(svn, component)| *svn >= component.svn)
        };
        Ok(meets(&platform.cpu_svn, &self.sgxtcbcomponents, 0)
            && platform.pce_svn >= self.pcesvn
            && meets(tee_tcb_svn, &self.tdxtcbcomponents, judged_elsewhere))
    }
}

/// The signed body of a QE identity.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QeIdentity {
    pub(super) issue_date: String,
    pub(super) next_update: String,
    pub(super) tcb_evaluation_data_number: u32,
    pub(super) miscselect: String,
    pub(super) miscselect_mask: String,
    pub(super) attributes: String,
    pub(super) attributes_mask: String,
    pub(super) mrsigner: String,
    pub(super) isvprodid: u16,
    tcb_levels: Vec<Level<IsvSvn>>,
}

impl QeIdentity {
    /// The status of a quoting enclave with this ISVSVN.
    pub(super) fn evaluate(&self, isv_svn: u16) -> Option<Verdict> {
        self.tcb_levels.iter().find(|level| isv_svn >= level.tcb.isvsvn).map(Level::verdict)
    }
}

/// What all parts come to together. A `current` status, of TDX 1.5, tells an outdated launch from an outdated platform; in all
/// else the worse of the two counts.
pub(super) fn converge(launch: &Verdict, current: Option<&Verdict>, qe: &Verdict) -> Verdict {
    let verdict = launch.clone().converge(qe);
    match current {
        None => verdict,
        Some(current) => {
            let status = verdict.status.since_launch(current.status.converge(qe.status));
            Verdict { status, ..verdict.converge(current) }
        }
    }
}

#[cfg(test)]
mod tests;
