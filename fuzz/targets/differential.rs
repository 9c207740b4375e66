//! One collection written in JSON and in CBOR by hand: both parsers must give the same verdict.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tower_attest::Platform;
use tower_attest::protocol::Evidence;

use super::protocol::survives_both_encodings;

const TYPE: &str = "urn:uuid:d4c66c14-a413-5a0d-bfcb-64bee0f55a6f";
const LABELS: [&str; 8] = ["__cmwc_t", "report", "keys", "batch", "vek", "collateral", "", "later"];
const MEDIA_TYPES: [&str; 8] = [
    "application/vnd.amd.sev-snp.attestation-report",
    "application/vnd.tower-attest.tdx-quote",
    "application/vnd.tower-attest.mock-report",
    "application/vnd.tower-attest.keys+json",
    "application/vnd.tower-attest.batch-proof",
    "application/pkix-cert",
    "application/vnd.tower-attest.tdx-collateral+json",
    "text/plain",
];

/// A member's value, as both encodings can say it.
enum Value {
    Text(&'static str),
    Record { media_type: &'static str, bytes: Vec<u8>, further: usize },
    Null,
    Empty,
}

/// Each member is three bytes (label, shape with media type, length), then that many bytes of a record. The labels that
/// must be there are put in front unless the input's first byte leaves them out, bit by bit.
pub fn evidence_differential(data: &[u8]) {
    let Some((without, data)) = data.split_first() else { return };
    let members = members(*without, data);
    let (from_json, from_cbor) = (
        Evidence::from_json(json(&members).as_bytes(), &Platform::KNOWN),
        Evidence::from_cbor(&cbor(&members), &Platform::KNOWN),
    );
    match (from_json, from_cbor) {
        (Ok(one), Ok(other)) => {
            assert_eq!(one, other);
            survives_both_encodings(&one);
        }
        (Err(_), Err(_)) => {}
        (json, cbor) => panic!("JSON says {json:?}, CBOR says {cbor:?}"),
    }
}

fn members(without: u8, mut data: &[u8]) -> Vec<(&'static str, Value)> {
    let record = |media_type: usize, bytes: &[u8]| Value::Record {
        media_type: MEDIA_TYPES[media_type % 8],
        bytes: bytes.to_vec(),
        further: 0,
    };
    let needed = [
        ("__cmwc_t", Value::Text(TYPE)),
        ("report", record(usize::from(without >> 4), b"report")),
        ("keys", record(3, b"{}")),
        ("batch", record(4, &[0, 0, 0, 1, 0, 0, 0, 0])),
    ];
    let kept = needed.into_iter().enumerate().filter(|(bit, _)| without >> bit & 1 == 0);
    let mut members: Vec<_> = kept.map(|(_, member)| member).collect();
    while let Some(([label, shape, length], rest)) = data.split_first_chunk() {
        let (bytes, rest) = rest.split_at(rest.len().min((*length).into()));
        data = rest;
        let media_type = MEDIA_TYPES[usize::from(shape >> 3) % 8];
        let value = match shape % 8 {
            0 => Value::Text(TYPE),
            1 => Value::Text("another type"),
            2 => Value::Null,
            3 => Value::Empty,
            further => Value::Record { media_type, bytes: bytes.to_vec(), further: usize::from(further - 4) % 3 },
        };
        members.push((LABELS[usize::from(label % 8)], value));
    }
    members
}

fn json(members: &[(&str, Value)]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(label, value)| match value {
            Value::Text(text) => format!("{label:?}:{text:?}"),
            Value::Null => format!("{label:?}:null"),
            Value::Empty => format!("{label:?}:[]"),
            Value::Record { media_type, bytes, further } => {
                let bytes = URL_SAFE_NO_PAD.encode(bytes);
                format!("{label:?}:[{media_type:?},{bytes:?}{}]", ",null".repeat(*further))
            }
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

fn cbor(members: &[(&str, Value)]) -> Vec<u8> {
    let text = |text: &str| [head(3, text.len()), text.as_bytes().to_vec()].concat();
    let mut bytes = head(5, members.len());
    for (label, value) in members {
        bytes.extend(text(label));
        match value {
            Value::Text(value) => bytes.extend(text(value)),
            Value::Null => bytes.push(0xf6),
            Value::Empty => bytes.extend(head(4, 0)),
            Value::Record { media_type, bytes: value, further } => {
                bytes.extend(head(4, 2 + further));
                bytes.extend(text(media_type));
                bytes.extend(head(2, value.len()));
                bytes.extend(value);
                bytes.extend(vec![0xf6; *further]);
            }
        }
    }
    bytes
}

/// A CBOR head in its shortest form (RFC 8949, section 3).
fn head(major: u8, value: usize) -> Vec<u8> {
    let major = major << 5;
    match (u8::try_from(value), u16::try_from(value)) {
        (Ok(value @ 0..24), _) => vec![major | value],
        (Ok(value), _) => vec![major | 24, value],
        (_, Ok(value)) => [&[major | 25][..], &value.to_be_bytes()].concat(),
        _ => [&[major | 26][..], &u32::try_from(value).expect("short").to_be_bytes()].concat(),
    }
}
