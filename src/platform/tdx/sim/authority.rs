//! The simulated PKI: root, PCK CAs, TCB signer, PCK certificates and revocation lists.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::collateral::CollateralSpec;
use super::{Key, certificate_lifetime};
use crate::der::write::{bit_string, element, extension, integer, sequence, time};
use crate::platform::tdx::chain::{PCK, PLATFORM_CA, PROCESSOR_CA, TCB_SIGNER};
use crate::platform::tdx::collateral::{PckCa, PlatformId};
use crate::platform::tdx::pck::PckPlatform;
use crate::platform::tdx::x509::SGX_EXTENSION;

const ROOT_NAME: &str = "Simulated Intel SGX Root CA";
const ROOT: &[u8] = include_bytes!("root.der");
pub(super) const ROOT_SERIAL: u64 = 1;

/// Issues what Intel issues. Every instance has the same root and keys; signatures differ, as ECDSA's do.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimulatedIntel;

/// The machine of a simulated TD: what its PCK certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimulatedPlatform {
    /// The contents of the SGX extension.
    pub pck: PckPlatform,
    /// The certificate's serial number.
    pub serial: u64,
    /// Whether the root itself issued the certificate, which Intel's never does.
    pub issued_by_root: bool,
}

impl Default for SimulatedPlatform {
    fn default() -> Self {
        Self {
            pck: PckPlatform {
                ppid: [0x51; 16],
                id: PlatformId { fmspc: [0x51, 0x80, 0x6f, 0, 0, 0], ca: PckCa::Platform },
                pce_id: [0; 2],
                cpu_svn: [3; 16],
                pce_svn: 13,
                instance_id: Some([0x52; 16]),
                dynamic_platform: Some(true),
                cached_keys: Some(false),
                smt_enabled: Some(true),
            },
            serial: 0x5151,
            issued_by_root: false,
        }
    }
}

impl SimulatedPlatform {
    /// The same machine with a PCK certificate of the Processor CA, which lacks what only the Platform CA writes.
    #[must_use]
    pub fn with_processor_ca(mut self) -> Self {
        self.pck.id.ca = PckCa::Processor;
        self.pck.instance_id = None;
        self.pck.dynamic_platform = None;
        self.pck.cached_keys = None;
        self.pck.smt_enabled = None;
        self
    }
}

impl SimulatedIntel {
    /// The software Intel.
    pub fn new() -> Self {
        Self
    }

    /// The simulated root, DER.
    pub fn root(&self) -> Vec<u8> {
        ROOT.to_vec()
    }

    /// Collateral for the default platform, up to date; see [`CollateralSpec`] for what can be changed.
    pub fn collateral(&self) -> CollateralSpec {
        CollateralSpec::default()
    }
}

/// A certificate of the PKI itself.
struct Authority {
    name: &'static str,
    serial: u64,
    key: Key,
    ca: bool,
}

const ROOT_CA: Authority = Authority { name: ROOT_NAME, serial: ROOT_SERIAL, key: Key::Root, ca: true };
const SIGNER: Authority = Authority { name: TCB_SIGNER, serial: 4, key: Key::TcbSigner, ca: false };

fn pck_ca(ca: PckCa) -> Authority {
    match ca {
        PckCa::Platform => Authority { name: PLATFORM_CA, serial: 2, key: Key::PlatformCa, ca: true },
        PckCa::Processor => Authority { name: PROCESSOR_CA, serial: 3, key: Key::ProcessorCa, ca: true },
    }
}

pub(super) fn ca_serial(ca: PckCa) -> u64 {
    pck_ca(ca).serial
}

/// PEM of the PCK certificate, its CA and the root.
pub(super) fn pck_chain(platform: &SimulatedPlatform) -> String {
    let ca = pck_ca(platform.pck.id.ca);
    let sgx = extension(SGX_EXTENSION, false, &sgx_extension(&platform.pck));
    let leaf = Authority { name: PCK, serial: platform.serial, key: Key::Pck, ca: false };
    // A certificate that the root issues in the CA's name tests what only the path's length shows.
    let issuer = if platform.issued_by_root { ROOT_CA } else { pck_ca(platform.pck.id.ca) };
    pem(&[&certificate(&leaf, &issuer, &sgx), &certificate(&ca, &ROOT_CA, &[]), ROOT])
}

/// PEM of the TCB signer and the root.
pub(super) fn tcb_signing_chain() -> String {
    pem(&[&certificate(&SIGNER, &ROOT_CA, &[]), ROOT])
}

/// PEM of the CA and the root.
pub(super) fn crl_issuer_chain(ca: PckCa) -> String {
    pem(&[&certificate(&pck_ca(ca), &ROOT_CA, &[]), ROOT])
}

/// DER of the CRL that the root (`None`) or a CA signs.
pub(super) fn crl(ca: Option<PckCa>, revoked: &[u64], (from, until): (SystemTime, SystemTime)) -> Vec<u8> {
    let issuer = ca.map_or(ROOT_CA, pck_ca);
    let entries: Vec<Vec<u8>> = revoked.iter().map(|serial| sequence(&[&integer(*serial), &time(from)])).collect();
    let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    let revoked = if entries.is_empty() { Vec::new() } else { sequence(&entries) };
    let number = extension(&[0x55, 0x1d, 0x14], false, &integer(1));
    signed(
        &[
            &integer(1),
            &ecdsa_with_sha256(),
            &name(issuer.name),
            &time(from),
            &time(until),
            &revoked,
            &element(0xa0, &[&sequence(&[&number])]),
        ],
        issuer.key,
    )
}

fn certificate(subject: &Authority, issuer: &Authority, more: &[u8]) -> Vec<u8> {
    let (from, until) = certificate_lifetime();
    let constraints = if subject.ca { sequence(&[&[0x01, 0x01, 0xff]]) } else { sequence(&[]) };
    // keyCertSign and cRLSign, or digitalSignature (RFC 5280 §4.2.1.3), as BIT STRINGs with their unused bits.
    let usage: &[u8] = if subject.ca { &[0x03, 0x02, 0x01, 0x06] } else { &[0x03, 0x02, 0x07, 0x80] };
    let extensions = sequence(&[
        &extension(&[0x55, 0x1d, 0x13], true, &constraints),
        &extension(&[0x55, 0x1d, 0x0f], true, usage),
        more,
    ]);
    let point = [&[4][..], &subject.key.signer().public_key()].concat();
    let algorithm = sequence(&[
        &element(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]]),
        &element(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]]),
    ]);
    signed(
        &[
            &element(0xa0, &[&integer(2)]),
            &integer(subject.serial),
            &ecdsa_with_sha256(),
            &name(issuer.name),
            &sequence(&[&time(from), &time(until)]),
            &name(subject.name),
            &sequence(&[&algorithm, &bit_string(&point)]),
            &element(0xa3, &[&extensions]),
        ],
        issuer.key,
    )
}

/// The fields as a sequence, signed.
fn signed(fields: &[&[u8]], key: Key) -> Vec<u8> {
    let tbs = sequence(fields);
    let signature = key.signer().sign_der(&tbs);
    sequence(&[&tbs, &ecdsa_with_sha256(), &bit_string(&signature)])
}

fn ecdsa_with_sha256() -> Vec<u8> {
    sequence(&[&element(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]])])
}

fn name(common_name: &str) -> Vec<u8> {
    let attribute = sequence(&[&element(0x06, &[&[0x55, 0x04, 0x03]]), &element(0x0c, &[common_name.as_bytes()])]);
    sequence(&[&element(0x31, &[&attribute])])
}

/// The contents of Intel's SGX extension (PCK Certificate and CRL Specification, §1.3.5).
fn sgx_extension(pck: &PckPlatform) -> Vec<u8> {
    let entry = |arcs: &[u8], value: &[u8]| sequence(&[&element(0x06, &[SGX_EXTENSION, arcs]), value]);
    let octets = |bytes: &[u8]| element(0x04, &[bytes]);
    let flag = |arc, value: Option<bool>| {
        value.map_or_else(Vec::new, |value| entry(&[7, arc], &element(0x01, &[&[if value { 0xff } else { 0 }]])))
    };
    let mut tcb: Vec<Vec<u8>> =
        (1..).zip(pck.cpu_svn).map(|(arc, svn)| entry(&[2, arc], &integer(svn.into()))).collect();
    tcb.push(entry(&[2, 17], &integer(pck.pce_svn.into())));
    tcb.push(entry(&[2, 18], &octets(&pck.cpu_svn)));
    let tcb: Vec<&[u8]> = tcb.iter().map(Vec::as_slice).collect();
    let configuration =
        sequence(&[&flag(1, pck.dynamic_platform), &flag(2, pck.cached_keys), &flag(3, pck.smt_enabled)]);
    sequence(&[
        &entry(&[1], &octets(&pck.ppid)),
        &entry(&[2], &sequence(&tcb)),
        &entry(&[3], &octets(&pck.pce_id)),
        &entry(&[4], &octets(&pck.id.fmspc)),
        // ENUMERATED: a scalable platform.
        &entry(&[5], &element(0x0a, &[&[1]])),
        &pck.instance_id.map_or_else(Vec::new, |id| entry(&[6], &octets(&id))),
        &if configuration.len() > 2 { entry(&[7], &configuration) } else { Vec::new() },
    ])
}

fn pem(certificates: &[&[u8]]) -> String {
    let mut pem = String::new();
    for der in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let base64 = STANDARD.encode(der);
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
            pem.push_str(line);
            pem.push('\n');
            rest = more;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}
