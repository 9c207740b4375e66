//! `/dev/sev-guest`, by way of the `sev` crate: the `ioctl` is unsafe code that this crate does not write.
//!
//! Of that crate only `get_report` is called. Its `get_ext_report` walks the host's certificate table without bounds.

use std::io;
use std::sync::Arc;

use sev::error::{FirmwareError, UserApiError, VmmError};
use sev::firmware::guest::Firmware;

use crate::platform::backoff::Backoff;
use crate::platform::tsm::TsmBuilder;
use crate::platform::worker::{Device, Worker};
use crate::provider::{ProviderError, ProviderErrorKind};
use crate::report::ReportData;
use crate::time::Clock;

/// Where the kernel module `sev-guest` puts its device; fixed in the `sev` crate.
pub(super) const DEVICE: &str = "/dev/sev-guest";

/// The device, on a thread of its own.
pub(super) struct SevGuest {
    worker: Worker<Vec<u8>>,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
}

impl SevGuest {
    pub(super) fn open(settings: &TsmBuilder, vmpl: u8) -> Result<Self, ProviderError> {
        Self::start(settings, vmpl, || Ok(Box::new(open()?)))
    }

    pub(super) fn start(
        settings: &TsmBuilder,
        vmpl: u8,
        guest: impl FnOnce() -> Result<Box<dyn Guest>, ProviderError> + Send + 'static,
    ) -> Result<Self, ProviderError> {
        let device = move || Ok(GuestDevice { guest: guest()?, vmpl });
        let worker = Worker::start("attest-sev", settings.open_timeout, device)?;
        Ok(Self { worker, backoff: settings.backoff, clock: Arc::clone(&settings.clock) })
    }

    pub(super) async fn report(&self, data: &ReportData) -> Result<Vec<u8>, ProviderError> {
        self.backoff.repeat(&*self.clock, || self.worker.call(data.as_bytes())).await
    }
}

/// One blocking call to the firmware.
pub(super) trait Guest: Send {
    fn report(&mut self, data: &[u8; 64], vmpl: u8) -> Result<Vec<u8>, UserApiError>;
}

impl Guest for Firmware {
    fn report(&mut self, data: &[u8; 64], vmpl: u8) -> Result<Vec<u8>, UserApiError> {
        self.get_report(None, Some(*data), Some(vmpl.into()))
    }
}

fn open() -> Result<Firmware, ProviderError> {
    Firmware::open().map_err(|error| {
        let (kind, message) = match error.kind() {
            io::ErrorKind::NotFound => (
                ProviderErrorKind::Unsupported,
                "does not exist: load the kernel module sev-guest, or this is no SNP guest".to_owned(),
            ),
            io::ErrorKind::PermissionDenied => {
                (ProviderErrorKind::Unsupported, format!("may not be opened by this process: {error}"))
            }
            _ => (ProviderErrorKind::Failed, format!("open {DEVICE}: {error}")),
        };
        ProviderError::with_source(kind, message, error)
    })
}

struct GuestDevice {
    guest: Box<dyn Guest>,
    vmpl: u8,
}

impl Device for GuestDevice {
    type Reply = Vec<u8>;

    fn call(&mut self, data: &[u8; 64]) -> Result<Vec<u8>, ProviderError> {
        self.guest.report(data, self.vmpl).map_err(fault)
    }
}

fn fault(error: UserApiError) -> ProviderError {
    let kind = match &error {
        UserApiError::VmmError(VmmError::RateLimitRetryRequest) => ProviderErrorKind::Busy,
        UserApiError::IOError(error) | UserApiError::FirmwareError(FirmwareError::IoError(error)) => match error.kind()
        {
            io::ErrorKind::ResourceBusy | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {
                ProviderErrorKind::Busy
            }
            io::ErrorKind::TimedOut => ProviderErrorKind::Timeout,
            _ => ProviderErrorKind::Failed,
        },
        _ => ProviderErrorKind::Failed,
    };
    ProviderError::with_source(kind, format!("SNP_GET_REPORT on {DEVICE}: {error}"), error)
}
