//! Properties of every parser: what is written parses to the same value, and no input panics.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::report::{Platform, Report};

fn bytes(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), length)
}

fn digest() -> impl Strategy<Value = KeysDigest> {
    any::<[u8; 32]>().prop_map(KeysDigest::from_bytes)
}

fn nonce_header() -> impl Strategy<Value = NonceHeader> {
    (any::<[u8; 32]>(), vec(digest(), 0..=MAX_HAVE), any::<bool>()).prop_map(|(nonce, have, bind)| NonceHeader {
        nonce: Nonce::from_bytes(nonce),
        have,
        bind,
    })
}

fn report_header() -> impl Strategy<Value = ReportHeader> {
    (digest(), any::<[u8; 32]>(), any::<[u8; 32]>(), proptest::option::of(bytes(0..2000))).prop_map(
        |(keys, left, right, evidence)| {
            let sig = [left, right].concat().try_into().unwrap();
            ReportHeader { keys, sig, evidence: evidence.map(Into::into) }
        },
    )
}

fn key_fields() -> impl Strategy<Value = KeyDocumentFields> {
    let name = prop_oneof![
        "[a-zA-Z0-9]([a-z0-9_-]{0,10}[a-z0-9])?(\\.[a-z][a-z0-9]{0,10}){0,3}".prop_filter("an address", |name| {
            !name.rsplit('.').next().unwrap().bytes().all(|b| b.is_ascii_digit())
        }),
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
    ];
    let keys = (any::<[u8; 32]>(), proptest::option::of(any::<[u8; 32]>()));
    let sealing = (proptest::option::of(key_config()), proptest::option::of("[A-Za-z0-9._-]{1,64}"));
    (any::<[u8; 16]>(), 0..1u64 << 53, vec(name, 0..20), keys, sealing).prop_map(
        |(instance, epoch, names, (sign, config), (seal, route))| KeyDocumentFields {
            instance,
            epoch,
            names,
            sign,
            config,
            seal,
            route,
        },
    )
}

fn key_config() -> impl Strategy<Value = KeyConfig> {
    let suite = any::<(u16, u16)>().prop_map(|(kdf, aead)| Suite { kdf, aead });
    (any::<u8>(), any::<[u8; 32]>(), vec(suite, 1..20)).prop_map(|(id, public, suites)| KeyConfig {
        id,
        public,
        suites,
    })
}

fn batch() -> impl Strategy<Value = (Vec<Leaf>, usize)> {
    (1..300_usize, any::<u64>(), any::<Index>()).prop_map(|(size, seed, index)| {
        let leaf = |n: usize| crate::crypto::sha384(&[&seed.to_be_bytes(), &n.to_be_bytes()]);
        ((0..size).map(leaf).collect(), index.index(size))
    })
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let endorsement = || proptest::option::of(bytes(0..600));
    (select(Platform::KNOWN.to_vec()), bytes(0..1500), endorsement(), endorsement(), bytes(0..300), batch()).prop_map(
        |(platform, report, vek, collateral, keys, (leaves, index))| {
            let mut report = Report::new(platform, report);
            if let Some(vek) = vek {
                report = report.with_vek(vek);
            }
            if let Some(collateral) = collateral {
                report = report.with_collateral(collateral);
            }
            Evidence { report, keys: keys.into(), batch: BatchTree::new(leaves).unwrap().proof(index).unwrap() }
        },
    )
}

/// A good input with some bytes replaced, inserted, removed or repeated: nearer to the checks than noise is.
fn spoilt(good: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<Index>(), 0..4u8, any::<u8>());
    (good, vec(edit, 1..8)).prop_map(|(mut bytes, edits)| {
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => bytes.extend_from_within(at..),
                _ => {}
            }
        }
        bytes
    })
}

/// Every parser of the protocol on one input. The results are of no interest: they exist.
fn parse_everything(input: &[u8]) {
    let _ = NonceHeader::parse(input);
    let _ = ReportHeader::parse(input);
    let _ = KeyDocument::parse(input.to_vec());
    let _ = BatchProof::decode(input);
    let _ = Evidence::from_cbor(input, &Platform::KNOWN);
    let _ = Evidence::from_json(input, &Platform::KNOWN);
}

/// A body of CBOR, whose heads come up far more often than in noise.
fn cbor_like() -> impl Strategy<Value = Vec<u8>> {
    let head = select(vec![
        0x00, 0x18, 0x20, 0x40, 0x41, 0x5b, 0x5f, 0x60, 0x61, 0x7b, 0x7f, 0x80, 0x81, 0x9b, 0x9f, 0xa0, 0xa1, 0xbb,
        0xbf, 0xc1, 0xdb, 0xf4, 0xf7, 0xf8, 0xf9, 0xfb, 0xff,
    ]);
    vec(prop_oneof![3 => head, 1 => any::<u8>()], 0..200)
}

proptest! {
    #[test]
    fn nonce_headers_round_trip(header in nonce_header()) {
        let value = header.to_value();
        prop_assert!(value.len() <= MAX_NONCE_VALUE);
        prop_assert_eq!(NonceHeader::parse(value.as_bytes()), Ok(header));
    }

    #[test]
    fn report_headers_round_trip(header in report_header()) {
        prop_assert_eq!(ReportHeader::parse(header.to_value().as_bytes()), Ok(header));
    }

    #[test]
    fn key_documents_round_trip(fields in key_fields()) {
        let document = KeyDocument::build(fields.clone()).unwrap();
        prop_assert_eq!(document.fields(), &fields);
        prop_assert!(fields.names.iter().all(|name| document.has_name(name)));
        let parsed = KeyDocument::parse(document.bytes().clone()).unwrap();
        prop_assert_eq!(parsed.fields(), &fields);
        prop_assert_eq!(parsed.digest(), document.digest());
    }

    /// What is hashed into evidence or signed begins with its label, whatever follows: a signature over one is none over another.
    #[test]
    fn no_two_kinds_of_statement_begin_alike(
        (nonce, keys, exporter) in (any::<[u8; 32]>(), digest(), any::<[u8; 32]>()),
        (name, path, size, root) in ("[a-z0-9-]{1,32}", "/[a-zA-Z0-9/?=&%._~-]{0,100}", any::<u32>(), any::<[u8; 32]>()),
        fields in key_fields(),
    ) {
        let platform = Platform::new(name, "application/x").unwrap();
        let (nonce, binding) = (Nonce::from_bytes(nonce), ChannelBinding::from_tls_exporter(exporter));
        let target = Target::of(&http::Method::GET, &http::Uri::builder().path_and_query(path).build().unwrap()).unwrap();
        let (method, status, binding) = (&http::Method::GET, http::StatusCode::OK, Some(&binding));
        let all = [
            EvidenceStatement { platform: &platform, nonce: &nonce, binding, keys: &keys }.encode(),
            ResponseStatement { nonce: &nonce, binding, keys: &keys, method, target: &target, status }.encode(),
            super::statement::batch_statement(&platform, size, &crate::crypto::sha384(&[&root])),
            KeyDocument::build(fields).unwrap().bytes().to_vec(),
            report_data(&platform, size, &[0; 48]).as_bytes().to_vec(),
        ];
        let label = b"\x01\x00\x17tower-attest/1 evidence".len();
        let beginnings: std::collections::HashSet<_> = all.iter().map(|bytes| &bytes[..label]).collect();
        prop_assert_eq!(beginnings.len(), all.len());
    }

    #[test]
    fn batch_proofs_round_trip_and_lead_to_the_root((leaves, index) in batch()) {
        let tree = BatchTree::new(leaves.clone()).unwrap();
        let proof = tree.proof(index).unwrap();
        prop_assert_eq!(proof.report_data(&Platform::SNP, &leaves[index]), tree.report_data(&Platform::SNP));
        prop_assert_eq!(BatchProof::decode(&proof.encode()), Ok(proof));
    }

    #[test]
    fn a_spoilt_batch_proof_leads_elsewhere((leaves, index) in batch(), at in any::<Index>(), bit in 0..8u8) {
        let tree = BatchTree::new(leaves.clone()).unwrap();
        let mut bytes = tree.proof(index).unwrap().encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(proof) = BatchProof::decode(&bytes) {
            prop_assert_ne!(proof.report_data(&Platform::SNP, &leaves[index]), tree.report_data(&Platform::SNP));
        }
    }

    #[test]
    fn evidence_round_trips_in_both_encodings(evidence in evidence()) {
        prop_assert_eq!(Evidence::from_cbor(&evidence.to_cbor(), &Platform::KNOWN), Ok(evidence.clone()));
        prop_assert_eq!(Evidence::from_json(&evidence.to_json(), &Platform::KNOWN), Ok(evidence));
    }

    #[test]
    fn what_parses_is_written_so_that_it_parses_again(input in spoilt(evidence().prop_map(|evidence| evidence.to_cbor()))) {
        if let Ok(evidence) = Evidence::from_cbor(&input, &Platform::KNOWN) {
            prop_assert_eq!(Evidence::from_cbor(&evidence.to_cbor(), &Platform::KNOWN), Ok(evidence));
        }
    }

    #[test]
    fn no_noise_panics(input in bytes(0..400)) {
        parse_everything(&input);
    }

    #[test]
    fn nothing_like_a_field_panics(input in "[:;=,()\"?@%*a-z0-9 .\\t-]{0,200}") {
        parse_everything(input.as_bytes());
    }

    #[test]
    fn nothing_like_json_panics(input in "([\\[\\]{}:,\"\\\\]|null|1e9|\"(report|keys|v|sign|names)\":|\\\\u[dD][89a-f]00){0,60}") {
        parse_everything(input.as_bytes());
    }

    #[test]
    fn nothing_like_cbor_panics(body in cbor_like()) {
        parse_everything(&body);
        let mut under_a_label = vec![0xa1, 0x64];
        under_a_label.extend(b"keys");
        under_a_label.extend(&body);
        parse_everything(&under_a_label);
    }

    #[test]
    fn nothing_spoilt_panics(
        input in prop_oneof![
            spoilt(nonce_header().prop_map(|header| header.to_value().as_bytes().to_vec())),
            spoilt(report_header().prop_map(|header| header.to_value().as_bytes().to_vec())),
            spoilt(key_fields().prop_map(|fields| KeyDocument::build(fields).unwrap().bytes().to_vec())),
            spoilt(evidence().prop_map(|evidence| evidence.to_cbor())),
            spoilt(evidence().prop_map(|evidence| evidence.to_json())),
        ],
    ) {
        parse_everything(&input);
    }
}
