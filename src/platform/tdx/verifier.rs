//! [`TdxVerifier`]: parse, chain to Intel's root, signatures, collateral, policy.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::authenticate::{Appraisal, Authentic};
use super::collateral::{Collateral, CollateralRequest, CollateralSource};
use super::encoding::show_time;
use super::event_log::EventLog;
use super::genuine::{self, Genuineness};
use super::pck::PckPlatform;
use super::policy::{Subject, TdxPolicy};
use super::quote::{Quote, TdReport};
use super::tcb::TcbStatus;
use crate::report::{Hex, Platform, Report};
use crate::verifier::{Claims, ReportVerifier, VerifyError, VerifyErrorKind};

/// Judges TDX quotes by Intel's root, collateral and a [`TdxPolicy`].
///
/// Collateral comes stapled to the report, or from a [`CollateralSource`]; stapled collateral that is refused (expired,
/// below the policy's floor) is replaced by the source's. Signature checks that succeeded are remembered, at most 1 024
/// of them; dates, revocation and TCB levels are judged every time.
pub struct TdxVerifier {
    genuineness: Genuineness,
    policy: ArcSwap<TdxPolicy>,
    revision: AtomicU64,
    source: Option<Arc<dyn CollateralSource>>,
    event_log: Option<EventLog>,
}

/// What a TDX verdict knows beyond [`Claims`]; see [`Claims::details`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TdxDetails {
    /// The quote format's version, 4 or 5.
    pub quote_version: u16,
    /// What the TDX module reports about the TD.
    pub td_report: TdReport,
    /// What the PCK certificate says about the machine.
    pub platform: PckPlatform,
    /// The TCB status of platform, TDX module and quoting enclave together.
    pub tcb_status: TcbStatus,
    /// The advisories behind it, such as `INTEL-SA-00960`.
    pub advisories: Vec<String>,
    /// `tcbDate` of the oldest part, as Intel writes it.
    pub tcb_date: String,
    /// `tcbEvaluationDataNumber` of the collateral.
    pub tcb_evaluation_data_number: u32,
    /// Earliest end of the certificates, revocation lists and collateral that were relied on, and of the policy's acceptance
    /// of the status.
    pub valid_until: SystemTime,
}

impl TdxDetails {
    pub(super) fn new(quote: &Quote, platform: &PckPlatform, appraisal: &Appraisal) -> Self {
        Self {
            quote_version: quote.version,
            td_report: quote.body.clone(),
            platform: platform.clone(),
            tcb_status: appraisal.verdict.status,
            advisories: appraisal.verdict.advisories.clone(),
            tcb_date: appraisal.verdict.tcb_date.clone(),
            tcb_evaluation_data_number: appraisal.evaluation_number,
            valid_until: appraisal.valid_until,
        }
    }
}

impl TdxVerifier {
    /// A verifier that trusts Intel's production root.
    pub fn new(policy: TdxPolicy) -> Self {
        Self::by(Genuineness::intel(), policy)
    }

    /// A verifier that trusts the simulator's root, whose keys everybody knows, and **not** Intel's. For tests only.
    #[cfg(feature = "sim")]
    pub fn trusting_simulator(policy: TdxPolicy, intel: &super::sim::SimulatedIntel) -> Self {
        Self::by(Genuineness::trusting_simulator(intel), policy)
    }

    fn by(genuineness: Genuineness, policy: TdxPolicy) -> Self {
        Self {
            genuineness,
            policy: ArcSwap::from_pointee(policy),
            revision: AtomicU64::new(0),
            source: None,
            event_log: None,
        }
    }

    /// Where collateral comes from for reports that carry none.
    #[must_use]
    pub fn with_collateral_source(mut self, source: impl CollateralSource + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Demands that the TD's RTMRs are those that this log leads to, besides what the policy demands of them.
    ///
    /// After a verdict, `log.events()` is what the TD measured. Without a rule of your own about those events this says no
    /// more than a policy that pins the same RTMRs.
    #[must_use]
    pub fn with_event_log(mut self, log: EventLog) -> Self {
        self.event_log = Some(log);
        self
    }

    /// Replaces the policy. Trust that was given under the old one ends.
    pub fn set_policy(&self, policy: TdxPolicy) {
        self.policy.store(Arc::new(policy));
        self.revision.fetch_add(1, Ordering::Release);
    }

    async fn judge_by_source(&self, source: &dyn CollateralSource, case: &Case<'_>) -> Result<Claims, VerifyError> {
        // The last set that the source had checked, and what it makes of the quote: a set is appraised once.
        let appraised: Mutex<Option<Appraised>> = Mutex::new(None);
        let last = || appraised.lock().unwrap_or_else(PoisonError::into_inner);
        // Whether it is the collateral of this platform, not whether the platform passes by it: a platform that newer
        // collateral refuses would have the older kept.
        let check = |collateral: &Arc<Collateral>| {
            let endorsed = case.authentic.endorse(collateral, case.now)?;
            let (until, above_floor) = (endorsed.until, case.policy.check_floor(endorsed.evaluation_number));
            *last() = Some((Arc::clone(collateral), case.authentic.apply(&endorsed, case.now)));
            above_floor.map(|()| until)
        };
        let unknown = || matches!(&*last(), Some((_, Err(error))) if error.kind() == VerifyErrorKind::Mismatch);
        let request = CollateralRequest::new(case.authentic.platform.id, case.now, &check).unknown_to_last(&unknown);
        let found = source.collateral(&request).await;
        let last = appraised.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (found, last) {
            (Ok(found), Some((judged, appraisal))) if Arc::ptr_eq(&found, &judged) => case.judge(&appraisal?),
            (Ok(found), _) => case.judge_by(&found),
            // Below the policy's floor: the refusal names the other rules that fail too.
            (Err(error), Some((_, Ok(appraisal)))) if case.policy.check_floor(appraisal.evaluation_number).is_err() => {
                case.judge(&appraisal).and(Err(error.into()))
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}

/// A set of collateral and what it makes of a quote.
type Appraised = (Arc<Collateral>, Result<Appraisal, VerifyError>);

/// One quote under one policy.
struct Case<'a> {
    quote: &'a Quote,
    authentic: &'a Authentic<'a>,
    policy: &'a TdxPolicy,
    event_log: Option<&'a EventLog>,
    now: SystemTime,
}

impl Case<'_> {
    fn judge_by(&self, collateral: &Collateral) -> Result<Claims, VerifyError> {
        self.judge(&self.authentic.appraise(collateral, self.now)?)
    }

    fn judge(&self, appraisal: &Appraisal) -> Result<Claims, VerifyError> {
        let platform = &self.authentic.platform;
        // What the policy accepts for a while is believed no longer.
        let accepted_until = self.policy.accepted_until(&appraisal.verdict, self.now).unwrap_or(appraisal.valid_until);
        let appraisal = &Appraisal { valid_until: appraisal.valid_until.min(accepted_until), ..appraisal.clone() };
        let subject = Subject { body: &self.quote.body, platform, appraisal, now: self.now };
        let by_log = self.event_log.map_or(Ok(()), |log| log.check(&self.quote.body));
        match (self.policy.evaluate(&subject), by_log) {
            (Ok(name), Ok(())) => Ok(claims(self.quote, platform, appraisal, name)),
            (Err(policy), Err(log)) if policy.kind() == VerifyErrorKind::Policy => {
                Err(VerifyError::failed(policy.kind(), [policy.failed_rules(), log.failed_rules()].concat()))
            }
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        }
    }
}

#[async_trait]
impl ReportVerifier for TdxVerifier {
    fn platforms(&self) -> Vec<Platform> {
        vec![Platform::TDX]
    }

    async fn verify(&self, report: &Report, now: SystemTime) -> Result<Claims, VerifyError> {
        let quote = genuine::quote(report)?;
        let authentic = Authentic::check(&self.genuineness.root, &quote, now)?;
        let policy = self.policy.load_full();
        let case =
            Case { quote: &quote, authentic: &authentic, policy: &policy, event_log: self.event_log.as_ref(), now };
        let stapled = genuine::stapled(report).map(|collateral| case.judge_by(&collateral?));
        match (stapled, &self.source) {
            (Some(Ok(claims)), _) => Ok(claims),
            (Some(Err(error)), None) => Err(error),
            (Some(Err(_)) | None, Some(source)) => self.judge_by_source(&**source, &case).await,
            (None, None) => Err(genuine::no_collateral()),
        }
    }

    /// Changes with the policy, and when a list has been seen that revokes more than the one before. Both numbers only grow.
    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire).wrapping_add(self.genuineness.root.revocations.revision())
    }
}

impl fmt::Debug for TdxVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TdxVerifier")
            .field("genuineness", &self.genuineness)
            .field("policy", &self.policy.load())
            .field("revision", &self.revision())
            .field("source", &self.source)
            .field("event_log", &self.event_log.as_ref().map(|log| log.events().len()))
            .finish_non_exhaustive()
    }
}

fn claims(quote: &Quote, platform: &PckPlatform, appraisal: &Appraisal, name: Option<&str>) -> Claims {
    let body = &quote.body;
    let verdict = &appraisal.verdict;
    let mut claims = Claims::new(Platform::TDX, body.report_data, body.mr_td)
        .with_fact(
            "tcb",
            format!("{}, evaluation {}, of {}", verdict.status, appraisal.evaluation_number, verdict.tcb_date),
        )
        .with_fact("fmspc", Hex(&platform.id.fmspc).to_string())
        .with_fact("chip", Hex(&platform.ppid).to_string())
        .with_fact("td_attributes", format!("{:#018x}", body.td_attributes))
        .with_fact("collateral_until", show_time(appraisal.valid_until));
    if !verdict.advisories.is_empty() {
        claims = claims.with_fact("advisories", verdict.advisories.join(", "));
    }
    for (register, value) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].into_iter().zip(&body.rtmr) {
        claims = claims.with_fact(register, Hex(value).to_string());
    }
    if let Some(name) = name {
        claims = claims.with_measurement_name(name);
    }
    claims.with_valid_until(appraisal.valid_until).with_details(TdxDetails::new(quote, platform, appraisal))
}
