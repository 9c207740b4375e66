//! Reports of the SNP guest that this process runs in.

#[cfg_attr(not(feature = "sev-guest"), path = "absent.rs")]
mod sev_guest;
#[cfg(test)]
mod tests;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use self::sev_guest::{DEVICE, SevGuest};
use super::cert_table::CertTable;
use super::fields::KeyInfo;
use super::report::REPORT_LEN;
use crate::platform::tsm::{Tsm, TsmBuilder, provider_of, tsm_settings};
use crate::platform::worker::bounded;
use crate::provider::{ProviderError, ProviderErrorKind, ReportProvider};
use crate::report::{Platform, Report, ReportData};

/// What configfs-tsm calls the SNP guest driver.
const TSM_PROVIDER: &str = "sev_guest";

/// Makes reports of the SNP guest that this process runs in. Linux only.
///
/// ```no_run
/// use tower_attest::platform::snp::SnpProvider;
///
/// let provider = SnpProvider::open()?;
/// # Ok::<(), tower_attest::ProviderError>(())
/// ```
///
/// Two devices lead to the same firmware: configfs-tsm (Linux 6.7 and later), which also brings the host's certificate
/// table, so that the VCEK or VLEK found there is stapled to the report; and, with the feature `sev-guest`,
/// `/dev/sev-guest` (5.19 and later), taken where configfs-tsm does not serve SNP, without a table: clients then fetch the
/// VCEK from AMD, and a host that signs with a VLEK needs configfs-tsm.
///
/// The firmware serves one request at a time, and hosts throttle: reports take from some milliseconds to a second. The
/// attester therefore shares one report among many requests.
#[derive(Debug)]
pub struct SnpProvider {
    source: Source,
}

enum Source {
    Tsm(Tsm),
    Guest(SevGuest),
}

/// Which device an [`SnpProvider`] asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SnpDevice {
    /// configfs-tsm where the kernel serves SNP there, else `/dev/sev-guest` (with the feature `sev-guest`).
    #[default]
    Auto,
    /// configfs-tsm alone.
    ConfigfsTsm,
    /// `/dev/sev-guest` alone: reports without the host's certificate table. Needs the feature `sev-guest`; without it
    /// opening says so.
    SevGuest,
}

impl SnpProvider {
    /// Opens this guest's device, for VMPL 0. See [`SnpProviderBuilder::open`].
    ///
    /// # Errors
    ///
    /// As [`SnpProviderBuilder::open`].
    pub fn open() -> Result<Self, ProviderError> {
        Self::builder().open()
    }

    /// Settings, where [`open`](Self::open) does not fit.
    pub fn builder() -> SnpProviderBuilder {
        SnpProviderBuilder { tsm: Tsm::builder(TSM_PROVIDER), device: SnpDevice::Auto, vmpl: 0 }
    }

    /// Which device was found: never [`SnpDevice::Auto`].
    pub fn device(&self) -> SnpDevice {
        match self.source {
            Source::Tsm(_) => SnpDevice::ConfigfsTsm,
            Source::Guest(_) => SnpDevice::SevGuest,
        }
    }
}

#[async_trait]
impl ReportProvider for SnpProvider {
    fn platform(&self) -> Platform {
        Platform::SNP
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        let (report, table) = match &self.source {
            Source::Tsm(tsm) => {
                let made = tsm.report(data).await?;
                (made.outblob, made.auxblob)
            }
            Source::Guest(device) => (device.report(data).await?, Vec::new()),
        };
        check(&report, data)?;
        Ok(staple(report, &table))
    }
}

/// A report of another length, or over other data, is an error here rather than at each client.
fn check(report: &[u8], data: &ReportData) -> Result<(), ProviderError> {
    if report.len() != REPORT_LEN {
        return Err(failed(format!("report: expected {REPORT_LEN} bytes, found {}", report.len())));
    }
    if report.get(0x50..0x90) != Some(data.as_bytes()) {
        return Err(failed("report: expected REPORT_DATA as asked for, found other bytes"));
    }
    Ok(())
}

/// Staples the certificate of the signing key. A table that cannot be read costs the staple, not the report: clients can
/// have a VCEK from elsewhere.
fn staple(bytes: Vec<u8>, table: &[u8]) -> Report {
    let key_info = bytes.get(0x48..).and_then(|rest| rest.first_chunk()).copied().map(u32::from_le_bytes);
    let signing_key = KeyInfo::from_bits(key_info.unwrap_or_default()).signing_key();
    let report = Report::new(Platform::SNP, bytes);
    match CertTable::parse(table).and_then(|table| table.vek(signing_key)) {
        Ok(Some(der)) => report.with_vek(Bytes::from(der.into_owned())),
        Ok(None) => {
            tracing::debug!(%signing_key, "the host's certificate table has no certificate for the signing key");
            report
        }
        Err(error) => {
            tracing::warn!(%error, "the host's certificate table is not used");
            report
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tsm(tsm) => tsm.fmt(f),
            Self::Guest(_) => f.write_str(DEVICE),
        }
    }
}

/// Settings of an [`SnpProvider`].
#[derive(Debug, Clone)]
#[must_use]
pub struct SnpProviderBuilder {
    tsm: TsmBuilder,
    device: SnpDevice,
    vmpl: u8,
}

impl SnpProviderBuilder {
    tsm_settings!();

    /// Which device to ask. The path of `/dev/sev-guest` itself is fixed in the `sev` crate.
    pub fn device(mut self, device: SnpDevice) -> Self {
        self.device = device;
        self
    }

    /// The VMPL that the report is to say, 0 (the default) to 3: not below the one that this guest runs at. The policy of
    /// every client must accept it.
    pub fn vmpl(mut self, vmpl: u8) -> Self {
        self.vmpl = vmpl;
        self
    }

    /// Finds the device and starts the thread that owns it, without asking for a report.
    ///
    /// Blocks the caller for a few system calls, at most [`open_timeout`](Self::open_timeout) for each device.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ProviderErrorKind::Unsupported) if there is no device that may be used, with what was tried and
    /// what each lacks; else as [`TsmBuilder::open`](crate::platform::tsm::TsmBuilder::open). Where configfs-tsm does
    /// serve SNP, its errors are final: the other device leads to the same firmware.
    pub fn open(self) -> Result<SnpProvider, ProviderError> {
        self.open_with(SevGuest::open)
    }

    fn open_with(
        self,
        open: impl FnOnce(&TsmBuilder, u8) -> Result<SevGuest, ProviderError>,
    ) -> Result<SnpProvider, ProviderError> {
        let no_tsm = match self.device {
            SnpDevice::ConfigfsTsm => return self.open_tsm(),
            SnpDevice::SevGuest => None,
            SnpDevice::Auto => match self.tsm_absence()? {
                None => return self.open_tsm(),
                Some(absence) => Some(absence),
            },
        };
        match (self.open_guest(open), no_tsm) {
            (Err(error), Some(no_tsm)) if error.kind() == ProviderErrorKind::Unsupported => {
                let message = format!("no device for SNP reports. configfs-tsm: {no_tsm}. {DEVICE}: {error}");
                Err(ProviderError::with_source(ProviderErrorKind::Unsupported, message, error))
            }
            (outcome, _) => outcome,
        }
    }

    /// Why configfs-tsm does not serve SNP here; `None` if it does.
    fn tsm_absence(&self) -> Result<Option<String>, ProviderError> {
        let root = self.tsm.root.clone();
        match bounded("attest-tsm", self.tsm.open_timeout, move || provider_of(&root)) {
            Ok(name) if name == TSM_PROVIDER => Ok(None),
            Ok(name) => Ok(Some(format!("the kernel's provider: expected {TSM_PROVIDER:?}, found {name:?}"))),
            Err(error) if error.kind() == ProviderErrorKind::Unsupported => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn open_tsm(self) -> Result<SnpProvider, ProviderError> {
        Ok(SnpProvider { source: Source::Tsm(self.tsm.privlevel(self.vmpl).open()?) })
    }

    fn open_guest(
        self,
        open: impl FnOnce(&TsmBuilder, u8) -> Result<SevGuest, ProviderError>,
    ) -> Result<SnpProvider, ProviderError> {
        if self.vmpl > 3 {
            let message = format!("VMPL: expected 0 to 3, found {}", self.vmpl);
            return Err(ProviderError::new(ProviderErrorKind::Unsupported, message));
        }
        Ok(SnpProvider { source: Source::Guest(open(&self.tsm, self.vmpl)?) })
    }
}

fn failed(message: impl Into<String>) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Failed, message)
}
