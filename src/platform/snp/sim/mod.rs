//! A software AMD: reports, certificates and revocation lists that are right to the bit, by keys that everybody knows.
//!
//! ```
//! use std::time::SystemTime;
//! use tower_attest::ReportVerifier;
//! use tower_attest::platform::snp::sim::{SimProvider, SimulatedAmd, SimulatedGuest};
//! use tower_attest::platform::snp::{Product, SnpPolicy, SnpVerifier};
//!
//! # tokio_test::block_on(async {
//! let measurement = [0xab; 48];
//! let provider = SimProvider::new(SimulatedGuest::new(Product::Genoa).with_measurement(measurement));
//! let report = provider.make(&[7; 64]);
//!
//! let policy = SnpPolicy::pin(measurement);
//! let verifier = SnpVerifier::trusting_simulator(policy.clone(), &SimulatedAmd::new());
//! let claims = verifier.verify(&report, SystemTime::now()).await?;
//! assert_eq!(claims.report_data(), &[7; 64]);
//!
//! // A verifier of real hardware refuses it.
//! assert!(SnpVerifier::new(policy).verify(&report, SystemTime::now()).await.is_err());
//! # Ok::<_, tower_attest::VerifyError>(())
//! # }).unwrap();
//! ```

mod authority;
mod guest;

pub use self::authority::{Authority, PssEncoding, SimulatedAmd, VekSpec};
pub use self::guest::{SimProvider, SimulatedGuest};
