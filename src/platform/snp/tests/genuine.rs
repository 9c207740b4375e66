use super::super::sim::PssEncoding;
use super::super::{GuestPolicy, Tcb, VekKind};
use super::*;

#[test]
fn every_product_version_key_and_encoding_is_accepted() {
    for product in Product::ALL {
        for version in 2..=5 {
            for csp_id in [None, Some("CN=cc-us-east-2.amazonaws.com")] {
                for encoding in [PssEncoding::Default, PssEncoding::ExplicitTrailer] {
                    let guest = SimulatedGuest { version, csp_id: csp_id.map(str::to_owned), ..guest(product) };
                    let mut spec = guest.vek_spec();
                    spec.encoding = encoding;
                    let report = report(&guest).with_vek(SimulatedAmd::new().issue(&spec));
                    let details = check(&report).unwrap_or_else(|e| panic!("{product} v{version} {csp_id:?}: {e}"));
                    assert_eq!(details.product(), product);
                    assert_eq!(details.vek().csp_id(), csp_id);
                    assert_eq!(details.vek_kind() == VekKind::Vlek, csp_id.is_some());
                    assert_eq!(details.reported_tcb(), guest.reported_tcb);
                    assert_eq!(details.report().bytes(), report.bytes());
                }
            }
        }
    }
}

#[test]
fn amds_roots_refuse_the_simulator() {
    for product in Product::ALL {
        for guest in [guest(product), guest(product).with_vlek("CN=x")] {
            let error = Genuineness::amd().check(&report(&guest), now()).unwrap_err();
            assert_eq!(error.kind(), VerifyErrorKind::Endorsement, "{error}");
        }
    }
}

#[test]
fn another_platforms_report_is_refused() {
    let snp = report(&guest(Product::Milan));
    let other = Report::new(Platform::TDX, snp.bytes().clone()).with_vek(snp.vek().unwrap().clone());
    refused(&other, VerifyErrorKind::UnsupportedPlatform, "tdx");
}

#[test]
fn a_report_without_certificate_is_refused_with_advice() {
    let bare = report(&guest(Product::Milan)).without_vek();
    refused(&bare, VerifyErrorKind::EndorsementMissing, "let the server staple it");
}

#[test]
fn a_guest_that_may_be_debugged_is_refused() {
    let policy = GuestPolicy::from_bits(guest(Product::Milan).policy.bits() | GuestPolicy::DEBUG);
    let error = refused(
        &report(&SimulatedGuest { policy, ..guest(Product::Milan) }),
        VerifyErrorKind::Policy,
        "the host may debug the guest",
    );
    assert_eq!(error.failed_rules()[0].rule, "guest-policy.debug");
}

#[test]
fn a_changed_byte_is_refused_wherever_it_stands() {
    let original = report(&guest(Product::Genoa));
    for offset in 0..original.bytes().len() {
        let mut bytes = original.bytes().to_vec();
        bytes[offset] ^= 0x10;
        let changed = Report::new(Platform::SNP, bytes).with_vek(original.vek().unwrap().clone());
        assert!(check(&changed).is_err(), "{offset:#x}");
    }
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let (one, other) = (guest(Product::Milan), SimulatedGuest { chip_id: [1; 64], ..guest(Product::Milan) });
    let mut bytes = one.report(&[0; 64]);
    other.sign(&mut bytes);
    let report = Report::new(Platform::SNP, bytes.to_vec()).with_vek(one.vek());
    refused(&report, VerifyErrorKind::Signature, "not one by the VEK");
}

#[test]
fn zero_in_r_or_s_and_padding_that_is_not_zero_are_refused() {
    let guest = guest(Product::Milan);
    for range in [0x2a0..0x2e8, 0x2e8..0x330] {
        let mut bytes = guest.report(&[0; 64]);
        bytes[range].fill(0);
        let report = Report::new(Platform::SNP, bytes.to_vec()).with_vek(guest.vek());
        refused(&report, VerifyErrorKind::Signature, "not one by the VEK");
    }
    for offset in [0x2d0, 0x2e7, 0x318, 0x32f, 0x330, 0x49f] {
        let mut bytes = guest.report(&[0; 64]);
        bytes[offset] = 1;
        let report = Report::new(Platform::SNP, bytes.to_vec()).with_vek(guest.vek());
        refused(&report, VerifyErrorKind::Signature, "padding");
    }
}

#[test]
fn a_masked_chip_key_is_refused_even_with_a_good_signature() {
    let report = forged(&guest(Product::Milan), |bytes| bytes[0x48] |= 0b10);
    refused(&report, VerifyErrorKind::Signature, "MASK_CHIP_KEY");
}

#[test]
fn other_signing_keys_are_refused_by_name() {
    for (value, name) in [(2, "unknown (2)"), (6, "unknown (6)"), (7, "none")] {
        let report = forged(&guest(Product::Milan), |bytes| bytes[0x48] = value << 2);
        refused(&report, VerifyErrorKind::Signature, name);
    }
}

#[test]
fn the_signing_key_decides_which_certificate_may_vouch() {
    let (vcek, vlek) = (guest(Product::Milan), guest(Product::Milan).with_vlek("CN=x"));
    let crossed = report(&vcek).with_vek(vlek.vek());
    refused(&crossed, VerifyErrorKind::Endorsement, "VCEK certificate issued by SEV-Milan");
    let crossed = report(&vlek).with_vek(vcek.vek());
    refused(&crossed, VerifyErrorKind::Endorsement, "VLEK certificate issued by SEV-VLEK-Milan");
}

#[test]
fn an_unknown_processor_is_refused_by_name() {
    for cpuid in [[0x1a, 0x50, 0], [0x19, 0x20, 0], [0, 0, 0]] {
        let report = report(&SimulatedGuest { cpuid, ..guest(Product::Milan) });
        refused(&report, VerifyErrorKind::Endorsement, &format!("family {:#x}", cpuid[0]));
    }
}

#[test]
fn the_signed_cpuid_decides_the_product() {
    let report = report(&SimulatedGuest { cpuid: [0x19, 0x11, 1], ..guest(Product::Milan) });
    refused(&report, VerifyErrorKind::Endorsement, "SEV-Genoa");
}

#[test]
fn the_certificate_must_name_the_reports_product() {
    let guest = guest(Product::Milan);
    let mut spec = guest.vek_spec();
    spec.product_name = "Genoa".to_owned();
    let report = report(&guest).with_vek(SimulatedAmd::new().issue(&spec));
    refused(&report, VerifyErrorKind::Mismatch, "certificate.product");
    spec.product_name = "Venice".to_owned();
    let error = simulated().check_certificate(&SimulatedAmd::new().issue(&spec), now()).unwrap_err();
    assert!(error.to_string().contains("Venice"), "{error}");
}

#[test]
fn each_component_of_the_certificates_tcb_must_be_the_reported_one() {
    for product in Product::ALL {
        let guest = guest(product);
        let tcb = guest.reported_tcb;
        let mut others = vec![
            Tcb { bootloader: tcb.bootloader + 1, ..tcb },
            Tcb { tee: tcb.tee + 1, ..tcb },
            Tcb { snp: tcb.snp - 1, ..tcb },
            Tcb { microcode: tcb.microcode - 1, ..tcb },
        ];
        if let Some(fmc) = tcb.fmc {
            others.push(Tcb { fmc: Some(fmc + 1), ..tcb });
        }
        for other in others {
            let vek = SimulatedGuest { reported_tcb: other, ..guest.clone() }.vek();
            refused(&report(&guest).with_vek(vek), VerifyErrorKind::Mismatch, "certificate.tcb");
        }
        let reserved = if product == Product::Turin { [0x184, 0x185, 0x186] } else { [0x182, 0x183, 0x185] };
        for offset in reserved {
            let report = forged(&guest, |bytes| bytes[offset] = 1);
            refused(&report, VerifyErrorKind::Mismatch, "certificate.tcb");
        }
    }
}

#[test]
fn the_certificate_must_be_this_chips() {
    for product in Product::ALL {
        let guest = guest(product);
        let mut other = guest.clone();
        other.chip_id[7] ^= 1;
        refused(&report(&guest).with_vek(other.vek()), VerifyErrorKind::Mismatch, "certificate.hwid");
        let masked = forged(&guest, |bytes| bytes[0x1a0..0x1e0].fill(0));
        refused(&masked, VerifyErrorKind::Mismatch, "MASK_CHIP_ID");
    }
    let longer = forged(&guest(Product::Turin), |bytes| bytes[0x1a8] = 1);
    refused(&longer, VerifyErrorKind::Mismatch, "certificate.hwid");
}

#[test]
fn a_certificate_of_the_other_kind_from_the_right_issuer_is_refused() {
    // Only a mistake of AMD's could make one: a VCEK's contents under the ASVK's signature, and the reverse.
    let (vcek, vlek) = (guest(Product::Milan), guest(Product::Milan).with_vlek("CN=x"));
    for (guest, other) in [(&vcek, &vlek), (&vlek, &vcek)] {
        let mut spec = guest.vek_spec();
        spec.extensions = Some(other.vek_spec().extensions());
        let report = report(guest).with_vek(SimulatedAmd::new().issue(&spec));
        refused(&report, VerifyErrorKind::Mismatch, "certificate.kind");
    }
}
