use std::time::Duration;

use super::*;

/// A certificate for these names, of these seconds since 1970, as a CA with an intermediate would issue it.
pub(crate) fn issued(names: &[&str], from: u64, to: u64) -> Issued {
    let (chain, key) = pem(names, from, to);
    Issued::new(chain.as_bytes(), key).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn pem(names: &[&str], from: u64, to: u64) -> (String, PrivatePkcs8KeyDer<'static>) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![0xC0, 0xFF, 0xEE]);
    let key = rcgen::KeyPair::generate().unwrap();
    let intermediate = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);

    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    (params.not_before, params.not_after) = (at(from).into(), at(to).into());
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0xCA, 0xFE]));
    params.use_authority_key_identifier_extension = true;
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let mut text = String::new();
    block(&mut text, "CERTIFICATE", leaf.der());
    block(&mut text, "CERTIFICATE", intermediate.der());
    (text, PrivatePkcs8KeyDer::from(key.serialize_der()))
}

#[test]
fn what_is_written_is_read_again() {
    let one = issued(&["a.example"], 10, 20);
    let text = one.to_pem();
    assert!(text.lines().all(|line| line.len() <= 64));
    let other = Issued::from_pem(text.as_bytes()).unwrap();
    assert_eq!((other.chain.len(), &other.chain), (2, &one.chain));
    assert_eq!(other.key.secret_pkcs8_der(), one.key.secret_pkcs8_der());
    assert_eq!((other.not_before(), other.not_after()), (at(10), at(20)));
}

#[test]
fn what_is_cut_anywhere_is_not_usable_or_lacks_its_chain() {
    let one = issued(&["a.example"], 10, 20);
    let text = one.to_pem();
    for length in (0..text.len() - 1).step_by(7) {
        let read = Issued::from_pem(text[..length].as_bytes());
        assert!(read.is_err() || read.unwrap().chain.len() == 1, "{length}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (chain, _) = pem(&["a.example"], 10, 20);
    let (_, other) = pem(&["a.example"], 10, 20);
    assert!(matches!(Issued::new(chain.as_bytes(), other.clone_key()), Err(NotUsable::Tls(_))));
    assert!(matches!(Issued::new(b"no certificate", other), Err(NotUsable::NoCertificate)));
    assert!(matches!(Issued::from_pem(chain.as_bytes()), Err(NotUsable::NoKey)));
}

#[test]
fn it_is_for_the_names_that_a_client_would_find_in_it() {
    let one = issued(&["a.example", "*.b.example", "192.0.2.1", "2001:db8::1"], 10, 20);
    for (name, is) in [
        ("a.example", true),
        ("x.b.example", true),
        ("192.0.2.1", true),
        ("2001:db8::1", true),
        ("b.example", false),
        ("x.a.example", false),
        ("192.0.2.2", false),
    ] {
        assert_eq!(one.is_for(&identifier(name)), is, "{name}");
    }
    let names = ["a.example", "c.example"].map(identifier);
    assert_eq!(one.lacks(&names), Some(&names[1]));
    assert_eq!(one.lacks(&names[..1]), None);
}

#[test]
fn what_a_ca_issues_for_other_names_or_another_time_is_refused() {
    let names = [identifier("a.example")];
    let checked = |now| issued(&["a.example"], 10, 20).check(&names, at(now));
    assert!(checked(10).is_ok() && checked(20).is_ok());
    assert!(matches!(checked(9), Err(NotUsable::Dates { .. })));
    assert!(matches!(checked(21), Err(NotUsable::Dates { .. })));
    assert!(
        matches!(issued(&["b.example"], 10, 20).check(&names, at(15)), Err(NotUsable::Name(name)) if name == "a.example")
    );
}

#[test]
fn renewal_information_is_asked_for_by_authority_and_serial() {
    // RFC 9773, section 4.1: the serial with the byte that keeps it positive.
    assert_eq!(issued(&["a.example"], 10, 20).identifier().unwrap().to_string(), "wP_u.AMr-");
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    assert_eq!(authority_and_serial(made.cert.der()), None, "self-signed: no authority");
    let der = &issued(&["a.example"], 10, 20).chain[0];
    assert!((0..der.len()).all(|length| authority_and_serial(&der[..length]).is_none()));
}
