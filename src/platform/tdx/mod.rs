//! Intel TDX: quotes, collateral, policy.
//!
//! ```
//! use tower_attest::platform::tdx::{TdxPolicy, TdxVerifier};
//! use tower_attest::{Platform, ReportVerifier};
//!
//! let verifier = TdxVerifier::new(TdxPolicy::pin([0x42; 48]));
//! assert_eq!(verifier.platforms(), [Platform::TDX]);
//! ```
//!
//! # What is checked, in order
//!
//! 1. The quote parses, to the last byte: version 4 or 5, TDX, ECDSA P-256, Intel's quoting enclave.
//! 2. The PCK certificate in the quote leads to the pinned root through the Processor or Platform CA; it signs the quoting
//!    enclave's report; that report vouches for the attestation key; the key signs the quote.
//! 3. The collateral is signed under the same root, within its dates, about this FMSPC and PCE id; nothing on the way is
//!    revoked; the quoting enclave and the TDX module are those of Intel's identities.
//! 4. The platform's TCB matches a level; its status is that of platform, module and quoting enclave together.
//! 5. The policy's rules, all of them; and that the event log leads to the RTMRs, where one is given.
//!
//! # Why not a library
//!
//! `dcap-qvl` is the one kept verifier in Rust. It is not the verifier here
//! because it refuses TDs without SEPT_VE_DISABLE (and other attributes) before any policy can speak, with untyped
//! errors, ignores bytes that follow a quote or its parts, and brings a second base64 and a second webpki.

mod authenticate;
mod chain;
mod collateral;
mod encoding;
mod event_log;
mod genuine;
mod memo;
mod pck;
mod pem;
mod policy;
#[cfg(target_os = "linux")]
mod provider;
mod quote;
mod revocation;
#[cfg(feature = "sim")]
pub mod sim;
mod staple;
mod tcb;
mod verifier;
mod x509;

pub use self::collateral::{
    Collateral, CollateralDirectory, CollateralRefresh, CollateralRefresher, CollateralRequest, CollateralSource,
    CollateralState, InvalidCollateral, MemoryCollateral, OrElse, PckCa, PcsClient, PcsResponses, PlatformId,
};
pub use self::event_log::{Event, EventLog, EventLogError, MAX_EVENT_LOG};
pub use self::genuine::Genuineness;
pub use self::pck::PckPlatform;
pub(in crate::platform) use self::policy::PolicyTable;
pub use self::policy::{
    AcceptedStatus, InvalidMeasurementList, InvalidPolicy, MeasurementList, OtherMeasurement, TdMeasurement, TdxPolicy,
};
#[cfg(target_os = "linux")]
pub use self::provider::{TdxProvider, TdxProviderBuilder};
pub use self::quote::{Quote, QuoteError, Td15, TdReport};
pub use self::staple::StaplingProvider;
pub use self::tcb::{TcbStatus, UnknownTcbStatus};
pub use self::verifier::{TdxDetails, TdxVerifier};
pub use crate::platform::endorser::{EndorsementError, EndorsementErrorKind};
pub use crate::verifier::{Judgement, RuleOutcome};

#[cfg(all(test, feature = "sim"))]
mod tests;
