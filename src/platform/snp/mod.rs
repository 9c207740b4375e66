//! AMD SEV-SNP: reports, AMD's certificate chains, policy and verification.

mod cert;
mod cert_table;
mod chain;
mod crl;
mod fields;
mod genuine;
mod policy;
#[cfg(target_os = "linux")]
mod provider;
mod report;
mod roots;
#[cfg(feature = "sim")]
pub mod sim;
mod tcb;
#[cfg(all(test, feature = "sim"))]
mod tests;
pub mod vek;
mod verifier;

pub use self::cert::{MAX_CERTIFICATE_LEN, VekCertificate, VekKind};
pub use self::cert_table::{CertTable, CertTableEntry, CertTableError};
pub use self::crl::MAX_CRL_LEN;
pub use self::fields::{BitNames, FirmwareVersion, GuestPolicy, KeyInfo, PlatformInfo, SigningKey};
pub use self::genuine::{Genuineness, SnpDetails};
pub(in crate::platform) use self::policy::PolicyTable;
pub use self::policy::{SnpPolicy, TcbKind};
#[cfg(target_os = "linux")]
pub use self::provider::{SnpDevice, SnpProvider, SnpProviderBuilder};
pub use self::report::{REPORT_LEN, ReportView, SIGNED_LEN, VERSIONS};
pub use self::tcb::{Product, RawTcb, Tcb, UnknownProduct};
pub use self::verifier::SnpVerifier;
pub use crate::verifier::{Judgement, RuleOutcome};
