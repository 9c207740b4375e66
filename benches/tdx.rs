//! What verifying a TDX quote costs beyond its signatures, on simulated evidence (real formats, real key sizes).
//!
//! ```sh
//! cargo bench --all-features --bench tdx
//! ```
//!
//! Goals: with warm collateral a new quote within 1.8 of its own two P-256 checks and its parsing; with nothing remembered
//! within 1.35 of the nine checks behind it. `tools/dcap-oracle` measures the same against stock `dcap-qvl`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use bytes::Bytes;
use serde_json::Value;
use tower_attest::platform::tdx::sim::{SimulatedIntel, SimulatedTd};
use tower_attest::platform::tdx::{Collateral, MemoryCollateral, Quote, TdxPolicy, TdxVerifier};
use tower_attest::{Platform, Report, ReportVerifier};

#[path = "support/chain.rs"]
mod chain;
#[path = "support/pair.rs"]
mod pair;
use chain::with_chain_of;
use pair::{ROUNDS, pair};

const MRTD: [u8; 48] = [0xab; 48];

fn main() {
    let intel = SimulatedIntel::new();
    let now = UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 86_400);
    let collateral = intel.collateral().build();
    let td = SimulatedTd::new(MRTD);
    // A new quote for each round, since each has a signature of its own; all of one machine.
    let first = td.quote(&[0; 64]);
    let quote = |round| with_chain_of(&first, &td.quote(&[u8::try_from(round % 251).unwrap(); 64]));
    let quotes: Vec<Bytes> = (0..ROUNDS).map(|round| quote(round).into()).collect();
    let reports: Vec<Report> = quotes.iter().map(|quote| Report::new(Platform::TDX, quote.clone())).collect();
    let floor = Floor::new(&collateral);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let verify = |verifier: &TdxVerifier, report: &Report, now: SystemTime| {
        runtime.block_on(verifier.verify(black_box(report), now)).expect("a genuine quote");
    };
    let verifier = || {
        TdxVerifier::trusting_simulator(TdxPolicy::pin(MRTD), &intel)
            .with_collateral_source(MemoryCollateral::new(collateral.clone()))
    };

    let warm = verifier();
    pair(
        "warm collateral, a new quote, against its two P-256 signatures and parsing it",
        |round| {
            Quote::parse(black_box(&quotes[round])).expect("a quote");
            floor.verify(&floor.quote);
        },
        |round| verify(&warm, &reports[round], now),
    );
    pair(
        "cold: nothing remembered, against nine P-256 signatures and parsing the quote",
        |round| {
            Quote::parse(black_box(&quotes[round])).expect("a quote");
            floor.verify(&floor.quote);
            floor.verify(&floor.collateral);
        },
        |round| verify(&verifier(), &reports[round], now),
    );
}

/// P-256 signatures over messages of the lengths that are signed.
struct Floor {
    key: Vec<u8>,
    /// The QE report and the quote.
    quote: Vec<(Vec<u8>, Vec<u8>)>,
    /// Both CRLs, the TCB signer, TCB info, QE identity, the PCK CA, the PCK certificate.
    collateral: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Floor {
    fn new(collateral: &Collateral) -> Self {
        let members: Value = serde_json::from_slice(&collateral.to_json()).expect("JSON");
        let text = |member: &str| members[member].as_str().expect("text").len();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let signed = |lengths: &[usize]| {
            let sign = |length: &usize| {
                let message = vec![0x5a; *length];
                let signature = key.sign(&SystemRandom::new(), &message).expect("a signature").as_ref().to_vec();
                (message, signature)
            };
            lengths.iter().map(sign).collect()
        };
        let certificates = [650, 650, 1_100];
        let lists = [text("root_ca_crl") / 2, text("pck_crl") / 2];
        let bodies = [text("tcb_info"), text("qe_identity")];
        Self {
            quote: signed(&[384, 632]),
            collateral: signed(&[lists, bodies].concat().into_iter().chain(certificates).collect::<Vec<_>>()),
            key: key.public_key().as_ref().to_vec(),
        }
    }

    fn verify(&self, signed: &[(Vec<u8>, Vec<u8>)]) {
        for (message, signature) in signed {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.key);
            key.verify(black_box(message), signature).expect("a good signature");
        }
    }
}
