//! A Miden wallet proves a transaction at Miden's own remote prover, attested in four ways, and is then shown each
//! attack. `../run.sh` builds what it needs and runs it.

mod batches;
mod measure;
mod processes;
mod refusals;
mod relay;
mod setup;
mod table;
mod ways;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use wallet::{Result, Wallet};

#[derive(Debug, Parser)]
struct Arguments {
    /// The published `miden-remote-prover`.
    #[arg(long)]
    miden_remote_prover: PathBuf,
    /// `tower-attest`, built with the feature `cli`.
    #[arg(long)]
    tower_attest: PathBuf,
    /// Real proofs per way; the table shows their median.
    #[arg(long, default_value_t = 3)]
    proofs: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(surprises) => {
            eprintln!("{surprises} outcomes were not as expected");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("failed: {}", wallet::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// How many outcomes were not as expected.
async fn run(arguments: Arguments) -> Result<usize> {
    let setup = setup::Setup::start(&arguments.miden_remote_prover, &arguments.tower_attest).await?;
    let mut wallet =
        Wallet::new(ways::channel(&setup, setup.server.address.port(), setup::MEASUREMENT)?.prover).await?;
    println!("\nA wallet mints: {} bytes of witness, {} of proof\n", wallet.witness().len(), wallet.proof_len().await?);
    let rows = measure::all_ways(&setup, &wallet, arguments.proofs).await?;
    table::ways(&rows);
    batches::prove(&setup, &mut wallet).await?;
    println!(
        "\nA batch with this transaction, by `ChannelProver` and by the published client, and a block with that batch:"
    );
    println!("proved behind `serve` as well. The proof of another batch was refused.\n");
    let outcomes = refusals::all(&setup, &wallet).await?;
    wallet.submit().await?;
    println!("The wallet's own submit_new_transaction, proved over the channel: committed in a block\n");
    Ok(table::refusals(&outcomes))
}
