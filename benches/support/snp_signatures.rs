//! The raw signatures behind an SNP report, ready to be checked by themselves.

use std::hint::black_box;

use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey, VerificationAlgorithm,
};
use tower_attest::Report;
use tower_attest::platform::snp::Product;
use tower_attest::platform::snp::sim::{Authority, SimulatedAmd};

/// The signatures of one report and its chain, ready for aws-lc-rs: report by VEK, VEK by ASK, ASK by ARK.
pub(crate) struct Signatures(pub(crate) [Signature; 3]);

pub(crate) struct Signature {
    algorithm: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Signatures {
    pub(crate) fn of(report: &Report, amd: &SimulatedAmd) -> Self {
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

    /// Verifies the first so many.
    pub(crate) fn verify(&self, count: usize) {
        self.0[..count].iter().for_each(Signature::verify);
    }
}

impl Signature {
    pub(crate) fn verify(&self) {
        let Self { algorithm, key, message, signature } = self;
        UnparsedPublicKey::new(*algorithm, key).verify(black_box(message), signature).expect("a good signature");
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
