//! Seeds for heads of requests, and for what AMD's and Intel's services answer.

use super::seeds::Seed;

const NONCE: &str = "attestation-nonce: :ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=:";

pub(super) fn all() -> Vec<Seed> {
    [requests(), endorsers()].concat()
}

fn requests() -> Vec<Seed> {
    let sealed = "POST /.well-known/tower-attest/sealed";
    let keys = "attestation-keys: :p8a09/9B65AVY0ZuNmvLbLh8e18FZCm1nqxDwOvDkcc=:";
    let preflight = "origin: https://a.example\naccess-control-request-method: POST";
    let heads = [
        ("plain", "GET /a?b=c".to_owned()),
        ("nonce", format!("GET /a?b=c\n{NONCE}")),
        ("forged-report", format!("GET /\n{NONCE}\nattestation-report: v=1")),
        ("have", format!("GET /\n{NONCE};have=:p8a09/9B65AVY0ZuNmvLbLh8e18FZCm1nqxDwOvDkcc=:")),
        ("bound", format!("GET /\n{NONCE};bind=tls-exporter")),
        ("two-nonces", format!("GET /\n{NONCE}\n{NONCE}")),
        ("short-nonce", "GET /\nattestation-nonce: :AAAA:".to_owned()),
        ("empty-query", format!("GET https://a?\n{NONCE}")),
        ("asterisk", format!("OPTIONS *\n{NONCE}")),
        ("connect", format!("CONNECT a.example:443\n{NONCE}")),
        ("grpc", format!("POST /a.B/C\ncontent-type: application/grpc\n{NONCE};bind=tls-exporter")),
        ("endpoint", format!("GET /.well-known/tower-attest\n{NONCE}")),
        ("endpoint-without-nonce", "GET /.well-known/tower-attest".to_owned()),
        ("endpoint-posted", format!("POST /.well-known/tower-attest\n{NONCE}")),
        ("endpoint-preflight", format!("OPTIONS /.well-known/tower-attest\n{preflight}")),
        ("sealed", format!("{sealed}\n{NONCE}\ncontent-type: message/ohttp-chunked-req\n{keys}")),
        ("sealed-form", format!("{sealed}\ncontent-type: text/plain\n{keys}")),
        ("sealed-preflight", format!("OPTIONS /.well-known/tower-attest/sealed\n{preflight}")),
    ];
    heads.into_iter().map(|(name, head)| ("request_head", name.to_owned(), head.into_bytes())).collect()
}

/// Scripts: body, chain, status, `Retry-After`.
fn endorsers() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for which in 0..4 {
        for part in 0..4 {
            let changes: [&[u8]; 3] = match part {
                // The middle of a body and of a chain, one byte more, nothing.
                0 | 1 => [&[0, 1, 0, 1], &[2, 0, 0, b' '], &[4, 0, 9, 0]],
                2 => [&[0, 204], &[0, 102], &[1, 47]],
                _ => [b"120", b"Thu, 26 Nov 2026 12:00:00 GMT", b"99999999999999999999999"],
            };
            let mut add = |name: String, script: &[u8]| {
                let bytes = [&[which, part], script].concat();
                if which < 3 {
                    seeds.push(("snp_kds", name.clone(), bytes.clone()));
                }
                seeds.push(("tdx_pcs", name, bytes));
            };
            for (number, script) in changes.into_iter().enumerate() {
                add(format!("changed-{which}-{part}-{number}"), script);
            }
            if part < 2 {
                add(format!("unchanged-{which}-{part}"), &[]);
            }
        }
    }
    let pem = b"\0\0-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    seeds.push(("snp_kds", "pem".to_owned(), pem.to_vec()));
    seeds
}
