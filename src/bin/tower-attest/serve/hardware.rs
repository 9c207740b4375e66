//! Which hardware vouches for `serve`, and what its report says.

use clap::ValueEnum;
use tower_attest::mock::MockTee;
use tower_attest::platform::detect;
use tower_attest::snp::sim::{SimProvider as SimSnp, SimulatedGuest};
use tower_attest::snp::{Product, ReportView};
use tower_attest::tdx::Quote;
use tower_attest::tdx::sim::{SimProvider as SimTdx, SimulatedIntel, SimulatedTd};
use tower_attest::{Platform, Report, ReportProvider};

use super::collateral::Source;
use crate::failure::Failure;
use crate::simulation::{self, MEASUREMENT};

/// The hardware, or what stands in for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Hardware {
    /// What this machine is.
    Auto,
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
    /// None: reports in a format of their own, signed by a key that everybody knows.
    Mock,
    /// None: real SNP reports under the simulator's roots.
    SimSnp,
    /// None: real TDX quotes under the simulator's roots.
    SimTdx,
}

impl Hardware {
    /// Whether it proves nothing.
    pub(crate) fn is_simulated(self) -> bool {
        matches!(self, Self::Mock | Self::SimSnp | Self::SimTdx)
    }

    /// Whether its reports may be TDX quotes.
    pub(super) fn may_be_tdx(self) -> bool {
        matches!(self, Self::Auto | Self::Tdx | Self::SimTdx)
    }

    /// Opens the device, or makes the stand-in. TDX quotes come with collateral from the source, if there is one.
    pub(crate) fn open(self, collateral: Option<&Source>) -> Result<Box<dyn ReportProvider>, Failure> {
        match self {
            Self::Auto => {
                let machine = detect();
                match machine.platform() {
                    Some(platform) if *platform == Platform::SNP => Self::Snp.open(collateral),
                    Some(platform) if *platform == Platform::TDX => Self::Tdx.open(collateral),
                    _ => Err(Failure::undecided(format_args!(
                        "this machine makes no reports\n{machine}To try without hardware: --platform sim-snp --insecure-no-hardware"
                    ))),
                }
            }
            Self::Snp => open_snp(),
            Self::Tdx => open_tdx(collateral),
            Self::Mock => Ok(Box::new(simulation::mock().provider())),
            Self::SimSnp => {
                Ok(Box::new(SimSnp::new(SimulatedGuest::new(Product::Genoa).with_measurement(MEASUREMENT))))
            }
            Self::SimTdx => {
                let (intel, td) = (SimulatedIntel::new(), SimTdx::new(SimulatedTd::new(MEASUREMENT)));
                Ok(match collateral {
                    Some(source) => Box::new(source.staple(td)?.trusting_simulator(&intel)),
                    None => Box::new(td.stapling(intel.collateral().issued_at(std::time::SystemTime::now()))),
                })
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn open_snp() -> Result<Box<dyn ReportProvider>, Failure> {
    match tower_attest::snp::SnpProvider::open() {
        Ok(provider) => Ok(Box::new(provider)),
        Err(error) => Err(Failure::during("AMD SEV-SNP", &error)),
    }
}

#[cfg(target_os = "linux")]
fn open_tdx(collateral: Option<&Source>) -> Result<Box<dyn ReportProvider>, Failure> {
    let provider = tower_attest::tdx::TdxProvider::open().map_err(|error| Failure::during("Intel TDX", &error))?;
    Ok(match collateral {
        Some(source) => Box::new(source.staple(provider)?),
        None => Box::new(provider),
    })
}

#[cfg(not(target_os = "linux"))]
fn open_snp() -> Result<Box<dyn ReportProvider>, Failure> {
    Err(Failure::undecided("AMD SEV-SNP: reports can be made on Linux only"))
}

#[cfg(not(target_os = "linux"))]
fn open_tdx(_: Option<&Source>) -> Result<Box<dyn ReportProvider>, Failure> {
    Err(Failure::undecided("Intel TDX: reports can be made on Linux only"))
}

/// What a report of one's own says: measurement and TCB. Nobody has verified it; it is for the operator to compare.
pub(crate) fn identity(report: &Report) -> Result<([u8; 48], String), Failure> {
    let platform = report.platform();
    if *platform == Platform::SNP {
        let view = ReportView::parse(report.bytes().clone()).map_err(|error| Failure::during("own report", &error))?;
        let tcb = match view.product() {
            Some(product) => view.reported_tcb().decode(product).to_string(),
            None => "of a processor that is not known".to_owned(),
        };
        Ok((view.measurement(), tcb))
    } else if *platform == Platform::TDX {
        let quote = Quote::parse(report.bytes()).map_err(|error| Failure::during("own quote", &error))?;
        let td = quote.td_report();
        Ok((td.mr_td, format!("tee_tcb_svn {}", hex::encode(td.tee_tcb_svn))))
    } else {
        Ok((MockTee::measurement(&simulation::mock()), "none".to_owned()))
    }
}
