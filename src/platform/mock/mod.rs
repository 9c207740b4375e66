//! A software TEE: the way to test an application of one's own, with the attester, the layers and the checks that
//! production uses.
//!
//! A [`MockTee`] is a root key, a measurement and a debug flag. Its [`MockProvider`] makes reports, and fails in every
//! way that hardware does when a test tells it to; its [`MockVerifier`] trusts only the root keys it is given.
//! A mock report proves nothing about hardware, and no feature can make a verifier of real hardware accept one: its
//! platform is [`Platform::MOCK`], which only a `MockVerifier` judges.
//!
//! An attested server on loopback, in five lines:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_attest::mock::MockTee;
//! use tower_attest::{Attester, ReportLayer};
//!
//! # let app = axum::Router::new().route("/", axum::routing::get(async || "the answer"));
//! let tee = MockTee::new();
//! let attester = Attester::builder(tee.provider()).name("localhost").start().await?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?;
//! tokio::spawn(async move { axum::serve(listener, app.layer(ReportLayer::new(attester))).await });
//! // Now point a client whose `AttestLayer` has `tee.verifier()` at `address`.
//! # let stream = hyper_util::rt::TokioIo::new(tokio::net::TcpStream::connect(address).await?);
//! # let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await?;
//! # tokio::spawn(connection);
//! # let nonce = tower_attest::protocol::NonceHeader::new(tower_attest::Nonce::from_bytes([7; 32])).to_value();
//! # let request = http::Request::get("/").header("attestation-nonce", nonce).body(String::new())?;
//! # let response = client.send_request(request).await?;
//! # assert!(tower_attest::protocol::ReportHeader::from_headers(response.headers())?.is_some());
//! # Ok(()) }
//! ```
//!
//! What happens when the hardware is slow, throttled or broken: keep a clone of the provider, and call
//! [`MockProvider::set_behaviour`] or [`MockProvider::hold`]. What happens when a client expects another program: give it
//! `tee.clone().with_measurement(..).verifier()`, or change its mind later with [`MockVerifier::set_policy`].
//!
//! The two halves alone:
//!
//! ```
//! use std::time::SystemTime;
//! use tower_attest::ReportVerifier;
//! use tower_attest::mock::MockTee;
//!
//! let tee = MockTee::new();
//! let (ours, theirs) = (tee.verifier(), MockTee::new().verifier());
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let report = tee.sign([7; 64]);
//! let claims = ours.verify(&report, SystemTime::now()).await?;
//! assert_eq!(claims.report_data(), &[7; 64]);
//! assert!(theirs.verify(&report, SystemTime::now()).await.is_err(), "another root key");
//! # Ok::<(), tower_attest::VerifyError>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod provider;
mod verifier;

use std::fmt;
use std::sync::Arc;

pub use self::provider::{Behaviour, MockProvider};
pub use self::verifier::{MockPolicy, MockVerifier};
use crate::crypto::SigningKey;
use crate::report::{Hex, Platform, Report};

const MAGIC: &[u8; 8] = b"MOCKTEE1";

/// How many bytes a mock report has.
pub const REPORT_LEN: usize = 8 + 64 + 48 + 1 + 32 + 64;

/// A simulated machine: a root key, and the program that runs there. Cheap to clone.
#[derive(Clone)]
pub struct MockTee {
    root: Arc<SigningKey>,
    measurement: [u8; 48],
    debug: bool,
}

impl MockTee {
    /// A machine with a new root key that runs a program with the measurement `4d4d…4d` without debugging.
    pub fn new() -> Self {
        Self::with_root(SigningKey::generate())
    }

    /// A machine whose root key comes from a seed, so that two processes can agree on it.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::with_root(SigningKey::from_seed(&seed))
    }

    fn with_root(root: SigningKey) -> Self {
        Self { root: Arc::new(root), measurement: [0x4d; 48], debug: false }
    }

    /// The same machine with another program.
    #[must_use]
    pub fn with_measurement(mut self, measurement: [u8; 48]) -> Self {
        self.measurement = measurement;
        self
    }

    /// The same machine with debugging on or off. Verifiers refuse a program under debugging unless told otherwise.
    #[must_use]
    pub fn with_debug(mut self, debug: bool) -> Self {
        self.debug = debug;
        self
    }

    /// The public root key, for [`MockPolicy::pin`].
    pub fn root_key(&self) -> [u8; 32] {
        self.root.public_key()
    }

    /// What program runs.
    pub fn measurement(&self) -> [u8; 48] {
        self.measurement
    }

    /// The policy that accepts this machine with this program and nothing else.
    pub fn policy(&self) -> MockPolicy {
        MockPolicy::pin(self.root_key(), self.measurement)
    }

    /// A provider of this machine's reports.
    pub fn provider(&self) -> MockProvider {
        MockProvider::new(self.clone())
    }

    /// A verifier with this machine's [`policy`](Self::policy).
    pub fn verifier(&self) -> MockVerifier {
        MockVerifier::new(self.policy())
    }

    /// A report over any 64 bytes. Real hardware gives its guests the same freedom, which is why only the measured
    /// program may reach the device.
    pub fn sign(&self, report_data: [u8; 64]) -> Report {
        let fields = MockReport { report_data, measurement: self.measurement, debug: self.debug, key: self.root_key() };
        let mut bytes = fields.signed_bytes();
        let signature = self.root.sign(&bytes);
        bytes.extend_from_slice(&signature);
        Report::new(Platform::MOCK, bytes)
    }
}

impl Default for MockTee {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MockTee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockTee")
            .field("root_key", &format_args!("{}", Hex(&self.root_key())))
            .field("measurement", &format_args!("{}", Hex(&self.measurement)))
            .field("debug", &self.debug)
            .finish()
    }
}

/// What a mock report says; the details of the claims that a [`MockVerifier`] makes.
#[derive(Clone, PartialEq, Eq)]
pub struct MockReport {
    /// The 64 bytes that the report is over.
    pub report_data: [u8; 64],
    /// What program runs.
    pub measurement: [u8; 48],
    /// Whether the program runs under debugging.
    pub debug: bool,
    /// The root key that signed.
    pub key: [u8; 32],
}

impl MockReport {
    /// `"MOCKTEE1" ‖ REPORTDATA ‖ measurement ‖ debug ‖ key`: what the signature is over.
    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(REPORT_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.report_data);
        bytes.extend_from_slice(&self.measurement);
        bytes.push(u8::from(self.debug));
        bytes.extend_from_slice(&self.key);
        bytes
    }

    /// The fields, the signed bytes and the signature; or what is wrong.
    fn parse(bytes: &[u8]) -> Result<(Self, &[u8], [u8; 64]), String> {
        if bytes.len() != REPORT_LEN {
            return Err(format!("expected {REPORT_LEN} bytes, found {}", bytes.len()));
        }
        let mut rest = bytes;
        let magic: [u8; 8] = take(&mut rest)?;
        let report_data = take(&mut rest)?;
        let measurement = take(&mut rest)?;
        let [debug] = take(&mut rest)?;
        let key = take(&mut rest)?;
        let signature = take::<64>(&mut rest)?;
        if magic != *MAGIC {
            return Err(format!("expected the magic {}, found {}", Hex(MAGIC), Hex(&magic)));
        }
        let debug = match debug {
            0 => false,
            1 => true,
            other => return Err(format!("debug: expected 0 or 1, found {other}")),
        };
        let signed = bytes.get(..REPORT_LEN - 64).unwrap_or_default();
        Ok((Self { report_data, measurement, debug, key }, signed, signature))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or_else(|| format!("expected {N} more bytes"))?;
    *rest = tail;
    Ok(*head)
}

impl fmt::Debug for MockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockReport")
            .field("report_data", &format_args!("{}", Hex(&self.report_data)))
            .field("measurement", &format_args!("{}", Hex(&self.measurement)))
            .field("debug", &self.debug)
            .field("key", &format_args!("{}", Hex(&self.key)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of `mock_report` in the protocol's vectors.
    const SEED: &str = "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f";
    const REPORT_DATA: &str = "746f7765722d6174746573742f310000d1692116c984bee18d712d579f0fbe468e9ba57a3bee4264cbe6b6417d9555088e2272e400d95e3f4760b76d94cd65f3";
    const REPORT: &str = "4d4f434b54454531746f7765722d6174746573742f310000d1692116c984bee18d712d579f0fbe468e9ba57a3bee4264cbe6b6417d9555088e2272e400d95e3f4760b76d94cd65f34d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d00174553b456dddfc6908ecab1c101fe6ab21e2baa0617795b7d43a63482993fd570592091cd19191dfe505126eaf321979b9b131ea328fca51369bd0495d498f4a5047ba6e8d3b3e5138cb8cd69c94ead01de901259ef88b0b066c745dbdfe200";

    #[test]
    fn a_report_is_byte_for_byte_the_protocols_vector() {
        let tee = MockTee::from_seed(hex::decode(SEED).unwrap().try_into().unwrap());
        let report = tee.sign(hex::decode(REPORT_DATA).unwrap().try_into().unwrap());
        assert_eq!(hex::encode(report.bytes()), REPORT);
        assert_eq!(report.platform(), &Platform::MOCK);
    }

    #[test]
    fn a_report_of_another_length_magic_or_debug_byte_does_not_parse() {
        let good = MockTee::new().with_debug(true).sign([1; 64]).bytes().to_vec();
        assert!(MockReport::parse(&good).unwrap().0.debug);
        for length in 0..good.len() {
            assert!(MockReport::parse(&good[..length]).is_err(), "{length}");
        }
        assert!(MockReport::parse(&[good.clone(), vec![0]].concat()).unwrap_err().contains("found 218"));
        let mut magic = good.clone();
        magic[7] = b'2';
        assert!(MockReport::parse(&magic).unwrap_err().contains("magic"));
        let mut debug = good;
        debug[8 + 64 + 48] = 2;
        assert!(MockReport::parse(&debug).unwrap_err().contains("debug"));
    }

    #[test]
    fn no_secret_is_in_debug_output() {
        let tee = MockTee::from_seed([0x61; 32]);
        let secret = hex::encode([0x61; 32]);
        assert!(!format!("{tee:?} {:?} {:?}", tee.provider(), tee.verifier()).contains(&secret));
    }
}
