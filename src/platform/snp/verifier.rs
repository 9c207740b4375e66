//! The verifier of SEV-SNP reports: genuineness, then policy.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;

use super::genuine::{Genuineness, SnpDetails, no_certificate, signing_key, unknown_processor, view};
use super::policy::SnpPolicy;
use super::report::ReportView;
use super::tcb::Product;
use super::vek::{CrlSink, VekRequest, VekSource};
use crate::report::{Hex, Platform, Report};
use crate::verifier::{Claims, ReportVerifier, VerifyError, VerifyErrorKind};

/// Accepts reports that AMD hardware signed and that satisfy an [`SnpPolicy`].
///
/// The chain of a certificate is verified once and remembered (256 chains, by certificate, never past the end of a
/// certificate or revocation list); the report's own signature is verified each time.
pub struct SnpVerifier {
    genuineness: ArcSwap<Genuineness>,
    policy: ArcSwap<SnpPolicy>,
    revision: AtomicU64,
    source: Option<Arc<dyn VekSource>>,
    /// Held while revocation lists are replaced, so that no replacement is lost to another.
    replacing: Mutex<()>,
}

impl SnpVerifier {
    /// Trusts AMD's own roots, and guests that satisfy `policy`.
    pub fn new(policy: SnpPolicy) -> Self {
        Self::by(Genuineness::amd(), policy)
    }

    /// Trusts the simulator, whose keys everybody knows, and **not** AMD. For tests only.
    #[cfg(feature = "sim")]
    pub fn trusting_simulator(policy: SnpPolicy, amd: &super::sim::SimulatedAmd) -> Self {
        Self::by(Genuineness::trusting_simulator(amd), policy)
    }

    fn by(genuineness: Genuineness, policy: SnpPolicy) -> Self {
        Self {
            genuineness: ArcSwap::from_pointee(genuineness),
            policy: ArcSwap::from_pointee(policy),
            revision: AtomicU64::new(0),
            source: None,
            replacing: Mutex::new(()),
        }
    }

    /// Where to find the VCEK of a report that comes without one. Without a source such a report is refused.
    #[must_use]
    pub fn with_vek_source(mut self, source: impl VekSource + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Judges by these revocation lists from the start; see [`set_crls`](Self::set_crls).
    ///
    /// # Errors
    ///
    /// As [`Genuineness::with_crls`].
    pub fn with_crls<C: AsRef<[u8]>>(self, crls: impl IntoIterator<Item = C>) -> Result<Self, VerifyError> {
        self.set_crls(crls)?;
        Ok(self)
    }

    /// Replaces the policy. Trust given under the one before ends.
    pub fn set_policy(&self, policy: SnpPolicy) {
        self.policy.store(Arc::new(policy));
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// Replaces all revocation lists (DER, at most one per product). Trust given under those before ends.
    ///
    /// # Errors
    ///
    /// As [`Genuineness::with_crls`]; the lists before then stay in force.
    pub fn set_crls<C: AsRef<[u8]>>(&self, crls: impl IntoIterator<Item = C>) -> Result<(), VerifyError> {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.genuineness.load().with_crls(crls)?;
        self.genuineness.store(Arc::new(next));
        self.revision.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Takes a newer revocation list (DER) of one product and keeps those of the others. Returns its `nextUpdate`.
    ///
    /// Trust given under the list before ends. The very list that is in force already changes nothing.
    ///
    /// # Errors
    ///
    /// The list does not parse, is not signed by the pinned ARK of `product`, is older than the one in force, or does not
    /// hold at `now`; the lists before then stay in force.
    pub fn renew_crl(&self, product: Product, crl: &[u8], now: SystemTime) -> Result<SystemTime, VerifyError> {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, next_update) = self.genuineness.load().with_newer_crl(product, crl, now)?;
        if let Some(next) = next {
            self.genuineness.store(Arc::new(next));
            self.revision.fetch_add(1, Ordering::Release);
        }
        Ok(next_update)
    }

    async fn certificate(
        &self,
        report: &Report,
        view: &ReportView,
        genuineness: &Genuineness,
        now: SystemTime,
    ) -> Result<Bytes, VerifyError> {
        if let Some(stapled) = report.vek() {
            return Ok(stapled.clone());
        }
        let source = self.source.as_ref().ok_or_else(no_certificate)?;
        signing_key(view)?;
        let cpuid = view.cpuid().ok_or_else(|| {
            let message = "reports of version 2 do not name the product, so that no VCEK can be asked for: let the \
                           server staple it";
            VerifyError::new(VerifyErrorKind::EndorsementMissing, message)
        })?;
        let product = view.product().ok_or_else(|| unknown_processor(cpuid))?;
        let check = |der: &[u8]| genuineness.endorse(view, der, now).map(|_chain| ());
        let request = VekRequest::new(view, product, &check)?;
        Ok(source.vek(&request).await?)
    }
}

impl CrlSink for SnpVerifier {
    fn renew_crl(&self, product: Product, crl: &[u8], now: SystemTime) -> Result<SystemTime, VerifyError> {
        self.renew_crl(product, crl, now)
    }
}

#[async_trait]
impl ReportVerifier for SnpVerifier {
    fn platforms(&self) -> Vec<Platform> {
        vec![Platform::SNP]
    }

    async fn verify(&self, report: &Report, now: SystemTime) -> Result<Claims, VerifyError> {
        let genuineness = self.genuineness.load_full();
        let policy = self.policy.load_full();
        let view = view(report)?;
        let vek = self.certificate(report, &view, &genuineness, now).await?;
        let details = genuineness.authenticate_with(view, &vek, now)?;
        let name = policy.accept(&details)?;
        Ok(claims(details, name))
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }
}

fn claims(details: SnpDetails, name: Option<&str>) -> Claims {
    let report = details.report();
    let claims = Claims::new(Platform::SNP, report.report_data(), report.measurement())
        .with_fact("product", details.product().name())
        .with_fact("tcb", details.reported_tcb().to_string())
        .with_fact("vmpl", report.vmpl().to_string())
        .with_fact("vek", details.vek_kind().to_string())
        .with_valid_until(details.valid_until());
    let claims = match details.vek().csp_id() {
        Some(csp_id) => claims.with_fact("csp", csp_id),
        None => claims.with_fact("chip", Hex(&details.chip_id()).to_string()),
    };
    let claims = match name {
        Some(name) => claims.with_measurement_name(name),
        None => claims,
    };
    claims.with_details(details)
}

impl fmt::Debug for SnpVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnpVerifier")
            .field("policy", &self.policy.load())
            .field("revision", &self.revision)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
