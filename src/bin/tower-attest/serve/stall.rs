//! Simulated hardware that stops answering while a file exists.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tower_attest::{Platform, ProviderError, Report, ReportData, ReportProvider, async_trait};

/// How often the file is looked for while it is there.
const PAUSE: Duration = Duration::from_millis(20);

/// Another provider, whose answers are held back while a file exists: as a device does that hangs, it gives no error.
#[derive(Debug)]
pub(super) struct Stalling {
    inner: Box<dyn ReportProvider>,
    file: PathBuf,
}

impl Stalling {
    pub(super) fn new(inner: Box<dyn ReportProvider>, file: &Path) -> Self {
        Self { inner, file: file.to_owned() }
    }
}

#[async_trait]
impl ReportProvider for Stalling {
    fn platform(&self) -> Platform {
        self.inner.platform()
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        // Blocks for one stat(2), which only simulations pay. A file that cannot be looked for holds nothing up.
        while self.file.exists() {
            tokio::time::sleep(PAUSE).await;
        }
        self.inner.report(data).await
    }
}
