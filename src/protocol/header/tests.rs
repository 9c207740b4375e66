use super::*;

const NONCE_ITEM: &str = ":AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:";

fn nonce(parameters: &str) -> Result<NonceHeader, HeaderError> {
    NonceHeader::parse(format!("{NONCE_ITEM}{parameters}").as_bytes())
}

fn have(digests: usize) -> NonceHeader {
    let have = (0..digests).map(|n| KeysDigest::of(&[n as u8])).collect();
    NonceHeader { have, ..NonceHeader::new(Nonce::from_bytes([3; 32])) }
}

fn report(members: &str) -> Result<ReportHeader, HeaderError> {
    ReportHeader::parse(format!("{}{members}", plain().to_value().to_str().unwrap()).as_bytes())
}

/// A report whose `keys` or `sig` can be replaced.
fn report_of(v: &str, keys: &str, sig: &str) -> Result<ReportHeader, HeaderError> {
    ReportHeader::parse(format!("v={v}, keys={keys}, sig={sig}").as_bytes())
}

fn plain() -> ReportHeader {
    ReportHeader { keys: KeysDigest::of(b"keys"), sig: [9; 64], evidence: None }
}

#[test]
fn every_form_of_a_nonce_header_round_trips() {
    for digests in 0..=MAX_HAVE {
        for bind in [false, true] {
            let header = NonceHeader { bind, ..have(digests) };
            assert_eq!(NonceHeader::parse(header.to_value().as_bytes()), Ok(header));
        }
    }
}

#[test]
fn only_eight_digests_are_written() {
    let written = have(9).to_value();
    assert_eq!(NonceHeader::parse(written.as_bytes()).unwrap().have, have(9).have[..8]);
}

#[test]
fn nine_digests_are_refused() {
    let nine = byte_sequence(&[0; 9 * 32]);
    let refused = HeaderError::Length { field: NONCE, key: "have", expected: "1 to 8 times 32", found: 288 };
    assert_eq!(nonce(&format!(";have={nine}")), Err(refused));
}

#[test]
fn no_digest_is_not_the_same_as_have() {
    assert!(matches!(nonce(";have=::"), Err(HeaderError::Length { key: "have", found: 0, .. })));
}

#[test]
fn part_of_a_digest_is_refused() {
    let part = byte_sequence(&[0; 33]);
    assert!(matches!(nonce(&format!(";have={part}")), Err(HeaderError::Length { key: "have", found: 33, .. })));
}

#[test]
fn have_of_another_type_is_refused() {
    for have in [";have", ";have=1", ";have=\"AAAA\"", ";have=AAAA"] {
        assert!(matches!(nonce(have), Err(HeaderError::WrongType { key: "have", .. })), "{have}");
    }
}

#[test]
fn a_nonce_of_another_type_is_refused() {
    for value in ["1", "1.5", "?1", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "\"text\"", "@1", "%\"text\""] {
        let parsed = NonceHeader::parse(value.as_bytes());
        assert!(matches!(parsed, Err(HeaderError::WrongType { key: "the nonce", .. })), "{value}: {parsed:?}");
    }
}

#[test]
fn a_nonce_of_another_length_is_refused() {
    for length in [0, 16, 31, 33, 64] {
        let parsed = NonceHeader::parse(byte_sequence(&vec![1; length]).as_bytes());
        let refused = HeaderError::Length { field: NONCE, key: "the nonce", expected: "32", found: length };
        assert_eq!(parsed, Err(refused));
    }
}

#[test]
fn an_unknown_binding_is_told_from_a_malformed_one() {
    assert_eq!(nonce(";bind=dtls-exporter"), Err(HeaderError::UnknownBinding { found: "dtls-exporter".into() }));
    assert_eq!(nonce(";bind=TLS-EXPORTER"), Err(HeaderError::UnknownBinding { found: "TLS-EXPORTER".into() }));
    for bind in [";bind", ";bind=?1", ";bind=\"tls-exporter\"", ";bind=:AAAA:", ";bind=1"] {
        assert!(matches!(nonce(bind), Err(HeaderError::WrongType { key: "bind", .. })), "{bind}");
    }
}

#[test]
fn a_repeated_parameter_is_refused_even_if_it_is_unknown() {
    let digest = byte_sequence(&[0; 32]);
    for (parameters, key) in [
        (";bind=tls-exporter;bind=tls-exporter".to_owned(), "bind"),
        (format!(";have={digest};have={digest}"), "have"),
        (";later=1;later=2".to_owned(), "later"),
    ] {
        assert_eq!(nonce(&parameters), Err(HeaderError::RepeatedKey { field: NONCE, key: key.into() }));
    }
}

#[test]
fn unknown_parameters_are_ignored() {
    let header = nonce(";a;b=1;c=\"x\";d=:AAAA:;e=@0;f=%\"%c3%bc\";*g=1.5").unwrap();
    assert!(header.have.is_empty() && !header.bind);
}

#[test]
fn what_is_no_item_is_refused() {
    for value in
        ["", " ", ",", ":AAAA", "(:AAAA:)", &format!("{NONCE_ITEM}, {NONCE_ITEM}"), &format!("{NONCE_ITEM};"), "\u{e9}"]
    {
        let parsed = NonceHeader::parse(value.as_bytes());
        assert!(matches!(parsed, Err(HeaderError::Syntax { field: NONCE, .. })), "{value}: {parsed:?}");
    }
}

#[test]
fn a_nonce_on_two_lines_is_refused() {
    let mut headers = HeaderMap::new();
    assert_eq!(NonceHeader::from_headers(&headers), Ok(None));
    let value = have(1).to_value();
    headers.append(ATTESTATION_NONCE, value.clone());
    assert_eq!(NonceHeader::from_headers(&headers), Ok(Some(have(1))));
    headers.append(ATTESTATION_NONCE, value);
    assert_eq!(NonceHeader::from_headers(&headers), Err(HeaderError::Repeated { field: NONCE, found: 2 }));
}

#[test]
fn a_malformed_field_is_never_absent() {
    let headers = HeaderMap::from_iter([
        (ATTESTATION_NONCE, HeaderValue::from_static("")),
        (ATTESTATION_REPORT, HeaderValue::from_static("")),
    ]);
    assert!(NonceHeader::from_headers(&headers).is_err());
    assert!(ReportHeader::from_headers(&headers).is_err());
}

#[test]
fn a_report_on_two_lines_is_refused() {
    let mut headers = HeaderMap::new();
    assert_eq!(ReportHeader::from_headers(&headers), Ok(None));
    headers.append(ATTESTATION_REPORT, plain().to_value());
    assert_eq!(ReportHeader::from_headers(&headers), Ok(Some(plain())));
    headers.append(ATTESTATION_REPORT, plain().to_value());
    headers.append(ATTESTATION_REPORT, plain().to_value());
    assert_eq!(ReportHeader::from_headers(&headers), Err(HeaderError::Repeated { field: REPORT, found: 3 }));
}

#[test]
fn values_past_the_limit_are_refused_and_values_at_the_limit_are_not() {
    let padded = |limit: usize| format!("{NONCE_ITEM};a=\"{}\"", "x".repeat(limit - NONCE_ITEM.len() - 5));
    assert!(NonceHeader::parse(padded(MAX_NONCE_VALUE).as_bytes()).is_ok());
    let refused = HeaderError::TooLong { field: NONCE, limit: MAX_NONCE_VALUE, found: MAX_NONCE_VALUE + 1 };
    assert_eq!(NonceHeader::parse(padded(MAX_NONCE_VALUE + 1).as_bytes()), Err(refused));

    let base = plain().to_value().len();
    let padded = |limit: usize| report(&format!(", a=\"{}\"", "x".repeat(limit - base - 6)));
    assert!(padded(MAX_REPORT_VALUE).is_ok());
    let refused = HeaderError::TooLong { field: REPORT, limit: MAX_REPORT_VALUE, found: MAX_REPORT_VALUE + 1 };
    assert_eq!(padded(MAX_REPORT_VALUE + 1), Err(refused));
}

#[test]
fn reports_round_trip() {
    for evidence in [None, Some(vec![]), Some(vec![0xa0]), Some(vec![7; 12_000])] {
        let header = ReportHeader { evidence: evidence.map(Bytes::from), ..plain() };
        let value = header.to_value();
        assert!(value.is_sensitive());
        assert_eq!(ReportHeader::parse(value.as_bytes()), Ok(header));
    }
}

#[test]
fn unknown_keys_of_any_form_are_ignored_and_order_is_free() {
    assert_eq!(report(", later, b=(1 \"x\";y=1);z, c=:AAAA:;p;q=2"), Ok(plain()));
    let (keys, sig) = (byte_sequence(plain().keys.as_bytes()), byte_sequence(&plain().sig));
    assert_eq!(ReportHeader::parse(format!("a=1,sig={sig} ,\tkeys={keys};x=1,v=1").as_bytes()), Ok(plain()));
}

#[test]
fn another_version_is_told_from_a_malformed_one() {
    let (keys, sig) = (byte_sequence(&[0; 32]), byte_sequence(&[0; 64]));
    assert!(report_of("1", &keys, &sig).is_ok());
    for (v, found) in [("0", 0), ("2", 2), ("-1", -1), ("999999999999999", 999_999_999_999_999)] {
        assert_eq!(report_of(v, &keys, &sig), Err(HeaderError::UnsupportedVersion { found }));
    }
    for v in ["?1", "1.0", "\"1\"", "one", "(1)", ":AQ==:", "@1"] {
        assert!(matches!(report_of(v, &keys, &sig), Err(HeaderError::WrongType { key: "v", .. })), "{v}");
    }
}

#[test]
fn keys_and_sig_have_exactly_their_types_and_lengths() {
    let (keys, sig) = (byte_sequence(&[0; 32]), byte_sequence(&[0; 64]));
    for length in [0, 31, 33, 64] {
        let refused = Err(HeaderError::Length { field: REPORT, key: "keys", expected: "32", found: length });
        assert_eq!(report_of("1", &byte_sequence(&vec![0; length]), &sig), refused);
    }
    for length in [0, 32, 63, 65] {
        let refused = Err(HeaderError::Length { field: REPORT, key: "sig", expected: "64", found: length });
        assert_eq!(report_of("1", &keys, &byte_sequence(&vec![0; length])), refused);
    }
    for other in ["1", "?1", "\"AAAA\"", "AAAA", "(:AAAA:)"] {
        assert!(matches!(report_of("1", other, &sig), Err(HeaderError::WrongType { key: "keys", .. })), "{other}");
        assert!(matches!(report_of("1", &keys, other), Err(HeaderError::WrongType { key: "sig", .. })), "{other}");
        let evidence = report(&format!(", evidence={other}"));
        assert!(matches!(evidence, Err(HeaderError::WrongType { key: "evidence", .. })), "{other}");
    }
}

#[test]
fn each_required_key_is_required() {
    for (value, key) in [
        (format!("keys={}, sig={}", byte_sequence(&[0; 32]), byte_sequence(&[0; 64])), "v"),
        (format!("v=1, sig={}", byte_sequence(&[0; 64])), "keys"),
        (format!("v=1, keys={}", byte_sequence(&[0; 32])), "sig"),
    ] {
        assert_eq!(ReportHeader::parse(value.as_bytes()), Err(HeaderError::Missing { field: REPORT, key }));
    }
}

#[test]
fn a_repeated_key_or_parameter_is_refused_wherever_it_stands() {
    for (members, key) in [
        (", v=1", "v"),
        (", sig=:AAAA:", "sig"),
        (", evidence=:AAAA:, evidence=:AAAA:", "evidence"),
        (", later=1, later=1", "later"),
        (", later=(1), later", "later"),
        (", later;p=1;p=2", "p"),
        (", later=(1;p;p)", "p"),
        (", later=(1);p;p", "p"),
    ] {
        assert_eq!(report(members), Err(HeaderError::RepeatedKey { field: REPORT, key: key.into() }), "{members}");
    }
}

#[test]
fn what_is_no_dictionary_is_refused() {
    for value in ["v=1,", ":AAAA:", "V=1", "v==1", "v=1 keys=2", "v=(1", "v=:A", "\u{e9}"] {
        let parsed = ReportHeader::parse(value.as_bytes());
        assert!(matches!(parsed, Err(HeaderError::Syntax { field: REPORT, .. })), "{value}: {parsed:?}");
    }
}

#[test]
fn errors_and_debug_show_no_nonce() {
    let header = NonceHeader::new(Nonce::from_bytes([0xab; 32]));
    assert!(header.to_value().is_sensitive());
    let encoded = header.to_value().to_str().unwrap().to_owned();
    let broken = NonceHeader::parse(format!("{encoded};;").as_bytes()).unwrap_err();
    for shown in [format!("{header:?}"), broken.to_string(), format!("{broken:?}")] {
        assert!(!shown.contains("q6ur") && !shown.contains("171"), "{shown}");
    }
}

#[test]
fn debug_shows_how_long_evidence_is_and_not_the_signature() {
    let shown = format!("{:?}", ReportHeader { evidence: Some(Bytes::from_static(&[7; 300])), ..plain() });
    assert!(shown.contains("KeysDigest(") && shown.contains("Some(300)"), "{shown}");
    assert!(!shown.contains("sig"), "{shown}");
}

#[test]
fn a_long_name_in_an_error_is_cut() {
    let key = "k".repeat(1000);
    let error = nonce(&format!(";{key};{key}")).unwrap_err();
    assert!(error.to_string().len() < 200);
}
