//! `tower-attest`: attestation for programs that cannot change, and a look at what others attest.
//!
//! Each subcommand is a room of its own. This file knows their names and nothing else.

mod admin;
mod banner;
mod certificates;
mod completions;
mod configuration;
mod connect;
mod der;
mod doctor;
mod failure;
mod inspect;
mod lifecycle;
mod listen;
mod logging;
mod policy;
mod policy_file;
mod proxy;
mod report;
mod serve;
mod show;
mod simulation;
mod trust;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::logging::Logger;

/// Attestation (AMD SEV-SNP, Intel TDX) over HTTP and gRPC.
#[derive(Debug, Parser)]
#[command(name = "tower-attest", version, max_term_width = 80, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done or verified, 1 refused, 2 could not tell or could not start.")]
struct Cli {
    #[command(flatten)]
    logging: logging::Logging,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Connect(Box<connect::Connect>),
    Verify(Box<verify::Verify>),
    Inspect(Box<inspect::Inspect>),
    Policy(policy::Policy),
    Report(report::MakeReport),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let cli = match configuration::parse() {
        Ok(cli) => cli,
        Err(stop) => return stop.report(),
    };
    cli.logging.start(match cli.command {
        Command::Serve(_) | Command::Connect(_) => Logger::Sidecar,
        _ => Logger::Tool,
    });
    let outcome = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Connect(connect) => connect.run(),
        Command::Verify(verify) => verify.run(),
        Command::Inspect(inspect) => Ok(inspect.run()),
        Command::Policy(policy) => policy.run(),
        Command::Report(report) => report.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Completions(completions) => completions.run(),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}
