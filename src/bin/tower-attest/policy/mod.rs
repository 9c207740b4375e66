//! `policy`: writes a policy from what is seen, and checks one that was written.

mod seen;
mod snp;
mod tdx;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tower_attest::protocol::KeyDocument;

use self::seen::{Origin, Seen};
use crate::failure::Failure;
use crate::inspect::{Details, Endorsed, Endorsements, NotGenuine, read};
use crate::policy_file::PolicyFile;
use crate::show::{Format, Page, time};

/// Writes a policy from evidence, or checks one.
#[derive(Debug, Args)]
pub(crate) struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(Box<New>),
    Check(Check),
}

const NEW_EXAMPLES: &str = "\
The evidence must be genuine. What it holds is then pinned as it is: trust on
first use. Compare the measurement with one that you computed yourself.

Exit codes: 0 written, 1 the evidence is refused, 2 it cannot be had or read.

Examples:
  tower-attest policy new --from https://prover.example > policy.toml
  tower-attest policy new --from report.bin --vek vcek.der -o policy.toml
  tower-attest policy new --from quote.bin --collateral DIR";

/// Writes a commented policy file that pins what a server or a file shows now.
#[derive(Debug, Args)]
#[command(after_long_help = NEW_EXAMPLES)]
struct New {
    /// https://HOST of a server, or a file with a report, a quote or evidence; `-` is standard input.
    #[arg(long, value_name = "URL|FILE")]
    from: String,
    /// What to call the measurement. Default: the time at which it was seen.
    #[arg(long)]
    measurement_name: Option<String>,
    /// The file to write, which must not exist yet. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    endorsements: Endorsements,
    #[command(flatten)]
    origin: Origin,
}

const CHECK_EXAMPLES: &str = "\
Exit codes: 0 it can be applied, 2 it cannot.

Examples:
  tower-attest policy check policy.toml
  tower-attest policy check policy.toml --json";

/// Reads a policy file, and says what it accepts and what it leaves open.
#[derive(Debug, Args)]
#[command(after_long_help = CHECK_EXAMPLES)]
struct Check {
    /// The policy; `-` is standard input.
    file: PathBuf,
    /// Write JSON.
    #[arg(long)]
    json: bool,
}

impl Policy {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::New(new) => new.run(),
            Command::Check(check) => check.run(),
        }
    }
}

impl Check {
    fn run(&self) -> Result<ExitCode, Failure> {
        let told = |error: String| Failure::undecided(format_args!("{}: {error}", self.file.display()));
        let bytes = read(&self.file).map_err(told)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| told(error.to_string()))?;
        let policy = PolicyFile::parse(text).map_err(told)?;
        let mut page = Page::new("policy", "Policy", self.file.display().to_string());
        policy.sections().into_iter().for_each(|section| page.push(section));
        page.print(if self.json { Format::Json } else { Format::Text });
        Ok(ExitCode::SUCCESS)
    }
}

impl New {
    fn run(&self) -> Result<ExitCode, Failure> {
        let seen =
            if self.from.contains("://") { self.origin.ask(&self.from, &self.endorsements)? } else { self.file()? };
        let text = self.text(&seen)?;
        match &self.output {
            Some(path) => write_new(path, &text)?,
            None => anstream::print!("{text}"),
        }
        anstream::eprintln!(
            "warning: trust on first use: this policy pins what was seen, right or wrong. Compare the measurement \
             with one that you computed, or that its publisher signed."
        );
        Ok(ExitCode::SUCCESS)
    }

    fn file(&self) -> Result<Seen, Failure> {
        let path = Path::new(&self.from);
        let told = |error: String| Failure::undecided(format_args!("{}: {error}", self.from));
        let Endorsed { report, keys } = self.endorsements.report_in(path).map_err(told)?;
        let details = self.endorsements.authenticate(&report).map_err(|error| match error {
            NotGenuine::Refused(refusal) => Failure::refused(format_args!("{}: {refusal}", self.from)),
            NotGenuine::Unreadable(message) => told(message),
        })?;
        let keys = keys.map(KeyDocument::parse).transpose().map_err(|error| told(error.to_string()))?;
        let keys = keys.as_ref().map(KeyDocument::fields);
        // Without its nonce, evidence in a file may be anybody's words about names: they are left to the client.
        Ok(Seen { details, name: None, config: keys.and_then(|keys| keys.config), at: self.endorsements.time() })
    }

    /// The file, which accepts what it was made from.
    fn text(&self, seen: &Seen) -> Result<String, Failure> {
        let at = time(seen.at);
        let measurement = self.measurement_name.clone().unwrap_or_else(|| format!("seen {at}"));
        let rules = match &seen.details {
            Details::Snp(details) => snp::section(details, &measurement),
            Details::Tdx(details) => tdx::section(details, &measurement, seen.at),
        };
        let text = format!("{}{}{}", head(&self.from, &at), server(seen), rules.map_err(Failure::refused)?);
        let file = PolicyFile::parse(&text)
            .map_err(|error| Failure::undecided(format_args!("the policy that was written does not parse: {error}")))?;
        let judgement = match &seen.details {
            Details::Snp(details) => file.snp().map(|policy| policy.judge(details)),
            Details::Tdx(details) => file.tdx().map(|policy| policy.judge(details, seen.at)),
        };
        match judgement {
            Some(Ok(judgement)) if judgement.accepted() => Ok(text),
            judgement => Err(Failure::undecided(format_args!(
                "the policy that was written does not accept what it was made from: {judgement:?}"
            ))),
        }
    }
}

fn head(from: &str, at: &str) -> String {
    // A comment ends with its line: nothing in a file's name may become a rule.
    let from: String = from.chars().filter(|c| !c.is_control()).collect();
    format!(
        "# Written by tower-attest {} at {at} from {from}\n\
         #\n\
         # TRUST ON FIRST USE. The evidence is genuine: hardware signed it. That the program in it is the right one is\n\
         # not known. Compare the measurement with one that you computed, or that its publisher signed, before a secret\n\
         # depends on this file (docs/SNP.md, docs/TDX.md).\n\n",
        env!("CARGO_PKG_VERSION"),
    )
}

fn server(seen: &Seen) -> String {
    let mut text = String::from("[server]\n");
    match &seen.name {
        Some(name) => text.push_str(&format!("name = {}\n", quoted(name))),
        None => text.push_str("# The name that the server must answer for.\n# name = \"prover.example\"\n"),
    }
    match &seen.config {
        Some(config) => text.push_str(&format!(
            "# SHA-256 of the server's effective configuration: it changes with every change to that.\nconfig = \"{}\"\n",
            hex::encode(config)
        )),
        None => text.push_str("# The server does not state the digest of its configuration: any will do.\n"),
    }
    text.push('\n');
    text
}

/// A string as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Never over a file that is there: it may be the policy that somebody compared.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let file = std::fs::File::options().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| Failure::during(path.display(), &error))
}
