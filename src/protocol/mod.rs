//! The wire protocol, sans-IO: bytes to values and back, without async, clock or randomness. `docs/PROTOCOL.md` has it in words.
//!
//! ```
//! use tower_attest::protocol::{NonceHeader, Nonce};
//!
//! let header = NonceHeader::new(Nonce::from_bytes([7; 32]));
//! let value = header.to_value();
//! assert_eq!(NonceHeader::parse(value.as_bytes())?, header);
//! # Ok::<(), tower_attest::protocol::HeaderError>(())
//! ```

mod batch;
mod evidence;
mod header;
mod json;
mod key_config;
mod keys;
#[cfg(test)]
mod properties;
mod statement;
mod tlv;

use crate::report::excerpt;

pub use self::batch::{BatchError, BatchProof, BatchTree, MAX_BATCH};
pub use self::evidence::{CMW_CBOR, CMW_JSON, Evidence, EvidenceError, MAX_EVIDENCE};
pub use self::header::{
    ATTESTATION_KEYS, ATTESTATION_NONCE, ATTESTATION_REPORT, ATTESTATION_ROUTE, HeaderError, KeysHeader, MAX_HAVE,
    MAX_KEYS_VALUE, MAX_NONCE_VALUE, MAX_REPORT_VALUE, NonceHeader, ReportHeader,
};
pub use self::key_config::{KeyConfig, KeyConfigError, Suite};
pub use self::keys::{KeyDocument, KeyDocumentError, KeyDocumentFields, KeysDigest, MAX_KEY_DOCUMENT};
pub use self::statement::{
    ChannelBinding, EXPORTER_LABEL, EvidenceStatement, Leaf, Nonce, ResponseStatement, Target, TargetError, report_data,
};

/// The path that a server layer answers itself with fresh evidence.
pub const WELL_KNOWN_PATH: &str = "/.well-known/tower-attest";

/// The path that sealed requests are posted to.
pub const SEALED_PATH: &str = "/.well-known/tower-attest/sealed";

/// The media type of a sealed request: chunked Oblivious HTTP (RFC 9458 and draft-ietf-ohai-chunked-ohttp).
pub const SEALED_REQUEST: &str = "message/ohttp-chunked-req";

/// The media type of a sealed response.
pub const SEALED_RESPONSE: &str = "message/ohttp-chunked-res";

/// The problem type (RFC 9457) of a server that does not hold the keys that a request is sealed to (RFC 9458,
/// section 5.3).
pub const UNKNOWN_KEYS_PROBLEM: &str = "https://iana.org/assignments/http-problem-types#ohttp-key";
