//! `/dev/sev-guest`, by way of the `sev` crate: the `ioctl` is unsafe code that this crate does not write.
//!
//! Of that crate only `get_report` is called. Its `get_ext_report` walks the host's certificate table without bounds.

use std::io;

use sev::error::{FirmwareError, UserApiError, VmmError};
use sev::firmware::guest::Firmware;

use crate::platform::worker::Device;
use crate::provider::{ProviderError, ProviderErrorKind};

/// Where the kernel module `sev-guest` puts its device; fixed in the `sev` crate.
pub(super) const DEVICE: &str = "/dev/sev-guest";

/// One blocking call to the firmware.
pub(super) trait Guest: Send {
    fn report(&mut self, data: &[u8; 64], vmpl: u8) -> Result<Vec<u8>, UserApiError>;
}

impl Guest for Firmware {
    fn report(&mut self, data: &[u8; 64], vmpl: u8) -> Result<Vec<u8>, UserApiError> {
        self.get_report(None, Some(*data), Some(vmpl.into()))
    }
}

pub(super) fn open() -> Result<Firmware, ProviderError> {
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
        ProviderError::new(kind, message).with_source(error)
    })
}

/// The device on its thread.
pub(super) struct GuestDevice {
    guest: Box<dyn Guest>,
    vmpl: u8,
}

impl GuestDevice {
    pub(super) fn new(guest: Box<dyn Guest>, vmpl: u8) -> Self {
        Self { guest, vmpl }
    }
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
    ProviderError::new(kind, format!("SNP_GET_REPORT on {DEVICE}: {error}")).with_source(error)
}
