//! Backends: how each kind of TEE makes reports, how they are verified, and which of them [`detect`] finds here.
//!
//! ```
//! use tower_attest::platform;
//!
//! let machine = platform::detect();
//! match machine.platform() {
//!     Some(platform) => println!("this machine makes {platform} reports"),
//!     None => println!("this machine makes no reports:\n{machine}"),
//! }
//! # let no_tee = platform::detect_at("/nonexistent", "/nonexistent");
//! # assert_eq!(no_tee.platform(), None);
//! ```

#[cfg(target_os = "linux")]
mod backoff;
mod detect;
#[cfg(any(feature = "snp", feature = "tdx"))]
mod endorser;
#[cfg(feature = "fetch")]
pub mod fetch;
#[cfg(any(feature = "snp", feature = "tdx"))]
mod hex;
#[cfg(feature = "mock")]
pub mod mock;
#[cfg(any(feature = "snp", feature = "tdx"))]
mod policy_file;
#[cfg(feature = "snp")]
pub mod snp;
#[cfg(feature = "tdx")]
pub mod tdx;
#[cfg(target_os = "linux")]
pub mod tsm;
#[cfg(target_os = "linux")]
mod worker;

pub use self::detect::{Detection, detect, detect_at};
#[cfg(any(feature = "snp", feature = "tdx"))]
pub use self::policy_file::{InvalidPolicyFile, MAX_POLICY_FILE, PolicyFile};
