//! The `sev` crate as a second opinion on SNP reports.

use sev::certs::snp::{Certificate, Chain, Verifiable};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

/// A certificate chain that `sev` has verified.
pub struct Oracle {
    chain: Chain,
}

impl Oracle {
    /// The chain of these three certificates (DER); `None` if `sev` refuses it.
    pub fn new(ark: &[u8], signer: &[u8], vek: &[u8]) -> Option<Self> {
        let chain = Chain::from_der(ark, signer, vek).ok()?;
        chain.verify().ok()?;
        Some(Self { chain })
    }

    /// Whether `sev` parses the report and finds its signature good.
    pub fn accepts(&self, report: &[u8]) -> bool {
        let vek: &Certificate = &self.chain.vek;
        AttestationReport::from_bytes(report).is_ok_and(|report| (vek, &report).verify().is_ok())
    }
}
