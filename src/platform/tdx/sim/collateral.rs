//! Simulated collateral: right by default, and wrong in any way that a test asks for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::authority::{ROOT_SERIAL, ca_serial, crl, crl_issuer_chain, pck_chain, tcb_signing_chain};
use super::{COLLATERAL_LIFETIME, Key, SimulatedPlatform};
use crate::platform::tdx::collateral::Collateral;
use crate::platform::tdx::encoding::show_time;
use crate::platform::tdx::tcb::TcbStatus;
use crate::report::Hex;

/// What collateral to make. The bodies are signed after all changes.
#[derive(Debug, Clone)]
#[must_use]
pub struct CollateralSpec {
    platform: SimulatedPlatform,
    issued: SystemTime,
    revoked: Vec<u64>,
    revoked_cas: Vec<u64>,
    tcb_info: Value,
    qe_identity: Value,
}

impl Default for CollateralSpec {
    fn default() -> Self {
        let platform = SimulatedPlatform::default();
        let zero = "00".repeat(48);
        let module = |extra: Value| {
            let mut module = json!({
                "mrsigner": zero, "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF",
            });
            if let (Some(module), Value::Object(extra)) = (module.as_object_mut(), extra) {
                module.extend(extra);
            }
            module
        };
        let svn = |svn: u8| json!((0..16).map(|_| json!({ "svn": svn })).collect::<Vec<_>>());
        let level = |component: u8, status: TcbStatus| {
            json!({
                "tcb": {"sgxtcbcomponents": svn(component), "pcesvn": 13, "tdxtcbcomponents": svn(component)},
                "tcbDate": "2024-11-13T00:00:00Z", "tcbStatus": status.as_str(),
            })
        };
        let isv_level = |svn: u16, status: TcbStatus| json!({"tcb": {"isvsvn": svn}, "tcbDate": "2024-11-13T00:00:00Z", "tcbStatus": status.as_str()});
        let tcb_info = json!({
            "id": "TDX", "version": 3, "issueDate": "", "nextUpdate": "",
            "fmspc": Hex(&platform.pck.id.fmspc).to_string(), "pceId": Hex(&platform.pck.pce_id).to_string(),
            "tcbType": 0, "tcbEvaluationDataNumber": 18,
            "tdxModule": module(json!({})),
            "tdxModuleIdentities": [
                module(json!({"id": "TDX_01", "tcbLevels": [
                    isv_level(3, TcbStatus::UpToDate), isv_level(2, TcbStatus::OutOfDate),
                ]})),
            ],
            "tcbLevels": [level(3, TcbStatus::UpToDate), level(2, TcbStatus::OutOfDate)],
        });
        let qe_identity = json!({
            "id": "TD_QE", "version": 2, "issueDate": "", "nextUpdate": "", "tcbEvaluationDataNumber": 18,
            "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": "51".repeat(32), "isvprodid": 2,
            "tcbLevels": [isv_level(4, TcbStatus::UpToDate), isv_level(3, TcbStatus::OutOfDate)],
        });
        let issued = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        Self { platform, issued, revoked: Vec::new(), revoked_cas: Vec::new(), tcb_info, qe_identity }
    }
}

impl CollateralSpec {
    /// For this platform instead of the default one.
    pub fn platform(mut self, platform: &SimulatedPlatform) -> Self {
        self.platform = platform.clone();
        self.edit_tcb_info(|info| {
            set(info, "/fmspc", json!(Hex(&platform.pck.id.fmspc).to_string()));
            set(info, "/pceId", json!(Hex(&platform.pck.pce_id).to_string()));
        })
    }

    /// Issued then, and valid for 30 days. Default: the first of January 2026.
    pub fn issued_at(mut self, time: SystemTime) -> Self {
        self.issued = time;
        self
    }

    /// Gives platforms like the default one this status, with these advisories.
    pub fn status(self, status: TcbStatus, advisories: &[&str]) -> Self {
        self.edit_tcb_info(|info| {
            set(info, "/tcbLevels/0/tcbStatus", json!(status.as_str()));
            set(info, "/tcbLevels/0/advisoryIDs", json!(advisories));
        })
    }

    /// Sets `tcbEvaluationDataNumber` of TCB info and QE identity.
    pub fn evaluation_number(self, number: u32) -> Self {
        self.edit_tcb_info(|info| set(info, "/tcbEvaluationDataNumber", json!(number)))
            .edit_qe_identity(|identity| set(identity, "/tcbEvaluationDataNumber", json!(number)))
    }

    /// Puts the platform's PCK certificate on the CRL.
    pub fn revoke_pck(mut self) -> Self {
        self.revoked.push(self.platform.serial);
        self
    }

    /// Puts the platform's PCK CA on the root's CRL.
    pub fn revoke_ca(mut self) -> Self {
        self.revoked_cas.push(ca_serial(self.platform.pck.id.ca));
        self
    }

    /// Puts the root on its own CRL.
    pub fn revoke_root(mut self) -> Self {
        self.revoked_cas.push(ROOT_SERIAL);
        self
    }

    /// Changes the TCB info before it is signed.
    pub fn edit_tcb_info(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.tcb_info);
        self
    }

    /// Changes the QE identity before it is signed.
    pub fn edit_qe_identity(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.qe_identity);
        self
    }

    /// Signs and gathers it.
    pub fn build(&self) -> Collateral {
        let window = (self.issued, self.issued + COLLATERAL_LIFETIME);
        let body = |template: &Value| {
            let mut body = template.clone();
            set(&mut body, "/issueDate", json!(show_time(window.0)));
            set(&mut body, "/nextUpdate", json!(show_time(window.1)));
            body.to_string()
        };
        let (tcb_info, qe_identity) = (body(&self.tcb_info), body(&self.qe_identity));
        let signer = Key::TcbSigner.signer();
        let ca = self.platform.pck.id.ca;
        Collateral {
            pck_crl_issuer_chain: crl_issuer_chain(ca),
            root_ca_crl: crl(None, &self.revoked_cas, window),
            pck_crl: crl(Some(ca), &self.revoked, window),
            tcb_info_issuer_chain: tcb_signing_chain(),
            tcb_info_signature: signer.sign(tcb_info.as_bytes()).to_vec(),
            tcb_info,
            qe_identity_issuer_chain: tcb_signing_chain(),
            qe_identity_signature: signer.sign(qe_identity.as_bytes()).to_vec(),
            qe_identity,
        }
    }

    /// Collateral whose TCB info another certificate of the same root signs: a PCK certificate.
    pub fn build_signed_by_pck(&self) -> Collateral {
        let mut collateral = self.build();
        let chain = pck_chain(&self.platform);
        let end = "-----END CERTIFICATE-----\n";
        let certificates: Vec<&str> = chain.split_inclusive(end).collect();
        if let [leaf, _, root] = certificates.as_slice() {
            collateral.tcb_info_issuer_chain = [*leaf, *root].concat();
        }
        collateral.tcb_info_signature = Key::Pck.signer().sign(collateral.tcb_info.as_bytes()).to_vec();
        collateral
    }
}

/// Replaces or adds a member.
fn set(value: &mut Value, pointer: &str, new: Value) {
    let Some((parent, member)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(parent)) = value.pointer_mut(parent) {
        parent.insert(member.to_owned(), new);
    }
}
