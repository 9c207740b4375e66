use super::super::sim::Authority;
use super::super::{MAX_CERTIFICATE, MAX_CRL, VekCertificate};
use super::*;
use crate::der::write::{bit_string, sequence};

const AMD: fn() -> SimulatedAmd = SimulatedAmd::new;

fn milan() -> SimulatedGuest {
    guest(Product::Milan)
}

#[test]
fn a_certificate_outside_its_dates_is_refused() {
    let guest = milan();
    let mut spec = guest.vek_spec();
    (spec.not_before, spec.not_after) = (now() - days(1), now() + days(1));
    let report = report(&guest).with_vek(AMD().issue(&spec));
    let judge = simulated();
    for (time, accepted) in [
        (spec.not_before - Duration::from_secs(1), false),
        (spec.not_before, true),
        (now(), true),
        (spec.not_after, true),
        (spec.not_after + Duration::from_secs(1), false),
        (now() + days(400), false),
        (SystemTime::UNIX_EPOCH, false),
    ] {
        let verdict = judge.check(&report, time);
        assert_eq!(verdict.is_ok(), accepted, "{time:?}: {verdict:?}");
        assert!(verdict.is_ok_and(|details| details.valid_until() == spec.not_after) || !accepted);
    }
}

#[test]
fn an_expired_root_is_refused() {
    let guest = milan();
    let mut spec = guest.vek_spec();
    spec.not_before = now() - days(10_000);
    spec.not_after = now() + days(10_000);
    let report = report(&guest).with_vek(AMD().issue(&spec));
    // The simulator's ARK, ASK and ASVK are valid from 2020 to 2045.
    let error = simulated().check(&report, now() + days(8_000)).unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Endorsement, "{error}");
    let error = simulated().check(&report, now() - days(3_000)).unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Endorsement, "{error}");
}

#[test]
fn a_certificate_changed_anywhere_is_refused() {
    let guest = milan();
    let (report, vek) = (report(&guest), guest.vek());
    let judge = simulated();
    for offset in 0..vek.len() {
        let mut changed = vek.clone();
        changed[offset] ^= 1;
        let error = judge.check(&report.clone().with_vek(changed), now()).expect_err(&format!("{offset}"));
        assert_eq!(error.kind(), VerifyErrorKind::Endorsement, "{offset}: {error}");
    }
    for len in [0, 1, vek.len() - 1, vek.len() + 1] {
        let mut resized = vek.clone();
        resized.resize(len, 0);
        let error = judge.check(&report.clone().with_vek(resized), now()).expect_err(&format!("{len}"));
        assert_eq!(error.kind(), VerifyErrorKind::Endorsement, "{len}: {error}");
    }
}

#[test]
fn a_certificate_has_a_greatest_length() {
    let refusal = |length| VekCertificate::parse(vec![0; length]).unwrap_err().to_string();
    assert!(refusal(MAX_CERTIFICATE + 1).contains("at most"), "{}", refusal(MAX_CERTIFICATE + 1));
    assert!(refusal(MAX_CERTIFICATE).contains("does not parse"), "{}", refusal(MAX_CERTIFICATE));
}

#[test]
fn a_key_that_is_no_point_of_the_curve_is_refused() {
    let guest = milan();
    let mut spec = guest.vek_spec();
    let algorithm = sequence(&[&[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22]]);
    spec.key_info = Some(sequence(&[&algorithm, &bit_string(&[4; 97])]));
    let error = simulated().check_certificate(&AMD().issue(&spec), now()).unwrap_err();
    assert!(error.to_string().contains("not a point of P-384"), "{error}");
}

#[test]
fn an_intermediate_is_no_vek() {
    let amd = AMD();
    for authority in [Authority::Ark, Authority::Ask, Authority::Asvk] {
        let certificate = amd.certificate(Product::Milan, authority);
        assert!(simulated().check_certificate(&certificate, now()).is_err());
    }
}

#[test]
fn a_certificate_alone_is_judged_like_a_stapled_one() {
    let vek = milan().vek();
    let checked = simulated().check_certificate(&vek, now()).unwrap();
    assert_eq!(checked.product(), Some(Product::Milan));
    assert_eq!(checked.hwid(), Some(&milan().chip_id[..]));
    let error = Genuineness::amd().check_certificate(&vek, now()).unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Endorsement);
}

fn crl(product: Product, revoked: &[Authority]) -> Vec<u8> {
    AMD().crl(product, revoked, now() - days(1), now() + days(30))
}

#[test]
fn a_revoked_intermediate_revokes_what_it_signed_and_nothing_else() {
    let (vcek, vlek) = (report(&milan()), report(&milan().with_vlek("CN=x")));
    for (revoked, vcek_good, vlek_good) in [
        (&[][..], true, true),
        (&[Authority::Ask], false, true),
        (&[Authority::Asvk], true, false),
        (&[Authority::Asvk, Authority::Ask], false, false),
    ] {
        let judge = simulated().with_crls([crl(Product::Milan, revoked)]).unwrap();
        for (report, good) in [(&vcek, vcek_good), (&vlek, vlek_good)] {
            match judge.check(report, now()) {
                Ok(details) => assert!(good && details.revocation_checked()),
                Err(error) => {
                    assert!(!good, "{error}");
                    assert_eq!(error.kind(), VerifyErrorKind::Revoked);
                }
            }
        }
    }
}

#[test]
fn without_a_list_revocation_is_not_checked_and_says_so() {
    assert!(!check(&report(&milan())).unwrap().revocation_checked());
    let judge = simulated().with_crls([crl(Product::Genoa, &[])]).unwrap();
    assert!(!judge.check(&report(&milan()), now()).unwrap().revocation_checked());
    assert!(judge.has_crl(Product::Genoa) && !judge.has_crl(Product::Milan));
}

#[test]
fn a_list_counts_only_within_its_dates() {
    let list = AMD().crl(Product::Milan, &[], now(), now() + days(30));
    let judge = simulated().with_crls([list]).unwrap();
    let report = report(&milan());
    let second = Duration::from_secs(1);
    for (time, accepted) in
        [(now() - second, false), (now(), true), (now() + days(30) - second, true), (now() + days(30), false)]
    {
        let verdict = judge.check(&report, time);
        assert_eq!(verdict.is_ok(), accepted, "{verdict:?}");
        match verdict {
            Ok(details) => assert_eq!(details.valid_until(), now() + days(30)),
            Err(error) => assert_eq!(error.kind(), VerifyErrorKind::Endorsement, "{error}"),
        }
    }
}

#[test]
fn a_list_that_no_pinned_root_signed_is_refused() {
    let list = crl(Product::Milan, &[]);
    let error = Genuineness::amd().with_crls([&list]).unwrap_err();
    assert!(error.to_string().contains("not one by ARK-Milan"), "{error}");
    for offset in 0..list.len() {
        let mut changed = list.clone();
        changed[offset] ^= 1;
        assert!(simulated().with_crls([changed]).is_err(), "{offset}");
    }
    for len in [0, list.len() - 1, list.len() + 1] {
        let mut resized = list.clone();
        resized.resize(len, 0);
        assert!(simulated().with_crls([resized]).is_err(), "{len}");
    }
    let error = simulated().with_crls([vec![0; MAX_CRL + 1]]).unwrap_err();
    assert!(error.to_string().contains("at most 1048576 bytes"), "{error}");
    let error = simulated().with_crls([vec![0; MAX_CRL]]).unwrap_err();
    assert!(!error.to_string().contains("at most"), "{error}");
}

#[test]
fn two_lists_of_one_product_are_refused() {
    let lists = [crl(Product::Milan, &[Authority::Ask]), crl(Product::Milan, &[])];
    let error = simulated().with_crls(lists).unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Configuration, "{error}");
    assert!(simulated().with_crls(Product::ALL.map(|product| crl(product, &[]))).is_ok());
}

#[test]
fn a_remembered_chain_is_not_a_remembered_report() {
    let judge = simulated();
    let good = report(&milan());
    assert!(judge.check(&good, now()).is_ok());
    let mut bytes = good.bytes().to_vec();
    bytes[0x90] ^= 1;
    let changed = Report::new(Platform::SNP, bytes).with_vek(good.vek().unwrap().clone());
    assert_eq!(judge.check(&changed, now()).unwrap_err().kind(), VerifyErrorKind::Signature);
    assert!(judge.check(&good, now()).is_ok());
}

#[test]
fn a_remembered_chain_ends_with_its_certificates_and_list() {
    let guest = milan();
    let mut spec = guest.vek_spec();
    spec.not_after = now() + days(10);
    let report = report(&guest).with_vek(AMD().issue(&spec));
    let judge = simulated();
    assert!(judge.check(&report, now()).is_ok());
    assert!(judge.check(&report, now() + days(11)).is_err());
    let judge = judge.with_crls([AMD().crl(Product::Milan, &[], now() - days(1), now() + days(5))]).unwrap();
    assert!(judge.check(&report, now()).is_ok());
    assert!(judge.check(&report, now() + days(6)).is_err());
    assert!(judge.check(&report, now() - days(2)).is_err());
}

#[test]
fn a_new_list_forgets_the_chains_before_it() {
    let judge = simulated();
    let report = report(&milan());
    assert!(judge.check(&report, now()).is_ok());
    let judge = judge.with_crls([crl(Product::Milan, &[Authority::Ask])]).unwrap();
    assert_eq!(judge.check(&report, now()).unwrap_err().kind(), VerifyErrorKind::Revoked);
}

#[test]
fn a_chain_is_remembered_for_its_product_and_kind_only() {
    let judge = simulated();
    let vcek = report(&milan());
    assert!(judge.check(&vcek, now()).is_ok());
    let vlek = report(&milan().with_vlek("CN=x")).with_vek(vcek.vek().unwrap().clone());
    assert_eq!(judge.check(&vlek, now()).unwrap_err().kind(), VerifyErrorKind::Endorsement);
    let genoa = forged(&milan(), |bytes| bytes[0x189] = 0x11);
    assert_eq!(judge.check(&genoa, now()).unwrap_err().kind(), VerifyErrorKind::Endorsement);
}
