//! What is fuzzed: plain functions of bytes that panic where the crate breaks a promise.
//!
//! libFuzzer calls them (`fuzz_targets/`), and `tests/fuzz_corpus` replays the corpora over them, so that each finding
//! stays found.

mod client;
mod differential;
mod edit;
mod endorsers;
mod hostile;
mod message;
mod ohttp;
mod protocol;
mod sealed;
mod server;
mod snp;
mod tdx;

pub use self::client::response_head;
pub use self::differential::evidence_differential;
pub use self::endorsers::{snp_kds, tdx_pcs};
pub use self::hostile::{sealed_request, sealed_response};
pub use self::protocol::{
    batch_proof, evidence_cbor, evidence_json, key_config, key_document, keys_header, nonce_header, report_header,
};
pub use self::sealed::sealed_exchange;
pub use self::server::request_head;
pub use self::snp::{snp_cert_table, snp_certificate, snp_crl, snp_genuine, snp_policy, snp_report};
pub use self::tdx::{policy_file, tdx_collateral, tdx_event_log, tdx_genuine, tdx_measurements, tdx_policy, tdx_quote};

/// For the seeds.
#[doc(hidden)]
pub use self::{snp::revocation_list, tdx::formats as tdx_formats};

/// One target: any bytes are input.
pub type Target = fn(&[u8]);

/// All targets, under the names of their corpora and binaries.
pub const ALL: &[(&str, Target)] = &[
    ("batch_proof", batch_proof),
    ("evidence_cbor", evidence_cbor),
    ("evidence_differential", evidence_differential),
    ("evidence_json", evidence_json),
    ("key_config", key_config),
    ("key_document", key_document),
    ("keys_header", keys_header),
    ("nonce_header", nonce_header),
    ("policy_file", policy_file),
    ("report_header", report_header),
    ("request_head", request_head),
    ("response_head", response_head),
    ("sealed_exchange", sealed_exchange),
    ("sealed_request", sealed_request),
    ("sealed_response", sealed_response),
    ("snp_cert_table", snp_cert_table),
    ("snp_certificate", snp_certificate),
    ("snp_crl", snp_crl),
    ("snp_genuine", snp_genuine),
    ("snp_kds", snp_kds),
    ("snp_policy", snp_policy),
    ("snp_report", snp_report),
    ("tdx_collateral", tdx_collateral),
    ("tdx_event_log", tdx_event_log),
    ("tdx_genuine", tdx_genuine),
    ("tdx_measurements", tdx_measurements),
    ("tdx_pcs", tdx_pcs),
    ("tdx_policy", tdx_policy),
    ("tdx_quote", tdx_quote),
];
