//! Linux configfs-tsm, the kernel's common way to a hardware report: AMD SEV-SNP, Intel TDX and whatever comes next.
//!
//! A [`Tsm`] asks `/sys/kernel/config/tsm/report` (Linux 6.7 and later, `Documentation/ABI/testing/configfs-tsm-report`)
//! and keeps the kernel's rules: a directory of its own for each report, removed whatever happens; 64 bytes of input,
//! which the kernel takes when the file is closed; a generation that proves that nobody else wrote; repetition with
//! growing pauses while the device is busy, timed out or interrupted. All of it runs on one thread of its own.
//!
//! `SnpProvider` and `TdxProvider` stand on it. For a TEE that this crate does not know, wrap it in
//! a [`ReportProvider`](crate::ReportProvider):
//!
//! ```no_run
//! use tower_attest::platform::tsm::Tsm;
//! use tower_attest::{Platform, ProviderError, Report, ReportData, ReportProvider, async_trait};
//!
//! #[derive(Debug)]
//! struct Cca {
//!     platform: Platform,
//!     tsm: Tsm,
//! }
//!
//! #[async_trait]
//! impl ReportProvider for Cca {
//!     fn platform(&self) -> Platform {
//!         self.platform.clone()
//!     }
//!     async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
//!         Ok(Report::new(self.platform.clone(), self.tsm.report(data).await?.outblob))
//!     }
//! }
//!
//! let platform = Platform::new("cca", "application/vnd.example.cca-token").expect("a valid name");
//! let provider = Cca { platform, tsm: Tsm::open(Tsm::ROOT, "arm_cca_guest")? };
//! # Ok::<(), ProviderError>(())
//! ```
//!
//! What it cannot do: a process that is killed while a report is being made leaves its directory
//! (`tower-attest-<process id>-<random>`) behind. It holds no secret and disappears with `rmdir` or the next boot. A
//! thread hung inside the kernel cannot be ended by anyone; it does not keep the async runtime or `main` from returning.

mod entry;
#[cfg(any(feature = "snp", feature = "tdx"))]
mod settings;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::entry::Reports;
pub(crate) use self::entry::provider_of;
#[cfg(any(feature = "snp", feature = "tdx"))]
pub(super) use self::settings::tsm_settings;
pub use super::backoff::Backoff;
use super::worker::Worker;
use crate::provider::ProviderError;
#[cfg(doc)]
use crate::provider::ProviderErrorKind;
use crate::report::ReportData;
use crate::time::{Clock, SystemClock};

/// The most bytes that the kernel hands out as one blob (`TSM_REPORT_OUTBLOB_MAX`).
pub const MAX_BLOB: usize = 32 * 1024;

/// Reports by way of configfs-tsm. Calls from several tasks take turns.
pub struct Tsm {
    root: PathBuf,
    provider: String,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
    worker: Worker<TsmReport>,
}

/// What the kernel answered.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TsmReport {
    /// The report itself: an ATTESTATION_REPORT of SNP, a quote of TDX. Never empty, at most [`MAX_BLOB`] bytes.
    pub outblob: Vec<u8>,
    /// What the host adds: the certificate table of SNP. Empty where there is none, as on TDX. At most [`MAX_BLOB`]
    /// bytes, and nothing in it is trustworthy.
    pub auxblob: Vec<u8>,
}

impl Tsm {
    /// Where Linux has it.
    pub const ROOT: &'static str = "/sys/kernel/config/tsm/report";

    /// Opens the reports under `root`, if the kernel's provider there is `provider` (`sev_guest`, `tdx_guest`,
    /// `arm_cca_guest`). See [`TsmBuilder::open`].
    ///
    /// # Errors
    ///
    /// As [`TsmBuilder::open`].
    pub fn open(root: impl Into<PathBuf>, provider: impl Into<String>) -> Result<Self, ProviderError> {
        Self::builder(provider).root(root).open()
    }

    /// Settings for one that expects the kernel's `provider`.
    pub fn builder(provider: impl Into<String>) -> TsmBuilder {
        TsmBuilder {
            root: PathBuf::from(Self::ROOT),
            provider: provider.into(),
            privlevel: None,
            backoff: Backoff::default(),
            open_timeout: Duration::from_secs(5),
            clock: Arc::new(SystemClock),
        }
    }

    /// The directory in which reports are made.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The name of the kernel's provider.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// A fresh report over exactly `data`.
    ///
    /// Dropping the future stops the repetition; an attempt that has begun ends on its thread and cleans up after itself.
    ///
    /// # Errors
    ///
    /// [`Busy`](ProviderErrorKind::Busy) or [`Timeout`](ProviderErrorKind::Timeout) if the last attempt ended so,
    /// [`Unsupported`](ProviderErrorKind::Unsupported) if the kernel's provider has gone or is another one now,
    /// [`Failed`](ProviderErrorKind::Failed) for every other error of the kernel and for an empty or oversized blob.
    pub async fn report(&self, data: &ReportData) -> Result<TsmReport, ProviderError> {
        self.backoff.repeat(&*self.clock, || self.worker.call(data.as_bytes())).await
    }
}

impl fmt::Debug for Tsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tsm").field("root", &self.root).field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl fmt::Debug for TsmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TsmReport").field("outblob", &self.outblob.len()).field("auxblob", &self.auxblob.len()).finish()
    }
}

/// Settings of a [`Tsm`].
#[derive(Debug, Clone)]
#[must_use]
pub struct TsmBuilder {
    pub(super) root: PathBuf,
    provider: String,
    privlevel: Option<u8>,
    pub(super) backoff: Backoff,
    pub(super) open_timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl TsmBuilder {
    /// Another place than [`Tsm::ROOT`].
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// The privilege level to ask for: the VMPL of SNP, from 0 to 3. Without it the kernel's default holds. TDX has none.
    pub fn privlevel(mut self, level: u8) -> Self {
        self.privlevel = Some(level);
        self
    }

    /// How to go on when the device is busy. Default: [`Backoff::default`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long [`open`](Self::open) may take. Default 5 s: the kernel answers nobody while it makes another report.
    pub fn open_timeout(mut self, limit: Duration) -> Self {
        self.open_timeout = limit;
        self
    }

    /// Whose timer the pauses are. Default: the machine's, with tokio's timers.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Looks whether reports can be made here, without making one, and starts the thread `attest-tsm`.
    ///
    /// Blocks the caller for a few system calls, at most [`open_timeout`](Self::open_timeout).
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ProviderErrorKind::Unsupported), with what to do, if there is no configfs-tsm, no permission, no
    /// provider in the kernel, another provider, or the privilege level is not one that this guest may ask for;
    /// [`Timeout`](ProviderErrorKind::Timeout) if the kernel does not answer in time;
    /// [`Failed`](ProviderErrorKind::Failed) for every other error of the kernel.
    pub fn open(self) -> Result<Tsm, ProviderError> {
        let Self { root, provider, privlevel, backoff, open_timeout, clock } = self;
        let reports = Reports::new(root.clone(), provider.clone(), privlevel);
        let worker = Worker::start("attest-tsm", open_timeout, move || {
            reports.probe()?;
            Ok(reports)
        })?;
        Ok(Tsm { root, provider, backoff, clock, worker })
    }
}
