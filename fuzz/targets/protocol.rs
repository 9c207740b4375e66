//! The protocol's parsers: what is accepted is what its own encoding says again.

use http::{HeaderMap, HeaderValue};
use tower_attest::Platform;
use tower_attest::protocol::{
    ATTESTATION_KEYS, ATTESTATION_NONCE, ATTESTATION_REPORT, BatchProof, BatchTree, Evidence, KeyConfig, KeyDocument,
    KeysDigest, KeysHeader, MAX_BATCH, MAX_HAVE, NonceHeader, ReportHeader, report_data,
};

/// `Attestation-Nonce`: round trip, and the same verdict through a header map.
pub fn nonce_header(data: &[u8]) {
    let parsed = NonceHeader::parse(data);
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let headers = HeaderMap::from_iter([(ATTESTATION_NONCE, value)]);
        assert_eq!(NonceHeader::from_headers(&headers), parsed.clone().map(Some));
    }
    match parsed {
        Ok(header) => {
            assert!(header.have.len() <= MAX_HAVE);
            assert_eq!(NonceHeader::parse(header.to_value().as_bytes()), Ok(header));
        }
        Err(error) => says_why(&error),
    }
}

/// `Attestation-Report`: round trip, and the same verdict through a header map.
pub fn report_header(data: &[u8]) {
    let parsed = ReportHeader::parse(data);
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let headers = HeaderMap::from_iter([(ATTESTATION_REPORT, value)]);
        assert_eq!(ReportHeader::from_headers(&headers), parsed.clone().map(Some));
    }
    match parsed {
        Ok(header) => assert_eq!(ReportHeader::parse(header.to_value().as_bytes()), Ok(header)),
        Err(error) => says_why(&error),
    }
}

/// `Attestation-Keys`: round trip, and the same verdict through a header map.
pub fn keys_header(data: &[u8]) {
    let parsed = KeysHeader::parse(data);
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let headers = HeaderMap::from_iter([(ATTESTATION_KEYS, value)]);
        assert_eq!(KeysHeader::from_headers(&headers), parsed.clone().map(Some));
    }
    match parsed {
        Ok(header) => assert_eq!(KeysHeader::parse(header.to_value().as_bytes()), Ok(header)),
        Err(error) => says_why(&error),
    }
}

/// The key to seal to: the same bytes again, and at least one suite.
pub fn key_config(data: &[u8]) {
    match KeyConfig::parse(data) {
        Ok(config) => {
            assert_eq!(config.encode(), data);
            assert!(!config.suites.is_empty());
        }
        Err(error) => says_why(&error),
    }
}

/// The key document: bytes kept, and its fields can be written as a document that says the same.
pub fn key_document(data: &[u8]) {
    match KeyDocument::parse(data.to_vec()) {
        Ok(document) => {
            assert_eq!(document.bytes(), data);
            assert_eq!(*document.digest(), KeysDigest::of(data));
            for name in &document.fields().names {
                assert!(document.has_name(name), "{name}");
            }
            let built = KeyDocument::build(document.fields().clone()).expect("what was read can be written");
            assert_eq!(built.fields(), document.fields());
        }
        Err(error) => says_why(&error),
    }
}

/// Evidence in JSON: what it says can be said in both encodings.
pub fn evidence_json(data: &[u8]) {
    match Evidence::from_json(data, &Platform::KNOWN) {
        Ok(evidence) => survives_both_encodings(&evidence),
        Err(error) => says_why(&error),
    }
}

/// Evidence in CBOR: what it says can be said in both encodings.
pub fn evidence_cbor(data: &[u8]) {
    match Evidence::from_cbor(data, &Platform::KNOWN) {
        Ok(evidence) => survives_both_encodings(&evidence),
        Err(error) => says_why(&error),
    }
}

/// The batch proof: the same bytes again, as long as a tree's own proof, and bound to its leaf.
pub fn batch_proof(data: &[u8]) {
    match BatchProof::decode(data) {
        Ok(proof) => {
            assert_eq!(proof.encode(), data);
            assert!(proof.index() < proof.size() && proof.size() <= MAX_BATCH);
            let over = |leaf: u8| *proof.report_data(&Platform::SNP, &[leaf; 48]).as_bytes();
            assert_ne!(over(1), over(2));
            if proof.size() == 1 {
                assert_eq!(over(1), *report_data(&Platform::SNP, 1, &[1; 48]).as_bytes());
            }
            if proof.size() <= 64 {
                let size = usize::try_from(proof.size()).expect("small");
                let tree = BatchTree::new(vec![[1; 48]; size]).expect("1 to 64 leaves");
                let own = tree.proof(usize::try_from(proof.index()).expect("small")).expect("below the size");
                assert_eq!(own.encode().len(), data.len());
                assert_eq!(
                    own.report_data(&Platform::SNP, &[1; 48]).as_bytes(),
                    tree.report_data(&Platform::SNP).as_bytes()
                );
            }
        }
        Err(error) => says_why(&error),
    }
}

/// Every accepted value has one encoding of each kind, which says the same. JSON is a third longer, and may be too long.
pub(super) fn survives_both_encodings(evidence: &Evidence) {
    let (cbor, json) = (evidence.to_cbor(), evidence.to_json());
    let again = Evidence::from_cbor(&cbor, &Platform::KNOWN).expect("own CBOR");
    assert_eq!(again, *evidence);
    assert_eq!(again.to_cbor(), cbor);
    if json.len() <= tower_attest::protocol::MAX_EVIDENCE {
        let again = Evidence::from_json(&json, &Platform::KNOWN).expect("own JSON");
        assert_eq!(again, *evidence);
        assert_eq!(again.to_json(), json);
    }
}

/// Errors are short, one line, and printable in both ways.
pub(super) fn says_why(error: &(impl std::fmt::Display + std::fmt::Debug)) {
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    assert!(!text.is_empty() && !debug.is_empty());
    assert!(text.len() < 16 * 1024, "an error of {} bytes", text.len());
}
