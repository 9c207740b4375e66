//! The simulated machines that the example can run on.

use std::fmt;
use std::time::{Duration, SystemTime};

use tower_attest::snp::sim::{SimProvider as SnpHardware, SimulatedAmd, SimulatedGuest};
use tower_attest::snp::{Product, SnpPolicy, SnpVerifier};
use tower_attest::tdx::sim::{SimProvider as TdxHardware, SimulatedIntel, SimulatedTd};
use tower_attest::tdx::{TdxPolicy, TdxVerifier};
use tower_attest::{ReportProvider, ReportVerifier};

/// Which hardware is simulated. On real hardware: `SnpProvider::open()?` with `SnpVerifier::new(policy)`, and the same
/// for TDX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tee {
    Snp,
    Tdx,
}

impl Tee {
    /// Reads `--platform snp|tdx`; SNP without it.
    pub fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let arguments: Vec<String> = arguments.collect();
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] | ["--platform", "snp"] => Ok(Self::Snp),
            ["--platform", "tdx"] => Ok(Self::Tdx),
            _ => Err(format!("usage: prover [--platform snp|tdx], found {arguments:?}")),
        }
    }

    /// What a server's reports come from.
    pub fn provider(self, measurement: [u8; 48]) -> Box<dyn ReportProvider> {
        match self {
            Self::Snp => Box::new(SnpHardware::new(SimulatedGuest::new(Product::Genoa).with_measurement(measurement))),
            Self::Tdx => {
                let yesterday = SystemTime::now() - Duration::from_secs(86_400);
                let collateral = SimulatedIntel::new().collateral().issued_at(yesterday);
                Box::new(TdxHardware::new(SimulatedTd::new(measurement)).stapling(collateral))
            }
        }
    }

    /// What a client judges them by.
    pub fn verifier(self, measurement: [u8; 48]) -> Box<dyn ReportVerifier> {
        match self {
            Self::Snp => Box::new(SnpVerifier::trusting_simulator(SnpPolicy::pin(measurement), &SimulatedAmd::new())),
            Self::Tdx => Box::new(TdxVerifier::trusting_simulator(TdxPolicy::pin(measurement), &SimulatedIntel::new())),
        }
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snp => "SEV-SNP",
            Self::Tdx => "TDX",
        })
    }
}
