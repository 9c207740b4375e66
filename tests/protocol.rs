//! Walks the protocol's test vectors: the shared ones, and those that `tests/protocol/generate.py` makes without this crate.
//!
//! `PROTOCOL_VECTORS=FILE` walks another file of the same format instead of the shared one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::as_conversions)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use http::{Method, StatusCode, Uri};
use serde_json::Value;
use tower_attest::protocol::{
    BatchProof, BatchTree, ChannelBinding, Evidence, EvidenceStatement, KeyConfig, KeyDocument, KeysDigest, KeysHeader,
    Leaf, Nonce, NonceHeader, ReportHeader, ResponseStatement, Suite, Target, report_data,
};
use tower_attest::{Platform, Report};

const EXPORTER: &str = "e0e1e2e3e4e5e6e7e8e9eaebecedeeefe0e1e2e3e4e5e6e7e8e9eaebecedeeef";

type Walker = fn(&Value, &Keys);

/// What a walker may meet in a file. A section that nobody walks is a failure, not a gap.
const SECTIONS: [(&str, Walker); 11] = [
    ("keys", keys),
    ("evidence", evidence),
    ("batch", batch),
    ("batch_refused", batch_refused),
    ("response", response),
    ("report_header", report_header),
    ("nonce_header", nonce_header),
    ("keys_header", keys_header),
    ("seal", seal),
    ("cmw", cmw),
    // The mock platform's own tests walk its report.
    ("mock_report", |_, _| ()),
];

#[test]
fn the_shared_vectors_agree() {
    let path = std::env::var_os("PROTOCOL_VECTORS").map_or_else(|| file("vectors.json"), PathBuf::from);
    walk(path);
}

#[test]
fn the_generated_vectors_agree() {
    walk(file("more.json"));
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/protocol").join(name)
}

fn walk(path: PathBuf) {
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let known: BTreeSet<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> = vectors.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(found.is_subset(&known), "sections that no walker knows: {:?}", &found - &known);
    let document = KeyDocument::parse(text_of(&vectors["keys"]["document"]).to_owned()).unwrap();
    let seed = hex_of(&vectors["keys"]["sign_secret"]);
    let keys = Keys { document, pair: Ed25519KeyPair::from_seed_unchecked(&seed).unwrap() };
    for (name, walker) in SECTIONS {
        if let Some(section) = vectors.get(name) {
            walker(section, &keys);
        }
    }
}

/// The key document of a file, and its private key.
struct Keys {
    document: KeyDocument,
    pair: Ed25519KeyPair,
}

impl Keys {
    fn digest(&self) -> &KeysDigest {
        self.document.digest()
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.document.fields().sign).verify(message, signature).is_ok()
    }
}

fn keys(section: &Value, keys: &Keys) {
    let document = &keys.document;
    assert_eq!(document.digest().as_bytes(), &bytes_of(&section["sha256"]));
    assert_eq!(document.fields().sign, bytes_of(&section["sign_public"]));
    assert_eq!(keys.pair.public_key().as_ref(), document.fields().sign);
    let built = KeyDocument::build(document.fields().clone()).unwrap();
    assert_eq!(built.bytes(), document.bytes(), "build() writes the vector's bytes");
    for entry in entries(section, "refused") {
        assert!(KeyDocument::parse(text_of(&entry["document"]).to_owned()).is_err(), "{}", entry["why"]);
    }
    for entry in entries(section, "also_ok") {
        let document = KeyDocument::parse(text_of(&entry["document"]).to_owned());
        assert!(document.is_ok(), "{}: {document:?}", entry["why"]);
    }
}

fn evidence(section: &Value, keys: &Keys) {
    for entry in section.as_array().unwrap() {
        let platform = platform(&entry["platform"]);
        let (nonce, binding) = (nonce(&entry["nonce"]), binding(&entry["tls_exporter"]));
        let statement =
            EvidenceStatement { platform: &platform, nonce: &nonce, binding: binding.as_ref(), keys: keys.digest() };
        assert_eq!(hex::encode(statement.encode()), text_of(&entry["statement"]));
        assert_eq!(hex::encode(statement.leaf()), text_of(&entry["leaf"]));
        let alone = BatchTree::new(vec![statement.leaf()]).unwrap().report_data(&platform);
        assert_eq!(hex::encode(alone.as_bytes()), text_of(&entry["report_data_if_alone"]));
    }
}

fn batch(section: &Value, keys: &Keys) {
    for entry in section.as_array().unwrap() {
        let platform = platform(&entry["platform"]);
        let size = entry["size"].as_u64().unwrap();
        let leaves: Vec<Leaf> = (0..size).map(|index| batch_leaf(index, &platform, keys.digest())).collect();
        let tree = BatchTree::new(leaves.clone()).unwrap();
        let expected = text_of(&entry["report_data"]);
        assert_eq!(hex::encode(tree.report_data(&platform).as_bytes()), expected);
        let root = bytes_of(&entry["root"]);
        assert_eq!(hex::encode(report_data(&platform, size as u32, &root).as_bytes()), expected);
        for proof in entry["proofs"].as_array().unwrap() {
            let index = proof["index"].as_u64().unwrap() as usize;
            assert_eq!(hex::encode(leaves[index]), text_of(&proof["leaf"]));
            let bytes = hex_of(&proof["proof"]);
            let decoded = BatchProof::decode(&bytes).unwrap();
            assert_eq!(tree.proof(index), Some(decoded.clone()));
            assert_eq!(decoded.encode(), bytes);
            assert_eq!(hex::encode(decoded.report_data(&platform, &leaves[index]).as_bytes()), expected);
            assert_eq!((u64::from(decoded.size()), decoded.index() as usize), (size, index));
        }
    }
}

/// Nonce N is SHA-256 of `nonce N`; odd ones are bound to the exporter.
fn batch_leaf(index: u64, platform: &Platform, keys: &KeysDigest) -> Leaf {
    let nonce = Nonce::from_bytes(*KeysDigest::of(format!("nonce {index}").as_bytes()).as_bytes());
    let bound = ChannelBinding::from_tls_exporter(hex::decode(EXPORTER).unwrap().try_into().unwrap());
    let binding = (index % 2 == 1).then_some(&bound);
    EvidenceStatement { platform, nonce: &nonce, binding, keys }.leaf()
}

fn batch_refused(section: &Value, _: &Keys) {
    for entry in section.as_array().unwrap() {
        assert!(BatchProof::decode(&hex_of(&entry["proof"])).is_err(), "{}", entry["why"]);
    }
}

fn response(section: &Value, keys: &Keys) {
    for entry in section.as_array().unwrap() {
        let method: Method = text_of(&entry["method"]).parse().unwrap();
        let uri: Uri = text_of(&entry["target"]).parse().unwrap();
        let target = Target::of(&method, &uri).unwrap();
        let (nonce, binding) = (nonce(&entry["nonce"]), binding(&entry["tls_exporter"]));
        let statement = ResponseStatement {
            nonce: &nonce,
            binding: binding.as_ref(),
            keys: keys.digest(),
            method: &method,
            target: &target,
            status: StatusCode::from_u16(entry["status"].as_u64().unwrap() as u16).unwrap(),
        };
        let (encoded, signature) = (statement.encode(), hex_of(&entry["signature"]));
        assert_eq!(hex::encode(&encoded), text_of(&entry["statement"]));
        assert_eq!(keys.pair.sign(&encoded).as_ref(), signature);
        assert!(keys.verifies(&encoded, &signature));
        let status = StatusCode::IM_A_TEAPOT;
        assert!(!keys.verifies(&ResponseStatement { status, ..statement }.encode(), &signature));
    }
}

fn report_header(section: &Value, keys: &Keys) {
    for entry in section.as_array().unwrap() {
        let value = text_of(&entry["value"]);
        let parsed = ReportHeader::parse(value.as_bytes());
        assert_eq!(parsed.is_ok(), entry["ok"].as_bool().unwrap(), "{}: {value}: {parsed:?}", entry["why"]);
        let Ok(header) = parsed else { continue };
        if let Some(expected) = entry.get("keys") {
            assert_eq!(header.keys.as_bytes(), &bytes_of(expected));
            assert_eq!(header.sig, bytes_of(&entry["sig"]));
            assert_eq!(header.to_value(), value);
        }
        if let Some(expected) = entry.get("evidence") {
            let bytes = header.evidence.as_ref().unwrap();
            assert_eq!(hex::encode(bytes), text_of(expected));
            let evidence = Evidence::from_cbor(bytes, &Platform::KNOWN).unwrap();
            assert_eq!(KeyDocument::parse(evidence.keys).unwrap().digest(), keys.digest());
            assert!(evidence.report.collateral().is_none(), "collateral is never in a header");
        }
    }
}

fn nonce_header(section: &Value, _: &Keys) {
    for entry in section.as_array().unwrap() {
        let value = text_of(&entry["value"]);
        let parsed = NonceHeader::parse(value.as_bytes());
        assert_eq!(parsed.is_ok(), entry["ok"].as_bool().unwrap(), "{}: {value}: {parsed:?}", entry["why"]);
        let Ok(header) = parsed else { continue };
        assert_eq!(NonceHeader::parse(header.to_value().as_bytes()), Ok(header.clone()));
        if let Some(have) = entry.get("have") {
            let found: Vec<String> = header.have.iter().map(|keys| hex::encode(keys.as_bytes())).collect();
            let expected: Vec<&str> = have.as_array().unwrap().iter().map(text_of).collect();
            assert_eq!(found, expected);
            assert_eq!(header.bind, entry["bind"].as_bool().unwrap());
            assert_eq!(header.to_value(), value);
        }
    }
}

fn keys_header(section: &Value, _: &Keys) {
    for entry in section.as_array().unwrap() {
        let value = text_of(&entry["value"]);
        let parsed = KeysHeader::parse(value.as_bytes());
        assert_eq!(parsed.is_ok(), entry["ok"].as_bool().unwrap(), "{}: {value}: {parsed:?}", entry["why"]);
        if let Some(expected) = entry.get("keys") {
            let header = KeysHeader { keys: KeysDigest::from_bytes(bytes_of(expected)) };
            assert_eq!(parsed, Ok(header));
            assert_eq!(header.to_value(), value);
        }
    }
}

fn seal(section: &Value, _: &Keys) {
    for entry in section.as_array().unwrap() {
        let document = KeyDocument::parse(text_of(&entry["document"]).to_owned()).unwrap();
        assert_eq!(document.digest().as_bytes(), &bytes_of(&entry["sha256"]));
        let number = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
        let suite = |pair: &Value| Suite { kdf: number(&pair[0]), aead: number(&pair[1]) };
        let suites = entry["suites"].as_array().unwrap().iter().map(suite).collect();
        let config = KeyConfig { id: number(&entry["id"]) as u8, public: bytes_of(&entry["public"]), suites };
        assert_eq!(hex::encode(config.encode()), text_of(&entry["seal"]));
        assert_eq!(document.fields().seal, Some(config));
        assert_eq!(document.fields().route.as_deref(), entry["route"].as_str());
        let built = KeyDocument::build(document.fields().clone()).unwrap();
        assert_eq!(built.bytes(), document.bytes(), "build() writes the vector's bytes");
    }
}

fn cmw(section: &Value, keys: &Keys) {
    let sections = section.as_array().cloned().unwrap_or_else(|| vec![section.clone()]);
    for section in &sections {
        let (json, cbor) = (text_of(&section["json"]), hex_of(&section["cbor"]));
        let evidence = Evidence::from_cbor(&cbor, &Platform::KNOWN).unwrap();
        assert_eq!(Evidence::from_json(json.as_bytes(), &Platform::KNOWN), Ok(evidence.clone()));
        assert_eq!(hex::encode(evidence.to_cbor()), hex::encode(&cbor));
        assert_eq!(String::from_utf8(evidence.to_json()).unwrap(), json);
        assert_eq!(&evidence.keys, keys.document.bytes());
        if let Some(nonce_value) = section.get("nonce") {
            let (platform, nonce) = (evidence.report.platform(), nonce(nonce_value));
            let binding = binding(section.get("tls_exporter").unwrap_or(&Value::Null));
            let leaf =
                EvidenceStatement { platform, nonce: &nonce, binding: binding.as_ref(), keys: keys.digest() }.leaf();
            let expected = evidence.batch.report_data(platform, &leaf);
            assert!(contains(evidence.report.bytes(), expected.as_bytes()), "the report holds REPORTDATA");
        }
        assert_eq!(evidence.report.vek().map(hex::encode).as_deref(), section.get("vek").map(text_of));
        assert_eq!(evidence.report.collateral().map(hex::encode).as_deref(), section.get("collateral").map(text_of));
        for entry in entries(section, "also_ok") {
            assert_eq!(parse_either(entry).as_ref(), Ok(&evidence), "{}", entry["why"]);
        }
        for entry in entries(section, "refused") {
            let parsed = parse_either(entry);
            assert!(parsed.is_err(), "{}: {parsed:?}", entry["why"]);
        }
    }
}

fn parse_either(entry: &Value) -> Result<Evidence, tower_attest::protocol::EvidenceError> {
    match entry.get("cbor") {
        Some(cbor) => Evidence::from_cbor(&hex_of(cbor), &Platform::KNOWN),
        None => Evidence::from_json(text_of(&entry["json"]).as_bytes(), &Platform::KNOWN),
    }
}

/// What `docs/PROTOCOL.md` shows is what the shared vectors say.
#[test]
fn the_documents_examples_agree() {
    let document = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md")).unwrap();
    let vectors: Value = serde_json::from_str(&fs::read_to_string(file("vectors.json")).unwrap()).unwrap();
    let document_keys = KeyDocument::parse(text_of(&vectors["keys"]["document"]).to_owned()).unwrap();
    assert!(document.contains(text_of(&vectors["keys"]["document"])));

    let dumps: Vec<String> = document.split("```").skip(1).step_by(2).map(leading_hex).collect();
    for statement in [&vectors["evidence"][0]["statement"], &vectors["response"][2]["statement"]] {
        assert!(dumps.iter().any(|dump| dump == text_of(statement)), "{statement}");
    }
    let field = |name: &str| -> Vec<&str> {
        document.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    };
    let nonces: Vec<_> =
        field("Attestation-Nonce").iter().map(|value| NonceHeader::parse(value.as_bytes()).unwrap()).collect();
    let reports: Vec<_> =
        field("Attestation-Report").iter().map(|value| ReportHeader::parse(value.as_bytes()).unwrap()).collect();
    assert_eq!((nonces.len(), reports.len()), (3, 3));
    for (nonce, report, target) in
        [(&nonces[1], &reports[1], "/.well-known/tower-attest"), (&nonces[2], &reports[2], "/?x=1")]
    {
        let statement = ResponseStatement {
            nonce: &nonce.nonce,
            binding: None,
            keys: document_keys.digest(),
            method: &Method::GET,
            target: &Target::of(&Method::GET, &target.parse().unwrap()).unwrap(),
            status: StatusCode::OK,
        };
        let encoded = statement.encode();
        let key = UnparsedPublicKey::new(&ED25519, document_keys.fields().sign);
        assert!(key.verify(&encoded, &report.sig).is_ok(), "{target}");
        assert!(dumps.contains(&hex::encode(encoded)), "{target}");
    }
}

/// The bytes of a dump whose lines may end in two spaces and a comment.
fn leading_hex(dump: &str) -> String {
    let bytes = dump.lines().map(|line| line.split("  ").next().unwrap_or_default());
    bytes.flat_map(str::chars).filter(char::is_ascii_hexdigit).collect()
}

#[test]
fn the_report_of_another_platform_is_refused() {
    let batch = BatchTree::new(vec![[0; 48]]).unwrap().proof(0).unwrap();
    let evidence = Evidence { report: Report::new(Platform::TDX, vec![1; 64]), keys: "{}".into(), batch };
    assert_eq!(Evidence::from_cbor(&evidence.to_cbor(), &[Platform::SNP, Platform::TDX]), Ok(evidence.clone()));
    assert!(Evidence::from_cbor(&evidence.to_cbor(), &[Platform::SNP, Platform::MOCK]).is_err());
    assert!(Evidence::from_json(&evidence.to_json(), &[]).is_err());
}

fn entries<'a>(section: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    section.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn platform(name: &Value) -> Platform {
    Platform::KNOWN.into_iter().find(|platform| platform.name() == text_of(name)).unwrap()
}

fn nonce(value: &Value) -> Nonce {
    Nonce::from_bytes(bytes_of(value))
}

fn binding(value: &Value) -> Option<ChannelBinding> {
    (!value.is_null()).then(|| ChannelBinding::from_tls_exporter(bytes_of(value)))
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn hex_of(value: &Value) -> Vec<u8> {
    hex::decode(text_of(value)).unwrap()
}

fn bytes_of<const N: usize>(value: &Value) -> [u8; N] {
    hex_of(value).try_into().unwrap()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
