//! `doctor`: whether this machine can make reports, what it lacks, and how to get that.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use tower_attest::Platform;
use tower_attest::platform::detect_at;

use crate::failure::{Failure, REFUSED};
use crate::show::{Format, Page, Section, Verdict, time};

/// Linux has configfs-tsm from this version on.
const TSM_KERNEL: (u32, u32) = (6, 7);
/// 2025-01-01: no clock was ever right that says less, when this was written.
const EPOCH: Duration = Duration::from_secs(1_735_689_600);
const TSM: &str = "sys/kernel/config/tsm/report";

const EXAMPLES: &str = "\
Exit codes: 0 ready, 1 something is missing.

Examples:
  tower-attest doctor
  tower-attest doctor --json";

/// Says which TEE this machine is, what it lacks to make reports, and how to get that.
///
/// No report is made: for that, `tower-attest report`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Doctor {
    /// Write JSON.
    #[arg(long)]
    json: bool,
    /// Where this machine's file system begins, for tests.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

impl Doctor {
    pub(crate) fn run(&self) -> Result<ExitCode, Failure> {
        let mut page = Page::new("doctor", "Can this machine make reports?", self.root.display().to_string());
        let machine = detect_at(self.root.join(TSM), self.root.join("dev/sev-guest"));
        let mut platform = Section::new("Platform");
        match machine.platform() {
            Some(found) => platform.pass(format!("this is a guest of {}", name(found))),
            None => platform.fail("this is a confidential guest that makes reports", "none was found; see below"),
        }
        for (absent, why) in machine.absent() {
            platform.note(format!("not {}: {why}", name(absent)));
        }
        page.push(platform);
        let looked =
            [self.kernel(), self.configfs(), self.devices(machine.platform()), clock(SystemTime::now(), &self.root)];
        let mut sound = machine.platform().is_some();
        for (section, good) in looked {
            page.push(section);
            sound &= good;
        }
        page.set_verdict(match (machine.platform(), sound) {
            (Some(_), true) => Verdict::accepted("ready; `tower-attest report` makes one", None),
            (Some(_), false) => Verdict::refused("a confidential guest, but something is missing"),
            (None, _) => Verdict::refused("this machine makes no reports"),
        });
        page.print(if self.json { Format::Json } else { Format::Text });
        Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
    }

    fn kernel(&self) -> (Section, bool) {
        let mut section = Section::new("Kernel");
        let release = std::fs::read_to_string(self.root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
        let release = release.trim();
        section.field("release", if release.is_empty() { "unknown: not Linux?" } else { release });
        let new_enough = version(release).is_some_and(|version| version >= TSM_KERNEL);
        let check = format!("recent enough for configfs-tsm: Linux {}.{} or later", TSM_KERNEL.0, TSM_KERNEL.1);
        if new_enough {
            section.pass(check);
        } else {
            section.note(format!(
                "{check}: no. SEV-SNP can do without, by /dev/sev-guest; TDX cannot: update the kernel."
            ));
        }
        // An older kernel is a fault only where nothing else leads to the hardware, and then `Platform` says so.
        (section, true)
    }

    fn configfs(&self) -> (Section, bool) {
        let mut section = Section::new("configfs");
        let steps = [
            ("sys/kernel/config", "mounted", "mount -t configfs none /sys/kernel/config"),
            ("sys/kernel/config/tsm", "the module tsm is loaded", "modprobe sev-guest (SEV-SNP) or tdx-guest (TDX)"),
            (TSM, "reports can be asked for", "modprobe sev-guest (SEV-SNP) or tdx-guest (TDX)"),
        ];
        for (path, check, remedy) in steps {
            let shown = Path::new("/").join(path);
            let check = format!("{check}: {}", shown.display());
            match std::fs::read_dir(self.root.join(path)) {
                Ok(_) => section.pass(check),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    section
                        .note(format!("{check}: permission denied. Run this as root, or as the user of the service."));
                }
                Err(_) => section.note(format!("{check}: no. {remedy}")),
            }
        }
        (section, true)
    }

    fn devices(&self, platform: Option<&Platform>) -> (Section, bool) {
        let mut section = Section::new("Devices");
        let mut good = true;
        for (path, whose) in [("dev/sev-guest", Platform::SNP), ("dev/tdx_guest", Platform::TDX)] {
            let shown = Path::new("/").join(path);
            match File::options().read(true).write(true).open(self.root.join(path)) {
                Ok(_) => section.pass(format!("{} can be opened", shown.display())),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    section.note(format!("{} does not exist", shown.display()));
                }
                Err(error) => {
                    let check = format!("{} can be opened", shown.display());
                    let remedy = "run as root, or give the service's group the device with a udev rule";
                    section.fail(check, format!("{error}: {remedy}"));
                    // The device of the other platform does not matter.
                    good &= platform != Some(&whose);
                }
            }
        }
        (section, good)
    }
}

/// Certificates, revocation lists and collateral are judged by the clock, and a client's evidence grows old by it.
fn clock(now: SystemTime, root: &Path) -> (Section, bool) {
    let mut section = Section::new("Clock");
    section.field("UTC", time(now));
    let plausible = now >= UNIX_EPOCH + EPOCH;
    if plausible {
        section.pass("the time is plausible");
    } else {
        section.fail("the time is plausible", format!("expected 2025 or later, found {}: set the clock", time(now)));
    }
    if root.join("run/systemd/timesync/synchronized").exists() {
        section.pass("synchronised (systemd-timesyncd)");
    } else {
        section
            .note("Whether it is synchronised is not known: systemd-timesyncd does not say so. Look at `timedatectl`.");
    }
    (section, plausible)
}

fn name(platform: &Platform) -> String {
    match platform {
        snp if *snp == Platform::SNP => "AMD SEV-SNP".to_owned(),
        tdx if *tdx == Platform::TDX => "Intel TDX".to_owned(),
        other => other.to_string(),
    }
}

/// Major and minor version of a kernel release such as `6.12.8-arch1`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert!(version("6.12.8-arch1").unwrap() >= TSM_KERNEL);
        assert!(version("6.7.0").unwrap() >= TSM_KERNEL);
        assert!(version("6.6.99").unwrap() < TSM_KERNEL);
        assert!(version("5.15.0-generic").unwrap() < TSM_KERNEL);
        assert_eq!(version(""), None);
        assert_eq!(version("linux"), None);
    }

    #[test]
    fn a_clock_before_2025_is_a_fault() {
        let (_, good) = clock(UNIX_EPOCH, Path::new("/nonexistent"));
        assert!(!good);
        let (_, good) = clock(UNIX_EPOCH + EPOCH, Path::new("/nonexistent"));
        assert!(good);
    }
}
