//! `doctor`, on trees of files that stand for machines.

use std::path::Path;

use crate::run::{Run, run};

fn doctor(root: &Path, more: &[&str]) -> Run {
    run(["doctor", "--root", root.to_str().unwrap()].iter().chain(more))
}

fn machine(release: &str, devices: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("proc/sys/kernel/osrelease", &format!("{release}\n"));
    devices.iter().for_each(|device| write(device, ""));
    dir
}

#[test]
fn a_machine_without_a_tee_is_not_ready_and_told_how_to_get_there() {
    let machine = machine("6.12.8", &[]);
    let run = doctor(machine.path(), &[]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    for said in [
        "VERDICT  REFUSED: this machine makes no reports",
        "not AMD SEV-SNP: configfs-tsm",
        "not Intel TDX",
        "mount -t configfs",
        "modprobe",
        "/dev/sev-guest does not exist",
        "  pass  recent enough for configfs-tsm: Linux 6.7 or later",
        "  pass  the time is plausible",
    ] {
        assert!(run.stdout.contains(said), "{said}: {}", run.stdout);
    }
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 80), "{}", run.stdout);
}

#[test]
fn the_guest_device_alone_makes_a_machine_ready() {
    let machine = machine("5.19.0", &["dev/sev-guest", "run/systemd/timesync/synchronized"]);
    let run = doctor(machine.path(), &[]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    for said in [
        "  pass  this is a guest of AMD SEV-SNP",
        "VERDICT  accepted: ready",
        "  pass  synchronised",
        "SEV-SNP can do without",
    ] {
        let unwrapped = run.stdout.replace("\n  ", " ");
        assert!(run.stdout.contains(said) || unwrapped.contains(said), "{said}: {}", run.stdout);
    }
    let json = doctor(machine.path(), &["--json"]);
    assert_eq!(json.json()[0]["verdict"]["accepted"], true);
}

#[test]
fn a_device_that_cannot_be_opened_is_missing() {
    let machine = machine("6.12.8", &[]);
    // A directory opens for reading alone, for root too: it stands for a device without permissions.
    std::fs::create_dir_all(machine.path().join("dev/sev-guest")).unwrap();
    let run = doctor(machine.path(), &[]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stdout.contains("  FAIL  /dev/sev-guest can be opened"), "{}", run.stdout);
    assert!(run.stdout.contains("udev rule"), "{}", run.stdout);
    assert!(run.stdout.contains("a confidential guest, but something is missing"), "{}", run.stdout);
}
