//! What a file is judged by, as the command line gives it.

use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use tower_attest::platform::snp::{CertTable, SigningKey};
use tower_attest::platform::tdx::{Collateral, EventLog};
use tower_attest::{Nonce, Report};

use crate::policy_file::PolicyFile;

/// Longer than anything that this crate reads.
const MAX_FILE_LEN: u64 = 1024 * 1024;

/// What to judge by.
#[derive(Debug, Clone)]
pub(super) struct Judging {
    /// Whether a verdict is asked for at all.
    pub(super) asked: bool,
    pub(super) vek: Option<Vek>,
    pub(super) crls: Vec<Bytes>,
    pub(super) collateral: Option<Collateral>,
    pub(super) event_log: Option<EventLog>,
    pub(super) policy: Option<PolicyFile>,
    pub(super) nonce: Option<NonceArgument>,
    pub(super) at: SystemTime,
    pub(super) simulator: bool,
}

/// Where a report's certificate is.
#[derive(Debug, Clone)]
pub(super) enum Vek {
    Certificate(Bytes),
    Table(Bytes),
}

impl Judging {
    /// The same with a verdict, whether or not one was asked for.
    pub(super) fn in_any_case(&self) -> Self {
        Self { asked: true, ..self.clone() }
    }

    /// The report with the endorsements that were given, in place of those that it came with.
    pub(super) fn endorse(&self, report: &Report, key: Option<SigningKey>) -> Result<Report, String> {
        let mut report = report.clone();
        match &self.vek {
            Some(Vek::Certificate(der)) => report = report.with_vek(der.clone()),
            Some(Vek::Table(table)) => {
                let table = CertTable::parse(table).map_err(|error| format!("--vek: {error}"))?;
                let found = key.map(|key| table.vek(key)).transpose().map_err(|error| format!("--vek: {error}"))?;
                if let Some(der) = found.flatten() {
                    report = report.with_vek(der.into_owned());
                }
            }
            None => {}
        }
        if let Some(collateral) = &self.collateral {
            report = report.with_collateral(collateral.to_json());
        }
        Ok(report)
    }
}

/// A nonce from the command line. It is not shown again.
#[derive(Debug, Clone)]
pub(crate) struct NonceArgument(pub(crate) Nonce);

/// Reads 32 bytes in hexadecimal, base64 or base64url.
pub(crate) fn nonce(text: &str) -> Result<NonceArgument, String> {
    let bytes =
        hex::decode(text).ok().or_else(|| STANDARD.decode(text).ok()).or_else(|| URL_SAFE_NO_PAD.decode(text).ok());
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let nonce = bytes.ok_or("expected 32 bytes in hexadecimal or base64")?;
    Ok(NonceArgument(Nonce::from_bytes(nonce)))
}

/// A file, or standard input for `-`: at most 1 MiB.
pub(crate) fn read(path: &Path) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE_LEN + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes))
    };
    match read {
        Ok(length) if u64::try_from(length).is_ok_and(|length| length <= MAX_FILE_LEN) => Ok(bytes.into()),
        Ok(_) => Err("expected at most 1 MiB, found more".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A policy file.
pub(super) fn policy(path: &Path) -> Result<PolicyFile, String> {
    let told = |error: String| format!("--policy {}: {error}", path.display());
    let text = String::from_utf8(read(path).map_err(told)?.to_vec()).map_err(|error| told(error.to_string()))?;
    PolicyFile::parse(&text).map_err(told)
}
