//! What verifying a report costs by stage, SNP and TDX, with nothing remembered and with the chain remembered.
//!
//! `cargo bench --all-features --bench verification > verification.csv`
//!
//! Simulated evidence in the real formats. All stages run in turn, round by round, in one process; the figures are medians. "The
//! rest" is the whole less its signature checks: parsing, comparing, policy. Prints CSV, which `tools/plots.py` draws.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "support/snp_signatures.rs"]
#[allow(dead_code, reason = "another bench checks several at once")]
mod snp_signatures;

use std::hint::black_box;
use std::time::{Instant, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use snp_signatures::Signatures;
use tokio::runtime::Builder;
use tower_attest::ReportVerifier;
use tower_attest::platform::snp::sim::{SimProvider as SnpSim, SimulatedAmd, SimulatedGuest};
use tower_attest::platform::snp::{Product, SnpPolicy, SnpVerifier};
use tower_attest::platform::tdx::sim::{SimProvider as TdxSim, SimulatedIntel, SimulatedTd};
use tower_attest::platform::tdx::{TdxPolicy, TdxVerifier};

const ROUNDS: usize = 300;

fn main() {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let (measurement, now) = ([0x4d; 48], SystemTime::now());

    let amd = SimulatedAmd::new();
    let snp_report = SnpSim::new(SimulatedGuest::new(Product::Genoa).with_measurement(measurement)).make(&[7; 64]);
    let Signatures([by_vek, by_ask, by_ark]) = Signatures::of(&snp_report, &amd);
    let snp = || SnpVerifier::trusting_simulator(SnpPolicy::pin_named("bench", measurement), &amd);
    let snp_warm = snp();

    let intel = SimulatedIntel::new();
    let stapled = intel.collateral().issued_at(now);
    let tdx_report = TdxSim::new(SimulatedTd::new(measurement)).stapling(stapled).make(&[7; 64]);
    let tdx = || TdxVerifier::trusting_simulator(TdxPolicy::pin(measurement), &intel);
    let tdx_warm = tdx();

    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let message = [5; 632];
    let signature = key.sign(&SystemRandom::new(), &message).expect("a signature");
    let p256 = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref().to_vec());

    let medians = in_turn([
        &mut || by_ark.verify(),
        &mut || by_ask.verify(),
        &mut || by_vek.verify(),
        &mut || drop(runtime.block_on(snp().verify(black_box(&snp_report), now)).expect("accepted")),
        &mut || drop(runtime.block_on(snp_warm.verify(black_box(&snp_report), now)).expect("accepted")),
        &mut || p256.verify(black_box(&message), signature.as_ref()).expect("a good signature"),
        &mut || drop(runtime.block_on(tdx().verify(black_box(&tdx_report), now)).expect("accepted")),
        &mut || drop(runtime.block_on(tdx_warm.verify(black_box(&tdx_report), now)).expect("accepted")),
    ]);
    let [ark, ask, vek, snp_cold, snp_warm, p256, tdx_cold, tdx_warm] = medians;
    println!("platform,path,stage,us");
    println!("SNP,cold,ARK over ASK (RSA-4096),{ark:.1}");
    println!("SNP,cold,ASK over VEK (RSA-4096),{ask:.1}");
    println!("SNP,cold,VEK over report (P-384),{vek:.1}");
    println!("SNP,cold,the rest,{:.1}", snp_cold - ark - ask - vek);
    println!("SNP,warm,VEK over report (P-384),{vek:.1}");
    println!("SNP,warm,the rest,{:.1}", snp_warm - vek);
    println!("TDX,cold,nine of P-256,{:.1}", 9.0 * p256);
    println!("TDX,cold,the rest,{:.1}", tdx_cold - 9.0 * p256);
    println!("TDX,warm,one of P-256,{p256:.1}");
    println!("TDX,warm,the rest,{:.1}", tdx_warm - p256);
}

/// The median time of each in microseconds.
fn in_turn<const N: usize>(mut stages: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut times = [(); N].map(|()| Vec::with_capacity(ROUNDS));
    // The first rounds fill caches.
    for round in 0..ROUNDS + ROUNDS / 10 {
        for (stage, times) in stages.iter_mut().zip(&mut times) {
            let start = Instant::now();
            stage();
            if round >= ROUNDS / 10 {
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}
