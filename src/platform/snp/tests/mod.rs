//! The verifier against the simulator: the production path from bytes to verdict, with other roots.

mod chain;
mod file;
mod genuine;
mod policy;
mod verifier;

use std::time::{Duration, SystemTime};

use super::sim::{SimProvider, SimulatedAmd, SimulatedGuest};
use super::{Genuineness, Product, SnpDetails};
use crate::report::{Platform, Report};
use crate::verifier::{VerifyError, VerifyErrorKind};

/// A fixed time within the validity of everything that the simulator signs.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

fn guest(product: Product) -> SimulatedGuest {
    SimulatedGuest::new(product).with_measurement([0x4d; 48])
}

fn simulated() -> Genuineness {
    Genuineness::trusting_simulator(&SimulatedAmd::new())
}

fn report(guest: &SimulatedGuest) -> Report {
    SimProvider::new(guest.clone()).make(&[0x64; 64])
}

fn check(report: &Report) -> Result<SnpDetails, VerifyError> {
    simulated().check(report, now())
}

/// The refusal of `report`, which must be of `kind` and say `what`.
#[track_caller]
fn refused(report: &Report, kind: VerifyErrorKind, what: &str) -> VerifyError {
    let error = check(report).expect_err("a refusal");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(what), "{error}");
    error
}

/// `guest`'s report after `change`, signed again: what firmware could say, but does not.
fn forged(guest: &SimulatedGuest, change: impl FnOnce(&mut [u8])) -> Report {
    let mut bytes = guest.report(&[0x64; 64]);
    change(&mut bytes);
    guest.sign(&mut bytes);
    Report::new(Platform::SNP, bytes.to_vec()).with_vek(guest.vek())
}
