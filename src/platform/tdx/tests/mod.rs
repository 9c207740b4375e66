//! What a simulated Intel can get wrong, and which check says so.

mod endorsements;
mod form;
mod verdict;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::sim::{CollateralSpec, QuoteFormat, SimProvider, SimulatedIntel, SimulatedTd};
use super::*;
use crate::report::{Platform as Tee, Report};
use crate::verifier::{Claims, ReportVerifier, VerifyError, VerifyErrorKind};

const MRTD: [u8; 48] = [0xab; 48];
const DATA: [u8; 64] = [7; 64];

/// Within the default collateral's window.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 86_400)
}

fn td() -> SimulatedTd {
    SimulatedTd::new(MRTD)
}

fn good() -> CollateralSpec {
    SimulatedIntel::new().collateral()
}

fn verifier() -> TdxVerifier {
    TdxVerifier::trusting_simulator(TdxPolicy::pin(MRTD), &SimulatedIntel::new())
}

fn judge(verifier: &TdxVerifier, report: &Report, at: SystemTime) -> Result<Claims, VerifyError> {
    tokio_test::block_on(verifier.verify(report, at))
}

fn verify(td: &SimulatedTd, collateral: CollateralSpec) -> Result<Claims, VerifyError> {
    judge(&verifier(), &SimProvider::new(td.clone()).stapling(collateral).make(&DATA), now())
}

#[track_caller]
fn refused(verdict: Result<Claims, VerifyError>, kind: VerifyErrorKind, message: &str) {
    let error = verdict.expect_err("must be refused");
    assert!(
        error.kind() == kind && error.to_string().contains(message),
        "expected {kind:?} {message:?}, found {error}"
    );
}
