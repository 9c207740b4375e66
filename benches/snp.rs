//! What verifying a SEV-SNP report costs beyond its signatures, on simulated evidence (real formats, real key sizes).
//!
//! ```sh
//! cargo bench --all-features --bench snp
//! ```
//!
//! Goals: cold within 1.15 of its raw signature checks, warm within 1.10 of one.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::time::SystemTime;

use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey, VerificationAlgorithm,
};
use tower_attest::platform::snp::sim::{Authority, SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::platform::snp::{Genuineness, Product, SnpPolicy, SnpVerifier};
use tower_attest::{Report, ReportVerifier};

#[path = "support/pair.rs"]
mod pair;
use pair::pair;

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

/// The signatures of one report and its chain, ready for aws-lc-rs: report by VEK, VEK by ASK, ASK by ARK.
struct Signatures([Signature; 3]);

struct Signature {
    algorithm: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Signatures {
    fn of(report: &Report, amd: &SimulatedAmd) -> Self {
        let vek = report.vek().expect("a stapled certificate").to_vec();
        let [ark, ask] = [Authority::Ark, Authority::Ask].map(|authority| amd.certificate(Product::Genoa, authority));
        let bytes = report.bytes();
        let number = |at: usize| bytes[at..at + 48].iter().rev().copied();
        let report_signature = number(0x2a0).chain(number(0x2e8)).collect();
        let rsa =
            |key, (message, signature)| Signature { algorithm: &RSA_PSS_2048_8192_SHA384, key, message, signature };
        let report = Signature {
            algorithm: &ECDSA_P384_SHA384_FIXED,
            key: point(&vek),
            message: bytes[..0x2a0].to_vec(),
            signature: report_signature,
        };
        Self([report, rsa(rsa_key(&ask), split(&vek)), rsa(rsa_key(&ark), split(&ask))])
    }

    fn verify(&self, count: usize) {
        for Signature { algorithm, key, message, signature } in &self.0[..count] {
            UnparsedPublicKey::new(*algorithm, key).verify(black_box(message), signature).expect("a good signature");
        }
    }
}

/// The signed part of a certificate and its signature, which is 512 bytes long.
fn split(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let length = 4 + usize::from(u16::from_be_bytes([der[6], der[7]]));
    (der[4..4 + length].to_vec(), der[der.len() - 512..].to_vec())
}

/// The P-384 point: behind its BIT STRING header.
fn point(der: &[u8]) -> Vec<u8> {
    let at = der.windows(3).position(|window| window == [0x62, 0x00, 0x04]).expect("a P-384 key");
    der[at + 2..at + 99].to_vec()
}

/// RSAPublicKey of 4 096 bits with a three-byte exponent.
fn rsa_key(der: &[u8]) -> Vec<u8> {
    let header = [0x30, 0x82, 0x02, 0x0a, 0x02, 0x82, 0x02, 0x01];
    let at = der.windows(header.len()).position(|window| window == header).expect("an RSA-4096 key");
    der[at..at + 526].to_vec()
}
