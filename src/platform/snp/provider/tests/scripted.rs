use std::sync::{Arc, Mutex};

use sev::error::{FirmwareError, SevError, UserApiError, VmmError};

use super::super::sev_guest::Guest;
use super::*;

/// Firmware that answers from a script, and then with good reports.
struct Script {
    faults: Vec<UserApiError>,
    asked: Arc<Mutex<Vec<u8>>>,
    change: fn(&mut Vec<u8>),
}

impl Guest for Script {
    fn report(&mut self, data: &[u8; 64], vmpl: u8) -> Result<Vec<u8>, UserApiError> {
        self.asked.lock().unwrap().push(vmpl);
        if let Some(fault) = self.faults.pop() {
            return Err(fault);
        }
        let mut report = report_over(data);
        (self.change)(&mut report);
        Ok(report)
    }
}

fn scripted(faults: Vec<UserApiError>, change: fn(&mut Vec<u8>)) -> (SnpProvider, Arc<Mutex<Vec<u8>>>) {
    let asked = Arc::default();
    let script = Script { faults, asked: Arc::clone(&asked), change };
    let open = |settings: &TsmBuilder, vmpl: u8| SevGuest::start(settings, vmpl, move || Ok(Box::new(script)));
    (builder().vmpl(2).open_with(open).unwrap(), asked)
}

#[tokio::test]
async fn without_configfs_the_guest_device_is_asked_with_the_vmpl_and_nothing_is_stapled() {
    let (provider, asked) = scripted(vec![], |_| {});
    assert_eq!(provider.device(), SnpDevice::SevGuest);
    let report = provider.report(&ReportData::new([7; 64])).await.unwrap();
    assert_eq!(report.platform(), &Platform::SNP);
    assert_eq!(report.bytes()[..], report_over(&[7; 64]));
    assert_eq!(report.vek(), None);
    assert_eq!(*asked.lock().unwrap(), [2]);
}

#[tokio::test]
async fn a_throttled_or_slow_firmware_is_asked_again_and_not_for_ever() {
    let busy = || UserApiError::VmmError(VmmError::RateLimitRetryRequest);
    let (provider, _) = scripted(vec![busy(), std::io::Error::from_raw_os_error(110).into()], |_| {});
    assert!(provider.report(&ReportData::new([7; 64])).await.is_ok());

    let (provider, asked) = scripted((0..9).map(|_| busy()).collect(), |_| {});
    let error = provider.report(&ReportData::new([7; 64])).await.unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Busy);
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn an_error_of_the_firmware_is_not_repeated() {
    let fault = UserApiError::FirmwareError(FirmwareError::KnownSevError(SevError::InvalidParam));
    let (provider, asked) = scripted(vec![fault], |_| {});
    let error = provider.report(&ReportData::new([7; 64])).await.unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Failed);
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_report_over_other_data_or_of_another_length_is_refused() {
    let changes: [fn(&mut Vec<u8>); 5] =
        [|r| r[0x50] ^= 1, |r| r[0x8f] ^= 1, |r| r.truncate(REPORT_LEN - 1), |r| r.push(0), |r| r.clear()];
    for change in changes {
        let (provider, _) = scripted(vec![], change);
        let error = provider.report(&ReportData::new([7; 64])).await.unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Failed);
        assert!(error.to_string().contains("expected"), "{error}");
    }
}
