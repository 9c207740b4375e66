//! AMD SEV-SNP: reports, AMD's certificate chains, policy and verification.
//!
//! ```
//! use tower_attest::platform::snp::{SnpPolicy, SnpVerifier};
//! use tower_attest::{Platform, ReportVerifier};
//!
//! let verifier = SnpVerifier::new(SnpPolicy::pin([0x42; 48]));
//! assert_eq!(verifier.platforms(), [Platform::SNP]);
//! ```
//!
//! # What is checked, in order
//!
//! 1. The report parses: 1 184 bytes, a known version, zeros where the ABI reserves bytes, a chip key that is not masked.
//! 2. Its VCEK or VLEK, stapled or from a [`VekSource`](vek::VekSource), leads through AMD's intermediate to the pinned
//!    root of the product, at the time given and by the revocation lists at hand, and its extensions equal the report's
//!    product, TCB, chip and signing key.
//! 3. That certificate's key signed the report's first 672 bytes as received.
//! 4. The policy's rules, all of them.

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

pub use self::cert::{MAX_CERTIFICATE, VekCertificate, VekKind};
pub use self::cert_table::{CertTable, CertTableEntry, CertTableError};
pub use self::crl::MAX_CRL;
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
