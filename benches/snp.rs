//! What verifying a SEV-SNP report costs beyond its signatures, on simulated evidence (real formats, real key sizes).
//!
//! ```sh
//! cargo bench --all-features --bench snp
//! ```
//!
//! Goals: cold within 1.15 of its raw signature checks, warm within 1.10 of one.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;
#[path = "support/snp_signatures.rs"]
mod snp_signatures;

use std::hint::black_box;
use std::time::SystemTime;

use pair::pair;
use snp_signatures::Signatures;
use tower_attest::ReportVerifier;
use tower_attest::platform::snp::sim::{SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::platform::snp::{Genuineness, Product, SnpPolicy, SnpVerifier};

fn main() {
    let amd = SimulatedAmd::new();
    let measurement = [0x4d; 48];
    let guest = SimulatedGuest::new(Product::Genoa).with_measurement(measurement);
    let report = SimProvider::new(guest).make(&[7; 64]);
    let now = SystemTime::now();
    let signatures = Signatures::of(&report, &amd);

    pair(
        "cold: nothing remembered, against its three signatures",
        |_| signatures.verify(3),
        |_| {
            let fresh = Genuineness::trusting_simulator(&amd);
            fresh.check(black_box(&report), now).expect("a genuine report");
        },
    );
    let warm = Genuineness::trusting_simulator(&amd);
    pair(
        "warm: the chain remembered, against one P-384 signature",
        |_| signatures.verify(1),
        |_| {
            warm.check(black_box(&report), now).expect("a genuine report");
        },
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let verifier = SnpVerifier::trusting_simulator(SnpPolicy::pin_named("bench", measurement), &amd);
    pair(
        "warm verifier: with policy and claims, against one P-384 signature",
        |_| signatures.verify(1),
        |_| {
            runtime.block_on(verifier.verify(black_box(&report), now)).expect("an accepted report");
        },
    );
}
