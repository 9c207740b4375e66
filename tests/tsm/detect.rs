//! Which platform a machine is, and what its providers say where it is none.

use tower_attest::platform::{Detection, detect_at};
use tower_attest::{Platform, ProviderErrorKind};

use super::fuse::Configfs;
use super::kernel::Machine;
use super::mounted;

const NO_DEVICE: &str = "/nonexistent/sev-guest";

fn machine(provider: &'static str) -> Machine {
    Machine::new(provider, Box::new(|_, _| panic!("a report was made")))
}

fn detect(fs: &Configfs, device: &str) -> (Option<Platform>, String) {
    let found: Detection = detect_at(fs.root(), device);
    let reasons = found.absent().map(|(platform, reason)| format!("{platform}: {reason}\n")).collect();
    assert_eq!(fs.entries(), [""; 0]);
    (found.platform().cloned(), reasons)
}

#[test]
fn the_kernels_provider_says_what_the_machine_is() {
    let fs = mounted!(machine("sev_guest"));
    let (platform, reasons) = detect(&fs, NO_DEVICE);
    assert_eq!(platform, Some(Platform::SNP));
    assert_eq!(reasons, "tdx: configfs-tsm: the kernel's provider is \"sev_guest\", not \"tdx_guest\"\n");

    fs.machine().provider = Some("tdx_guest");
    let (platform, reasons) = detect(&fs, NO_DEVICE);
    assert_eq!(platform, Some(Platform::TDX));
    assert!(reasons.starts_with("snp: ") && reasons.contains(NO_DEVICE), "{reasons}");
    assert_eq!(detect(&fs, "/dev/null").0, Some(Platform::TDX));
}

#[test]
fn an_unknown_or_absent_provider_is_no_platform() {
    let fs = mounted!(machine("arm_cca_guest"));
    let (platform, reasons) = detect(&fs, NO_DEVICE);
    assert_eq!(platform, None);
    assert_eq!(reasons.matches("\"arm_cca_guest\"").count(), 2, "{reasons}");

    fs.machine().provider = None;
    let (platform, reasons) = detect(&fs, NO_DEVICE);
    assert_eq!(platform, None);
    assert_eq!(reasons.matches("load the kernel module").count(), 2, "{reasons}");
}

#[cfg(feature = "snp")]
#[test]
fn an_snp_provider_on_a_tdx_machine_names_both_devices() {
    use tower_attest::platform::snp::{SnpDevice, SnpProvider};

    let fs = mounted!(machine("tdx_guest"));
    let error = SnpProvider::builder().tsm_root(fs.root()).open().unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Unsupported);
    let message = error.to_string();
    assert!(message.contains("expected \"sev_guest\", found \"tdx_guest\""), "{message}");
    assert!(message.contains("/dev/sev-guest"), "{message}");

    fs.machine().provider = Some("sev_guest");
    let provider = SnpProvider::builder().tsm_root(fs.root()).open().unwrap();
    assert_eq!(provider.device(), SnpDevice::ConfigfsTsm);
    // Where configfs-tsm serves SNP, the other device would only hide what is wrong.
    fs.machine().floor = 2;
    let error = SnpProvider::builder().tsm_root(fs.root()).open().unwrap_err();
    assert!(error.to_string().contains("set the VMPL to 2"), "{error}");
    assert!(SnpProvider::builder().tsm_root(fs.root()).vmpl(2).open().is_ok());
}
