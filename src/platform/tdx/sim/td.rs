//! A simulated TD and the provider that makes its quotes.

use async_trait::async_trait;

use super::authority::pck_chain;
use super::{CollateralSpec, Key, SimulatedPlatform};
use crate::crypto::sha256;
use crate::platform::tdx::quote::{Td15, TdReport};
use crate::provider::{ProviderError, ReportProvider};
use crate::report::{Platform, Report, ReportData};

/// Intel's quoting enclaves, 939A7233-F79C-4CA9-940A-0DB3957F0607.
const QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
const QE_AUTH_DATA: [u8; 32] = [0x20; 32];

/// The shape of a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum QuoteFormat {
    /// Version 4, which holds a TDX 1.0 report.
    #[default]
    V4,
    /// Version 5 with a TDX 1.0 report.
    V5Td10,
    /// Version 5 with a TDX 1.5 report.
    V5Td15,
}

/// A TD, its machine and its quoting enclave. All of it may be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimulatedTd {
    /// The shape of its quotes.
    pub format: QuoteFormat,
    /// What the TDX module reports. `report_data` is set for each quote; `td15` counts for [`QuoteFormat::V5Td15`] only.
    pub report: TdReport,
    /// The machine.
    pub platform: SimulatedPlatform,
    /// MRSIGNER of the quoting enclave.
    pub qe_mr_signer: [u8; 32],
    /// ATTRIBUTES of the quoting enclave.
    pub qe_attributes: [u8; 16],
    /// MISCSELECT of the quoting enclave.
    pub qe_misc_select: [u8; 4],
    /// ISVPRODID of the quoting enclave.
    pub qe_isv_prod_id: u16,
    /// ISVSVN of the quoting enclave.
    pub qe_isv_svn: u16,
    /// Whether the quoting enclave vouches for the attestation key, as it must.
    pub qe_vouches: bool,
}

impl SimulatedTd {
    /// An up-to-date TD with this MRTD, version 4.
    pub fn new(mr_td: [u8; 48]) -> Self {
        let mut tee_tcb_svn = [3; 16];
        tee_tcb_svn[1] = 1;
        let mut qe_attributes = [0; 16];
        qe_attributes[0] = 0x11;
        Self {
            format: QuoteFormat::V4,
            report: TdReport {
                tee_tcb_svn,
                mr_seam: [0x5e; 48],
                mr_signer_seam: [0; 48],
                seam_attributes: 0,
                td_attributes: 1 << 28,
                xfam: 0x0006_00e7,
                mr_td,
                mr_config_id: [0; 48],
                mr_owner: [0; 48],
                mr_owner_config: [0; 48],
                rtmr: [[0x10; 48], [0x11; 48], [0x12; 48], [0; 48]],
                report_data: [0; 64],
                td15: None,
            },
            platform: SimulatedPlatform::default(),
            qe_mr_signer: [0x51; 32],
            qe_attributes,
            qe_misc_select: [0; 4],
            qe_isv_prod_id: 2,
            qe_isv_svn: 4,
            qe_vouches: true,
        }
    }

    /// Makes quotes of this format; a TDX 1.5 report says that the module has not changed since launch.
    #[must_use]
    pub fn with_format(mut self, format: QuoteFormat) -> Self {
        self.format = format;
        self.report.td15 = (format == QuoteFormat::V5Td15)
            .then_some(Td15 { tee_tcb_svn_2: self.report.tee_tcb_svn, mr_service_td: [0; 48] });
        self
    }

    /// A quote over `report_data`, about 5 000 bytes.
    pub fn quote(&self, report_data: &[u8; 64]) -> Vec<u8> {
        let attestation = Key::Attestation.signer();
        let mut quote = self.header();
        quote.extend(self.body(report_data));
        let signature = attestation.sign(&quote);

        let qe_report = self.qe_report(&attestation.public_key());
        let mut certification = qe_report.clone();
        certification.extend(Key::Pck.signer().sign(&qe_report));
        certification.extend(with_length_u16(&QE_AUTH_DATA));
        certification.extend(5_u16.to_le_bytes());
        certification.extend(with_length_u32(pck_chain(&self.platform).as_bytes()));

        let mut data = signature.to_vec();
        data.extend(attestation.public_key());
        data.extend(6_u16.to_le_bytes());
        data.extend(with_length_u32(&certification));
        quote.extend(with_length_u32(&data));
        quote
    }

    fn header(&self) -> Vec<u8> {
        let version: u16 = if self.format == QuoteFormat::V4 { 4 } else { 5 };
        let mut header = version.to_le_bytes().to_vec();
        header.extend(2_u16.to_le_bytes());
        header.extend(0x81_u32.to_le_bytes());
        header.extend([0; 4]);
        header.extend(QE_VENDOR);
        header.extend([0; 20]);
        header
    }

    fn body(&self, report_data: &[u8; 64]) -> Vec<u8> {
        let report = &self.report;
        let mut body: Vec<u8> = match self.format {
            QuoteFormat::V4 => Vec::new(),
            QuoteFormat::V5Td10 => [&2_u16.to_le_bytes()[..], &584_u32.to_le_bytes()].concat(),
            QuoteFormat::V5Td15 => [&3_u16.to_le_bytes()[..], &648_u32.to_le_bytes()].concat(),
        };
        body.extend(report.tee_tcb_svn);
        body.extend(report.mr_seam);
        body.extend(report.mr_signer_seam);
        body.extend(report.seam_attributes.to_le_bytes());
        body.extend(report.td_attributes.to_le_bytes());
        body.extend(report.xfam.to_le_bytes());
        body.extend(report.mr_td);
        body.extend(report.mr_config_id);
        body.extend(report.mr_owner);
        body.extend(report.mr_owner_config);
        body.extend(report.rtmr.as_flattened());
        body.extend(report_data);
        if let (QuoteFormat::V5Td15, Some(td15)) = (self.format, &report.td15) {
            body.extend(td15.tee_tcb_svn_2);
            body.extend(td15.mr_service_td);
        }
        body
    }

    fn qe_report(&self, attestation_key: &[u8; 64]) -> Vec<u8> {
        let mut report = vec![0; 16];
        report.extend(self.qe_misc_select);
        report.extend([0; 28]);
        report.extend(self.qe_attributes);
        report.extend([0; 32 + 32]);
        report.extend(self.qe_mr_signer);
        report.extend([0; 96]);
        report.extend(self.qe_isv_prod_id.to_le_bytes());
        report.extend(self.qe_isv_svn.to_le_bytes());
        report.extend([0; 60]);
        report.extend(if self.qe_vouches { sha256(&[attestation_key, &QE_AUTH_DATA]) } else { [0; 32] });
        report.extend([0; 32]);
        report
    }
}

/// Lengths here are below 64 KiB by construction.
fn with_length_u16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap_or_default().to_le_bytes(), bytes].concat()
}

fn with_length_u32(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap_or_default().to_le_bytes(), bytes].concat()
}

/// Makes quotes of a [`SimulatedTd`].
#[derive(Debug, Clone)]
pub struct SimProvider {
    td: SimulatedTd,
    collateral: Option<Vec<u8>>,
}

impl SimProvider {
    /// Quotes of this TD, without collateral.
    pub fn new(td: SimulatedTd) -> Self {
        Self { td, collateral: None }
    }

    /// Staples this collateral to every quote.
    #[must_use]
    pub fn stapling(mut self, collateral: CollateralSpec) -> Self {
        self.collateral = Some(collateral.build().to_json());
        self
    }

    /// A quote over data of one's choosing.
    pub fn make(&self, report_data: &[u8; 64]) -> Report {
        let report = Report::new(Platform::TDX, self.td.quote(report_data));
        match &self.collateral {
            Some(json) => report.with_collateral(json.clone()),
            None => report,
        }
    }
}

#[async_trait]
impl ReportProvider for SimProvider {
    fn platform(&self) -> Platform {
        Platform::TDX
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        Ok(self.make(data.as_bytes()))
    }
}
