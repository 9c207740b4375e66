//! What Intel says about a platform beside its quote: TCB info, QE identity and revocation lists.

mod directory;
mod memory;
mod pcs;
mod refresh;
mod request;
mod source;
#[cfg(all(test, feature = "sim"))]
mod tests;

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::encoding::rfc3339;
use super::x509;
use crate::platform::hex::hex_bytes;
use crate::report::{Hex, excerpt};

pub use self::directory::CollateralDirectory;
pub use self::memory::MemoryCollateral;
pub use self::pcs::PcsClient;
pub use self::refresh::{CollateralRefresh, CollateralRefresher, CollateralState};
pub use self::request::{CollateralRequest, PckCa, PlatformId};
pub use self::source::{CollateralSource, OrElse};

/// Most bytes that one response of Intel's service may have; CRLs are the longest.
pub(super) const MAX_PART_LEN: usize = 1024 * 1024;
/// Most bytes of an error of the JSON parser that are shown.
const MAX_ERROR_LEN: usize = 300;
/// Most bytes of collateral as JSON: what fits into evidence.
pub(super) const MAX_JSON_LEN: usize = 256 * 1024;

/// Collateral for one platform. Untrusted until it chains to the pinned root.
///
/// # The JSON form
///
/// One object, the form that `dcap-qvl` and the services built on it exchange: the strings `pck_crl_issuer_chain`,
/// `tcb_info_issuer_chain` and `qe_identity_issuer_chain` (PEM, signer first); `tcb_info` and `qe_identity` (the signed
/// bodies, byte for byte); `tcb_info_signature` and `qe_identity_signature` (hexadecimal, r ‖ s); `root_ca_crl` and
/// `pck_crl` (DER in hexadecimal). `pck_crl_issuer_chain` may be left out: a CRL must be signed by the CA in the quote's
/// own chain. A `pck_certificate_chain` is ignored for the same reason.
///
/// ```
/// use tower_attest::platform::tdx::Collateral;
///
/// assert!(Collateral::from_json(b"{}").unwrap_err().to_string().contains("missing field"));
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collateral {
    #[serde(default)]
    pub(super) pck_crl_issuer_chain: String,
    #[serde(with = "hexadecimal")]
    pub(super) root_ca_crl: Vec<u8>,
    #[serde(with = "hexadecimal")]
    pub(super) pck_crl: Vec<u8>,
    pub(super) tcb_info_issuer_chain: String,
    pub(super) tcb_info: String,
    #[serde(with = "hexadecimal")]
    pub(super) tcb_info_signature: Vec<u8>,
    pub(super) qe_identity_issuer_chain: String,
    pub(super) qe_identity: String,
    #[serde(with = "hexadecimal")]
    pub(super) qe_identity_signature: Vec<u8>,
}

/// The bodies and issuer chains of the responses of Intel's PCS v4, or of a PCCS.
#[derive(Debug, Clone, Copy)]
pub struct PcsResponses<'a> {
    /// `GET /tdx/certification/v4/tcb?fmspc=…`: `{"tcbInfo":…,"signature":…}`.
    pub tcb_info: &'a [u8],
    /// Its `TCB-Info-Issuer-Chain` header, PEM (percent-decoded).
    pub tcb_info_issuer_chain: &'a str,
    /// `GET /tdx/certification/v4/qe/identity`: `{"enclaveIdentity":…,"signature":…}`.
    pub qe_identity: &'a [u8],
    /// Its `SGX-Enclave-Identity-Issuer-Chain` header, PEM (percent-decoded).
    pub qe_identity_issuer_chain: &'a str,
    /// `GET /sgx/certification/v4/pckcrl?ca=…&encoding=der`: DER.
    pub pck_crl: &'a [u8],
    /// Its `SGX-PCK-CRL-Issuer-Chain` header, PEM (percent-decoded).
    pub pck_crl_issuer_chain: &'a str,
    /// The root CA's CRL, DER.
    pub root_ca_crl: &'a [u8],
}

/// Bytes that are not collateral.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCollateral {
    /// More bytes than collateral has.
    #[error("{part} may have {limit} bytes, found {found}")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// The limit.
        limit: usize,
        /// Its length.
        found: usize,
    },
    /// Not the JSON that is expected.
    #[error("{part} is not the JSON that is expected: {source}")]
    Json {
        /// Which part.
        part: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The signature is not hexadecimal.
    #[error("the signature of {0} is not hexadecimal")]
    Signature(&'static str),
    /// A file of a collateral directory cannot be read.
    #[error("cannot read {file}: {source}")]
    File {
        /// The file's name.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
}

#[derive(Deserialize)]
struct SignedTcbInfo<'a> {
    #[serde(rename = "tcbInfo", borrow)]
    body: &'a RawValue,
    signature: String,
}

#[derive(Deserialize)]
struct SignedQeIdentity<'a> {
    #[serde(rename = "enclaveIdentity", borrow)]
    body: &'a RawValue,
    signature: String,
}

impl Collateral {
    /// Reads the [JSON form](Self#the-json-form), at most 256 KiB.
    ///
    /// # Errors
    ///
    /// The JSON is too long, misses or repeats a member, or has one of another type.
    pub fn from_json(json: &[u8]) -> Result<Self, InvalidCollateral> {
        within("collateral", json.len(), MAX_JSON_LEN)?;
        parse("collateral", json)
    }

    /// Writes the [JSON form](Self#the-json-form), to be stapled to a report.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings alone: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Takes the responses of a PCS or PCCS. The signed bodies are kept byte for byte.
    ///
    /// # Errors
    ///
    /// A response is over 1 MiB, or not the JSON that PCS v4 defines.
    pub fn from_pcs(responses: PcsResponses<'_>) -> Result<Self, InvalidCollateral> {
        for (part, length) in [
            ("the TCB info", responses.tcb_info.len()),
            ("the QE identity", responses.qe_identity.len()),
            ("the PCK CRL", responses.pck_crl.len()),
            ("the root CRL", responses.root_ca_crl.len()),
        ] {
            within(part, length, MAX_PART_LEN)?;
        }
        let signature = |part, text: &str| hex_bytes(text).ok_or(InvalidCollateral::Signature(part));
        let tcb_info: SignedTcbInfo<'_> = parse("the TCB info", responses.tcb_info)?;
        let qe_identity: SignedQeIdentity<'_> = parse("the QE identity", responses.qe_identity)?;
        Ok(Self {
            pck_crl_issuer_chain: responses.pck_crl_issuer_chain.to_owned(),
            root_ca_crl: responses.root_ca_crl.to_vec(),
            pck_crl: responses.pck_crl.to_vec(),
            tcb_info_issuer_chain: responses.tcb_info_issuer_chain.to_owned(),
            tcb_info: tcb_info.body.get().to_owned(),
            tcb_info_signature: signature("the TCB info", &tcb_info.signature)?,
            qe_identity_issuer_chain: responses.qe_identity_issuer_chain.to_owned(),
            qe_identity: qe_identity.body.get().to_owned(),
            qe_identity_signature: signature("the QE identity", &qe_identity.signature)?,
        })
    }

    /// When the first of its parts must be replaced: the earliest `nextUpdate`. `None` if a part does not say so. Nothing
    /// is verified.
    pub fn next_update(&self) -> Option<SystemTime> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Dated {
            next_update: String,
        }
        let body = |json: &str| rfc3339(&serde_json::from_str::<Dated>(json).ok()?.next_update);
        let crl = |der: &[u8]| x509::crl(der).map(|fields| fields.next_update);
        let ends = [body(&self.tcb_info)?, body(&self.qe_identity)?, crl(&self.root_ca_crl)?, crl(&self.pck_crl)?];
        ends.into_iter().min()
    }

    /// Reads a directory of six files: `tcb_info.json` and `qe_identity.json` as PCS serves them, their common
    /// `tcb_signing_chain.pem`, `pck_crl.der`, `pck_crl_issuer_chain.pem`, `root_ca_crl.der`.
    ///
    /// # Errors
    ///
    /// A file is missing, over 1 MiB, or not what its name says.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, InvalidCollateral> {
        let read = |name: &str| {
            std::fs::read(dir.as_ref().join(name))
                .map_err(|source| InvalidCollateral::File { file: name.to_owned(), source })
        };
        let read_text = |name: &str| {
            String::from_utf8(read(name)?).map_err(|error| InvalidCollateral::File {
                file: name.to_owned(),
                source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
            })
        };
        let tcb_signing_chain = read_text("tcb_signing_chain.pem")?;
        Self::from_pcs(PcsResponses {
            tcb_info: &read("tcb_info.json")?,
            tcb_info_issuer_chain: &tcb_signing_chain,
            qe_identity: &read("qe_identity.json")?,
            qe_identity_issuer_chain: &tcb_signing_chain,
            pck_crl: &read("pck_crl.der")?,
            pck_crl_issuer_chain: &read_text("pck_crl_issuer_chain.pem")?,
            root_ca_crl: &read("root_ca_crl.der")?,
        })
    }
}

impl fmt::Debug for Collateral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collateral")
            .field("tcb_info", &self.tcb_info.len())
            .field("qe_identity", &self.qe_identity.len())
            .field("pck_crl", &self.pck_crl.len())
            .field("root_ca_crl", &self.root_ca_crl.len())
            .finish_non_exhaustive()
    }
}

/// JSON is UTF-8 throughout; `serde_json` looks at the encoding of those members only that it does not ignore.
fn parse<'a, T: Deserialize<'a>>(part: &'static str, json: &'a [u8]) -> Result<T, InvalidCollateral> {
    let text = std::str::from_utf8(json).map_err(serde::de::Error::custom);
    text.and_then(serde_json::from_str).map_err(|source| InvalidCollateral::Json { part, source: cut(source) })
}

/// The error may quote all that it found where something else was expected.
fn cut(error: serde_json::Error) -> serde_json::Error {
    let text = error.to_string();
    if text.len() <= MAX_ERROR_LEN {
        return error;
    }
    serde::de::Error::custom(format!("{} at line {} column {}", excerpt(&text), error.line(), error.column()))
}

fn within(part: &'static str, found: usize, limit: usize) -> Result<(), InvalidCollateral> {
    if found > limit { Err(InvalidCollateral::TooLong { part, limit, found }) } else { Ok(()) }
}

mod hexadecimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::{Hex, hex_bytes};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex_bytes(&text).ok_or_else(|| D::Error::custom("expected an even number of hexadecimal digits"))
    }
}
