#[cfg(feature = "sev-guest")]
mod scripted;

use std::time::Duration;

use super::*;
use crate::platform::tsm::Backoff;

fn report_over(data: &[u8; 64]) -> Vec<u8> {
    let mut report = vec![0; REPORT_LEN];
    report[0x50..0x90].copy_from_slice(data);
    report
}

fn builder() -> SnpProviderBuilder {
    SnpProvider::builder().tsm_root("/nonexistent/tsm").backoff(Backoff::new(Duration::ZERO, Duration::ZERO, 3))
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
    let error = builder().vmpl(4).open_with(|_, _| panic!("it is not opened")).unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Unsupported);
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
