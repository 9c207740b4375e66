use super::*;
use crate::protocol::Suite;

fn fields() -> KeyDocumentFields {
    KeyDocumentFields {
        instance: [1; 16],
        epoch: 7,
        names: vec!["prover.example".into(), "192.0.2.7".into(), "[2001:db8::1]".into()],
        sign: [2; 32],
        config: Some([3; 32]),
        seal: Some(KeyConfig { id: 7, public: [4; 32], suites: vec![Suite::AES_128_GCM] }),
        route: Some("tee-1".into()),
    }
}

fn built() -> String {
    String::from_utf8(KeyDocument::build(fields()).unwrap().bytes().to_vec()).unwrap()
}

/// The built document with one text replaced by another.
fn edited(from: &str, to: &str) -> Result<KeyDocument, KeyDocumentError> {
    let document = built();
    assert!(document.contains(from), "{from}");
    KeyDocument::parse(document.replacen(from, to, 1))
}

fn refusal(from: &str, to: &str) -> KeyDocumentError {
    edited(from, to).expect_err(to)
}

#[test]
fn what_is_built_parses_to_the_same_fields_and_digest() {
    let bare = KeyDocumentFields { config: None, seal: None, route: None, ..fields() };
    for fields in [fields(), bare] {
        let document = KeyDocument::build(fields.clone()).unwrap();
        let parsed = KeyDocument::parse(document.bytes().clone()).unwrap();
        assert_eq!(parsed.fields(), &fields);
        assert_eq!(parsed.digest(), &KeysDigest::of(document.bytes()));
    }
}

#[test]
fn the_bytes_as_received_are_kept_and_hashed() {
    let spaced = built().replace(',', " ,\n ");
    let document = KeyDocument::parse(spaced.clone()).unwrap();
    assert_eq!(document.bytes(), spaced.as_bytes());
    assert_eq!(document.digest(), &KeysDigest::of(spaced.as_bytes()));
    assert_ne!(document.digest(), KeyDocument::build(fields()).unwrap().digest());
}

#[test]
fn more_than_4_kib_is_refused_and_4_kib_is_not() {
    let padded = |length: usize| format!("{}{}", built(), " ".repeat(length - built().len()));
    assert!(KeyDocument::parse(padded(4096)).is_ok());
    assert_eq!(KeyDocument::parse(padded(4097)).unwrap_err(), KeyDocumentError::TooLarge(4097));
    let names = vec!["a".repeat(63); 70];
    let error = KeyDocument::build(KeyDocumentFields { names, ..fields() }).unwrap_err();
    assert!(matches!(error, KeyDocumentError::TooLarge(_)));
}

#[test]
fn what_is_not_an_object_is_refused() {
    for (text, found) in [("[]", "an array"), ("\"x\"", "a string"), ("null", "null"), ("1", "an unsigned integer")] {
        let refused = KeyDocumentError::WrongType { member: "the document", expected: "an object", found };
        assert_eq!(KeyDocument::parse(text).unwrap_err(), refused);
    }
    for text in ["", "{", "{}{}"] {
        assert!(matches!(KeyDocument::parse(text), Err(KeyDocumentError::NotJson(_))));
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    assert!(matches!(KeyDocument::parse(built() + "x"), Err(KeyDocumentError::NotJson(_))));
    assert!(matches!(KeyDocument::parse(built() + "\0"), Err(KeyDocumentError::NotJson(_))));
}

#[test]
fn repeated_members_are_refused_known_or_not_and_at_any_depth() {
    for (from, to, member) in [
        ("{\"v\":1", "{\"v\":1,\"v\":1", "v"),
        ("\"epoch\":7", "\"epoch\":7,\"e\\u0070och\":7", "epoch"),
        ("\"alg\":", "\"alg\":\"Ed25519\",\"alg\":", "alg"),
        ("\"epoch\":7", "\"epoch\":7,\"later\":1,\"later\":1", "later"),
        ("\"epoch\":7", "\"epoch\":7,\"later\":{\"x\":[{\"y\":1,\"y\":1}]}", "y"),
    ] {
        assert_eq!(refusal(from, to), KeyDocumentError::Repeated(member.into()));
    }
}

#[test]
fn unknown_members_are_ignored() {
    for later in ["\"seals\":{\"kem\":1}", "\"Route\":\"x\"", "\"config2\":null", "\"x\":-1.5e3", "\"x\":[[[]]]"] {
        assert_eq!(edited("\"epoch\":7", &format!("\"epoch\":7,{later}")).unwrap().fields(), &fields(), "{later}");
    }
    assert_eq!(edited("\"alg\":", "\"use\":\"x\",\"alg\":").unwrap().fields(), &fields());
}

#[test]
fn each_required_member_is_required() {
    for (from, member) in [
        ("\"v\":", "v"),
        ("\"instance\":", "instance"),
        ("\"epoch\":", "epoch"),
        ("\"names\":", "names"),
        ("\"sign\":", "sign"),
        ("\"alg\":", "alg"),
        ("\"key\":", "key"),
    ] {
        assert_eq!(refusal(from, "\"x\":"), KeyDocumentError::Missing(member));
    }
    assert_eq!(edited("\"config\":", "\"x\":").unwrap().fields().config, None);
    assert_eq!(edited("\"seal\":", "\"x\":").unwrap().fields().seal, None);
    assert_eq!(edited("\"route\":", "\"x\":").unwrap().fields().route, None);
}

#[test]
fn another_version_is_told_from_a_malformed_one() {
    for found in [0, 2, u64::MAX] {
        assert_eq!(refusal("\"v\":1", &format!("\"v\":{found}")), KeyDocumentError::Version(found));
    }
    for v in ["\"1\"", "1.0", "1e0", "-1", "true", "null", "[1]", "18446744073709551616"] {
        let error = refusal("\"v\":1", &format!("\"v\":{v}"));
        assert!(matches!(error, KeyDocumentError::WrongType { member: "v", .. }), "{v}: {error:?}");
    }
}

#[test]
fn members_of_other_types_are_refused() {
    for (from, to, member) in [
        ("\"epoch\":7", "\"epoch\":\"7\"", "epoch"),
        ("\"epoch\":7", "\"epoch\":7.0", "epoch"),
        ("\"epoch\":7", "\"epoch\":-7", "epoch"),
        ("\"instance\":", "\"instance\":1,\"x\":", "instance"),
        ("\"names\":", "\"names\":\"prover.example\",\"x\":", "names"),
        ("\"names\":[", "\"names\":[1,", "names"),
        ("\"sign\":", "\"sign\":\"AAAA\",\"x\":", "sign"),
        ("\"alg\":", "\"alg\":null,\"x\":", "alg"),
        ("\"key\":", "\"key\":[],\"x\":", "key"),
        ("\"config\":", "\"config\":null,\"x\":", "config"),
        ("\"route\":", "\"route\":null,\"x\":", "route"),
        ("\"route\":", "\"route\":1,\"x\":", "route"),
    ] {
        let error = refusal(from, to);
        assert!(matches!(&error, KeyDocumentError::WrongType { member: m, .. } if *m == member), "{to}: {error:?}");
    }
}

#[test]
fn only_ed25519_is_taken() {
    for alg in ["ed25519", "Ed448", "EdDSA", "", "Ed25519 "] {
        let error = refusal("\"alg\":\"Ed25519\"", &format!("\"alg\":\"{alg}\""));
        assert_eq!(error, KeyDocumentError::Algorithm(alg.into()));
    }
}

#[test]
fn epochs_past_2_to_the_53_are_refused_by_both_ends() {
    let greatest = 9_007_199_254_740_991;
    assert!(KeyDocument::build(KeyDocumentFields { epoch: greatest, ..fields() }).is_ok());
    let error = KeyDocument::build(KeyDocumentFields { epoch: greatest + 1, ..fields() }).unwrap_err();
    assert_eq!(error, KeyDocumentError::Epoch(greatest + 1));
}

#[test]
fn byte_strings_are_strict_base64url() {
    // 16 bytes take 22 characters, the last with 4 unused bits; 32 bytes take 43, with 2.
    let (instance, sign, config) =
        ("AQEBAQEBAQEBAQEBAQEBAQ", URL_SAFE_NO_PAD.encode([2; 32]), URL_SAFE_NO_PAD.encode([3; 32]));
    for (from, to, member) in [
        (instance, "AQEBAQEBAQEBAQEBAQEBAQ==", "instance"),
        (instance, "AQEBAQEBAQEBAQEBAQEBAR", "instance"),
        (instance, "AQEBAQEBAQEBAQEBAQEB+Q", "instance"),
        (instance, "AQEBAQEBAQEBAQEBAQEB/Q", "instance"),
        (instance, "AQEBAQEBAQEB AQEBAQEBAQ", "instance"),
        (instance, "AQEBAQEBAQEBAQEBAQEBA", "instance"),
        (&sign, &format!("{sign}="), "key"),
        (&config, &format!("{config}="), "config"),
        (&config, &format!("{}N", &config[..42]), "config"),
        ("\"seal\":\"", "\"seal\":\"=", "seal"),
    ] {
        assert_eq!(refusal(from, to), KeyDocumentError::Base64(member), "{to}");
    }
}

#[test]
fn byte_strings_have_exactly_their_length() {
    for (bytes, expected, member) in
        [(vec![1; 16], 16, "instance"), (vec![2; 32], 32, "key"), (vec![3; 32], 32, "config")]
    {
        for found in [0, expected - 1, expected + 1, 64] {
            let to = URL_SAFE_NO_PAD.encode(vec![bytes[0]; found]);
            let error = refusal(&format!("\"{}\"", URL_SAFE_NO_PAD.encode(&bytes)), &format!("\"{to}\""));
            assert_eq!(error, KeyDocumentError::Length { member, expected, found });
        }
    }
}

#[test]
fn a_key_to_seal_to_that_is_not_known_here_counts_as_absent() {
    let seal = format!("\"{}\"", URL_SAFE_NO_PAD.encode(fields().seal.unwrap().encode()));
    let other_kem = format!("\"{}\"", URL_SAFE_NO_PAD.encode([7, 0, 0x10, 1, 2, 3]));
    for later in [&other_kem, "{\"kem\":16}", "null", "[]"] {
        let document = edited(&seal, later).unwrap();
        assert_eq!(document.fields(), &KeyDocumentFields { seal: None, ..fields() }, "{later}");
    }
    let suites = vec![Suite { kdf: 9, aead: 9 }];
    let seal = Some(KeyConfig { suites, ..fields().seal.unwrap() });
    let document = KeyDocument::build(KeyDocumentFields { seal: seal.clone(), ..fields() }).unwrap();
    assert_eq!(document.fields().seal, seal, "unknown suites are kept");
}

#[test]
fn a_malformed_key_to_seal_to_is_refused() {
    let whole = fields().seal.unwrap().encode();
    let from = URL_SAFE_NO_PAD.encode(&whole);
    for malformed in [&whole[..whole.len() - 1], &[&whole[..], &[0]].concat(), &[]] {
        let error = refusal(&format!("\"{from}\""), &format!("\"{}\"", URL_SAFE_NO_PAD.encode(malformed)));
        assert!(matches!(error, KeyDocumentError::Seal(KeyConfigError::Malformed { .. })), "{error:?}");
    }
    let none = KeyConfig { suites: vec![], ..fields().seal.unwrap() };
    let error = KeyDocument::build(KeyDocumentFields { seal: Some(none), ..fields() }).unwrap_err();
    assert!(matches!(error, KeyDocumentError::Seal(_)), "{error:?}");
}

#[test]
fn a_route_that_cannot_stand_in_a_field_as_it_is_is_refused() {
    let longest = "r".repeat(64);
    for route in ["0", "Zone-A.rack_7", "--", &longest] {
        let built = KeyDocument::build(KeyDocumentFields { route: Some(route.into()), ..fields() }).unwrap();
        assert_eq!(built.fields().route.as_deref(), Some(route));
    }
    let too_long = "r".repeat(65);
    for route in ["", "a b", "a,b", "a;b", "a/b", "a:b", "\"a\"", "a\n", "a\0", "é", &too_long] {
        let error = KeyDocument::build(KeyDocumentFields { route: Some(route.into()), ..fields() }).unwrap_err();
        assert_eq!(error, KeyDocumentError::Route(excerpt(route)), "{route:?}");
    }
}

#[test]
fn names_are_host_names_and_addresses_without_port() {
    let long_label = "a".repeat(64);
    let long_name = format!("{}.x", ["a"; 127].join("."));
    for name in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-",
        "a.-b",
        "a b",
        "prover.example:443",
        "https://a",
        "a/b",
        "münchen.example",
        "*.example",
        "user@host",
        "1.2.3",
        "256.0.0.1",
        "7",
        "[::1]:443",
        "[::1",
        "::1]",
        "[192.0.2.1]",
        "fe80::1%eth0",
        "::1::",
        "a\u{0}",
        &long_label,
        &long_name,
    ] {
        let error = KeyDocument::build(KeyDocumentFields { names: vec![name.into()], ..fields() }).unwrap_err();
        assert_eq!(error, KeyDocumentError::Name(excerpt(name)), "{name}");
    }
    let longest = format!("{}.{}", "a".repeat(63), ["a"; 95].join("."));
    assert_eq!(longest.len(), 253);
    let names =
        ["a", "localhost", "Prover.Example", "my_service", "xn--mnchen-3ya.example", "4a", "a.b-c.d1", &longest];
    let names = names.map(String::from).to_vec();
    assert_eq!(
        KeyDocument::build(KeyDocumentFields { names: names.clone(), ..fields() }).unwrap().fields().names,
        names
    );
}

#[test]
fn names_are_compared_without_case_and_addresses_by_value() {
    let document = KeyDocument::build(fields()).unwrap();
    for name in ["prover.example", "PROVER.Example", "192.0.2.7", "[2001:db8::1]", "2001:DB8:0::1"] {
        assert!(document.has_name(name), "{name}");
    }
    for name in
        ["", "example", "prover.example.", "x.prover.example", "192.0.2.70", "2001:db8::2", "prover.example:443"]
    {
        assert!(!document.has_name(name), "{name}");
    }
}

#[test]
fn a_long_text_in_an_error_is_cut() {
    for (from, to) in [("prover.example", "é".repeat(1000)), ("Ed25519", "x".repeat(1000)), ("tee-1", "r".repeat(1000))]
    {
        assert!(refusal(from, &to).to_string().len() < 300);
    }
}
