use super::*;
use crate::der::write::{bit_string, element, extension, ia5, integer, sequence};
use crate::platform::snp::sim::{SimulatedAmd, SimulatedGuest, VekSpec};

fn spec() -> VekSpec {
    SimulatedGuest::new(Product::Milan).vek_spec()
}

fn amd(suffix: &[u8], value: &[u8]) -> Vec<u8> {
    extension(&[AMD_ARC, suffix].concat(), false, value)
}

/// A certificate with exactly these extensions.
fn with(extensions: &[Vec<u8>]) -> Result<VekCertificate, VerifyError> {
    let spec = VekSpec { extensions: Some(extensions.concat()), ..spec() };
    VekCertificate::parse(SimulatedAmd::new().issue(&spec))
}

#[track_caller]
fn refused(certificate: Result<VekCertificate, VerifyError>, what: &str) {
    let error = certificate.expect_err("a refusal");
    assert_eq!(error.kind(), VerifyErrorKind::Endorsement);
    assert!(error.to_string().contains(what), "{error}");
}

fn name() -> Vec<u8> {
    amd(&[2], &ia5("Milan"))
}

fn hwid() -> Vec<u8> {
    amd(&[4], &[7; 64])
}

fn csp() -> Vec<u8> {
    amd(&[5], &ia5("CN=x"))
}

#[test]
fn lengths_and_trailing_bytes_are_checked() {
    let der = SimulatedAmd::new().issue(&spec());
    assert!(VekCertificate::parse(der.clone()).is_ok());
    refused(VekCertificate::parse(vec![0; MAX_CERTIFICATE + 1]), "at most 16384 bytes");
    refused(VekCertificate::parse([&der[..], &[0]].concat()), "not one DER SEQUENCE");
    for len in 0..der.len() {
        refused(VekCertificate::parse(der[..len].to_vec()), "not one DER SEQUENCE");
    }
}

#[test]
fn product_and_either_chip_or_provider_are_needed() {
    assert_eq!(with(&[name(), hwid()]).unwrap().kind(), VekKind::Vcek);
    assert_eq!(with(&[name(), csp()]).unwrap().kind(), VekKind::Vlek);
    refused(with(&[hwid()]), "no productName");
    refused(with(&[name()]), "neither");
    refused(with(&[name(), hwid(), csp()]), "both");
}

#[test]
fn no_extension_of_amds_may_stand_twice() {
    let spl = |component| amd(&[3, component], &integer(1));
    for extra in [name(), hwid()].into_iter().chain((1..=9).map(spl)) {
        refused(with(&[name(), hwid(), extra.clone(), extra]), "stands twice");
    }
    refused(with(&[name(), csp(), csp()]), "stands twice");
    let other = extension(&[0x55, 0x1d, 0x0e], false, &element(4, &[]));
    assert!(with(&[name(), hwid(), other.clone(), other]).is_ok(), "others are for webpki to judge");
}

#[test]
fn values_must_have_amds_types() {
    for value in [vec![7; 63], vec![7; 65], vec![], element(4, &[&[7; 64]])] {
        refused(with(&[name(), amd(&[4], &value)]), "hwID of 64 or 8 bytes");
    }
    for value in [integer(256), vec![2, 1, 0x80], ia5("1"), [integer(1), vec![0]].concat(), vec![]] {
        refused(with(&[name(), hwid(), amd(&[3, 1], &value)]), "an SPL is not an INTEGER");
    }
    for value in [integer(1), ia5("Mil an"), ia5("Milan\u{e9}"), [ia5("Milan"), vec![0]].concat(), vec![]] {
        refused(with(&[amd(&[2], &value), hwid()]), "productName is not an IA5String");
        refused(with(&[name(), amd(&[5], &value)]), "cspID is not an IA5String");
    }
}

#[test]
fn the_tcb_needs_each_component_of_its_product() {
    let spl = |component, level| amd(&[3, component], &integer(level));
    let levels = |components: &[u8]| -> Vec<Vec<u8>> {
        let spls = components.iter().map(|component| spl(*component, u64::from(*component)));
        [name(), hwid()].into_iter().chain(spls).collect()
    };
    let tcb = |components: &[u8], product| with(&levels(components)).unwrap().tcb_bytes(product);
    assert_eq!(tcb(&[1, 2, 3, 8], Product::Milan), Some([1, 2, 0, 0, 0, 0, 3, 8]));
    assert_eq!(tcb(&[1, 2, 3, 4, 5, 6, 7, 8], Product::Genoa), Some([1, 2, 4, 5, 6, 7, 3, 8]));
    assert_eq!(tcb(&[1, 2, 3, 5, 6, 7, 8, 9], Product::Turin), Some([9, 1, 2, 3, 5, 6, 7, 8]));
    for missing in [1, 2, 3, 8] {
        let without: Vec<u8> = [1, 2, 3, 8, 9].into_iter().filter(|component| *component != missing).collect();
        assert_eq!(tcb(&without, Product::Turin), None);
        assert_eq!(tcb(&without[..3], Product::Milan), None);
    }
    assert_eq!(tcb(&[1, 2, 3, 8, 9], Product::Milan), None, "Milan has no FMC");
    assert_eq!(tcb(&[1, 2, 3, 8], Product::Turin), None, "Turin has one");
    assert_eq!(tcb(&[1, 2, 3, 4, 8, 9], Product::Turin), None, "Turin has no fourth");
}

#[test]
fn another_kind_of_key_is_refused() {
    let p256 =
        sequence(&[&[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]]);
    let p384 = sequence(&[&[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22]]);
    for key in [
        sequence(&[&p256, &bit_string(&[4; 97])]),
        sequence(&[&p384, &bit_string(&[2; 49])]),
        sequence(&[&p384, &element(3, &[&[1], &[4; 97]])]),
    ] {
        let spec = VekSpec { key_info: Some(key), ..spec() };
        refused(VekCertificate::parse(SimulatedAmd::new().issue(&spec)), "P-384 key");
    }
}

#[test]
fn small_integers_have_one_encoding() {
    assert_eq!(small_integer(&[0]), Some(0));
    assert_eq!(small_integer(&[0x7f]), Some(0x7f));
    assert_eq!(small_integer(&[0, 0x80]), Some(0x80));
    for contents in [&[][..], &[0x80], &[0, 0x7f], &[1, 0], &[0, 0, 0x80]] {
        assert_eq!(small_integer(contents), None, "{contents:02x?}");
    }
}
