//! Whether a quote is genuine: made by an up-to-date Intel platform, of a TD that its host cannot debug. What the TD runs
//! is for a policy to judge.

use std::time::SystemTime;

use super::authenticate::Authentic;
use super::chain::{INTEL_ROOT, Root};
use super::collateral::Collateral;
use super::policy::{Subject, TdxPolicy};
use super::quote::Quote;
use super::verifier::TdxDetails;
use crate::report::{Platform, Report};
use crate::verifier::{VerifyError, VerifyErrorKind};

/// Judges quotes by Intel's signatures and collateral alone, without a policy.
///
/// A genuine quote may come from any TD, that of an attacker included: use [`TdxVerifier`](super::TdxVerifier) to decide
/// whom to trust, and this to inspect evidence.
#[derive(Debug)]
pub struct Genuineness {
    pub(super) root: Root,
}

impl Genuineness {
    /// Judges by Intel's production root.
    pub fn intel() -> Self {
        Self { root: Root::new(INTEL_ROOT.to_vec()) }
    }

    /// Judges by the simulator's root, whose keys everybody knows, and **not** by Intel's. For tests only.
    #[cfg(feature = "sim")]
    pub fn trusting_simulator(intel: &super::sim::SimulatedIntel) -> Self {
        Self { root: Root::new(intel.root()) }
    }

    /// Judges a quote with its stapled collateral at `now`: its form, its signatures up to the pinned root, revocation,
    /// that the platform is up to date, and that the host cannot debug the TD.
    ///
    /// # Errors
    ///
    /// The kind says which step refused: `UnsupportedPlatform`, `Malformed`, `EndorsementMissing`, `Endorsement`, `Revoked`, `Mismatch`,
    /// `Signature`, and `Policy` for a TD that may be debugged or a TCB status other than `UpToDate`.
    pub fn check(&self, report: &Report, now: SystemTime) -> Result<TdxDetails, VerifyError> {
        self.appraise(report, now, true)
    }

    /// The same without the last step: neither a debug TD nor a TCB status is refused. To show evidence, not to judge it.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), apart from `Policy`.
    pub fn authenticate(&self, report: &Report, now: SystemTime) -> Result<TdxDetails, VerifyError> {
        self.appraise(report, now, false)
    }

    fn appraise(&self, report: &Report, now: SystemTime, judge: bool) -> Result<TdxDetails, VerifyError> {
        let quote = quote(report)?;
        let authentic = Authentic::check(&self.root, &quote, now)?;
        let collateral = stapled(report).unwrap_or_else(|| Err(no_collateral()))?;
        let appraisal = authentic.appraise(&collateral, now)?;
        if judge {
            let subject = Subject { body: &quote.body, platform: &authentic.platform, appraisal: &appraisal, now };
            accept_all_genuine(&quote).evaluate(&subject)?;
        }
        Ok(TdxDetails::new(&quote, &authentic.platform, &appraisal))
    }
}

/// The policy that leaves debugging and the TCB status alone to judge.
fn accept_all_genuine(quote: &Quote) -> TdxPolicy {
    let body = &quote.body;
    TdxPolicy::pin(body.mr_td)
        .with_td_attributes(0, 0)
        .with_xfam(0, 0)
        .with_mr_signer_seam([body.mr_signer_seam])
        .with_mr_service_td([body.td15.as_ref().map_or([0; 48], |td15| td15.mr_service_td)])
}

pub(super) fn quote(report: &Report) -> Result<Quote, VerifyError> {
    if *report.platform() != Platform::TDX {
        return Err(VerifyError::new(
            VerifyErrorKind::UnsupportedPlatform,
            format!("expected tdx, found {}", report.platform()),
        ));
    }
    Quote::parse(report.bytes())
        .map_err(|error| VerifyError::with_source(VerifyErrorKind::Malformed, error.to_string(), error))
}

pub(super) fn stapled(report: &Report) -> Option<Result<Collateral, VerifyError>> {
    report.collateral().map(|json| {
        Collateral::from_json(json).map_err(|error| {
            VerifyError::with_source(VerifyErrorKind::Endorsement, format!("stapled collateral: {error}"), error)
        })
    })
}

pub(super) fn no_collateral() -> VerifyError {
    VerifyError::new(
        VerifyErrorKind::EndorsementMissing,
        "no collateral: the report carries none and the verifier has no source; have the server staple it, or give the \
         verifier a collateral source",
    )
}
