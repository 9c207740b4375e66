//! `inspect`: shows what a file is and says, and judges it where it is told by what.

mod der;
mod endorsements;
mod event_log;
mod evidence;
mod input;
mod other;
mod recognise;
mod snp;
mod tdx;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tower_attest::{Platform, Report};

use self::input::Judging;
use self::recognise::{Artefact, recognise};
use crate::failure::{REFUSED, UNDECIDED};
use crate::policy_file::PolicyFile;
use crate::show::{self, Format, Page, Section};

pub(crate) use self::endorsements::{Details, Endorsed, Endorsements, NotGenuine};
pub(crate) use self::input::{NonceArgument, nonce, read};

const EXAMPLES: &str = "\
One of --vek, --crl, --collateral, --event-log, --policy, --nonce and --at asks
for a verdict; without --policy it is about genuineness alone.

Exit codes: 0 shown or accepted, 1 refused, 2 unreadable.

Examples:
  tower-attest inspect report.bin
  tower-attest inspect report.bin --vek vcek.der --policy policy.toml
  tower-attest inspect quote.bin --collateral DIR --at 2026-01-01T00:00:00Z
  curl -si https://prover.example | tower-attest inspect -";

/// Shows reports, quotes, evidence, certificates, header fields and policies, and judges them.
///
/// What a file is, is recognised by its content.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Inspect {
    /// Files, in binary, PEM, hexadecimal or base64; `-` is standard input.
    #[arg(value_name = "FILE", required_unless_present_any = ["report", "quote"])]
    files: Vec<PathBuf>,
    /// An SEV-SNP report to judge, whatever its content looks like.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// A TDX quote to judge, whatever its content looks like.
    #[arg(long, value_name = "FILE")]
    quote: Option<PathBuf>,
    #[command(flatten)]
    endorsements: Endorsements,
    /// The event log (CCEL) that must lead to the RTMRs of a TDX quote.
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    /// The policy that the report must satisfy.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The nonce that evidence must be for: 32 bytes in hexadecimal or base64.
    #[arg(long, value_parser = nonce)]
    nonce: Option<NonceArgument>,
    /// Write JSON, one object per file.
    #[arg(long)]
    json: bool,
}

/// What became of a file, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Shown,
    Refused,
    Unreadable,
}

impl Inspect {
    pub(crate) fn run(&self) -> ExitCode {
        let format = if self.json { Format::Json } else { Format::Text };
        let judging = match self.judging() {
            Ok(judging) => judging,
            Err(message) => {
                show::problem(format, "nothing is judged", None, &message);
                return ExitCode::from(UNDECIDED);
            }
        };
        let forced = [(&self.report, Platform::SNP), (&self.quote, Platform::TDX)];
        let forced = forced.into_iter().filter_map(|(path, platform)| Some((path.as_deref()?, Some(platform))));
        let files = self.files.iter().map(|path| (path.as_path(), None)).chain(forced);
        let mut worst = Outcome::Shown;
        for (position, (path, platform)) in files.enumerate() {
            if position > 0 && format == Format::Text {
                anstream::println!();
            }
            worst = worst.max(inspect(path, platform, &judging, format));
        }
        match worst {
            Outcome::Shown => ExitCode::SUCCESS,
            Outcome::Refused => ExitCode::from(REFUSED),
            Outcome::Unreadable => ExitCode::from(UNDECIDED),
        }
    }

    fn judging(&self) -> Result<Judging, String> {
        let judging = self.endorsements.open()?;
        let asked = judging.asked || self.event_log.is_some() || self.policy.is_some() || self.nonce.is_some();
        let policy = self.policy.as_deref().map(input::policy).transpose()?;
        let event_log = self.event_log.as_deref().map(event_log::open).transpose()?;
        Ok(Judging { asked, event_log, policy, nonce: self.nonce.clone(), ..judging })
    }
}

fn inspect(path: &Path, platform: Option<Platform>, judging: &Judging, format: Format) -> Outcome {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let artefact = input::read(path).and_then(|bytes| match platform {
        Some(platform) => Ok((Artefact::Report(Report::new(platform, bytes)), judging.in_any_case())),
        None => Ok((recognise(&bytes).ok_or_else(|| unrecognised(&bytes))?, judging.clone())),
    });
    let (artefact, judging) = match artefact {
        Ok(found) => found,
        Err(message) => {
            show::problem(format, &name, None, &message);
            return Outcome::Unreadable;
        }
    };
    let (kind, title) = artefact.kind();
    let mut page = Page::new(kind, title, name.as_str());
    match fill(&mut page, &artefact, &judging) {
        Ok(()) => {
            page.print(format);
            if page.accepted() == Some(false) { Outcome::Refused } else { Outcome::Shown }
        }
        Err(message) => {
            show::problem(format, &name, Some((kind, title)), &message);
            Outcome::Unreadable
        }
    }
}

/// An error is something that is recognised and cannot be shown or judged.
fn fill(page: &mut Page, artefact: &Artefact, judging: &Judging) -> Result<(), String> {
    match artefact {
        Artefact::Report(report) if *report.platform() == Platform::SNP => snp::report(page, report, judging)?,
        Artefact::Report(report) if *report.platform() == Platform::TDX => tdx::quote(page, report, judging)?,
        Artefact::Report(report) => other::mock(page, report, judging),
        Artefact::Evidence(encoded) => evidence::evidence(page, encoded, judging)?,
        Artefact::Header(value) => evidence::header(page, value, judging)?,
        Artefact::CertTable(bytes) => snp::table(page, bytes, judging)?,
        Artefact::Vek(der) => snp::vek(page, der, judging)?,
        Artefact::Certificates(list) => other::certificates(page, list)?,
        Artefact::Crls(list) => other::crls(page, list)?,
        Artefact::Keys(bytes) => other::keys(page, bytes)?,
        Artefact::Collateral(json) => other::collateral(page, json)?,
        Artefact::Signed(statement) => page.push(other::signed(statement)),
        Artefact::Policy(text) => {
            PolicyFile::parse(text)?.sections().into_iter().for_each(|section| page.push(section))
        }
        Artefact::Foreign(foreign) => other::foreign(page, foreign, judging),
    }
    Ok(())
}

/// The section that says when something is judged.
fn judged_at(judging: &Judging) -> Section {
    let mut section = Section::new("Judged");
    section.field("at", show::time(judging.at));
    section.field("by the roots of", if judging.simulator { "the simulator (NOT hardware)" } else { "AMD and Intel" });
    section
}

fn unrecognised(bytes: &[u8]) -> String {
    format!(
        "expected an SNP report, a TDX quote, evidence, a certificate table, a certificate or revocation list, \
         collateral, a key document, an Attestation-Report field or a policy, found {} bytes of something else",
        bytes.len()
    )
}

#[cfg(test)]
mod tests;
