use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use sev::error::{FirmwareError, SevError, UserApiError, VmmError};

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

fn report_over(data: &[u8; 64]) -> Vec<u8> {
    let mut report = vec![0; REPORT_LEN];
    report[0x50..0x90].copy_from_slice(data);
    report
}

fn builder() -> SnpProviderBuilder {
    SnpProvider::builder().tsm_root("/nonexistent/tsm").backoff(Backoff::new(Duration::ZERO, Duration::ZERO, 3))
}

fn scripted(faults: Vec<UserApiError>, change: fn(&mut Vec<u8>)) -> (SnpProvider, Arc<Mutex<Vec<u8>>>) {
    let asked = Arc::default();
    let script = Script { faults, asked: Arc::clone(&asked), change };
    (builder().vmpl(2).open_with(move || Ok(Box::new(script))).unwrap(), asked)
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

#[test]
fn where_nothing_is_found_each_thing_tried_is_named() {
    let error = builder().open().unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Unsupported);
    let message = error.to_string();
    for part in ["/nonexistent/tsm", "mount -t configfs", "/dev/sev-guest", "load the kernel module"] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn the_device_that_was_named_is_the_only_one_tried() {
    let message = builder().device(SnpDevice::ConfigfsTsm).open().unwrap_err().to_string();
    assert!(!message.contains("sev-guest does not exist"), "{message}");
    let message = builder().device(SnpDevice::SevGuest).open().unwrap_err().to_string();
    assert!(!message.contains("configfs"), "{message}");
}

#[test]
fn a_vmpl_beyond_three_is_refused_before_the_device_is_opened() {
    let (opened, was_opened) = mpsc::channel();
    let error = builder()
        .vmpl(4)
        .open_with(move || {
            let _ = opened.send(());
            Ok(Box::new(Script { faults: vec![], asked: Arc::default(), change: |_| {} }))
        })
        .unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Unsupported);
    assert!(was_opened.recv().is_err());
}

mod stapling {
    use super::*;

    const VCEK_DER: [u8; 3] = [0x30, 1, 1];
    const VLEK_DER: [u8; 3] = [0x30, 1, 2];

    fn table() -> Vec<u8> {
        let entry = |guid: [u8; 16], offset: u32| [&guid[..], &offset.to_le_bytes(), &3_u32.to_le_bytes()].concat();
        [entry(CertTable::VCEK, 72), entry(CertTable::VLEK, 75), vec![0; 24], VCEK_DER.to_vec(), VLEK_DER.to_vec()]
            .concat()
    }

    fn signed_by(key: u32) -> Vec<u8> {
        let mut report = report_over(&[7; 64]);
        report[0x48..0x4c].copy_from_slice(&(key << 2 | 1).to_le_bytes());
        report
    }

    #[test]
    fn the_certificate_of_the_signing_key_is_stapled_and_no_other() {
        for (key, expected) in [(0, Some(&VCEK_DER[..])), (1, Some(&VLEK_DER[..])), (2, None), (7, None)] {
            assert_eq!(staple(signed_by(key), &table()).vek().map(|vek| &vek[..]), expected, "signing key {key}");
        }
    }

    #[test]
    fn a_table_that_cannot_be_read_costs_the_staple_and_not_the_report() {
        let mut hostile = table();
        hostile[16..20].copy_from_slice(&0x7fff_0000_u32.to_le_bytes());
        let (no_end, nothing) = (&table()[..40], &[][..]);
        for table in [&hostile[..], no_end, nothing] {
            let report = staple(signed_by(0), table);
            assert_eq!((report.bytes().len(), report.vek()), (REPORT_LEN, None));
        }
    }
}
