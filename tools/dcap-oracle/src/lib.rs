//! The `dcap-qvl` crate as a second opinion on TDX quotes, with aws-lc-rs for its cryptography, as we have.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::signature::DerSigEncoder;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::x509::X509CertBackend;
use rustls_pki_types::SignatureVerificationAlgorithm;

/// dcap-qvl's own parts over aws-lc-rs.
pub struct AwsLc;

impl Config for AwsLc {
    type X509 = X509CertBackend;
    type SigEncoder = DerSigEncoder;
    type Crypto = Self;
}

impl CryptoProvider for AwsLc {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        webpki::aws_lc_rs::ECDSA_P256_SHA256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        digest(&SHA256, data).as_ref().try_into().expect("32 bytes")
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        digest(&SHA384, data).as_ref().try_into().expect("48 bytes")
    }
}

/// A verifier that trusts one root.
pub struct Oracle(QuoteVerifier<AwsLc>);

/// What the oracle makes of a quote that it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// The converged TCB status, as Intel spells it.
    pub status: String,
    /// The advisories behind it, sorted.
    pub advisories: Vec<String>,
}

impl Oracle {
    /// Trusts `root` (DER). TDs under debug and with service TDs are let through: those are for a policy to judge.
    pub fn new(root: &[u8]) -> Self {
        Self(QuoteVerifier::new_with_config(root.to_vec()).allow_debug(true).allow_service_td(true))
    }

    /// The opinion on `quote` with `collateral` at `now`, or why there is none.
    pub fn judge(&self, quote: &[u8], collateral: &QuoteCollateralV3, now: SystemTime) -> Result<Opinion, String> {
        let seconds = now.duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
        let report = self.0.verify(quote, collateral, seconds).map_err(|error| format!("{error:#}"))?;
        let mut advisories = report.advisory_ids;
        advisories.sort();
        Ok(Opinion { status: report.status, advisories })
    }
}

/// Collateral in the oracle's type, from the JSON form of ours, which is the same.
pub fn collateral(json: &[u8]) -> Result<QuoteCollateralV3, serde_json::Error> {
    serde_json::from_slice(json)
}
