//! In place of `/dev/sev-guest`, in a build without the feature `sev-guest`: says what to do.

use std::path::Path;

use crate::platform::tsm::TsmBuilder;
use crate::provider::{ProviderError, ProviderErrorKind};
use crate::report::ReportData;

pub(super) const DEVICE: &str = "/dev/sev-guest";

/// No such device is ever open.
pub(super) enum SevGuest {}

impl SevGuest {
    pub(super) fn open(_: &TsmBuilder, _: u8) -> Result<Self, ProviderError> {
        Err(ProviderError::new(ProviderErrorKind::Unsupported, advice(Path::new(DEVICE).exists())))
    }

    pub(super) async fn report(&self, _: &ReportData) -> Result<Vec<u8>, ProviderError> {
        match *self {}
    }
}

fn advice(exists: bool) -> &'static str {
    if exists {
        "is there, but this program was built without tower-attest's feature `sev-guest`: build it with that, or use \
         configfs-tsm (Linux 6.7 or later, with the host's certificate table)"
    } else {
        "does not exist: load the kernel module sev-guest, or this is no SNP guest"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::snp::{SnpDevice, SnpProvider};

    #[test]
    fn a_device_that_this_build_cannot_use_is_named_with_the_feature_that_can() {
        assert!(advice(true).contains("feature `sev-guest`"));
        let error = SnpProvider::builder().device(SnpDevice::SevGuest).open().unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Unsupported);
        assert!(error.to_string().contains(advice(Path::new(DEVICE).exists())), "{error}");
    }
}
