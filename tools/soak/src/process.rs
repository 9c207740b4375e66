//! What this process holds: memory, descriptors, threads. Read from `/proc`.

use std::fmt;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Holdings {
    pub(crate) resident_kib: u64,
    pub(crate) descriptors: u64,
    threads: u64,
}

impl Holdings {
    pub(crate) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count());
        Self {
            resident_kib: field("VmRSS:"),
            descriptors: descriptors.try_into().unwrap_or(u64::MAX),
            threads: field("Threads:"),
        }
    }
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7} KiB {:>5} fds {:>3} threads", self.resident_kib, self.descriptors, self.threads)
    }
}
