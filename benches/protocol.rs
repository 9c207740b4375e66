//! The protocol's pieces: batches of 256 and 65 536 leaves and their proofs, fields written and read, evidence encoded and decoded.
//!
//! `cargo bench --all-features --bench protocol`

#![allow(missing_docs, clippy::unwrap_used, clippy::as_conversions)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tower_attest::protocol::{
    BatchProof, BatchTree, Evidence, KeyDocument, KeyDocumentFields, KeysDigest, MAX_HAVE, NonceHeader, ReportHeader,
};
use tower_attest::{Nonce, Platform, Report};

fn leaves(count: usize) -> Vec<[u8; 48]> {
    (0..count)
        .map(|number| {
            let mut leaf = [0; 48];
            leaf.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, value)| *byte = value);
            leaf
        })
        .collect()
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    group.sample_size(20);
    for count in [256, 65_536] {
        let all = leaves(count);
        group.bench_function(format!("tree of {count} leaves"), |b| {
            b.iter_batched(|| all.clone(), |leaves| BatchTree::new(leaves).unwrap(), BatchSize::LargeInput);
        });
        let tree = BatchTree::new(all.clone()).unwrap();
        let proof = tree.proof(count / 3).unwrap();
        let (leaf, bytes) = (all.get(count / 3).unwrap(), proof.encode());
        assert_eq!(proof.report_data(&Platform::SNP, leaf), tree.report_data(&Platform::SNP));
        group.bench_function(format!("proof of 1 in {count}, {} bytes: made", bytes.len()), |b| {
            b.iter(|| tree.proof(black_box(count / 3)).unwrap().encode());
        });
        group.bench_function(format!("proof of 1 in {count}: decoded and led to REPORTDATA"), |b| {
            b.iter(|| BatchProof::decode(black_box(&bytes)).unwrap().report_data(&Platform::SNP, leaf));
        });
    }
    group.finish();
}

/// As a Genoa guest sends it from a batch of 256, the VEK with it.
fn evidence() -> Evidence {
    let fields = KeyDocumentFields::new([1; 16], 1, vec!["prover.example".to_owned()], [2; 32]);
    let keys = KeyDocument::build(fields).unwrap();
    let report = Report::new(Platform::SNP, vec![3; 1184]).with_vek(vec![4; 1360]);
    let batch = BatchTree::new(leaves(256)).unwrap().proof(7).unwrap();
    Evidence { report, keys: keys.bytes().clone(), batch }
}

fn fields(c: &mut Criterion) {
    let mut group = c.benchmark_group("fields");
    let digests = |count: usize| (0..count).map(|number| KeysDigest::of(&[number as u8])).collect::<Vec<_>>();
    for have in [1, MAX_HAVE] {
        let header = NonceHeader { nonce: Nonce::from_bytes([7; 32]), have: digests(have), bind: true };
        let value = header.to_value();
        group.bench_function(format!("Attestation-Nonce, have {have}: written"), |b| {
            b.iter(|| black_box(&header).to_value());
        });
        group.bench_function(format!("Attestation-Nonce, have {have}: parsed"), |b| {
            b.iter(|| NonceHeader::parse(black_box(value.as_bytes())).unwrap());
        });
    }
    let cbor = Bytes::from(evidence().to_cbor());
    for (name, evidence) in [("bare", None), ("with evidence", Some(cbor))] {
        let header = ReportHeader { keys: KeysDigest::of(b"keys"), sig: [9; 64], evidence };
        let value = header.to_value();
        group.bench_function(format!("Attestation-Report, {name}, {} bytes: written", value.len()), |b| {
            b.iter(|| black_box(&header).to_value());
        });
        group.bench_function(format!("Attestation-Report, {name}: parsed"), |b| {
            b.iter(|| ReportHeader::parse(black_box(value.as_bytes())).unwrap());
        });
    }
    group.finish();
}

fn encodings(c: &mut Criterion) {
    let mut group = c.benchmark_group("evidence");
    let (evidence, platforms) = (evidence(), [Platform::SNP]);
    let (cbor, json) = (evidence.to_cbor(), evidence.to_json());
    group.bench_function(format!("CBOR, {} bytes: encoded", cbor.len()), |b| b.iter(|| black_box(&evidence).to_cbor()));
    group.bench_function("CBOR: decoded", |b| {
        b.iter(|| Evidence::from_cbor(black_box(&cbor), &platforms).unwrap());
    });
    group.bench_function(format!("JSON, {} bytes: encoded", json.len()), |b| b.iter(|| black_box(&evidence).to_json()));
    group.bench_function("JSON: decoded", |b| {
        b.iter(|| Evidence::from_json(black_box(&json), &platforms).unwrap());
    });
    group.bench_function("key document: parsed and hashed", |b| {
        b.iter(|| KeyDocument::parse(black_box(evidence.keys.clone())).unwrap());
    });
    group.finish();
}

criterion_group!(benches, batches, fields, encodings);
criterion_main!(benches);
