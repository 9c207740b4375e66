mod hostile;

use serde_json::{Value, json};

use super::*;
use crate::protocol::BatchTree;

const KNOWN: [Platform; 3] = Platform::KNOWN;

fn sample() -> Evidence {
    let batch = BatchTree::new(vec![[5; 48]; 3]).unwrap().proof(1).unwrap();
    let report = Report::new(Platform::SNP, vec![0xee; 1184]).with_vek(vec![0x30; 900]);
    Evidence { report, keys: Bytes::from_static(b"{\"v\":1}"), batch }
}

// JSON ----------------------------------------------------------------------------------------------------------------

fn sample_json() -> Value {
    serde_json::from_slice(&sample().to_json()).unwrap()
}

/// The sample with one label set to another value.
fn with(label: &str, value: Value) -> Result<Evidence, EvidenceError> {
    let mut json = sample_json();
    json[label] = value;
    Evidence::from_json(json.to_string().as_bytes(), &KNOWN)
}

fn without(label: &str) -> Result<Evidence, EvidenceError> {
    let mut json = sample_json();
    json.as_object_mut().unwrap().remove(label);
    Evidence::from_json(json.to_string().as_bytes(), &KNOWN)
}

/// The sample with members put in front, as text.
fn with_text(members: &str) -> Result<Evidence, EvidenceError> {
    let json = String::from_utf8(sample().to_json()).unwrap().replacen('{', &format!("{{{members},"), 1);
    Evidence::from_json(json.as_bytes(), &KNOWN)
}

// CBOR ----------------------------------------------------------------------------------------------------------------

fn head(major: u8, length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    vec![major << 5 | 25, high, low]
}

fn text(text: &str) -> Vec<u8> {
    [head(3, text.len() as u16), text.into()].concat()
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [head(2, bytes.len() as u16), bytes.into()].concat()
}

fn record(media_type: &str, value: &[u8]) -> Vec<u8> {
    [vec![0x82], text(media_type), bytes(value)].concat()
}

/// The sample's entries, in heads that are longer than they must be.
fn entries() -> Vec<(Vec<u8>, Vec<u8>)> {
    let sample = sample();
    vec![
        (text("__cmwc_t"), text(TYPE)),
        (text("report"), record(Platform::SNP.media_type(), sample.report.bytes())),
        (text("keys"), record("application/vnd.tower-attest.keys+json", &sample.keys)),
        (text("batch"), record("application/vnd.tower-attest.batch-proof", &sample.batch.encode())),
        (text("vek"), record("application/pkix-cert", sample.report.vek().unwrap())),
    ]
}

fn map(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let body = entries.iter().flat_map(|(label, value)| [label.clone(), value.clone()]);
    head(5, entries.len() as u16).into_iter().chain(body.flatten()).collect()
}

fn decode(entries: &[(Vec<u8>, Vec<u8>)]) -> Result<Evidence, EvidenceError> {
    Evidence::from_cbor(&map(entries), &KNOWN)
}

/// The sample with one entry more.
fn plus(label: Vec<u8>, value: Vec<u8>) -> Result<Evidence, EvidenceError> {
    decode(&[entries(), vec![(label, value)]].concat())
}

/// The sample with one label set to another value.
fn replaced(label: &str, value: Vec<u8>) -> Result<Evidence, EvidenceError> {
    let mut entries = entries();
    entries.iter_mut().find(|entry| entry.0 == text(label)).unwrap().1 = value;
    decode(&entries)
}

fn is_syntax<T: std::fmt::Debug>(result: &Result<T, EvidenceError>) -> bool {
    matches!(result, Err(EvidenceError::Syntax { .. }))
}

#[test]
fn both_encodings_round_trip_with_and_without_endorsements() {
    let full = sample();
    let report = |report: Report| Evidence { report, ..full.clone() };
    for evidence in [
        full.clone(),
        report(full.report.clone().without_vek()),
        report(Report::new(Platform::TDX, vec![1; 5000]).with_collateral(vec![b'x'; 70_000])),
        report(Report::new(Platform::MOCK, vec![]).with_vek(vec![]).with_collateral(vec![])),
    ] {
        assert_eq!(Evidence::from_cbor(&evidence.to_cbor(), &KNOWN), Ok(evidence.clone()));
        assert_eq!(Evidence::from_json(&evidence.to_json(), &KNOWN), Ok(evidence));
    }
}

#[test]
fn the_written_cbor_is_deterministic() {
    let report = sample().report.with_collateral(vec![1; 300]);
    let encoded = Evidence { report, ..sample() }.to_cbor();
    assert_eq!(encoded[0], 0xa6);
    let position = |label: &[u8]| encoded.windows(label.len()).position(|window| window == label).unwrap();
    let labels: [&[u8]; 6] = [b"\x63vek", b"\x64keys", b"\x65batch", b"\x66report", b"\x68__cmwc_t", b"\x6acollateral"];
    assert!(labels.map(position).is_sorted());
    for shortest in
        [&b"\x75application/pkix-cert"[..], b"\x47{\"v\":1}", b"\x59\x04\xa0\xee\xee", b"\x59\x01\x2c\x01\x01"]
    {
        position(shortest);
    }
}

#[test]
fn a_platform_of_ones_own_is_escaped_in_json() {
    let odd = Platform::new("odd", "application/x\\y").unwrap();
    let evidence = Evidence { report: Report::new(odd.clone(), vec![1]), ..sample() };
    assert_eq!(Evidence::from_json(&evidence.to_json(), &[odd]), Ok(evidence));
}

#[test]
fn longer_heads_other_orders_and_indefinite_lengths_are_taken() {
    let mut entries = entries();
    assert_eq!(decode(&entries), Ok(sample()));
    entries.reverse();
    assert_eq!(decode(&entries), Ok(sample()));

    let keys = sample().keys;
    let (first, second) = keys.split_at(3);
    let chunked = [vec![0x9f], text("application/vnd.tower-attest.keys+json"), vec![0x5f], bytes(first), bytes(second)];
    let position = entries.iter().position(|entry| entry.0 == text("keys")).unwrap();
    entries[position] = ([&b"\x7f\x62ke\x62ys\xff"[..]].concat(), [chunked.concat(), vec![0xff, 0xff]].concat());
    let body: Vec<u8> = entries.iter().flat_map(|(label, value)| [label.clone(), value.clone()].concat()).collect();
    assert_eq!(Evidence::from_cbor(&[&[0xbf][..], &body, &[0xff]].concat(), &KNOWN), Ok(sample()));
}

#[test]
fn the_collection_type_is_exact() {
    let others = ["", "urn:uuid:D4C66C14-a413-5a0d-bfcb-64bee0f55a6f", "tag:example.com,2024:x", &format!("{TYPE} ")];
    for other in others {
        let refused = Err(EvidenceError::CollectionType(other.into()));
        assert_eq!(with("__cmwc_t", json!(other)), refused);
        assert_eq!(replaced("__cmwc_t", text(other)), refused);
    }
    for other in [json!(null), json!([TYPE]), json!(1)] {
        assert!(matches!(with("__cmwc_t", other), Err(EvidenceError::WrongType { label: "__cmwc_t", .. })));
    }
    for other in [bytes(TYPE.as_bytes()), vec![0x01], vec![0xf6], [vec![0xd8, 0x20], text(TYPE)].concat()] {
        assert!(matches!(replaced("__cmwc_t", other), Err(EvidenceError::WrongType { label: "__cmwc_t", .. })));
    }
}

#[test]
fn each_required_label_is_required() {
    for label in ["__cmwc_t", "report", "keys", "batch"] {
        assert_eq!(without(label), Err(EvidenceError::Missing(label)));
        let rest: Vec<_> = entries().into_iter().filter(|entry| entry.0 != text(label)).collect();
        assert_eq!(decode(&rest), Err(EvidenceError::Missing(label)));
    }
    assert!(without("vek").unwrap().report.vek().is_none());
}

#[test]
fn labels_of_other_types_are_refused() {
    for hex in ["40", "80", "a0", "c074", "f4", "f6", "f93c00"] {
        let result = plus(hex::decode(hex).unwrap(), vec![0]);
        assert!(matches!(result, Err(EvidenceError::WrongType { label: COLLECTION, .. })), "{hex}: {result:?}");
    }
}

#[test]
fn a_label_that_occurs_twice_is_named() {
    for (label, shown) in [("00", "0"), ("20", "-1"), ("26", "-7"), ("3bffffffffffffffff", "-18446744073709551616")] {
        let twice = vec![(hex::decode(label).unwrap(), vec![0]); 2];
        assert_eq!(decode(&[entries(), twice].concat()), Err(EvidenceError::Repeated(shown.into())));
    }
    let twice = vec![(text("later"), vec![0]); 2];
    assert_eq!(decode(&[entries(), twice].concat()), Err(EvidenceError::Repeated("\"later\"".into())));
}

#[test]
fn json_that_is_no_object_is_told_so() {
    for json in ["[]", "1", "\"x\"", "null"] {
        let error = Evidence::from_json(json.as_bytes(), &Platform::KNOWN).unwrap_err();
        assert!(error.to_string().contains("expected an object"), "{error}");
    }
}

#[test]
fn a_third_element_is_ignored_whatever_it_is_and_a_fourth_refused() {
    let media_type = "application/pkix-cert";
    let vek = sample().report.vek().unwrap().clone();
    let encoded = sample_json()["vek"][1].clone();
    for third in [json!(4), json!(null), json!({"a": []}), json!("x")] {
        assert_eq!(with("vek", json!([media_type, encoded, third])), Ok(sample()));
        let fourth = with("vek", json!([media_type, encoded, third, third]));
        assert!(matches!(fourth, Err(EvidenceError::WrongType { label: "vek", .. })));
    }
    for third in ["04", "f6", "a10180", "c100", "9fff"] {
        let third = hex::decode(third).unwrap();
        let elements =
            |count: u8, rest: &[u8]| [&[0x80 | count][..], &text(media_type), &bytes(&vek), &third, rest].concat();
        assert_eq!(replaced("vek", elements(3, &[])), Ok(sample()));
        let fourth = replaced("vek", elements(4, &[0]));
        assert!(matches!(fourth, Err(EvidenceError::WrongType { label: "vek", .. })));
    }
}

#[test]
fn records_of_other_types_are_refused() {
    let (json_keys, keys) = ("application/vnd.tower-attest.keys+json", bytes(b"{}"));
    for label in ["report", "keys", "batch", "vek", "collateral"] {
        for value in [
            json!(null),
            json!("e30"),
            json!({}),
            json!([]),
            json!([json_keys]),
            json!([json_keys, null]),
            json!([json_keys, [1]]),
            json!([null, "e30"]),
            json!([10, "e30"]),
            json!([json_keys, 1]),
            json!(["e30", {}]),
        ] {
            let result = with(label, value.clone());
            assert!(
                matches!(&result, Err(EvidenceError::WrongType { label: l, .. }) if *l == label),
                "{value}: {result:?}"
            );
        }
        for value in [
            vec![0xf6],
            keys.clone(),
            vec![0xa0],
            vec![0x80],
            [vec![0x81], text(json_keys)].concat(),
            [vec![0x82], text(json_keys), text("e30")].concat(),
            [vec![0x82], text(json_keys), vec![0xf6]].concat(),
            [vec![0x82], text(json_keys), vec![0x81, 0x01]].concat(),
            [vec![0x82, 0x0a], keys.clone()].concat(),
            [vec![0x82], bytes(json_keys.as_bytes()), keys.clone()].concat(),
            [vec![0x82], text(json_keys), vec![0xd8, 0x18], keys.clone()].concat(),
            [vec![0xc1], record(json_keys, b"{}")].concat(),
        ] {
            let rest: Vec<_> = entries().into_iter().filter(|entry| entry.0 != text(label)).collect();
            let result = decode(&[rest, vec![(text(label), value.clone())]].concat());
            let refused = matches!(&result, Err(EvidenceError::WrongType { label: l, .. }) if *l == label);
            assert!(refused, "{}: {result:?}", hex::encode(value));
        }
    }
}

#[test]
fn each_label_has_its_own_media_type() {
    for label in ["keys", "batch", "vek", "collateral"] {
        for found in ["", "application/json", "application/pkix-cert2", "application/vnd.tower-attest.tdx-quote"] {
            let refused = |result| matches!(result, Err(EvidenceError::MediaType { label: l, .. }) if l == label);
            assert!(refused(with(label, json!([found, "AAAAAQAAAAA"]))));
            let rest: Vec<_> = entries().into_iter().filter(|entry| entry.0 != text(label)).collect();
            assert!(refused(decode(&[rest, vec![(text(label), record(found, &[0]))]].concat())));
        }
    }
}

#[test]
fn the_media_type_decides_the_platform_among_those_accepted() {
    let own = Platform::new("own", "application/vnd.example.report").unwrap();
    for platform in [Platform::SNP, Platform::TDX, Platform::MOCK, own.clone()] {
        let evidence = Evidence { report: Report::new(platform.clone(), vec![1]), ..sample() };
        let all = [&KNOWN[..], std::slice::from_ref(&own)].concat();
        assert_eq!(Evidence::from_json(&evidence.to_json(), &all).unwrap().report.platform(), &platform);
        let others: Vec<_> = all.into_iter().filter(|other| *other != platform).collect();
        let accepted = others.iter().map(|other| other.media_type().to_owned()).collect();
        let refused = Err(EvidenceError::Platform { accepted, found: platform.media_type().into() });
        assert_eq!(Evidence::from_json(&evidence.to_json(), &others), refused);
        assert_eq!(Evidence::from_cbor(&evidence.to_cbor(), &others), refused);
    }
}

#[test]
fn bytes_in_json_are_strict_base64url() {
    let media_type = "application/vnd.tower-attest.keys+json";
    for (label, media_type) in [("keys", media_type), ("vek", "application/pkix-cert"), ("report", "application/x")] {
        for bytes in ["e30=", "e31", "e3", "e", "+w", "/w", "e 30", "e30\n"] {
            assert_eq!(with(label, json!([media_type, bytes])), Err(EvidenceError::Base64(label)), "{bytes}");
        }
    }
}

#[test]
fn a_malformed_batch_proof_is_refused() {
    let short = with("batch", json!(["application/vnd.tower-attest.batch-proof", "AAAAAQ"]));
    assert_eq!(short, Err(EvidenceError::Batch(BatchError::Header(4))));
    let long = replaced("batch", record("application/vnd.tower-attest.batch-proof", &[0, 0, 0, 1, 0, 0, 0, 0, 0]));
    assert!(matches!(long, Err(EvidenceError::Batch(BatchError::Path { found: 1, .. }))));
}
