//! What no honest server sends: repeats, odd encodings, sizes and depths.

use super::*;

#[test]
fn more_than_256_kib_is_refused_and_256_kib_is_not() {
    let with_collateral = |length: usize| {
        let report = Report::new(Platform::TDX, vec![]).with_collateral(vec![0; length]);
        Evidence { report, ..sample() }.to_cbor()
    };
    // Past 65 535 bytes the head no longer grows.
    let overhead = with_collateral(100_000).len() - 100_000;
    assert!(Evidence::from_cbor(&with_collateral(MAX_EVIDENCE - overhead), &KNOWN).is_ok());
    let refused = EvidenceError::TooLarge(MAX_EVIDENCE + 1);
    assert_eq!(Evidence::from_cbor(&with_collateral(MAX_EVIDENCE - overhead + 1), &KNOWN), Err(refused.clone()));

    let json = sample().to_json();
    let padded = |length: usize| [json.clone(), vec![b' '; length - json.len()]].concat();
    assert_eq!(Evidence::from_json(&padded(MAX_EVIDENCE), &KNOWN), Ok(sample()));
    assert_eq!(Evidence::from_json(&padded(MAX_EVIDENCE + 1), &KNOWN), Err(refused));
}

#[test]
fn a_repeated_label_is_refused_known_or_not() {
    for label in ["__cmwc_t", "report", "keys", "batch", "vek"] {
        let (_, value) = entries().into_iter().find(|entry| entry.0 == text(label)).unwrap();
        let refused = Err(EvidenceError::Repeated(format!("{label:?}")));
        assert_eq!(plus(text(label), value), refused);
        assert_eq!(with_text(&format!("\"{label}\":{}", sample_json()[label])), refused);
    }
    let twice = |label: Vec<u8>| decode(&[entries(), vec![(label.clone(), vec![0]), (label, vec![1])]].concat());
    for (label, shown) in
        [(text("other"), "\"other\""), (vec![0x07], "7"), (vec![0x20], "-1"), (vec![0x18, 0x2a], "42")]
    {
        assert_eq!(twice(label), Err(EvidenceError::Repeated(shown.into())));
    }
    // One label in two encodings is one label.
    let twofold = decode(&[entries(), vec![(vec![0x07], vec![0]), (vec![0x18, 0x07], vec![1])]].concat());
    assert_eq!(twofold, Err(EvidenceError::Repeated("7".into())));
    let chunked = plus(b"\x7f\x62ke\x62ys\xff".to_vec(), record("application/vnd.tower-attest.keys+json", b"{}"));
    assert_eq!(chunked, Err(EvidenceError::Repeated("\"keys\"".into())));
    assert_eq!(with_text(r#""other":1,"\u006fther":2"#), Err(EvidenceError::Repeated("\"other\"".into())));
}

#[test]
fn unknown_labels_are_ignored_whatever_their_value() {
    for value in [
        "null",
        "true",
        "-1.5e300",
        "1e999",
        "\"x\"",
        "[]",
        "{}",
        r#"{"a":1,"a":2}"#,
        r#"["a/b"]"#,
        "[1,[2,[3]]]",
        "\"\\ud800\"",
    ] {
        assert_eq!(with_text(&format!("\"other\":{value}")), Ok(sample()), "{value}");
    }
    let value = |hex: &str| hex::decode(hex).unwrap();
    for hex in [
        "00",
        "1bffffffffffffffff",
        "20",
        "3bffffffffffffffff",
        "40",
        "5f4101ff",
        "60",
        "7f6161ff",
        "80",
        "9fff",
        "9f01ff",
        "830102a10203",
        "a0",
        "a1f6f6",
        "bfff",
        "bf0102ff",
        "bf01bf0203ff02a0ff",
        "c000",
        "c24101",
        "d9d9f7a0",
        "c1c1c100",
        "f4",
        "f5",
        "f6",
        "f7",
        "e0",
        "f8ff",
        "f93c00",
        "fa7fc00000",
        "fb3ff199999999999a",
        "a201020103",
    ] {
        assert_eq!(plus(text("other"), value(hex)), Ok(sample()), "{hex}");
        assert_eq!(plus(value("07"), value(hex)), Ok(sample()), "{hex}");
        assert_eq!(plus(value("3bffffffffffffffff"), value(hex)), Ok(sample()), "{hex}");
    }
}

#[test]
fn malformed_values_are_refused_under_unknown_labels_too() {
    for hex in [
        "ff", "1c", "1d", "1e", "1f", "3f", "df", "61ff", "7f61ffff", "7f4101ff", "5f6161ff", "9fc1ff", "bf01ff",
        "c1ff", "81ff", "a101ff", "fc", "7f", "9f", "bf01", "62", "8101ff",
    ] {
        let result = plus(text("other"), hex::decode(hex).unwrap());
        assert!(result.is_err(), "{hex}: {result:?}");
    }
    for value in ["", "nul", "[", "01", "{\"a\"}", "'x'"] {
        assert!(is_syntax(&with_text(&format!("\"other\":{value}"))), "{value}");
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    assert_eq!(
        Evidence::from_cbor(&[sample().to_cbor(), vec![0]].concat(), &KNOWN),
        Err(EvidenceError::TrailingBytes(1))
    );
    let twice = sample().to_cbor().repeat(2);
    assert_eq!(Evidence::from_cbor(&twice, &KNOWN), Err(EvidenceError::TrailingBytes(twice.len() / 2)));
    for rest in ["x", "{}", ",", "\0"] {
        let text = [&sample().to_json(), rest.as_bytes()].concat();
        assert!(is_syntax(&Evidence::from_json(&text, &KNOWN)), "{rest}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let (cbor, json) = (sample().to_cbor(), sample().to_json());
    for end in 0..cbor.len() {
        assert!(Evidence::from_cbor(&cbor[..end], &KNOWN).is_err(), "{end}");
    }
    for end in 0..json.len() {
        assert!(is_syntax(&Evidence::from_json(&json[..end], &KNOWN)), "{end}");
    }
}

#[test]
fn what_is_no_collection_is_refused() {
    for hex in ["00", "40", "60", "80", "f6", "ff", "d9d9f7a0"] {
        let result = Evidence::from_cbor(&hex::decode(hex).unwrap(), &KNOWN);
        assert!(matches!(result, Err(EvidenceError::WrongType { label: COLLECTION, .. })), "{hex}: {result:?}");
    }
    assert!(is_syntax(&Evidence::from_cbor(&[], &KNOWN)));
    for json in ["null", "1", "\"secret\"", "[]", "[[]]"] {
        let result = Evidence::from_json(json.as_bytes(), &KNOWN).unwrap_err();
        assert!(matches!(result, EvidenceError::WrongType { label: COLLECTION, .. }), "{json}: {result:?}");
        assert!(!format!("{result:?} {result}").contains("secret"));
    }
    assert!(is_syntax(&Evidence::from_json(b"{\"x\":\"\xff\"}", &KNOWN)));
    assert!(is_syntax(&Evidence::from_json(b"", &KNOWN)));
}

#[test]
fn deep_nesting_ends_in_an_error_not_in_a_stack_overflow() {
    let depth = 200_000;
    for byte in [0x81, 0x9f, 0xbf, 0xc1, 0xa1] {
        let result = plus(text("other"), vec![byte; depth]);
        assert!(is_syntax(&result), "{byte:02x}: {result:?}");
    }
    let nested = |depth: usize| plus(text("other"), [vec![0x81; depth], vec![0]].concat());
    assert_eq!(nested(64), Ok(sample()));
    assert!(is_syntax(&nested(65)));
    // JSON is skipped without recursion.
    assert_eq!(with_text(&format!("\"other\":{}{}", "[".repeat(100_000), "]".repeat(100_000))), Ok(sample()));
    assert!(is_syntax(&with_text(&format!("\"other\":{}", "[".repeat(depth)))));
    assert!(is_syntax(&with_text(&format!("\"vek\":{}", "[".repeat(depth)))));
}

#[test]
fn huge_declared_lengths_end_in_an_error() {
    for hex in
        ["5b7fffffffffffffff", "5bffffffffffffffff", "7bffffffffffffffff", "9bffffffffffffffff", "bbffffffffffffffff"]
    {
        let huge = hex::decode(hex).unwrap();
        assert!(is_syntax(&plus(text("other"), huge.clone())), "{hex}");
        assert!(plus(huge.clone(), vec![0]).is_err(), "{hex}");
        assert!(replaced("keys", huge.clone()).is_err(), "{hex}");
        let media_type = text("application/vnd.tower-attest.keys+json");
        assert!(replaced("keys", [vec![0x82], media_type, huge.clone()].concat()).is_err(), "{hex}");
        assert!(Evidence::from_cbor(&huge, &KNOWN).is_err(), "{hex}");
    }
}

#[test]
fn a_long_text_in_an_error_is_cut() {
    let long = "é".repeat(1000);
    for error in [
        with("__cmwc_t", json!(long)).unwrap_err(),
        with("report", json!([long, ""])).unwrap_err(),
        with("keys", json!([long, ""])).unwrap_err(),
        with_text(&format!("\"{long}\":1,\"{long}\":2")).unwrap_err(),
    ] {
        assert!(error.to_string().len() < 500, "{error}");
    }
}
