//! What is fuzzed: plain functions of bytes that panic where the crate breaks a promise.
//!
//! libFuzzer calls them (`fuzz_targets/`), and `tests/fuzz_corpus` replays the corpora over them, so that each finding
//! stays found.

mod client;
mod differential;
mod edit;
mod protocol;
mod sealed;
mod snp;
mod tdx;

pub use self::client::response_head;
pub use self::differential::evidence_differential;
pub use self::protocol::{batch_proof, evidence_cbor, evidence_json, key_document, nonce_header, report_header};
pub use self::sealed::sealed_exchange;
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
    ("key_document", key_document),
    ("nonce_header", nonce_header),
    ("policy_file", policy_file),
    ("report_header", report_header),
    ("response_head", response_head),
    ("sealed_exchange", sealed_exchange),
    ("snp_cert_table", snp_cert_table),
    ("snp_certificate", snp_certificate),
    ("snp_crl", snp_crl),
    ("snp_genuine", snp_genuine),
    ("snp_policy", snp_policy),
    ("snp_report", snp_report),
    ("tdx_collateral", tdx_collateral),
    ("tdx_event_log", tdx_event_log),
    ("tdx_genuine", tdx_genuine),
    ("tdx_measurements", tdx_measurements),
    ("tdx_policy", tdx_policy),
    ("tdx_quote", tdx_quote),
];
