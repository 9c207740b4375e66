//! Whether a quote is authentic and how up to date its platform is: everything but the policy.
//!
//! In three stages. [`Authentic`] needs the quote alone: its PCK chain, the quoting enclave's report, the quote signature.
//! [`Authentic::endorse`] needs collateral, which is thus never fetched for a quote that a stranger made up, and says whether
//! that is Intel's about this kind of platform. [`Authentic::apply`] says what it makes of this one.

use std::sync::Arc;
use std::time::SystemTime;

use quick_cache::sync::Cache;
use serde::de::DeserializeOwned;

use super::chain::{CertifiedKey, PckChain, Root, refuse, within};
use super::collateral::Collateral;
use super::encoding::rfc3339;
use super::memo::SignatureMemo;
use super::pck::PckPlatform;
use super::quote::{QeReport, Quote};
use super::revocation::Crls;
use super::tcb::{self, PlatformTcb, QeIdentity, TcbError, TcbInfo, TcbStatus, Verdict};
use crate::crypto::{self, EcdsaEncoding};
use crate::platform::hex::hex_array;
use crate::report::Hex;
use crate::verifier::{VerifyError, VerifyErrorKind};

/// A quote whose signatures lead to the pinned root. Whether its keys were revoked since is not known yet.
#[derive(Debug)]
pub(super) struct Authentic<'a> {
    root: &'a Root,
    quote: &'a Quote,
    chain: Arc<PckChain>,
    pub(super) platform: PckPlatform,
}

/// Collateral that Intel signed, that holds now and that is about the quote's kind of platform. What becomes of the quote by
/// it is another question: whoever is on a revocation list must not be able to have the list thrown away.
#[derive(Debug)]
pub(super) struct Endorsed<'a> {
    info: Arc<TcbInfo>,
    identity: Arc<QeIdentity>,
    crls: Crls<'a>,
    /// `tcbEvaluationDataNumber` of the TCB info or the QE identity, whichever is lower.
    pub(super) evaluation_number: u32,
    /// Earliest end of its parts: when newer must have come.
    pub(super) until: SystemTime,
}

/// What collateral says about an authentic quote.
#[derive(Debug, Clone)]
pub(super) struct Appraisal {
    pub(super) verdict: Verdict,
    /// `tcbEvaluationDataNumber` of the collateral.
    pub(super) evaluation_number: u32,
    /// Earliest end of everything that was relied on.
    pub(super) valid_until: SystemTime,
}

impl<'a> Authentic<'a> {
    pub(super) fn check(root: &'a Root, quote: &'a Quote, now: SystemTime) -> Result<Self, VerifyError> {
        let chain = root.pck_chain(&quote.pck_chain, now)?;
        let qe = &quote.qe_report;
        if !root.memo.verify(&chain.key.0, &qe.raw, &quote.qe_report_signature, EcdsaEncoding::Fixed) {
            return Err(signature("the PCK certificate's signature over the QE report does not verify"));
        }
        check_binding(quote)?;
        // Each quote has a signature of its own: not worth remembering.
        let key = [&[4][..], &quote.attestation_key].concat();
        if !crypto::verify_p256(&key, &quote.signed, &quote.signature, EcdsaEncoding::Fixed) {
            return Err(signature("the attestation key's signature over the quote does not verify"));
        }
        Ok(Self { root, quote, platform: chain.platform.clone(), chain })
    }

    /// What `collateral` says about the quote, if it is Intel's, holds at `now` and does not refuse the platform.
    pub(super) fn appraise(&self, collateral: &Collateral, now: SystemTime) -> Result<Appraisal, VerifyError> {
        self.apply(&self.endorse(collateral, now)?, now)
    }

    /// Whether `collateral` is Intel's, holds at `now` and is about this kind of platform.
    pub(super) fn endorse<'c>(&self, collateral: &'c Collateral, now: SystemTime) -> Result<Endorsed<'c>, VerifyError> {
        let crls = self.root.crls(&collateral.root_ca_crl, &collateral.pck_crl, &self.chain, now)?;
        let signer = self.root.tcb_signer(&collateral.tcb_info_issuer_chain, &crls, now, "the TCB info")?;
        let (info, info_end) = self.tcb_info(collateral, &signer, now)?;
        // Intel signs both with one key.
        let signer = if collateral.qe_identity_issuer_chain == collateral.tcb_info_issuer_chain {
            signer
        } else {
            self.root.tcb_signer(&collateral.qe_identity_issuer_chain, &crls, now, "the QE identity")?
        };
        let (identity, identity_end) = self.qe_identity(collateral, &signer, now)?;
        self.root.check_root(&crls)?;
        self.check_platform(&info)?;
        let evaluation_number = info.tcb_evaluation_data_number.min(identity.tcb_evaluation_data_number);
        let until = info_end.min(identity_end).min(crls.next_update);
        Ok(Endorsed { info, identity, crls, evaluation_number, until })
    }

    /// What becomes of the quote by this collateral: revocation, quoting enclave, TCB.
    pub(super) fn apply(&self, endorsed: &Endorsed<'_>, now: SystemTime) -> Result<Appraisal, VerifyError> {
        self.root.check_pck(&self.chain, &endorsed.crls, now)?;
        let qe = check_qe(&self.quote.qe_report, &endorsed.identity)?;
        let verdict = self.tcb(&endorsed.info, &qe)?;
        if verdict.status == TcbStatus::Revoked {
            return Err(VerifyError::new(VerifyErrorKind::Revoked, "Intel has revoked this platform's TCB"));
        }
        Ok(Appraisal {
            verdict,
            evaluation_number: endorsed.evaluation_number,
            valid_until: endorsed.until.min(self.chain.not_after),
        })
    }

    fn tcb_info(
        &self,
        collateral: &Collateral,
        (key, end): &(CertifiedKey, SystemTime),
        now: SystemTime,
    ) -> Result<(Arc<TcbInfo>, SystemTime), VerifyError> {
        let signed = Signed {
            what: "TCB info",
            body: &collateral.tcb_info,
            signature: &collateral.tcb_info_signature,
            expected: "TDX, version 3",
        };
        let info =
            signed.read(&self.root.memo, key, &self.root.tcb_infos, |id, version| id == "TDX" && version == 3)?;
        let next_update = signed.window(&info.issue_date, &info.next_update, now)?;
        Ok((info, next_update.min(*end)))
    }

    fn qe_identity(
        &self,
        collateral: &Collateral,
        (key, end): &(CertifiedKey, SystemTime),
        now: SystemTime,
    ) -> Result<(Arc<QeIdentity>, SystemTime), VerifyError> {
        let signed = Signed {
            what: "QE identity",
            body: &collateral.qe_identity,
            signature: &collateral.qe_identity_signature,
            expected: "TD_QE, version 2 or 3",
        };
        let identity = signed.read(&self.root.memo, key, &self.root.qe_identities, |id, version| {
            id == "TD_QE" && matches!(version, 2 | 3)
        })?;
        let next_update = signed.window(&identity.issue_date, &identity.next_update, now)?;
        Ok((identity, next_update.min(*end)))
    }

    /// The TCB info must be about this very platform.
    fn check_platform(&self, info: &TcbInfo) -> Result<(), VerifyError> {
        let expected = (self.platform.id.fmspc, self.platform.pce_id);
        if (hex_array(&info.fmspc), hex_array(&info.pce_id)) == (Some(expected.0), Some(expected.1)) {
            return Ok(());
        }
        Err(VerifyError::new(
            VerifyErrorKind::Mismatch,
            format!(
                "the TCB info is for another platform: expected FMSPC {} and PCE id {}, found {} and {}",
                Hex(&expected.0),
                Hex(&expected.1),
                info.fmspc,
                info.pce_id
            ),
        ))
    }

    fn tcb(&self, info: &TcbInfo, qe: &Verdict) -> Result<Verdict, VerifyError> {
        let body = &self.quote.body;
        let error = |error: TcbError| {
            let kind = match error {
                TcbError::Components(_) | TcbError::Hex(_) => VerifyErrorKind::Endorsement,
                _ => VerifyErrorKind::Mismatch,
            };
            VerifyError::with_source(kind, error.to_string(), error)
        };
        info.check_module(&body.tee_tcb_svn, &body.mr_signer_seam, body.seam_attributes).map_err(error)?;
        let (launch, current) = info
            .evaluate(&PlatformTcb {
                cpu_svn: self.platform.cpu_svn,
                pce_svn: self.platform.pce_svn,
                tee_tcb_svn: body.tee_tcb_svn,
                current_tee_tcb_svn: body.td15.as_ref().map(|td15| td15.tee_tcb_svn_2),
            })
            .map_err(error)?;
        Ok(tcb::converge(&launch, current.as_ref(), qe))
    }
}

/// A JSON body that Intel signs.
struct Signed<'a> {
    what: &'static str,
    body: &'a str,
    signature: &'a [u8],
    expected: &'static str,
}

impl Signed<'_> {
    /// Checks signature and kind, and reads the body, unless this very body with this signature was read before.
    fn read<T: DeserializeOwned>(
        &self,
        memo: &SignatureMemo,
        key: &CertifiedKey,
        read: &Cache<[u8; 32], Arc<T>>,
        accept: impl Fn(&str, u32) -> bool,
    ) -> Result<Arc<T>, VerifyError> {
        let digest = memo
            .verified(&key.0, self.body.as_bytes(), self.signature, EcdsaEncoding::Fixed)
            .ok_or_else(|| refuse(format!("Intel's signature over the {} does not verify", self.what)))?;
        if let Some(body) = read.get(&digest) {
            return Ok(body);
        }
        self.check_kind(accept)?;
        let body = Arc::new(self.parse()?);
        read.insert(digest, Arc::clone(&body));
        Ok(body)
    }

    /// Whether the body is of the kind that is needed: Intel signs others (SGX, older versions) with the same key.
    fn check_kind(&self, accept: impl Fn(&str, u32) -> bool) -> Result<(), VerifyError> {
        #[derive(serde::Deserialize)]
        struct Kind {
            id: String,
            version: u32,
        }
        let Kind { id, version } = self.parse()?;
        if accept(&id, version) {
            return Ok(());
        }
        Err(VerifyError::new(
            VerifyErrorKind::Mismatch,
            format!("{}: expected {}, found {id}, version {version}", self.what, self.expected),
        ))
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, VerifyError> {
        serde_json::from_str(self.body).map_err(|error| {
            VerifyError::with_source(
                VerifyErrorKind::Endorsement,
                format!("the {} is signed and does not parse: {error}", self.what),
                error,
            )
        })
    }

    fn window(&self, issue_date: &str, next_update: &str, now: SystemTime) -> Result<SystemTime, VerifyError> {
        let (Some(from), Some(until)) = (rfc3339(issue_date), rfc3339(next_update)) else {
            return Err(refuse(format!("the {}'s issueDate or nextUpdate is not a time", self.what)));
        };
        within(self.what, from, until, now)?;
        Ok(until)
    }
}

/// The QE's report data is SHA-256(attestation key ‖ authentication data), then 32 zero bytes.
fn check_binding(quote: &Quote) -> Result<(), VerifyError> {
    let mut expected = [0; 64];
    let hash = crypto::sha256(&[&quote.attestation_key, &quote.qe_auth_data]);
    expected.iter_mut().zip(hash).for_each(|(byte, hash)| *byte = hash);
    if quote.qe_report.report_data == expected {
        Ok(())
    } else {
        Err(signature("the QE report does not vouch for the attestation key"))
    }
}

/// The quoting enclave must be Intel's, by its identity; its SVN decides its status.
fn check_qe(report: &QeReport, identity: &QeIdentity) -> Result<Verdict, VerifyError> {
    let field = |what: &'static str| move || refuse(format!("the QE identity's {what} is not hexadecimal"));
    let mr_signer: [u8; 32] = hex_array(&identity.mrsigner).ok_or_else(field("mrsigner"))?;
    let misc_select: [u8; 4] = hex_array(&identity.miscselect).ok_or_else(field("miscselect"))?;
    let misc_mask: [u8; 4] = hex_array(&identity.miscselect_mask).ok_or_else(field("miscselectMask"))?;
    let attributes: [u8; 16] = hex_array(&identity.attributes).ok_or_else(field("attributes"))?;
    let mask: [u8; 16] = hex_array(&identity.attributes_mask).ok_or_else(field("attributesMask"))?;
    let masked = |value: u128, mask: u128| value & mask;
    let wide = |bytes: [u8; 16]| u128::from_be_bytes(bytes);
    let narrow = |bytes: [u8; 4]| u128::from(u32::from_be_bytes(bytes));
    let checks = [
        ("MRSIGNER", report.mr_signer == mr_signer),
        ("ISVPRODID", report.isv_prod_id == identity.isvprodid),
        (
            "MISCSELECT",
            masked(narrow(report.misc_select), narrow(misc_mask)) == masked(narrow(misc_select), narrow(misc_mask)),
        ),
        ("ATTRIBUTES", masked(wide(report.attributes), wide(mask)) == masked(wide(attributes), wide(mask))),
    ];
    if let Some((field, _)) = checks.iter().find(|(_, holds)| !holds) {
        return Err(VerifyError::new(
            VerifyErrorKind::Mismatch,
            format!(
                "the quoting enclave is not Intel's TD quoting enclave: its {field} is not that of the QE identity"
            ),
        ));
    }
    identity.evaluate(report.isv_svn).ok_or_else(|| {
        VerifyError::new(
            VerifyErrorKind::Mismatch,
            format!("the quoting enclave's ISVSVN {} is below every level of its identity", report.isv_svn),
        )
    })
}

fn signature(message: &str) -> VerifyError {
    VerifyError::new(VerifyErrorKind::Signature, message)
}
