//! How a client judges reports: implement [`ReportVerifier`] for a TEE of your own, or combine several with [`AnyOf`].
//!
//! ```
//! use std::time::SystemTime;
//! use tower_attest::{Claims, Platform, Report, ReportVerifier, VerifyError, VerifyErrorKind, async_trait};
//!
//! #[derive(Debug)]
//! struct Nothing;
//!
//! #[async_trait]
//! impl ReportVerifier for Nothing {
//!     fn platforms(&self) -> Vec<Platform> {
//!         vec![Platform::SNP]
//!     }
//!     async fn verify(&self, _: &Report, _: SystemTime) -> Result<Claims, VerifyError> {
//!         Err(VerifyError::new(VerifyErrorKind::Policy, "this verifier accepts nothing"))
//!     }
//! }
//! let verifier = tower_attest::AnyOf::new(Nothing).or(Nothing);
//! assert_eq!(verifier.platforms(), [Platform::SNP]);
//! ```

mod any_of;
mod judgement;

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

pub use self::any_of::AnyOf;
use crate::error::BoxError;
use crate::report::{Hex, Platform, Report};

pub use self::judgement::{Judgement, RuleOutcome};

/// Decides whether a report comes from genuine hardware and satisfies a policy.
///
/// A verifier returns what the hardware signed, as [`Claims`]. It does not compare REPORTDATA: the core does, after it,
/// and alone makes a [`VerifiedReport`](crate::VerifiedReport).
#[async_trait]
pub trait ReportVerifier: Send + Sync + fmt::Debug {
    /// The platforms whose reports this verifier can judge. Evidence of any other is refused before `verify`.
    fn platforms(&self) -> Vec<Platform>;

    /// Judges `report` at the wall-clock time `now`: certificate dates, revocation and collateral are all judged then.
    ///
    /// Order: parse, chain to a pinned root, signature over the bytes as received, policy.
    ///
    /// # Errors
    ///
    /// A [`VerifyError`] that lists each failed rule with what was expected and what was found.
    async fn verify(&self, report: &Report, now: SystemTime) -> Result<Claims, VerifyError>;

    /// A number that changes whenever the policy or revocation data changes. All trust given under another number is
    /// dropped. A verifier whose policy never changes keeps the default, 0.
    fn revision(&self) -> u64 {
        0
    }
}

#[async_trait]
impl<V: ReportVerifier + ?Sized> ReportVerifier for Arc<V> {
    fn platforms(&self) -> Vec<Platform> {
        (**self).platforms()
    }

    async fn verify(&self, report: &Report, now: SystemTime) -> Result<Claims, VerifyError> {
        (**self).verify(report, now).await
    }

    fn revision(&self) -> u64 {
        (**self).revision()
    }
}

#[async_trait]
impl<V: ReportVerifier + ?Sized> ReportVerifier for Box<V> {
    fn platforms(&self) -> Vec<Platform> {
        (**self).platforms()
    }

    async fn verify(&self, report: &Report, now: SystemTime) -> Result<Claims, VerifyError> {
        (**self).verify(report, now).await
    }

    fn revision(&self) -> u64 {
        (**self).revision()
    }
}

/// What the hardware signed, as a verifier read it from an accepted report.
#[derive(Clone)]
pub struct Claims {
    platform: Platform,
    report_data: [u8; 64],
    measurement: Vec<u8>,
    measurement_name: Option<String>,
    facts: Vec<(&'static str, String)>,
    details: Option<Arc<dyn Any + Send + Sync>>,
    valid_until: Option<SystemTime>,
}

impl Claims {
    /// Claims of a report that `platform` signed over `report_data`, made by the program with this `measurement`
    /// (48 bytes for SNP and TDX).
    pub fn new(platform: Platform, report_data: [u8; 64], measurement: impl Into<Vec<u8>>) -> Self {
        Self {
            platform,
            report_data,
            measurement: measurement.into(),
            measurement_name: None,
            facts: Vec::new(),
            details: None,
            valid_until: None,
        }
    }

    /// The name that the policy gives this measurement.
    #[must_use]
    pub fn with_measurement_name(mut self, name: impl Into<String>) -> Self {
        self.measurement_name = Some(name.into());
        self
    }

    /// Adds a fact worth showing to a person, such as `("tcb", "bl 3, tee 0, snp 8, ucode 115")`.
    #[must_use]
    pub fn with_fact(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.facts.push((name, value.into()));
        self
    }

    /// Attaches the platform's own typed details, for [`details`](Self::details).
    #[must_use]
    pub fn with_details<T: Any + Send + Sync>(mut self, details: T) -> Self {
        self.details = Some(Arc::new(details));
        self
    }

    /// Limits how long these claims may be believed: the earliest end of a certificate, CRL or collateral. Trust never
    /// outlives it, whatever `max_evidence_age` says.
    #[must_use]
    pub fn with_valid_until(mut self, time: SystemTime) -> Self {
        self.valid_until = Some(time);
        self
    }

    /// The kind of TEE.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The signed REPORTDATA, 64 bytes.
    pub fn report_data(&self) -> &[u8; 64] {
        &self.report_data
    }

    /// What program runs: MEASUREMENT of SNP, MRTD of TDX.
    pub fn measurement(&self) -> &[u8] {
        &self.measurement
    }

    /// The policy's name for this measurement, if it gives one.
    pub fn measurement_name(&self) -> Option<&str> {
        self.measurement_name.as_deref()
    }

    /// The value of a fact such as `tcb` or `chip`.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// Every fact, in the order in which the verifier gave them.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.facts.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The platform's typed details, if they are a `T`.
    pub fn details<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.details.as_ref().and_then(|details| details.downcast_ref())
    }

    /// Until when these claims may be believed at most.
    pub fn valid_until(&self) -> Option<SystemTime> {
        self.valid_until
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("platform", &self.platform)
            .field("report_data", &format_args!("{}", Hex(&self.report_data)))
            .field("measurement", &format_args!("{}", Hex(&self.measurement)))
            .field("measurement_name", &self.measurement_name)
            .field("facts", &self.facts)
            .field("valid_until", &self.valid_until)
            .finish_non_exhaustive()
    }
}

/// Why a report was refused, with each rule that failed. Cheap to clone.
#[derive(Clone)]
pub struct VerifyError {
    inner: Arc<VerifyErrorInner>,
}

struct VerifyErrorInner {
    kind: VerifyErrorKind,
    message: String,
    failed_rules: Vec<FailedRule>,
    source: Option<BoxError>,
}

/// Which step of the verification refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VerifyErrorKind {
    /// This verifier does not judge reports of that platform.
    UnsupportedPlatform,
    /// The report does not parse: length, version, reserved bits.
    Malformed,
    /// No endorsement came with the report and no source has it. A client that got the report in a header asks the
    /// evidence endpoint, whose answer has room for endorsements.
    EndorsementMissing,
    /// An endorsement does not parse, does not chain to a pinned root or is outside its dates.
    Endorsement,
    /// A certificate in the chain, or the platform's TCB, is revoked.
    Revoked,
    /// An endorsement contradicts the report: TCB, chip id or product.
    Mismatch,
    /// The hardware's signature over the report does not verify.
    Signature,
    /// The report is genuine and the policy does not accept it.
    Policy,
    /// The policy cannot be applied to this platform, or is itself wrong.
    Configuration,
    /// An endorsement or collateral could not be fetched now. The only kind that is worth a retry.
    Unavailable,
}

impl fmt::Display for VerifyErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnsupportedPlatform => "platform not accepted",
            Self::Malformed => "malformed report",
            Self::EndorsementMissing => "endorsement missing",
            Self::Endorsement => "endorsement refused",
            Self::Revoked => "revoked",
            Self::Mismatch => "endorsement contradicts the report",
            Self::Signature => "hardware signature refused",
            Self::Policy => "policy not met",
            Self::Configuration => "policy cannot be applied",
            Self::Unavailable => "endorsements not available now",
        })
    }
}

/// One rule that a report failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedRule {
    /// The rule's name, as the policy file spells it.
    pub rule: String,
    /// What the rule accepts.
    pub expected: String,
    /// What the report holds.
    pub found: String,
}

impl FailedRule {
    /// A rule with what it accepts and what was found.
    pub fn new(rule: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { rule: rule.into(), expected: expected.into(), found: found.into() }
    }
}

impl fmt::Display for FailedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.rule, self.expected, self.found)
    }
}

impl VerifyError {
    /// A refusal whose message says what was expected and what was found.
    pub fn new(kind: VerifyErrorKind, message: impl Into<String>) -> Self {
        Self::build(kind, message.into(), Vec::new(), None)
    }

    /// A refusal for these failed rules.
    pub fn failed(kind: VerifyErrorKind, failed_rules: Vec<FailedRule>) -> Self {
        Self::build(kind, String::new(), failed_rules, None)
    }

    /// A refusal caused by `source`.
    pub fn with_source(kind: VerifyErrorKind, message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::build(kind, message.into(), Vec::new(), Some(source.into()))
    }

    fn build(kind: VerifyErrorKind, message: String, failed_rules: Vec<FailedRule>, source: Option<BoxError>) -> Self {
        Self { inner: Arc::new(VerifyErrorInner { kind, message, failed_rules, source }) }
    }

    /// Which step refused.
    pub fn kind(&self) -> VerifyErrorKind {
        self.inner.kind
    }

    /// Each rule that failed; empty where the refusal is not about rules.
    pub fn failed_rules(&self) -> &[FailedRule] {
        &self.inner.failed_rules
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner.kind)?;
        if !self.inner.message.is_empty() {
            write!(f, ": {}", self.inner.message)?;
        }
        for (position, rule) in self.inner.failed_rules.iter().enumerate() {
            write!(f, "{} {rule}", if position == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyError")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("failed_rules", &self.inner.failed_rules)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl Error for VerifyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.inner.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}
