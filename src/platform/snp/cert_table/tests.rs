use base64::Engine as _;
use proptest::prelude::*;

use super::*;

/// A table as a host writes it: entries, an end, the payloads one after the other.
fn table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
    let mut head = Vec::new();
    let mut payload = Vec::new();
    for (guid, bytes) in entries {
        let offset = (entries.len() + 1) * ENTRY_LEN + payload.len();
        head.extend(raw(*guid, offset as u32, bytes.len() as u32));
        payload.extend_from_slice(bytes);
    }
    [head, vec![0; ENTRY_LEN], payload].concat()
}

fn raw(guid: [u8; 16], offset: u32, length: u32) -> Vec<u8> {
    [&guid[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
}

/// A SEQUENCE of `length` bytes of content.
fn der(length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let head = match (high, low) {
        (0, 0..=0x7f) => vec![0x30, low],
        (0, _) => vec![0x30, 0x81, low],
        _ => vec![0x30, 0x82, high, low],
    };
    [head, vec![5; length.into()]].concat()
}

fn pem(der: &[u8]) -> Vec<u8> {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")).into_bytes()
}

fn vek_of(bytes: &[u8]) -> Result<Option<Vec<u8>>, CertTableError> {
    let blob = table(&[(CertTable::VCEK, bytes)]);
    CertTable::parse(&blob)?.vek(SigningKey::Vcek).map(|vek| vek.map(Cow::into_owned))
}

#[test]
fn the_guids_are_big_endian() {
    assert_eq!(CertTable::VCEK[..4], [0x63, 0xda, 0x75, 0x8d]);
    assert_eq!(Hex(&CertTable::VLEK).to_string(), "a8074bc2a25a483eaae639c045a0b8a1");
    assert_eq!(Hex(&CertTable::ASK).to_string(), "4ab7b379bbac4fe4a02f05aef327c782");
    assert_eq!(Hex(&CertTable::ARK).to_string(), "c0b406a4a80349529743 3fb6014cd0ae".replace(' ', ""));
}

#[test]
fn no_table_and_an_empty_page_have_no_entries() {
    assert_eq!(CertTable::parse(&[]).unwrap().entries(), []);
    assert_eq!(CertTable::parse(&[0; 4096]).unwrap().entries(), []);
}

#[test]
fn der_and_pem_come_out_as_der() {
    for length in [0, 127, 128, 255, 256, 1300] {
        let certificate = der(length);
        assert_eq!(vek_of(&certificate), Ok(Some(certificate.clone())), "DER of {length}");
        assert_eq!(vek_of(&pem(&certificate)), Ok(Some(certificate.clone())), "PEM of {length}");
    }
}

#[test]
fn the_key_that_signed_decides_which_certificate_is_taken() {
    let (vcek, vlek) = (der(200), der(300));
    let blob = table(&[(CertTable::ARK, &[1]), (CertTable::VLEK, &vlek), ([9; 16], b"x"), (CertTable::VCEK, &vcek)]);
    let table = CertTable::parse(&blob).unwrap();
    assert_eq!(table.entries().len(), 4);
    assert_eq!(table.vek(SigningKey::Vcek).unwrap().as_deref(), Some(&vcek[..]));
    assert_eq!(table.vek(SigningKey::Vlek).unwrap().as_deref(), Some(&vlek[..]));
    assert_eq!(table.vek(SigningKey::None).unwrap(), None);
    assert_eq!(table.vek(SigningKey::Unknown(2)).unwrap(), None);
}

#[test]
fn an_entry_that_is_not_exactly_one_certificate_is_refused() {
    let certificate = der(200);
    let cut = &certificate[..certificate.len() - 1];
    let longer = [&certificate[..], &[0]].concat();
    let not_minimal = [&[0x30, 0x82, 0, 5][..], &[5; 5]].concat();
    let two = [pem(&certificate), pem(&certificate)].concat();
    let broken = pem(&certificate).iter().map(|b| if *b == b'B' { b'*' } else { *b }).collect::<Vec<_>>();
    let pem_of_less = pem(cut);
    let pem_of_text = pem(b"hello");
    let unfinished = &pem(&certificate)[..100];
    let cases = [cut, &longer, &not_minimal, &two, &broken, &pem_of_less, &pem_of_text, unfinished, b"hello", &[0x30]];
    for case in cases {
        let refusal = vek_of(case).unwrap_err();
        assert!(matches!(refusal, CertTableError::NotACertificate { key: SigningKey::Vcek, .. }), "{case:02x?}");
    }
}

#[test]
fn a_table_without_an_end_is_refused() {
    let whole = raw(CertTable::VCEK, 24, 1);
    for length in 1..=whole.len() {
        assert_eq!(CertTable::parse(&whole[..length]), Err(CertTableError::Unterminated(length)));
    }
    assert_eq!(CertTable::parse(&[0; 23]), Err(CertTableError::Unterminated(23)));
}

#[test]
fn an_end_with_an_offset_or_a_length_is_refused() {
    for end in [raw([0; 16], 1, 0), raw([0; 16], 0, 1)] {
        assert_eq!(CertTable::parse(&[end, vec![0; 100]].concat()), Err(CertTableError::BadEnd(0)));
    }
}

#[test]
fn entries_outside_the_bytes_or_inside_the_table_are_refused() {
    let with = |offset, length| {
        let blob = [raw(CertTable::VCEK, offset, length), vec![0; ENTRY_LEN], vec![7; 52]].concat();
        CertTable::parse(&blob).map(|table| table.entries()[0].bytes.len())
    };
    assert_eq!(with(48, 52), Ok(52));
    assert_eq!(with(99, 1), Ok(1));
    let hostile = [
        (0, 10),
        (24, 24),
        (47, 1),
        (48, 53),
        (99, 2),
        (100, 0),
        (100, 1),
        (101, 0),
        (48, 0),
        (48, u32::MAX),
        (0x7fff_0000, 16),
        (u32::MAX, 1),
        (u32::MAX, u32::MAX),
    ];
    for (offset, length) in hostile {
        let expected = CertTableError::OutOfBounds { index: 0, from: 48, to: 100, offset, length };
        assert_eq!(with(offset, length), Err(expected), "{offset} {length}");
    }
}

#[test]
fn a_guid_that_occurs_twice_is_refused() {
    let blob = table(&[(CertTable::VCEK, &der(3)), ([9; 16], b"x"), (CertTable::VCEK, &der(3))]);
    assert_eq!(CertTable::parse(&blob), Err(CertTableError::Repeated("63da758de6644564adc5f4b93be8accd".into())));
}

#[test]
fn a_table_longer_than_the_kernel_gives_is_refused() {
    assert!(CertTable::parse(&[0; CertTable::MAX_LEN]).is_ok());
    assert_eq!(CertTable::parse(&[0; CertTable::MAX_LEN + 1]), Err(CertTableError::TooLong(32_769)));
}

proptest! {
    #[test]
    fn whatever_the_host_writes_each_entry_lies_within_it(bytes in hostile_table()) {
        if let Ok(table) = CertTable::parse(&bytes) {
            let range = bytes.as_ptr_range();
            for entry in table.entries() {
                let found = entry.bytes.as_ptr_range();
                prop_assert!(range.start <= found.start && found.end <= range.end);
            }
            let _ = (table.vek(SigningKey::Vcek), table.vek(SigningKey::Vlek));
        }
    }
}

fn hostile_table() -> impl Strategy<Value = Vec<u8>> {
    let guid = prop_oneof![Just(CertTable::VCEK), Just(CertTable::VLEK), Just([0; 16]), any::<[u8; 16]>(),];
    let number = prop_oneof![0..300_u32, any::<u32>()];
    let entries = proptest::collection::vec((guid, number.clone(), number), 0..6);
    let tail = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        proptest::collection::vec(prop_oneof![Just(b'-'), any::<u8>()], 0..300),
        (0..250_u16).prop_map(der),
        (0..150_u16).prop_map(|length| pem(&der(length))),
    ];
    (entries, any::<bool>(), tail).prop_map(|(entries, ends, tail)| {
        let mut bytes: Vec<u8> =
            entries.into_iter().flat_map(|(guid, offset, length)| raw(guid, offset, length)).collect();
        if ends {
            bytes.extend([0; ENTRY_LEN]);
        }
        bytes.extend(tail);
        bytes
    })
}
