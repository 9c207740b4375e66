//! How a server gets reports from its hardware: implement [`ReportProvider`] for a TEE of your own.
//!
//! ```
//! use tower_attest::{Platform, ProviderError, Report, ReportData, ReportProvider, async_trait};
//!
//! #[derive(Debug)]
//! struct Vsock;
//!
//! #[async_trait]
//! impl ReportProvider for Vsock {
//!     fn platform(&self) -> Platform {
//!         Platform::TDX
//!     }
//!     async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
//!         Ok(Report::new(Platform::TDX, data.as_bytes().to_vec()))
//!     }
//! }
//! let provider: std::sync::Arc<dyn ReportProvider> = std::sync::Arc::new(Vsock);
//! assert_eq!(provider.platform(), Platform::TDX);
//! ```

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::BoxError;
use crate::report::{Platform, Report, ReportData};

/// Makes hardware reports. The attester calls it for one report at a time and bounds each call in time.
///
/// An implementation must not block the async thread; a device that can hang belongs on a thread of its own.
#[async_trait]
pub trait ReportProvider: Send + Sync + fmt::Debug {
    /// The platform of every report that this provider makes. It stands in the signed statement.
    fn platform(&self) -> Platform;

    /// A fresh report over exactly `data`.
    ///
    /// # Errors
    ///
    /// A [`ProviderError`] whose kind says whether to try again.
    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError>;
}

#[async_trait]
impl<P: ReportProvider + ?Sized> ReportProvider for Arc<P> {
    fn platform(&self) -> Platform {
        (**self).platform()
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        (**self).report(data).await
    }
}

#[async_trait]
impl<P: ReportProvider + ?Sized> ReportProvider for Box<P> {
    fn platform(&self) -> Platform {
        (**self).platform()
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        (**self).report(data).await
    }
}

/// Why no report could be made. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProviderError {
    kind: ProviderErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of failure a [`ProviderError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProviderErrorKind {
    /// This machine, or this process's permissions, cannot make reports: no retry helps.
    Unsupported,
    /// The device is throttled or occupied: try again later.
    Busy,
    /// The device did not answer in time.
    Timeout,
    /// The device answered with an error or with a report that cannot be right.
    Failed,
}

impl fmt::Display for ProviderErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "this machine cannot make reports",
            Self::Busy => "the device is busy",
            Self::Timeout => "the device did not answer in time",
            Self::Failed => "the device failed",
        })
    }
}

impl ProviderError {
    /// An error of `kind` whose message says what was tried and what can be done.
    pub fn new(kind: ProviderErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An error of `kind` that `source` caused.
    pub fn with_source(kind: ProviderErrorKind, message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self { kind, message: message.into(), source: Some(Arc::from(source.into())) }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ProviderErrorKind {
        self.kind
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl Error for ProviderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}
