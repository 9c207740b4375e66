//! Where fuzzing starts: what the simulators make, and the protocol's vectors. No real evidence.

use serde_json::Value;
use tower_attest::platform::tdx;
use tower_attest::snp::sim::{SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::snp::{CertTable, Product};

use super::targets::{revocation_list, tdx_formats};
use super::{heads, messages};

pub(super) type Seed = (&'static str, String, Vec<u8>);

/// Target, name and bytes of every seed.
pub(super) fn all() -> Vec<Seed> {
    [protocol(), snp(), tdx(), scripts(), policies(), lists(), event_logs(), messages::all(), heads::all()].concat()
}

fn protocol() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (file, text) in
        [("shared", include_str!("../protocol/vectors.json")), ("more", include_str!("../protocol/more.json"))]
    {
        let vectors: Value = serde_json::from_str(text).unwrap();
        let mut add = |target, found: Vec<Vec<u8>>, most| {
            let few = found.into_iter().filter(|bytes| bytes.len() < 3000).take(most).enumerate();
            seeds.extend(few.map(|(number, bytes)| (target, format!("{file}-{number}"), bytes)));
        };
        add("nonce_header", texts(&vectors["nonce_header"], "value"), 40);
        add("report_header", texts(&vectors["report_header"], "value"), 20);
        let documents = [texts(&vectors["seal"], "document"), texts(&vectors["keys"], "document")].concat();
        add("key_document", documents, 70);
        add("keys_header", texts(&vectors["keys_header"], "value"), 20);
        add("key_config", hexes(&vectors["seal"], "seal"), 10);
        add("evidence_json", texts(&vectors["cmw"], "json"), 12);
        add("evidence_cbor", hexes(&vectors["cmw"], "cbor"), 12);
        add("batch_proof", [hexes(&vectors["batch"], "proof"), hexes(&vectors["batch_refused"], "proof")].concat(), 30);
    }
    seeds
}

/// All values of `member`, wherever it stands.
fn texts(value: &Value, member: &str) -> Vec<Vec<u8>> {
    match value {
        Value::Array(values) => values.iter().flat_map(|value| texts(value, member)).collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| match value {
                Value::String(text) if name == member => vec![text.clone().into_bytes()],
                _ => texts(value, member),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn hexes(value: &Value, member: &str) -> Vec<Vec<u8>> {
    texts(value, member).into_iter().map(|text| hex::decode(text).unwrap()).collect()
}

fn snp() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for product in Product::ALL {
        for (kind, guest) in [
            ("vcek", SimulatedGuest::new(product)),
            ("vlek", SimulatedGuest::new(product).with_vlek("CN=cc-us-east-2.amazonaws.com")),
        ] {
            let report = SimProvider::new(guest.with_measurement([0x4d; 48])).make(&[0x5a; 64]);
            let vek = report.vek().unwrap().to_vec();
            let name = format!("{}-{kind}", product.name().to_lowercase());
            seeds.push(("snp_report", name.clone(), report.bytes().to_vec()));
            seeds.push(("snp_certificate", name.clone(), vek.clone()));
            seeds.push(("snp_certificate", format!("{name}-changed"), with_one_bit_off(&vek)));
            if product == Product::Genoa {
                seeds.push(("snp_cert_table", name, cert_table(&[(CertTable::VCEK, &vek), (CertTable::VLEK, &vek)])));
            }
        }
        let list = revocation_list(product);
        seeds.push(("snp_crl", format!("{}-changed", product.name().to_lowercase()), with_one_bit_off(&list)));
        seeds.push(("snp_crl", product.name().to_lowercase(), list));
    }
    let old = SimulatedGuest { version: 2, ..SimulatedGuest::new(Product::Milan) };
    seeds.push(("snp_report", "milan-version-2".to_owned(), old.report(&[0; 64]).to_vec()));
    let amd = SimulatedAmd::new().certificate(Product::Milan, tower_attest::snp::sim::Authority::Ask);
    seeds.push(("snp_certificate", "milan-ask".to_owned(), amd));
    let pem = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    seeds.push(("snp_cert_table", "pem".to_owned(), cert_table(&[(CertTable::VCEK, pem), (CertTable::ASK, pem)])));
    seeds.push(("snp_cert_table", "empty".to_owned(), cert_table(&[])));
    seeds
}

/// The digit before the first `Z`: the seconds of a date, which nothing but the signature protects.
fn with_one_bit_off(der: &[u8]) -> Vec<u8> {
    let date = der.iter().position(|byte| *byte == b'Z').unwrap();
    let mut der = der.to_vec();
    der[date - 1] ^= 1;
    der
}

/// GHCB specification 4.1.8.1: entries of GUID, offset and length, a zero entry, the certificates.
fn cert_table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
    let mut offset = (entries.len() + 1) * 24;
    let mut table = Vec::new();
    for (guid, certificate) in entries {
        table.extend(guid);
        table.extend(u32::try_from(offset).unwrap().to_le_bytes());
        table.extend(u32::try_from(certificate.len()).unwrap().to_le_bytes());
        offset += certificate.len();
    }
    table.extend([0; 24]);
    entries.iter().for_each(|(_, certificate)| table.extend(*certificate));
    table
}

fn tdx() -> Vec<Seed> {
    let quote = |format| tdx::sim::SimulatedTd::new([0x42; 48]).with_format(format).quote(&[0x5a; 64]);
    let quotes =
        tdx_formats().into_iter().map(|format| ("tdx_quote", format!("{format:?}").to_lowercase(), quote(format)));
    let collateral = tdx::sim::SimulatedIntel::new().collateral().build().to_json();
    let text = String::from_utf8(collateral.clone()).unwrap();
    let other = text.replacen(r#"\"version\":3"#, r#"\"version\": 3"#, 1);
    assert_ne!(other, text);
    let collateral = [("good", collateral), ("changed", other.into_bytes())];
    quotes.chain(collateral.map(|(name, json)| ("tdx_collateral", name.to_owned(), json))).collect()
}

/// Scripts of changes: none; one to report, certificate or both. Byte 0xd0 is signed in reports of both platforms, and no rule
/// but a policy judges it.
fn scripts() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for target in ["snp_genuine", "tdx_genuine"] {
        for whose in 0..7 {
            seeds.push((target, format!("unchanged-{whose}"), vec![whose, 2]));
            for (what, step, at) in
                [(0, 0, 0xd0), (0, 4, 0x400), (1, 0, 0x100), (1, 2, 0x3f0), (2, 3, 0x2a8), (2, 5, 0x10)]
            {
                let [high, low] = u16::try_from(at).unwrap().to_be_bytes();
                seeds.push((target, format!("changed-{whose}-{what}-{step}"), vec![whose, what, step, high, low, 1]));
            }
        }
    }
    for what in 0..12 {
        seeds.push(("response_head", format!("unchanged-{what}"), vec![what]));
        for (step, at, value) in [(0, 20, 1), (2, 8, b','), (3, 60, 4), (4, 130, 0), (5, 0, 255), (1, 200, b'A')] {
            let [high, low] = u16::try_from(at).unwrap().to_be_bytes();
            seeds.push(("response_head", format!("changed-{what}-{step}"), vec![what, step, high, low, value]));
        }
    }
    for (number, (name, value)) in [(0, "v=1"), (1, "14"), (2, "120"), (3, ":AAAA:")].into_iter().enumerate() {
        let added = [&[0x40 | u8::try_from(number).unwrap(), name], value.as_bytes()].concat();
        seeds.push(("response_head", format!("added-{number}"), added));
    }
    for what in 0..8 {
        seeds.push(("sealed_exchange", format!("unchanged-{what}"), vec![what]));
        for (step, at, value) in
            [(0, 3, 1), (1, 40, 0), (2, 39, 0), (3, 60, 4), (4, 16_450, 0), (4, 70, 0), (5, 0, 255)]
        {
            let [high, low] = u16::try_from(at).unwrap().to_be_bytes();
            seeds.push(("sealed_exchange", format!("changed-{what}-{step}-{at}"), vec![what, step, high, low, value]));
        }
    }
    let members: [(&str, &[u8]); 6] = [
        ("needed", &[0]),
        ("none-needed", &[0x0f]),
        ("repeated", &[0, 1, 4, 2, 1, 2]),
        ("with-vek-and-later", &[0x20, 4, 0x2c, 3, 0x30, 1, 0, 7, 2, 0]),
        ("three-elements", &[0x10, 5, 0x35, 2, 9, 9, 6, 3, 0]),
        ("own-batch", &[8, 3, 0x24, 8, 0, 0, 0, 1, 0, 0, 0, 0]),
    ];
    seeds.extend(members.map(|(name, bytes)| ("evidence_differential", name.to_owned(), bytes.to_vec())));
    seeds
}

fn policies() -> Vec<Seed> {
    let snp = format!(
        r#"products = ["milan", "genoa", "turin"]
signing-keys = ["vcek", "vlek"]
csp-ids = ["CN=cc-us-east-2.amazonaws.com"]
vmpls = [0, 1]
min-firmware = "1.55.1"
min-guest-svn = 1
host-data = ["{zero}"]
require-crl = true
mitigations = {{ launch = 1, current = 3 }}

[[measurement]]
name = "prover"
value = "{measurement}"

[guest-policy]
forbid = ["smt"]
permit = ["single-socket"]
min-abi = "0.31"

[platform-info]
require = ["ecc-en"]

[[tcb-floor]]
product = "turin"
reported = {{ fmc = 1, bl = 1, tee = 0, snp = 1, ucode = 1 }}
"#,
        zero = "00".repeat(32),
        measurement = "4d".repeat(48)
    );
    let short = format!("[[measurement]]\nvalue = \"{}\"\n", "4d".repeat(48));
    let debug = format!("[guest-policy]\ndangerously-permit-debug = true\n{short}");
    let tdx = format!(
        r#"td-attributes = {{ require = "0x10000000", forbid = "0xff" }}
xfam = {{ require = "0x3" }}
min-tee-tcb-svn = "{svn}"
min-tcb-evaluation-data-number = 18
denied-advisories = ["INTEL-SA-01397"]
smt = false

[[measurement]]
name = "prover"
mrtd = "{mr_td}"
rtmr1 = ["{rtmr}"]

[[accept]]
status = "OutOfDate"
advisories = ["INTEL-SA-00960"]
until = "2026-12-31T00:00:00Z"
"#,
        svn = "01".repeat(16),
        mr_td = "42".repeat(48),
        rtmr = "11".repeat(48)
    );
    let short_tdx = format!("[[measurement]]\nmrtd = \"{}\"\n", "42".repeat(48));
    let seed = |target, name: &str, text: String| (target, name.to_owned(), text.into_bytes());
    vec![
        seed("snp_policy", "every-rule", snp),
        seed("snp_policy", "short", short),
        seed("snp_policy", "debug", debug),
        seed("tdx_policy", "every-rule", tdx),
        seed("tdx_policy", "short", short_tdx),
    ]
}

fn lists() -> Vec<Seed> {
    let value = |byte: &str| byte.repeat(48);
    let entry = |kind: &str, registers: String| {
        format!(r#"{{"measurement_id": "image", "attestation_type": "{kind}", "measurements": {{{registers}}}}}"#)
    };
    let old = entry("dcap-tdx", format!(r#""0": {{"expected": "{}"}}"#, value("42")));
    let registers = format!(
        r#""mrtd": {{"expected_any": ["{}", "{}"]}}, "rtmr1": {{"expected_any": ["{}"]}}"#,
        value("42"),
        value("43"),
        value("11")
    );
    let new = entry("gcp-tdx", registers);
    let azure = entry("azure-tdx", format!(r#""11": {{"expected": "{}"}}"#, "5a".repeat(32)));
    let both = include_str!("../../examples/policy.toml");
    let one = format!("[tdx]\n[[tdx.measurement]]\nmrtd = \"{}\"\n[server]\nname = \"::1\"\n", value("42"));
    let seed = |target, name: &str, text: String| (target, name.to_owned(), text.into_bytes());
    vec![
        seed("tdx_measurements", "old", format!("[{old}]")),
        seed("tdx_measurements", "mixed", format!("[{old}, {azure}, {new}]")),
        seed("tdx_measurements", "others", format!("[{azure}]")),
        seed("policy_file", "example", both.to_owned()),
        seed("policy_file", "short", one),
    ]
}

/// TCG PC Client Platform Firmware Profile 1.06, section 10: the event that describes the log, then events of two digests each.
fn event_logs() -> Vec<Seed> {
    let mut head = [1_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
    head.extend([0; 20]);
    head.extend(37_u32.to_le_bytes());
    head.extend(b"Spec ID Event03\0");
    head.extend([0, 0, 0, 0, 0, 2, 0, 2, 2, 0, 0, 0, 0x0b, 0, 32, 0, 0x0c, 0, 48, 0, 0]);
    let event = |register: u32, kind: u32, data: &[u8]| {
        let mut event = [register, kind, 2].map(u32::to_le_bytes).concat();
        event.extend([&[0x0b, 0], &[0x11; 32][..], &[0x0c, 0], &[0x22; 48]].concat());
        event.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        event.extend(data);
        event
    };
    let events =
        [event(0, 0x8000_000a, b"firmware"), event(1, 4, &[0; 4]), event(3, 0xd, b"vmlinuz"), event(2, 3, b"x")];
    let log = [head.clone(), events.concat()].concat();
    let seed = |name: &str, bytes: Vec<u8>| ("tdx_event_log", name.to_owned(), bytes);
    vec![
        seed("filled", [log.clone(), vec![0xff; 40]].concat()),
        seed("zeros", [log.clone(), vec![0; 40]].concat()),
        seed("cut", log[..log.len() - 1].to_vec()),
        seed("whole", log),
        seed("empty", head),
    ]
}
