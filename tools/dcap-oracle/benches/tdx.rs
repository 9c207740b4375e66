//! tower-attest against stock `dcap-qvl` over the same cryptography (aws-lc-rs), on simulated quotes of a real size.
//!
//! ```sh
//! cargo bench -p dcap-oracle --bench tdx
//! ```
//!
//! Each pair is measured in one process, alternately; the figures are those of `benches/tdx.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dcap_oracle::{Oracle, collateral};
use tower_attest::platform::tdx::sim::{SimulatedIntel, SimulatedTd};
use tower_attest::platform::tdx::{MemoryCollateral, TdxPolicy, TdxVerifier};
use tower_attest::{Platform, Report, ReportVerifier};

#[path = "../../../benches/support/chain.rs"]
mod chain;
#[path = "../../../benches/support/pair.rs"]
mod pair;
use chain::with_chain_of;
use pair::{ROUNDS, pair};

fn main() {
    let intel = SimulatedIntel::new();
    let now = UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 86_400);
    let stapled = intel.collateral().build();
    let theirs = collateral(&stapled.to_json()).expect("the same form");
    let oracle = Oracle::new(&intel.root());
    let td = SimulatedTd::new([0xab; 48]);
    // A new quote for each round, as each has a signature of its own; all of one machine.
    let first = td.quote(&[0; 64]);
    let quote = |round| with_chain_of(&first, &td.quote(&[u8::try_from(round % 251).unwrap(); 64]));
    let quotes: Vec<Vec<u8>> = (0..ROUNDS).map(quote).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let verify = |verifier: &TdxVerifier, report: &Report, now: SystemTime| {
        runtime.block_on(verifier.verify(black_box(report), now)).expect("a genuine quote");
    };
    let reports: Vec<Report> = quotes.iter().map(|quote| Report::new(Platform::TDX, quote.clone())).collect();

    let warm = TdxVerifier::trusting_simulator(TdxPolicy::pin([0xab; 48]), &intel)
        .with_collateral_source(MemoryCollateral::new(stapled.clone()));
    pair(
        "a new quote with warm collateral, against dcap-qvl",
        |round| drop(oracle.judge(black_box(&quotes[round]), &theirs, now).expect("a genuine quote")),
        |round| verify(&warm, &reports[round], now),
    );
    pair(
        "nothing remembered, against dcap-qvl",
        |round| drop(oracle.judge(black_box(&quotes[round]), &theirs, now).expect("a genuine quote")),
        |round| {
            let cold = TdxVerifier::trusting_simulator(TdxPolicy::pin([0xab; 48]), &intel)
                .with_collateral_source(MemoryCollateral::new(stapled.clone()));
            verify(&cold, &reports[round], now);
        },
    );
}
