//! What vouches for a report beside the report itself, and when: the flags that commands on files share.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use clap::Args;
use tower_attest::platform::snp::{ReportView, SnpDetails};
use tower_attest::platform::tdx::{Collateral, TdxDetails};
use tower_attest::protocol::{EvidenceError, ReportHeader};
use tower_attest::{Platform, Report, VerifyError};

use super::input::{Judging, Vek, read};
use super::recognise::{Artefact, Encoded, recognise};
use super::{snp, tdx};

/// What to judge a report by, apart from a policy.
#[derive(Debug, Clone, Args)]
pub(crate) struct Endorsements {
    /// The VCEK or VLEK certificate that signed the report, or the certificate table that holds it.
    #[arg(long, value_name = "FILE")]
    vek: Option<PathBuf>,
    /// AMD's revocation list, one per product.
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// Intel's collateral: a directory with its six files, or one JSON file.
    #[arg(long, value_name = "DIR|FILE")]
    collateral: Option<PathBuf>,
    /// The time to judge at; now, unless given.
    #[arg(long, value_name = "RFC3339", value_parser = humantime::parse_rfc3339)]
    at: Option<SystemTime>,
    /// Trust the simulators of this crate, whose keys everybody knows, in place of AMD and Intel.
    #[arg(long)]
    insecure_simulator: bool,
}

/// A report from a file, and the key document that came with it.
#[derive(Debug)]
pub(crate) struct Endorsed {
    pub(crate) report: Report,
    pub(crate) keys: Option<Bytes>,
}

/// What a genuine report holds.
#[derive(Debug)]
pub(crate) enum Details {
    Snp(SnpDetails),
    Tdx(Box<TdxDetails>),
}

/// Why a report is not genuine, or what keeps it from being judged.
#[derive(Debug)]
pub(crate) enum NotGenuine {
    Refused(VerifyError),
    Unreadable(String),
}

impl Endorsements {
    /// Reads the files. A verdict is asked for if there are any, or a time.
    pub(super) fn open(&self) -> Result<Judging, String> {
        Ok(Judging {
            asked: self.vek.is_some() || !self.crl.is_empty() || self.collateral.is_some() || self.at.is_some(),
            vek: self.vek.as_deref().map(vek).transpose()?,
            crls: self.crl.iter().map(|path| crl(path)).collect::<Result<Vec<_>, _>>()?.concat(),
            collateral: self.collateral.as_deref().map(collateral).transpose()?,
            event_log: None,
            policy: None,
            nonce: None,
            at: self.time(),
            simulator: self.insecure_simulator,
        })
    }

    /// When to judge.
    pub(crate) fn time(&self) -> SystemTime {
        self.at.unwrap_or_else(SystemTime::now)
    }

    /// The report in a file: bare, in evidence, or in a header field.
    pub(crate) fn report_in(&self, path: &Path) -> Result<Endorsed, String> {
        let told = |error: EvidenceError| error.to_string();
        let evidence = match recognise(&read(path)?) {
            Some(Artefact::Report(report)) => return Ok(Endorsed { report, keys: None }),
            Some(Artefact::Evidence(encoded)) => encoded.parse().map_err(told)?,
            Some(Artefact::Header(value)) => {
                let header = ReportHeader::parse(value.as_bytes()).map_err(|error| error.to_string())?;
                let cbor = header.evidence.ok_or("the Attestation-Report field holds no evidence")?;
                Encoded::Cbor(cbor).parse().map_err(told)?
            }
            _ => return Err("expected a report, a quote, evidence or an Attestation-Report field".to_owned()),
        };
        Ok(Endorsed { report: evidence.report, keys: Some(evidence.keys) })
    }

    /// Judges whether the report is genuine, by these endorsements or those that it came with.
    pub(crate) fn authenticate(&self, report: &Report) -> Result<Details, NotGenuine> {
        let judging = self.open().map_err(NotGenuine::Unreadable)?;
        let platform = report.platform();
        if *platform == Platform::SNP {
            let key = ReportView::parse(report.bytes().clone()).ok().map(|view| view.signing_key());
            let report = judging.endorse(report, key).map_err(NotGenuine::Unreadable)?;
            let by = snp::genuineness(&judging).map_err(NotGenuine::Unreadable)?;
            by.authenticate(&report, judging.at).map(Details::Snp).map_err(NotGenuine::Refused)
        } else if *platform == Platform::TDX {
            let report = judging.endorse(&tdx::without_padding(report).0, None).map_err(NotGenuine::Unreadable)?;
            let by = tdx::genuineness(&judging);
            by.authenticate(&report, judging.at)
                .map(|details| Details::Tdx(Box::new(details)))
                .map_err(NotGenuine::Refused)
        } else {
            Err(NotGenuine::Unreadable(format!("expected a report of snp or tdx, found one of {platform}")))
        }
    }
}

/// A certificate that does not parse is not an error here: the page says so, and refuses.
fn vek(path: &Path) -> Result<Vek, String> {
    let bytes = read(path).map_err(|error| format!("--vek {}: {error}", path.display()))?;
    Ok(match recognise(&bytes) {
        Some(Artefact::Vek(der)) => Vek::Certificate(der),
        Some(Artefact::CertTable(table)) => Vek::Table(table),
        _ => Vek::Certificate(bytes),
    })
}

fn crl(path: &Path) -> Result<Vec<Bytes>, String> {
    let bytes = read(path).map_err(|error| format!("--crl {}: {error}", path.display()))?;
    Ok(match recognise(&bytes) {
        Some(Artefact::Crls(list)) => list,
        _ => vec![bytes],
    })
}

fn collateral(path: &Path) -> Result<Collateral, String> {
    let told = |error: String| format!("--collateral {}: {error}", path.display());
    if path.is_dir() {
        return Collateral::from_dir(path).map_err(|error| told(error.to_string()));
    }
    let json = read(path).map_err(told)?;
    Collateral::from_json(&json).map_err(|error| told(error.to_string()))
}
