//! What the operating system says of this process, by the names that Prometheus's own libraries use.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;

use super::pull::{describe, number, size};

/// Ticks in a second, in which Linux tells processor time to programs: a constant of its interface on all
/// architectures that this runs on.
const TICKS: f64 = 100.0;

pub(super) fn register(registry: &mut Registry) {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    describe("process_start_time", "When this process started, in seconds since 1970")
        .seconds()
        .gauge(registry, move || Some(started));
    describe("process_cpu", "Processor time spent by this process").seconds().counter(registry, cpu);
    describe("process_open_fds", "Open file descriptors").gauge(registry, open_fds);
    describe("process_max_fds", "File descriptors that may be open").gauge(registry, max_fds);
    describe("process_resident_memory", "Memory that this process holds in RAM")
        .bytes()
        .gauge(registry, || kibibytes("VmRSS:"));
    describe("process_virtual_memory", "Address space of this process")
        .bytes()
        .gauge(registry, || kibibytes("VmSize:"));
    describe("process_threads", "Threads of this process").gauge(registry, || status("Threads:"));
}

/// The number in a line of `/proc/self/status`. None on other systems.
fn status(field: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(number)
}

fn kibibytes(field: &str) -> Option<f64> {
    status(field).map(|kib| kib * 1024.0)
}

fn open_fds() -> Option<f64> {
    // The directory that is being read is open itself.
    std::fs::read_dir("/proc/self/fd").ok().map(|entries| size(entries.count().saturating_sub(1)))
}

fn max_fds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(number)
}

/// Fields 14 and 15 of `/proc/self/stat`, of which the second may hold blanks and ends with the last parenthesis.
fn cpu() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(number(user.saturating_add(system)) / TICKS)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_moves_with_the_process() {
        let before = open_fds().unwrap();
        let files: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close files meanwhile.
        assert!(open_fds().unwrap() > before && open_fds() < max_fds());
        drop(files);
        assert!(kibibytes("VmRSS:").unwrap() > 1_000_000.0 && kibibytes("VmRSS:") < kibibytes("VmSize:"));
        assert!(status("Threads:").unwrap() >= 1.0);
        let before = cpu().unwrap();
        while cpu().unwrap() <= before {
            std::hint::black_box((0..100_000_u64).sum::<u64>());
        }
        assert_eq!(status("NoSuchField:"), None);
    }
}
