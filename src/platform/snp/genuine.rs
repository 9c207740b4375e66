//! Whether a report is genuine: made by an AMD processor, for a guest that its host cannot debug. What the guest runs is
//! for a policy to judge.

use std::sync::Arc;
use std::time::SystemTime;

use super::cert::{VekCertificate, VekKind};
use super::chain::{Chain, Chains};
use super::fields::SigningKey;
use super::report::ReportView;
use super::roots::Roots;
use super::tcb::{Product, RawTcb, Tcb};
use crate::report::{Hex, Platform, Report, excerpt};
use crate::verifier::{FailedRule, VerifyError, VerifyErrorKind};

/// Judges reports and certificates by AMD's signatures alone, without a policy.
///
/// A genuine report may come from any guest, that of an attacker included: use [`SnpVerifier`](super::SnpVerifier) to
/// decide whom to trust, and this to inspect evidence.
#[derive(Debug)]
pub struct Genuineness {
    chains: Chains,
}

impl Genuineness {
    /// Judges by AMD's own roots for Milan, Genoa and Turin.
    pub fn amd() -> Self {
        Self::by(Roots::amd())
    }

    /// Judges by the simulator's roots, whose keys everybody knows, and **not** by AMD's. For tests only.
    #[cfg(feature = "sim")]
    pub fn trusting_simulator(amd: &super::sim::SimulatedAmd) -> Self {
        Self::by(amd.roots())
    }

    fn by(roots: Arc<Roots>) -> Self {
        Self { chains: Chains::new(roots) }
    }

    /// The same roots, with these revocation lists (DER) in place of those before: at most one per product.
    ///
    /// # Errors
    ///
    /// A list does not parse, is not signed by a pinned ARK, or is the second of its product.
    pub fn with_crls<C: AsRef<[u8]>>(&self, crls: impl IntoIterator<Item = C>) -> Result<Self, VerifyError> {
        let crls: Vec<C> = crls.into_iter().collect();
        Ok(Self { chains: self.chains.with_crls(crls.iter().map(AsRef::as_ref))? })
    }

    /// The same, with a newer revocation list of `product` alone, and until when it serves; `None` where nothing changes.
    pub(super) fn with_newer_crl(
        &self,
        product: Product,
        crl: &[u8],
        now: SystemTime,
    ) -> Result<(Option<Self>, SystemTime), VerifyError> {
        let (chains, next_update) = self.chains.with_newer_crl(product, crl, now)?;
        Ok((chains.map(|chains| Self { chains }), next_update))
    }

    /// Whether a revocation list of `product` is at hand.
    pub fn has_crl(&self, product: Product) -> bool {
        self.chains.has_crl(product)
    }

    /// Judges a VCEK or VLEK certificate (DER) by itself at `now`: signatures up to the pinned ARK, dates, revocation.
    ///
    /// # Errors
    ///
    /// [`VerifyErrorKind::Endorsement`] or [`VerifyErrorKind::Revoked`].
    pub fn check_certificate(&self, der: &[u8], now: SystemTime) -> Result<VekCertificate, VerifyError> {
        let vek = VekCertificate::parse(der.to_vec())?;
        let product = named_product(&vek)?;
        self.chains.verify(der, product, vek.kind(), now).map(|chain| chain.vek.clone())
    }

    /// Judges a report with its stapled VEK at `now`: [`authenticate`](Self::authenticate), and that the host cannot debug
    /// the guest.
    ///
    /// # Errors
    ///
    /// As `authenticate`, and `Policy` for a guest that may be debugged.
    pub fn check(&self, report: &Report, now: SystemTime) -> Result<SnpDetails, VerifyError> {
        let details = self.authenticate(report, now)?;
        let policy = details.report.policy();
        if policy.debug() {
            let found = format!("on: the host may debug the guest ({policy})");
            let rule = FailedRule::new("guest-policy.debug", "off", found);
            return Err(VerifyError::failed(VerifyErrorKind::Policy, vec![rule]));
        }
        Ok(details)
    }

    /// Judges by whom a report with its stapled VEK was made: its form, the certificate's chain to a pinned ARK with dates
    /// and revocation, the certificate against the report, and the signature over the bytes as received. A guest that
    /// its host debugs passes.
    ///
    /// # Errors
    ///
    /// The kind says which step refused: `UnsupportedPlatform`, `Malformed`, `Endorsement`, `Revoked`, `Mismatch` or
    /// `Signature`. The last also where the report says that no VCEK or VLEK signed it, before anything else is judged.
    pub fn authenticate(&self, report: &Report, now: SystemTime) -> Result<SnpDetails, VerifyError> {
        let view = view(report)?;
        let vek = report.vek().ok_or_else(no_certificate)?;
        self.authenticate_with(view, vek, now)
    }

    /// The same with a certificate from elsewhere.
    pub(super) fn authenticate_with(
        &self,
        view: ReportView,
        vek: &[u8],
        now: SystemTime,
    ) -> Result<SnpDetails, VerifyError> {
        let chain = self.endorse(&view, vek, now)?;
        let refused = |message: &str| VerifyError::new(VerifyErrorKind::Signature, message);
        let (r, s) =
            view.signature().ok_or_else(|| refused("expected zero in the padding of the report's signature"))?;
        if !chain.key.verify(view.signed_bytes(), &r, &s) {
            return Err(refused("the signature is not one by the VEK over these bytes of the report"));
        }
        Ok(SnpDetails { report: view, chain })
    }

    /// The chain of a certificate that belongs to this report.
    pub(super) fn endorse(&self, view: &ReportView, vek: &[u8], now: SystemTime) -> Result<Arc<Chain>, VerifyError> {
        let kind = signing_key(view)?;
        let product = match view.cpuid() {
            Some(cpuid) => view.product().ok_or_else(|| unknown_processor(cpuid))?,
            None => named_product(&VekCertificate::parse(vek.to_vec())?)?,
        };
        let chain = self.chains.verify(vek, product, kind, now)?;
        let failed = mismatches(view, &chain);
        if failed.is_empty() { Ok(chain) } else { Err(VerifyError::failed(VerifyErrorKind::Mismatch, failed)) }
    }
}

pub(super) fn view(report: &Report) -> Result<ReportView, VerifyError> {
    if *report.platform() != Platform::SNP {
        return Err(VerifyError::new(
            VerifyErrorKind::UnsupportedPlatform,
            format!("expected a report of {}, found one of {}", Platform::SNP, report.platform()),
        ));
    }
    ReportView::parse(report.bytes().clone())
}

pub(super) fn no_certificate() -> VerifyError {
    VerifyError::new(
        VerifyErrorKind::EndorsementMissing,
        "expected a VCEK or VLEK certificate with the report, found none: let the server staple it, or give the verifier \
         a source of certificates",
    )
}

/// The key that signed, if it is one whose certificates AMD issues.
pub(super) fn signing_key(view: &ReportView) -> Result<VekKind, VerifyError> {
    let refused = |message: String| Err(VerifyError::new(VerifyErrorKind::Signature, message));
    if view.key_info().mask_chip_key() {
        return refused("the host masks the chip's key (MASK_CHIP_KEY), so that reports are not signed".to_owned());
    }
    match view.signing_key() {
        SigningKey::Vcek => Ok(VekKind::Vcek),
        SigningKey::Vlek => Ok(VekKind::Vlek),
        key @ (SigningKey::None | SigningKey::Unknown(_)) => {
            refused(format!("expected a report signed by a VCEK (0) or VLEK (1), found SIGNING_KEY {key}"))
        }
    }
}

pub(super) fn unknown_processor([family, model, stepping]: [u8; 3]) -> VerifyError {
    VerifyError::new(
        VerifyErrorKind::Endorsement,
        format!(
            "expected a processor whose root is pinned (Milan, Genoa or Turin), found CPUID family {family:#x}, model \
             {model:#x}, stepping {stepping}"
        ),
    )
}

fn named_product(vek: &VekCertificate) -> Result<Product, VerifyError> {
    vek.product().ok_or_else(|| {
        VerifyError::new(
            VerifyErrorKind::Endorsement,
            format!(
                "expected a VEK certificate for Milan, Genoa or Turin, found one for {:?}",
                excerpt(vek.product_name())
            ),
        )
    })
}

/// What the certificate says against what the report says.
fn mismatches(view: &ReportView, chain: &Chain) -> Vec<FailedRule> {
    let (vek, product) = (&chain.vek, chain.product);
    let mut failed = Vec::new();
    if vek.product() != Some(product) {
        failed.push(FailedRule::new("certificate.product", product.name(), format!("{:?}", vek.product_name())));
    }
    let reported = view.reported_tcb();
    match vek.tcb_bytes(product) {
        Some(levels) if levels == *reported.as_bytes() => {}
        Some(levels) => failed.push(FailedRule::new(
            "certificate.tcb",
            format!("REPORTED_TCB {} ({})", reported.decode(product), Hex(reported.as_bytes())),
            format!("{} ({})", RawTcb::new(levels).decode(product), Hex(&levels)),
        )),
        None => failed.push(FailedRule::new(
            "certificate.tcb",
            format!("a security patch level for each component of {product}"),
            "another set of components",
        )),
    }
    let chip_id = view.chip_id();
    match (chain.kind, vek.hwid(), vek.csp_id()) {
        (VekKind::Vlek, None, Some(_)) => {}
        (VekKind::Vcek, Some(hwid), None) => {
            let (chip, rest) = chip_id.split_at_checked(product.chip_id_len()).unwrap_or((&chip_id, &[]));
            if chip != hwid || rest.iter().any(|byte| *byte != 0) {
                let masked = if chip_id == [0; 64] { " (masked by the host: MASK_CHIP_ID)" } else { "" };
                failed.push(FailedRule::new(
                    "certificate.hwid",
                    format!("CHIP_ID {}{masked}", Hex(&chip_id)),
                    Hex(hwid).to_string(),
                ));
            }
        }
        (kind, ..) => failed.push(FailedRule::new(
            "certificate.kind",
            format!("a {kind}, as SIGNING_KEY says"),
            format!("a {}", vek.kind()),
        )),
    }
    failed
}

/// A report that proved genuine, with the certificate that vouches for it.
///
/// The typed details of SNP claims: `claims.details::<SnpDetails>()`.
#[derive(Debug, Clone)]
pub struct SnpDetails {
    report: ReportView,
    chain: Arc<Chain>,
}

impl SnpDetails {
    /// Every field of the report.
    pub fn report(&self) -> &ReportView {
        &self.report
    }

    /// The certificate of the key that signed.
    pub fn vek(&self) -> &VekCertificate {
        &self.chain.vek
    }

    /// Which key signed.
    pub fn vek_kind(&self) -> VekKind {
        self.chain.kind
    }

    /// The product: by the signed CPUID, or by the certificate where the report's version has none.
    pub fn product(&self) -> Product {
        self.chain.product
    }

    /// REPORTED_TCB, which the certificate confirms.
    pub fn reported_tcb(&self) -> Tcb {
        self.report.reported_tcb().decode(self.product())
    }

    /// CURRENT_TCB.
    pub fn current_tcb(&self) -> Tcb {
        self.report.current_tcb().decode(self.product())
    }

    /// COMMITTED_TCB.
    pub fn committed_tcb(&self) -> Tcb {
        self.report.committed_tcb().decode(self.product())
    }

    /// LAUNCH_TCB.
    pub fn launch_tcb(&self) -> Tcb {
        self.report.launch_tcb().decode(self.product())
    }

    /// The leading bytes of CHIP_ID that identify the chip, 64 or 8; all zero under a VLEK or where the host masks them.
    pub fn chip_id(&self) -> Vec<u8> {
        self.report.chip_id().into_iter().take(self.product().chip_id_len()).collect()
    }

    /// Until when the verdict holds: the earliest end of a certificate or of the revocation list.
    pub fn valid_until(&self) -> SystemTime {
        self.chain.valid_until
    }

    /// Whether a revocation list was consulted.
    pub fn revocation_checked(&self) -> bool {
        self.chain.revocation_checked
    }
}
