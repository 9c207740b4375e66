//! AMD SEV-SNP: reports, AMD's certificate chains, policy and verification.

mod cert_table;
mod fields;
#[cfg(target_os = "linux")]
mod provider;
mod report;
mod tcb;
pub mod vek;

pub use self::cert_table::{CertTable, CertTableEntry, CertTableError};
pub use self::fields::{BitNames, FirmwareVersion, GuestPolicy, KeyInfo, PlatformInfo, SigningKey};
#[cfg(target_os = "linux")]
pub use self::provider::{SnpDevice, SnpProvider, SnpProviderBuilder};
pub use self::report::{REPORT_LEN, ReportView, SIGNED_LEN, VERSIONS};
pub use self::tcb::{Product, RawTcb, Tcb, UnknownProduct};
