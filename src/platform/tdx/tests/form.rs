//! Bytes that are no quote or no collateral.

use bytes::Bytes;

use super::*;

#[test]
fn a_report_of_another_platform_is_refused() {
    let report = Report::new(Tee::SNP, td().quote(&DATA)).with_collateral(good().build().to_json());
    refused(judge(&verifier(), &report, now()), VerifyErrorKind::UnsupportedPlatform, "expected tdx, found snp");
}

#[test]
fn a_quote_that_is_not_exactly_one_is_refused() {
    let quote = td().quote(&DATA);
    let parse = |bytes: Vec<u8>| Quote::parse(&Bytes::from(bytes));
    assert!(parse(quote.clone()).is_ok());
    for length in 0..quote.len() {
        assert!(parse(quote[..length].to_vec()).is_err(), "{length} bytes");
    }
    assert_eq!(parse([quote.clone(), vec![0]].concat()), Err(QuoteError::Trailing { part: "the quote", count: 1 }));
    assert_eq!(parse(vec![0; 40_000]), Err(QuoteError::TooLong(40_000)));
    let with = |position: usize, byte: u8| {
        let mut changed = quote.clone();
        changed[position] = byte;
        parse(changed)
    };
    let unsupported =
        |result, name| assert!(matches!(result, Err(QuoteError::Unsupported { field, .. }) if field == name), "{name}");
    unsupported(with(0, 6), "version");
    unsupported(with(2, 3), "attestation key type");
    unsupported(with(4, 0x82), "TEE type");
    unsupported(with(12, 0), "QE vendor id");
    unsupported(with(48 + 584 + 4 + 128, 5), "certification data type");
    unsupported(with(48 + 584 + 4 + 134 + 384 + 64 + 2 + 32, 1), "certification data type");
    assert_eq!(with(4, 0), Err(QuoteError::Sgx));
    assert_eq!(with(0, 3), Err(QuoteError::Sgx));
    let mut report = vec![0; 1024];
    report[0] = 0x81;
    assert_eq!(parse(report), Err(QuoteError::TdReport));
    for other in [vec![0; 1024], vec![0x81, 0, 0]] {
        assert_ne!(parse(other), Err(QuoteError::TdReport));
    }
    for (length, too_long) in [(32 * 1024, false), (32 * 1024 + 1, true)] {
        let mut longer = quote.clone();
        longer.resize(length, 0);
        assert_eq!(parse(longer) == Err(QuoteError::TooLong(length)), too_long, "{length}");
    }
}

#[test]
fn a_quote_shows_its_version_and_the_chain_that_certifies_the_enclave() {
    for (format, version) in [(QuoteFormat::V4, 4), (QuoteFormat::V5Td10, 5), (QuoteFormat::V5Td15, 5)] {
        let bytes = Bytes::from(td().with_format(format).quote(&DATA));
        let quote = Quote::parse(&bytes).unwrap();
        assert_eq!(quote.version(), version);
        assert!(quote.pck_chain().starts_with(b"-----BEGIN CERTIFICATE-----"));
        assert_eq!(Quote::declared_len(&bytes), Some(bytes.len()));
    }
}

#[test]
fn a_version_5_body_must_be_of_a_known_type_and_length() {
    let quote = td().with_format(QuoteFormat::V5Td15).quote(&DATA);
    let with = |position: usize, byte: u8| {
        let mut changed = quote.clone();
        changed[position] = byte;
        Quote::parse(&Bytes::from(changed))
    };
    assert_eq!(with(48, 1), Err(QuoteError::Sgx));
    assert!(matches!(with(48, 4), Err(QuoteError::Unsupported { field: "body type", .. })));
    assert!(matches!(with(48, 2), Err(QuoteError::Unsupported { field: "body length", .. })));
    assert!(matches!(with(50, 0), Err(QuoteError::Unsupported { field: "body length", .. })));
}

/// Bytes that a part's length includes but no field takes.
#[test]
fn bytes_hidden_inside_a_quote_are_refused() {
    let quote = td().quote(&DATA);
    let data = 48 + 584;
    let grow = |hidden_in_certification: bool| {
        let mut grown = quote.clone();
        grown.push(0);
        let mut add_one = |position: usize| {
            let length = u32::from_le_bytes(grown[position..position + 4].try_into().unwrap()) + 1;
            grown[position..position + 4].copy_from_slice(&length.to_le_bytes());
        };
        add_one(data);
        if hidden_in_certification {
            add_one(data + 4 + 130);
        }
        Quote::parse(&Bytes::from(grown))
    };
    assert_eq!(grow(false), Err(QuoteError::Trailing { part: "the signature data", count: 1 }));
    assert_eq!(grow(true), Err(QuoteError::Trailing { part: "the QE certification data", count: 1 }));
}

#[test]
fn collateral_survives_its_json_form_and_bad_json_is_refused() {
    let collateral = good().build();
    assert_eq!(Collateral::from_json(&collateral.to_json()).unwrap(), collateral);
    let text = String::from_utf8(collateral.to_json()).unwrap();
    for bad in [
        text.replacen("\"pck_crl\":", "\"pck_crl\":\"00\",\"pck_crl\":", 1),
        text.replacen("\"root_ca_crl\":\"30", "\"root_ca_crl\":\"3", 1),
        text.replacen("\"tcb_info\":", "\"tcb_inf\":", 1),
        format!("{text}x"),
        " ".repeat(300 * 1024),
    ] {
        assert!(Collateral::from_json(bad.as_bytes()).is_err());
    }
}
