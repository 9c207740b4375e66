//! The real providers over a FUSE emulation of configfs-tsm with the kernel's semantics.
//!
//! Needs `/dev/fuse` and the right to mount. Without them each test says that it was skipped, or fails if
//! `TOWER_ATTEST_REQUIRE_FUSE=1` is set.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

use std::time::Duration;

use tower_attest::protocol::report_data;
use tower_attest::{Platform, ReportData};

mod detect;
mod fuse;
mod hang;
mod kernel;
mod rules;
#[cfg(feature = "sim")]
mod snp;
#[cfg(all(feature = "sim", feature = "tdx"))]
mod tdx;

/// Mounts the machine, or leaves the test.
macro_rules! mounted {
    ($machine:expr) => {
        match $crate::fuse::Configfs::mount($machine) {
            Some(fs) => fs,
            None => return,
        }
    };
}
pub(crate) use mounted;

/// REPORTDATA that differs for each `n`.
fn data(n: u8) -> ReportData {
    report_data(&Platform::SNP, 1, &[n; 48])
}

/// Waits until `reached`, however long it takes.
async fn until(reached: impl Fn() -> bool) {
    while !reached() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
