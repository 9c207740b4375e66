//! Collateral on disk, for machines without a route to Intel.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Collateral, CollateralRequest, CollateralSource, InvalidCollateral, PlatformId};
use crate::platform::endorser::{EndorsementError, EndorsementErrorKind};
use crate::report::Hex;

/// Reads collateral from `DIR/<fmspc>-<ca>/`, such as `90c06f000000-platform/`: six files, as
/// [`Collateral::from_dir`] wants them. What the files say counts only if Intel signed it.
///
/// The files are read for each call: put [`MemoryCollateral`](super::MemoryCollateral) around it.
#[derive(Debug, Clone)]
pub struct CollateralDirectory {
    dir: PathBuf,
}

impl CollateralDirectory {
    /// The collateral under `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where the files of `platform` are.
    pub fn dir_of(&self, platform: &PlatformId) -> PathBuf {
        self.dir.join(format!("{}-{}", Hex(&platform.fmspc), platform.ca.as_str()))
    }
}

#[async_trait]
impl CollateralSource for CollateralDirectory {
    async fn collateral(&self, request: &CollateralRequest<'_>) -> Result<Arc<Collateral>, EndorsementError> {
        let dir = self.dir_of(&request.platform());
        let shown = dir.display().to_string();
        let read = tokio::task::spawn_blocking(move || Collateral::from_dir(dir)).await;
        let outcome = read.map_err(|error| {
            EndorsementError::with_source(EndorsementErrorKind::Unavailable, "reading was cut short", error)
        })?;
        outcome.map(Arc::new).map_err(|error| {
            let kind = match &error {
                InvalidCollateral::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    EndorsementErrorKind::NotFound
                }
                InvalidCollateral::File { .. } => EndorsementErrorKind::Unavailable,
                _ => EndorsementErrorKind::Refused,
            };
            EndorsementError::with_source(kind, format!("{shown}: {error}"), error)
        })
    }
}
