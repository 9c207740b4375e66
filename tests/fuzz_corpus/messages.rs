//! Seeds for what is sealed by hostile peers: messages of Binary HTTP in both framings, whole and just not.

use bhttp::{Message, Mode, StatusCode};

use super::seeds::Seed;

/// How a message is cut: the AEAD, and whether the final chunk is empty; bytes in a chunk; bytes in a frame, less one each;
/// nothing repeated.
const CUTS: [[u8; 4]; 4] = [[0, 255, 255, 0], [1, 0, 0, 0], [2, 6, 2, 0], [3, 16, 64, 0]];

pub(super) fn all() -> Vec<Seed> {
    let requests = [requests(), by_hand(&REQUESTS)].concat();
    let responses = [responses(), by_hand(&RESPONSES)].concat();
    let seeds = |target: &'static str, messages: Vec<(String, Vec<u8>)>| {
        let cuts = CUTS.iter().cycle();
        messages.into_iter().zip(cuts).map(move |((name, bytes), cut)| (target, name, [&cut[..], &bytes].concat()))
    };
    let long = LONG.iter().map(|(target, name, repeated, digits)| {
        let bytes = [&[0, 99, 15, *repeated][..], &hex::decode(digits).unwrap()].concat();
        (*target, (*name).to_owned(), bytes)
    });
    seeds("sealed_request", requests).chain(seeds("sealed_response", responses)).chain(long).collect()
}

/// As `bhttp` writes them, whole and without what is empty at their end.
fn written(name: &str, message: &Message) -> Vec<(String, Vec<u8>)> {
    let framings = [("known", Mode::KnownLength), ("indeterminate", Mode::IndeterminateLength)];
    let mut seeds = Vec::new();
    for (framing, mode) in framings {
        let mut bytes = Vec::new();
        message.write_bhttp(mode, &mut bytes).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        seeds.push((format!("{name}-{framing}-short"), bytes[..end].to_vec()));
        seeds.push((format!("{name}-{framing}"), bytes));
    }
    seeds
}

fn requests() -> Vec<(String, Vec<u8>)> {
    let request = |method: &str, authority: &str, path: &str| {
        Message::request(method.into(), b"https".to_vec(), authority.into(), path.into())
    };
    let get = request("GET", "prover.example", "/");
    let mut post = request("POST", "prover.example:8443", "/prove?a=1");
    for (name, value) in [("x-a", "1"), ("cookie", "a=1"), ("x-a", "2"), ("cookie", "b=2"), ("te", "trailers")] {
        post.put_header(name, value);
    }
    post.write_content(b"a statement and a witness");
    post.put_trailer("grpc-status", "0");
    let mut hop = request("PUT", "", "/relative");
    for (name, value) in [("host", "prover.example"), ("connection", "close, x-hop"), ("x-hop", "1"), ("te", "gzip")] {
        hop.put_header(name, value);
    }
    let mut measured = request("POST", "prover.example", "/");
    measured.put_header("content-length", "4");
    measured.write_content(b"four");
    let mut longer = request("POST", "prover.example", "/");
    longer.put_header("content-length", "3");
    longer.write_content(b"four");
    let asterisk = request("OPTIONS", "prover.example", "*");
    let own = request("GET", "prover.example", "/.well-known/tower-attest");
    let all = [
        ("get", get),
        ("post", post),
        ("hop", hop),
        ("length", measured),
        ("longer", longer),
        ("asterisk", asterisk),
        ("own", own),
    ];
    all.iter().flat_map(|(name, message)| written(name, message)).collect()
}

fn responses() -> Vec<(String, Vec<u8>)> {
    let empty = Message::response(StatusCode::try_from(204_u16).unwrap());
    let mut whole = Message::response(StatusCode::OK);
    for (name, value) in [("content-type", "text/plain"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x", "")] {
        whole.put_header(name, value);
    }
    whole.write_content(b"a proof");
    whole.put_trailer("grpc-status", "0");
    [written("empty", &empty), written("whole", &whole)].concat()
}

/// Names and hexadecimal.
fn by_hand(messages: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    messages.iter().map(|(name, digits)| ((*name).to_owned(), hex::decode(digits).unwrap())).collect()
}

/// `GET https://a/` or nearly.
const REQUESTS: [(&str, &str); 9] = [
    ("rfc-9458", "00034745540568747470730b6578616d706c652e636f6d012f"),
    ("two-pieces", "02034745540568747470730161012f0003616263026465000000"),
    ("long-varints", "40024003474554400568747470730161800000012f00"),
    ("padded", "02034745540568747470730161012f00000000000000"),
    ("padded-with-more", "02034745540568747470730161012f000000000001"),
    ("cut-in-a-name", "02034745540568747470730161012f04782d61"),
    ("upper-case", "02034745540568747470730161012f01580131000000"),
    ("fragment", "02034745540568747470730161042f61236200"),
    ("huge", "0203474554ffffffffffffffff"),
];

/// 103 and 200, and what is no final status.
const RESPONSES: [(&str, &str); 5] = [
    ("rfc-9458", "0140c8"),
    ("informational", "034067046c696e6b01780040670040c801610162000000"),
    ("informational-alone", "0340670000"),
    ("status-600", "03425800"),
    ("a-request", "02034745540568747470730161012f00"),
];

/// Past the limits: fields, a name, trailers, content in pieces, informational responses, padding.
const LONG: [(&str, &str, u8, &str); 6] = [
    ("sealed_request", "long-head", 3, "02034745540568747470730161012f016100"),
    ("sealed_request", "long-name", 1, "02034745540568747470730161012f800100007861"),
    ("sealed_request", "long-trailers", 4, "02034745540568747470730161012f000001610162"),
    ("sealed_request", "long-content", 3, "02034745540568747470730161012f00026162"),
    ("sealed_response", "long-informational", 3, "03406700"),
    ("sealed_response", "long-padding", 1, "0340c8000000"),
];
