//! A strict parser of TDX quotes: versions 4 and 5, with the TD reports of TDX 1.0 and 1.5.
//!
//! Layout: Intel TDX DCAP Quoting Library API, appendix A.3 (quote format) and A.4 (certification data). All integers
//! are little-endian. Every length must fit exactly: bytes after the quote, or inside it but outside any field, are
//! refused.

use bytes::Bytes;

/// Length of the quote header.
const HEADER_LEN: usize = 48;
/// Length of a TDX 1.0 TD report inside a quote.
const TD10_LEN: usize = 584;
/// Length of a TDX 1.5 TD report inside a quote.
const TD15_LEN: usize = 648;
/// Length of a TDREPORT, which a guest gets from TDCALL and which only its own machine can check.
const TDREPORT_LEN: usize = 1024;
/// Length of the SGX report of the quoting enclave.
const QE_REPORT_LEN: usize = 384;
/// ECDSA over P-256, the one attestation key type in use.
const ATTESTATION_KEY_P256: u16 = 2;
const TEE_TYPE_SGX: u32 = 0;
const TEE_TYPE_TDX: u32 = 0x81;
const BODY_SGX: u16 = 1;
const BODY_TD10: u16 = 2;
const BODY_TD15: u16 = 3;
const CERTIFICATION_PCK_CHAIN: u16 = 5;
const CERTIFICATION_QE_REPORT: u16 = 6;
/// Intel's quoting enclave, 939A7233-F79C-4CA9-940A-0DB3957F0607.
const INTEL_QE_VENDOR_ID: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// Most bytes that a quote may have. Real ones have about 5 000.
pub(super) const MAX_QUOTE_LEN: usize = 32 * 1024;

/// A parsed TDX quote. Parsing proves nothing: see [`TdxVerifier`](super::TdxVerifier).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    pub(super) version: u16,
    pub(super) body: TdReport,
    /// Header and body as received: what the attestation key signs.
    pub(super) signed: Bytes,
    pub(super) signature: [u8; 64],
    pub(super) attestation_key: [u8; 64],
    pub(super) qe_report: QeReport,
    pub(super) qe_report_signature: [u8; 64],
    pub(super) qe_auth_data: Bytes,
    /// PEM: PCK certificate, its CA, the root.
    pub(super) pck_chain: Bytes,
}

/// What the TDX module reports about a TD (TDREPORT's TEE_TCB_INFO and TDINFO, as a quote carries them).
///
/// Offsets in the field docs count from the start of the body: byte 48 of a version 4 quote, byte 54 of version 5.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TdReport {
    /// TEE_TCB_SVN (0, 16 bytes): SVNs of the TDX module and SEAM loader at TD launch.
    pub tee_tcb_svn: [u8; 16],
    /// MRSEAM (16, 48 bytes): measurement of the TDX module.
    pub mr_seam: [u8; 48],
    /// MRSIGNERSEAM (64, 48 bytes): signer of the TDX module; zero for Intel's.
    pub mr_signer_seam: [u8; 48],
    /// SEAMATTRIBUTES (112, 8 bytes).
    pub seam_attributes: u64,
    /// TDATTRIBUTES (120, 8 bytes).
    pub td_attributes: u64,
    /// XFAM (128, 8 bytes): extended CPU features that the TD may use.
    pub xfam: u64,
    /// MRTD (136, 48 bytes): measurement of the TD's initial memory.
    pub mr_td: [u8; 48],
    /// MRCONFIGID (184, 48 bytes): host-supplied at launch, signed, not measured.
    pub mr_config_id: [u8; 48],
    /// MROWNER (232, 48 bytes): host-supplied at launch, signed, not measured.
    pub mr_owner: [u8; 48],
    /// MROWNERCONFIG (280, 48 bytes): host-supplied at launch, signed, not measured.
    pub mr_owner_config: [u8; 48],
    /// RTMR0 to RTMR3 (328, 4 × 48 bytes): measurements that the guest extends as it boots.
    pub rtmr: [[u8; 48]; 4],
    /// REPORTDATA (520, 64 bytes).
    pub report_data: [u8; 64],
    /// The fields that only a TDX 1.5 report has.
    pub td15: Option<Td15>,
}

/// The fields that TDX 1.5 adds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Td15 {
    /// TEE_TCB_SVN_2 (584, 16 bytes): SVNs of the module that runs now, after a TD-preserving update.
    pub tee_tcb_svn_2: [u8; 16],
    /// MRSERVICETD (600, 48 bytes): hash of the bound service TDs; zero for none.
    pub mr_service_td: [u8; 48],
}

/// The SGX report of the quoting enclave, 384 bytes (Intel SDM vol. 3D, table "REPORT").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QeReport {
    pub(super) raw: Bytes,
    pub(super) misc_select: [u8; 4],
    pub(super) attributes: [u8; 16],
    pub(super) mr_signer: [u8; 32],
    pub(super) isv_prod_id: u16,
    pub(super) isv_svn: u16,
    pub(super) report_data: [u8; 64],
}

/// Why bytes are not a TDX quote that this crate judges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// More bytes than any quote has.
    #[error("a quote has at most {MAX_QUOTE_LEN} bytes, found {0}")]
    TooLong(usize),
    /// The bytes end inside a field.
    #[error("the quote ends inside {0}")]
    Truncated(&'static str),
    /// Bytes follow the last field of the quote or of one of its parts.
    #[error("{count} bytes follow {part}; a provider strips the kernel's zero padding before it sends a quote")]
    Trailing {
        /// The part that has ended.
        part: &'static str,
        /// How many bytes follow.
        count: usize,
    },
    /// A TDREPORT: authenticated by a MAC that only its own machine can check.
    #[error("a TDREPORT, not a quote: the guest must have it turned into a quote by the quoting enclave")]
    TdReport,
    /// An SGX quote.
    #[error("a quote of an SGX enclave, not of a TD")]
    Sgx,
    /// A field has a value that this crate does not judge.
    #[error("{field}: expected {expected}, found {found}")]
    Unsupported {
        /// The field's name.
        field: &'static str,
        /// What is accepted.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}

impl Quote {
    /// Reads a quote.
    ///
    /// # Errors
    ///
    /// A [`QuoteError`] that names the field; any byte too many or too few is one.
    pub fn parse(bytes: &Bytes) -> Result<Self, QuoteError> {
        if bytes.len() > MAX_QUOTE_LEN {
            return Err(QuoteError::TooLong(bytes.len()));
        }
        if bytes.len() == TDREPORT_LEN && bytes.starts_with(&[0x81, 0, 0]) {
            return Err(QuoteError::TdReport);
        }
        let mut quote = Reader { bytes: bytes.clone() };
        let version = header(&mut quote)?;
        let body = body(&mut quote, version)?;
        let signed = bytes.slice(..bytes.len() - quote.bytes.len());

        let length = quote.length("the length of the signature data")?;
        let mut data = Reader { bytes: quote.take(length, "the signature data")? };
        quote.end("the quote")?;
        let signature = data.array("the quote signature")?;
        let attestation_key = data.array("the attestation key")?;
        let certification = data.certification("certification data", CERTIFICATION_QE_REPORT, "6 (QE report)")?;
        data.end("the signature data")?;

        let mut data = Reader { bytes: certification };
        let qe_report = qe_report(data.take(QE_REPORT_LEN, "the QE report")?)?;
        let qe_report_signature = data.array("the QE report signature")?;
        let length = data.u16("the length of the QE authentication data")?;
        let qe_auth_data = data.take(length.into(), "the QE authentication data")?;
        let pck_chain = data.certification("PCK certification data", CERTIFICATION_PCK_CHAIN, "5 (PCK chain)")?;
        data.end("the QE certification data")?;

        Ok(Self {
            version,
            body,
            signed,
            signature,
            attestation_key,
            qe_report,
            qe_report_signature,
            qe_auth_data,
            pck_chain,
        })
    }

    /// How long the quote at the start of `bytes` says it is, whatever follows it. Nothing else is checked.
    ///
    /// The kernel hands quotes out in a zero-padded buffer: a provider cuts them with this.
    pub fn declared_len(bytes: &[u8]) -> Option<usize> {
        let version = u16::from_le_bytes(*bytes.first_chunk()?);
        let signed = match version {
            4 => HEADER_LEN + TD10_LEN,
            5 => {
                let length = bytes.get(HEADER_LEN + 2..)?.first_chunk()?;
                (HEADER_LEN + 6).checked_add(usize::try_from(u32::from_le_bytes(*length)).ok()?)?
            }
            _ => return None,
        };
        let length = bytes.get(signed..)?.first_chunk()?;
        signed.checked_add(4)?.checked_add(usize::try_from(u32::from_le_bytes(*length)).ok()?)
    }

    /// The quote format's version, 4 or 5.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// What the TDX module reports about the TD.
    pub fn td_report(&self) -> &TdReport {
        &self.body
    }

    /// The PEM chain of the certificate (PCK) that certifies the quoting enclave.
    pub fn pck_chain(&self) -> &Bytes {
        &self.pck_chain
    }
}

/// Reads the header (A.3.1) and returns the version.
fn header(quote: &mut Reader) -> Result<u16, QuoteError> {
    let version = quote.u16("the version")?;
    if version == 3 {
        return Err(QuoteError::Sgx);
    }
    expect("version", "4 or 5", matches!(version, 4 | 5), || version.to_string())?;
    let key_type = quote.u16("the attestation key type")?;
    let tee_type = quote.u32("the TEE type")?;
    if tee_type == TEE_TYPE_SGX {
        return Err(QuoteError::Sgx);
    }
    expect("TEE type", "0x81 (TDX)", tee_type == TEE_TYPE_TDX, || format!("{tee_type:#x}"))?;
    expect("attestation key type", "2 (ECDSA P-256)", key_type == ATTESTATION_KEY_P256, || key_type.to_string())?;
    quote.take(4, "the reserved header field")?;
    let vendor: [u8; 16] = quote.array("the QE vendor id")?;
    expect("QE vendor id", "939a7233f79c4ca9940a0db3957f0607 (Intel)", vendor == INTEL_QE_VENDOR_ID, || {
        crate::report::Hex(&vendor).to_string()
    })?;
    quote.take(20, "the header's user data")?;
    Ok(version)
}

/// Reads the body (A.3.2): bare in version 4, with its type and length before it in version 5.
fn body(quote: &mut Reader, version: u16) -> Result<TdReport, QuoteError> {
    let mut kind = BODY_TD10;
    if version == 5 {
        kind = quote.u16("the body type")?;
        if kind == BODY_SGX {
            return Err(QuoteError::Sgx);
        }
        let expected = match kind {
            BODY_TD10 => TD10_LEN,
            BODY_TD15 => TD15_LEN,
            _ => 0,
        };
        expect("body type", "2 (TD 1.0) or 3 (TD 1.5)", expected != 0, || kind.to_string())?;
        let length = quote.length("the body length")?;
        expect("body length", "584 for TD 1.0, 648 for TD 1.5", length == expected, || length.to_string())?;
    }
    const PART: &str = "the TD report";
    Ok(TdReport {
        tee_tcb_svn: quote.array(PART)?,
        mr_seam: quote.array(PART)?,
        mr_signer_seam: quote.array(PART)?,
        seam_attributes: u64::from_le_bytes(quote.array(PART)?),
        td_attributes: u64::from_le_bytes(quote.array(PART)?),
        xfam: u64::from_le_bytes(quote.array(PART)?),
        mr_td: quote.array(PART)?,
        mr_config_id: quote.array(PART)?,
        mr_owner: quote.array(PART)?,
        mr_owner_config: quote.array(PART)?,
        rtmr: [quote.array(PART)?, quote.array(PART)?, quote.array(PART)?, quote.array(PART)?],
        report_data: quote.array(PART)?,
        td15: match kind {
            BODY_TD15 => Some(Td15 { tee_tcb_svn_2: quote.array(PART)?, mr_service_td: quote.array(PART)? }),
            _ => None,
        },
    })
}

/// Reads the quoting enclave's report: CPUSVN 16, MISCSELECT 4, 28 reserved, ATTRIBUTES 16, MRENCLAVE 32, 32 reserved,
/// MRSIGNER 32, 96 reserved, ISVPRODID 2, ISVSVN 2, 60 reserved, REPORTDATA 64.
fn qe_report(raw: Bytes) -> Result<QeReport, QuoteError> {
    const PART: &str = "the QE report";
    let mut report = Reader { bytes: raw.clone() };
    report.take(16, PART)?;
    let misc_select = report.array(PART)?;
    report.take(28, PART)?;
    let attributes = report.array(PART)?;
    report.take(32 + 32, PART)?;
    let mr_signer = report.array(PART)?;
    report.take(96, PART)?;
    let isv_prod_id = report.u16(PART)?;
    let isv_svn = report.u16(PART)?;
    report.take(60, PART)?;
    let report_data = report.array(PART)?;
    report.end(PART)?;
    Ok(QeReport { raw, misc_select, attributes, mr_signer, isv_prod_id, isv_svn, report_data })
}

fn expect(
    field: &'static str,
    expected: &'static str,
    holds: bool,
    found: impl FnOnce() -> String,
) -> Result<(), QuoteError> {
    if holds { Ok(()) } else { Err(QuoteError::Unsupported { field, expected, found: found() }) }
}

struct Reader {
    bytes: Bytes,
}

impl Reader {
    fn take(&mut self, count: usize, part: &'static str) -> Result<Bytes, QuoteError> {
        if count > self.bytes.len() {
            return Err(QuoteError::Truncated(part));
        }
        Ok(self.bytes.split_to(count))
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], QuoteError> {
        self.take(N, part)?.as_ref().try_into().map_err(|_| QuoteError::Truncated(part))
    }

    fn u16(&mut self, part: &'static str) -> Result<u16, QuoteError> {
        self.array(part).map(u16::from_le_bytes)
    }

    fn u32(&mut self, part: &'static str) -> Result<u32, QuoteError> {
        self.array(part).map(u32::from_le_bytes)
    }

    fn length(&mut self, part: &'static str) -> Result<usize, QuoteError> {
        usize::try_from(self.u32(part)?).map_err(|_| QuoteError::Truncated(part))
    }

    fn certification(&mut self, part: &'static str, kind: u16, expected: &'static str) -> Result<Bytes, QuoteError> {
        let found = self.u16(part)?;
        expect("certification data type", expected, found == kind, || found.to_string())?;
        let length = self.length(part)?;
        self.take(length, part)
    }

    fn end(self, part: &'static str) -> Result<(), QuoteError> {
        match self.bytes.len() {
            0 => Ok(()),
            count => Err(QuoteError::Trailing { part, count }),
        }
    }
}
