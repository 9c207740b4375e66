use super::*;

fn value(byte: u8) -> String {
    crate::report::Hex(&[byte; 48]).to_string()
}

/// A list of one entry with these registers.
fn list(registers: &str) -> String {
    format!(r#"[{{"measurement_id": "image", "attestation_type": "dcap-tdx", "measurements": {{{registers}}}}}]"#)
}

fn any(register: &str, bytes: &[u8]) -> String {
    let values: Vec<String> = bytes.iter().map(|byte| format!("{:?}", value(*byte))).collect();
    format!(r#""{register}": {{"expected_any": [{}]}}"#, values.join(", "))
}

fn policy(json: &str) -> TdxPolicy {
    MeasurementList::from_json(json).unwrap().into_policy().unwrap()
}

#[track_caller]
fn refused(json: &str, message: &str) -> InvalidMeasurementList {
    let error = MeasurementList::from_json(json).and_then(MeasurementList::into_policy).expect_err("a refusal");
    assert!(error.to_string().contains(message), "expected {message:?}, found {error}");
    error
}

#[test]
fn the_fields_are_mrtd_and_the_rtmrs_in_their_order() {
    let expected = TdMeasurement::new([1; 48]).with_name("image");
    let expected = expected
        .with_rtmr(0, [[2; 48]])
        .with_rtmr(1, [[3; 48], [4; 48]])
        .with_rtmr(2, [[5; 48]])
        .with_rtmr(3, [[6; 48]]);
    let expected = TdxPolicy::of(expected);
    let numbers = [any("0", &[1]), any("1", &[2]), any("2", &[3, 4]), any("3", &[5]), any("4", &[6])].join(",");
    assert_eq!(policy(&list(&numbers)), expected);
    let names = [any("RTMR3", &[6]), any("rtmr2", &[5]), any("rtmr1", &[3, 4]), any("Rtmr0", &[2]), any("mrtd", &[1])];
    assert_eq!(policy(&list(&names.join(","))), expected);
    let older = format!(r#""0": {{"expected": "{}"}}"#, value(0xab).to_uppercase());
    assert_eq!(policy(&list(&older)), TdxPolicy::of(TdMeasurement::new([0xab; 48]).with_name("image")));
}

#[test]
fn each_type_of_tdx_quote_and_each_value_of_mrtd_is_a_measurement() {
    for attestation_type in ["dcap-tdx", "gcp-tdx", "qemu-tdx"] {
        let json = list(&[any("0", &[1, 2]), any("1", &[3])].join(",")).replace("dcap-tdx", attestation_type);
        let one = |mr_td| TdMeasurement::new([mr_td; 48]).with_name("image").with_rtmr(0, [[3; 48]]);
        assert_eq!(policy(&json), TdxPolicy::of(one(1)).or(one(2)));
    }
}

#[test]
fn an_entry_needs_no_name() {
    let json = list(&any("0", &[1])).replace(r#""measurement_id": "image", "#, "");
    assert_eq!(policy(&json), TdxPolicy::pin([1; 48]));
    refused(&json.replace(r#""0""#, r#""5""#), "entry 0");
}

#[test]
fn entries_for_other_platforms_are_no_tdx_policy() {
    for other in ["none", "azure-tdx", "dcap-sgx", "aws-nitro", "DCAP-TDX", ""] {
        // Their registers are their own affair.
        let entry =
            format!(r#"{{"measurement_id": "other", "attestation_type": "{other}", "measurements": {{"pcr11": 1}}}}"#);
        let json = list(&any("0", &[1])).replacen('[', &format!("[{entry},"), 1);
        let refusal = refused(
            &json,
            &format!("other: attestation_type: expected one of dcap-tdx, gcp-tdx, qemu-tdx, found {other:?}"),
        );
        assert!(matches!(refusal, InvalidMeasurementList::OtherPlatform(_)));
        let parsed = MeasurementList::from_json(&json).unwrap();
        assert_eq!(parsed.others(), [OtherMeasurement { id: "other".to_owned(), attestation_type: other.to_owned() }]);
        let rest = parsed.without_others().into_policy().unwrap();
        assert_eq!(rest, TdxPolicy::of(TdMeasurement::new([1; 48]).with_name("image")));
        let alone = MeasurementList::from_json(&format!("[{entry}]")).unwrap().without_others();
        assert!(matches!(alone.into_policy(), Err(InvalidMeasurementList::Empty)));
    }
}

#[test]
fn an_entry_that_any_firmware_satisfies_is_refused() {
    for registers in [String::new(), any("1", &[2])] {
        assert!(matches!(refused(&list(&registers), "any firmware would do"), InvalidMeasurementList::NoMrtd { .. }));
    }
    refused(r#"[{"attestation_type": "dcap-tdx"}]"#, "any firmware would do");
    assert!(matches!(refused("[]", "found none"), InvalidMeasurementList::Empty));
}

#[test]
fn registers_that_a_td_does_not_have_and_repeated_ones_are_refused() {
    for (register, other) in [
        ("5", "0"),
        ("rtmr4", "0"),
        ("pcr4", "0"),
        ("00", "0"),
        ("-1", "0"),
        ("mrtd", "0"),
        ("0", "0"),
        ("MRTD", "mrtd"),
    ] {
        let json = list(&[any(other, &[1]), any(register, &[2])].join(","));
        let refusal = refused(&json, &format!("found {register:?}"));
        assert!(matches!(refusal, InvalidMeasurementList::Register { .. }), "{register}");
    }
}

#[test]
fn a_register_has_values_in_exactly_one_way() {
    let one = value(1);
    for register in [
        "{}".to_owned(),
        r#"{"expected_any": []}"#.to_owned(),
        format!(r#"{{"expected": "{one}", "expected_any": ["{one}"]}}"#),
        r#"{"expected": null}"#.to_owned(),
    ] {
        refused(&list(&format!(r#""0": {register}"#)), "either expected_any");
    }
    for text in ["", "00", &one[2..], &format!("{one}00"), &format!("0x{}", &one[2..]), &one.replacen('1', "g", 1)] {
        for register in [format!(r#"{{"expected": "{text}"}}"#), format!(r#"{{"expected_any": ["{one}", "{text}"]}}"#)]
        {
            refused(&list(&format!(r#""0": {register}"#)), "48 bytes in hexadecimal");
        }
    }
}

#[test]
fn json_of_another_shape_is_refused_with_the_entry() {
    let good = list(&any("0", &[1]));
    for (json, entry) in [
        (String::new(), "the list"),
        ("{}".to_owned(), "the list"),
        (format!("{good}x"), "the list"),
        ("[1]".to_owned(), "entry 0"),
        (r#"[{"measurement_id": "image"}]"#.to_owned(), "entry 0"),
        (
            good.replacen("\"attestation_type\"", "\"attestation_type\": \"azure-tdx\", \"attestation_type\"", 1),
            "entry 0",
        ),
        (good.replacen("\"measurements\"", "\"minimum_tcb\": 3, \"measurements\"", 1), "image"),
        (good.replacen("\"measurements\"", "\"measurements\": {}, \"measurements\"", 1), "image"),
        (good.replacen("\"expected_any\"", "\"unexpected\": 1, \"expected_any\"", 1), "image"),
        (good.replacen("\"expected_any\"", "\"expected_any\": [], \"expected_any\"", 1), "image"),
        (list("\"0\": []"), "image"),
        (list(&format!("\"0\": \"{}\"", value(1))), "image"),
    ] {
        let refusal = refused(&json, &format!("measurement list: {entry}: "));
        assert!(matches!(refusal, InvalidMeasurementList::Json { .. }), "{json}: {refusal}");
    }
    let registers = good.replacen("\"measurements\"", "\"measurements\": 3, \"x\"", 1);
    refused(&registers, "expected an object of registers");
    let long = format!("{good}{}", " ".repeat(1024 * 1024 - good.len()));
    assert!(MeasurementList::from_json(&long).is_ok());
    assert!(matches!(
        refused(&format!("{long} "), "at most 1048576 bytes"),
        InvalidMeasurementList::TooLong(1_048_577)
    ));
}
