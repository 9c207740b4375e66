//! The PCK certificate: which platform a quote comes from.
//!
//! Source: Intel SGX PCK Certificate and CRL Specification, §1.3.5 (the extension 1.2.840.113741.1.13.1).

use super::collateral::{PckCa, PlatformId};
use super::x509;
use crate::der::{BOOLEAN, INTEGER, OCTET_STRING, SEQUENCE};

/// What the PCK certificate says about the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PckPlatform {
    /// Platform Provisioning ID, 16 bytes: the same for all TDs of one machine.
    pub ppid: [u8; 16],
    /// The FMSPC and the issuing CA.
    pub id: PlatformId,
    /// PCE ID, 2 bytes.
    pub pce_id: [u8; 2],
    /// CPUSVN's 16 components.
    pub cpu_svn: [u8; 16],
    /// SVN of the provisioning certification enclave.
    pub pce_svn: u16,
    /// Platform instance id, 16 bytes; Platform CA only.
    pub instance_id: Option<[u8; 16]>,
    /// Whether packages can be added to the platform; Platform CA only.
    pub dynamic_platform: Option<bool>,
    /// Whether Intel's registration service keeps the platform's root keys; Platform CA only.
    pub cached_keys: Option<bool>,
    /// Whether simultaneous multithreading is on; Platform CA only.
    pub smt_enabled: Option<bool>,
}

/// The last arc (or two) of an object identifier under 1.2.840.113741.1.13.1.
fn oid<const N: usize>(arcs: [u8; N]) -> Vec<u8> {
    [x509::SGX_EXTENSION, &arcs].concat()
}

/// Reads the SGX extension of a PCK certificate. `None` if it lacks a field or has one of another type or length.
pub(super) fn platform(sgx_extension: &[u8], ca: PckCa) -> Option<PckPlatform> {
    let fields = x509::sequence(sgx_extension)?;
    let tcb = typed(fields, &oid([2]), SEQUENCE)?;
    let configuration = match x509::value_of(fields, &oid([7])) {
        Some((SEQUENCE, configuration)) => configuration,
        Some(_) => return None,
        None => &[],
    };
    let cpu_svn: [u8; 16] = typed(tcb, &oid([2, 18]), OCTET_STRING)?.try_into().ok()?;
    let mut components = [0; 16];
    for (arc, component) in (1..=16).zip(&mut components) {
        *component = u8::try_from(unsigned(typed(tcb, &oid([2, arc]), INTEGER)?)?).ok()?;
    }
    // The components are what TCB levels are compared with, CPUSVN is their opaque form; Intel issues them equal.
    if cpu_svn != components {
        return None;
    }
    Some(PckPlatform {
        ppid: octets(fields, &oid([1]))?,
        id: PlatformId { fmspc: octets(fields, &oid([4]))?, ca },
        pce_id: octets(fields, &oid([3]))?,
        cpu_svn: components,
        pce_svn: unsigned(typed(tcb, &oid([2, 17]), INTEGER)?)?,
        instance_id: match x509::value_of(fields, &oid([6])) {
            Some((OCTET_STRING, id)) => Some(id.try_into().ok()?),
            Some(_) => return None,
            None => None,
        },
        dynamic_platform: flag(configuration, 1)?,
        cached_keys: flag(configuration, 2)?,
        smt_enabled: flag(configuration, 3)?,
    })
}

fn typed<'a>(fields: &'a [u8], oid: &[u8], tag: u8) -> Option<&'a [u8]> {
    x509::value_of(fields, oid).and_then(|(found, value)| (found == tag).then_some(value))
}

fn octets<const N: usize>(fields: &[u8], oid: &[u8]) -> Option<[u8; N]> {
    typed(fields, oid, OCTET_STRING)?.try_into().ok()
}

fn unsigned(integer: &[u8]) -> Option<u16> {
    match *integer {
        [low @ ..=0x7f] => Some(low.into()),
        [high @ ..=0x7f, low] => Some(u16::from_be_bytes([high, low])),
        [0, high, low] => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

/// `None` if the flag is malformed, `Some(None)` if it is absent.
fn flag(configuration: &[u8], arc: u8) -> Option<Option<bool>> {
    if configuration.is_empty() {
        return Some(None);
    }
    match x509::value_of(configuration, &oid([7, arc])) {
        Some((BOOLEAN, [value])) => Some(Some(*value != 0)),
        Some(_) => None,
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn svns_are_der_integers_of_16_bits() {
        for (integer, expected) in [
            (&[0][..], Some(0)),
            (&[0x7f], Some(0x7f)),
            (&[0, 0x80], Some(0x80)),
            (&[1, 0], Some(0x100)),
            (&[0x7f, 0xff], Some(0x7fff)),
            (&[0, 0x80, 0], Some(0x8000)),
            (&[0, 0xff, 0xff], Some(0xffff)),
            (&[], None),
            (&[0x80], None),
            (&[0x80, 0], None),
            (&[1, 0, 0], None),
            (&[0, 1, 0, 0], None),
        ] {
            assert_eq!(unsigned(integer), expected, "{integer:02x?}");
        }
    }
}
