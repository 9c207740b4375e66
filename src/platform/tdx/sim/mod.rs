//! A software Intel: quotes, certificates, revocation lists and collateral in the real formats, by keys that everybody
//! knows.
//!
//! ```
//! use std::time::SystemTime;
//! use tower_attest::ReportVerifier;
//! use tower_attest::platform::tdx::sim::{SimProvider, SimulatedIntel, SimulatedTd};
//! use tower_attest::platform::tdx::{TdxPolicy, TdxVerifier};
//!
//! # tokio_test::block_on(async {
//! let now = SystemTime::now();
//! let intel = SimulatedIntel::new();
//! let provider = SimProvider::new(SimulatedTd::new([0xab; 48])).stapling(intel.collateral().issued_at(now));
//! let report = provider.make(&[7; 64]);
//!
//! let policy = TdxPolicy::pin([0xab; 48]);
//! let verifier = TdxVerifier::trusting_simulator(policy.clone(), &intel);
//! let claims = verifier.verify(&report, now).await?;
//! assert_eq!(claims.report_data(), &[7; 64]);
//!
//! // A verifier of real hardware refuses it.
//! assert!(TdxVerifier::new(policy).verify(&report, now).await.is_err());
//! # Ok::<_, tower_attest::VerifyError>(())
//! # }).unwrap();
//! ```

mod authority;
mod collateral;
mod pcs;
mod td;

pub use self::authority::{SimulatedIntel, SimulatedPlatform};
pub use self::collateral::CollateralSpec;
pub use self::pcs::{PcsFault, SimulatedPcs};
pub use self::td::{QuoteFormat, SimProvider, SimulatedTd};

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::crypto::SimulatedP256;

/// The simulator's keys, PKCS #8.
#[derive(Debug, Clone, Copy)]
enum Key {
    Root,
    PlatformCa,
    ProcessorCa,
    TcbSigner,
    Pck,
    Attestation,
}

impl Key {
    fn pkcs8(self) -> &'static [u8] {
        match self {
            Self::Root => include_bytes!("keys/root.pk8"),
            Self::PlatformCa => include_bytes!("keys/platform_ca.pk8"),
            Self::ProcessorCa => include_bytes!("keys/processor_ca.pk8"),
            Self::TcbSigner => include_bytes!("keys/tcb_signer.pk8"),
            Self::Pck => include_bytes!("keys/pck.pk8"),
            Self::Attestation => include_bytes!("keys/attestation.pk8"),
        }
    }

    fn signer(self) -> SimulatedP256 {
        SimulatedP256::from_pkcs8(self.pkcs8())
    }
}

/// 30 days: how long Intel's collateral is valid.
const COLLATERAL_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// What simulated certificates are valid from and until: 2020 to 2050.
fn certificate_lifetime() -> (SystemTime, SystemTime) {
    (UNIX_EPOCH + Duration::from_secs(1_577_836_800), UNIX_EPOCH + Duration::from_secs(2_524_607_999))
}
