//! Which platform this machine is.

use std::fmt;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::time::Duration;

use crate::report::Platform;

/// What this machine can make reports of, and why not of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    platform: Option<Platform>,
    absent: Vec<(Platform, String)>,
}

impl Detection {
    /// The platform of this machine; `None` if it makes no reports that this crate knows.
    pub fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// Each platform that this machine is not, with the reason.
    pub fn absent(&self) -> impl Iterator<Item = (&Platform, &str)> {
        self.absent.iter().map(|(platform, reason)| (platform, reason.as_str()))
    }
}

/// One line each: `snp: available`, `tdx: not available: …`.
impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(platform) = &self.platform {
            writeln!(f, "{platform}: available")?;
        }
        self.absent.iter().try_for_each(|(platform, reason)| writeln!(f, "{platform}: not available: {reason}"))
    }
}

/// Looks which platform this machine is, where Linux keeps its devices. No report is made. Blocks for a few system calls,
/// at most five seconds.
pub fn detect() -> Detection {
    detect_at("/sys/kernel/config/tsm/report", "/dev/sev-guest")
}

/// [`detect`] with other places for configfs-tsm and for the SNP guest device.
pub fn detect_at(tsm_root: impl AsRef<Path>, sev_guest: impl AsRef<Path>) -> Detection {
    let (by_tsm, refusal) = kernel_provider(tsm_root.as_ref());
    let device = sev_guest.as_ref();
    let wrong = |name: &str| match &by_tsm {
        Some(found) => format!("configfs-tsm: the kernel's provider is {found:?}, not {name:?}"),
        None => format!("configfs-tsm: {refusal}"),
    };
    let mut found = Detection { platform: None, absent: Vec::new() };
    let is_tdx = by_tsm.as_deref() == Some("tdx_guest");
    let is_snp = by_tsm.as_deref() == Some("sev_guest") || (!is_tdx && device.exists());
    if is_snp {
        found.platform = Some(Platform::SNP);
    } else {
        let device = device.display();
        found.absent.push((Platform::SNP, format!("{}; {device}: does not exist", wrong("sev_guest"))));
    }
    if is_tdx {
        found.platform = Some(Platform::TDX);
    } else {
        found.absent.push((Platform::TDX, wrong("tdx_guest")));
    }
    found
}

#[cfg(target_os = "linux")]
fn kernel_provider(root: &Path) -> (Option<String>, String) {
    let root = root.to_owned();
    match super::worker::bounded("attest-detect", Duration::from_secs(5), move || super::tsm::provider_of(&root)) {
        Ok(name) => (Some(name), String::new()),
        Err(error) => (None, error.to_string()),
    }
}

#[cfg(not(target_os = "linux"))]
fn kernel_provider(_root: &Path) -> (Option<String>, String) {
    (None, "reports can be made on Linux only".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_devices_is_nothing_and_says_why_for_each() {
        let found = detect_at("/nonexistent/tsm/report", "/nonexistent/sev-guest");
        assert_eq!(found.platform(), None);
        let absent: Vec<_> = found.absent().map(|(platform, _)| platform.clone()).collect();
        assert_eq!(absent, [Platform::SNP, Platform::TDX]);
        assert!(found.absent().all(|(_, reason)| reason.contains("/nonexistent/tsm/report")), "{found}");
        assert!(found.to_string().contains("/nonexistent/sev-guest"), "{found}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_guest_device_alone_makes_it_snp() {
        let found = detect_at("/nonexistent/tsm/report", "/dev/null");
        assert_eq!(found.platform(), Some(&Platform::SNP));
        assert!(found.to_string().starts_with("snp: available\ntdx: not available: "), "{found}");
    }
}
