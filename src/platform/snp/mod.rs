//! AMD SEV-SNP: reports, AMD's certificate chains, policy and verification.

mod fields;
mod report;
mod tcb;
pub mod vek;

pub use self::fields::{BitNames, FirmwareVersion, GuestPolicy, KeyInfo, PlatformInfo, SigningKey};
pub use self::report::{REPORT_LEN, ReportView, SIGNED_LEN, VERSIONS};
pub use self::tcb::{Product, RawTcb, Tcb, UnknownProduct};
