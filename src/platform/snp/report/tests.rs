use super::*;

fn blank(version: u8) -> Vec<u8> {
    let mut bytes = vec![0; REPORT_LEN];
    bytes[0] = version;
    bytes[0x34] = 1;
    bytes
}

fn refusal(bytes: Vec<u8>) -> String {
    let error = ReportView::parse(bytes).unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Malformed);
    error.to_string()
}

#[test]
fn a_report_has_exactly_its_length() {
    assert!(ReportView::parse(blank(3)).is_ok());
    for len in [0, 1, REPORT_LEN - 1, REPORT_LEN + 1, 2 * REPORT_LEN] {
        let mut bytes = blank(3);
        bytes.resize(len, 0);
        assert!(refusal(bytes).contains("1184 bytes"));
    }
}

#[test]
fn unknown_versions_are_refused_by_name() {
    for version in 0..=255 {
        if VERSIONS.contains(&u32::from(version)) {
            assert!(ReportView::parse(blank(version)).is_ok());
        } else {
            assert!(refusal(blank(version)).contains(&format!("found version {version}")));
        }
    }
    let mut bytes = blank(3);
    bytes[3] = 1;
    assert!(refusal(bytes).contains("found version 16777219"));
}

#[test]
fn a_report_for_the_host_is_refused() {
    for vmpl in [4_u32, 255, u32::MAX] {
        let mut bytes = blank(3);
        bytes[0x30..0x34].copy_from_slice(&vmpl.to_le_bytes());
        assert!(refusal(bytes).contains("VMPL"));
    }
}

#[test]
fn another_signature_algorithm_is_refused() {
    for algo in [0_u32, 2, 1 << 31] {
        let mut bytes = blank(3);
        bytes[0x34..0x38].copy_from_slice(&algo.to_le_bytes());
        assert!(refusal(bytes).contains("SIGNATURE_ALGO"));
    }
}

#[test]
fn each_reserved_byte_must_be_zero() {
    for version in 2..=5 {
        for offset in 0..SIGNED_LEN {
            let mut bytes = blank(version);
            bytes[offset] ^= 0x80;
            let reserved = matches!(offset, 0x48..0x50 | 0x18b..0x1a0 | 0x1eb | 0x1ef | 0x208..)
                || version < 3 && (0x188..0x18b).contains(&offset)
                || version < 4 && (0x1f8..0x208).contains(&offset);
            let checked_otherwise = matches!(offset, 0..4 | 0x30..0x38);
            assert_eq!(ReportView::parse(bytes).is_err(), reserved || checked_otherwise, "{version} {offset:#x}");
        }
    }
}

#[test]
fn each_field_is_read_at_its_offset() {
    let mut bytes: Vec<u8> = (0..REPORT_LEN).map(|at| (at % 251) as u8).collect();
    bytes[..4].copy_from_slice(&5_u32.to_le_bytes());
    let view = ReportView { bytes: bytes.clone().into() };
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(view.guest_svn(), u32_at(0x004));
    assert_eq!(view.policy().bits(), u64_at(0x008));
    assert_eq!(view.family_id(), bytes[0x010..0x020]);
    assert_eq!(view.image_id(), bytes[0x020..0x030]);
    assert_eq!(view.vmpl(), u32_at(0x030));
    assert_eq!(view.signature_algo(), u32_at(0x034));
    assert_eq!(view.current_tcb().as_bytes(), &bytes[0x038..0x040]);
    assert_eq!(view.platform_info().bits(), u64_at(0x040));
    assert_eq!(view.key_info().bits(), u32_at(0x048));
    assert_eq!(view.report_data(), bytes[0x050..0x090]);
    assert_eq!(view.measurement(), bytes[0x090..0x0c0]);
    assert_eq!(view.host_data(), bytes[0x0c0..0x0e0]);
    assert_eq!(view.id_key_digest(), bytes[0x0e0..0x110]);
    assert_eq!(view.author_key_digest(), bytes[0x110..0x140]);
    assert_eq!(view.report_id(), bytes[0x140..0x160]);
    assert_eq!(view.report_id_ma(), bytes[0x160..0x180]);
    assert_eq!(view.reported_tcb().as_bytes(), &bytes[0x180..0x188]);
    assert_eq!(view.cpuid().unwrap(), bytes[0x188..0x18b]);
    assert_eq!(view.chip_id(), bytes[0x1a0..0x1e0]);
    assert_eq!(view.committed_tcb().as_bytes(), &bytes[0x1e0..0x1e8]);
    let version = view.current_version();
    assert_eq!([version.build, version.minor, version.major], bytes[0x1e8..0x1eb]);
    let version = view.committed_version();
    assert_eq!([version.build, version.minor, version.major], bytes[0x1ec..0x1ef]);
    assert_eq!(view.launch_tcb().as_bytes(), &bytes[0x1f0..0x1f8]);
    assert_eq!(view.launch_mit_vector(), Some(u64_at(0x1f8)));
    assert_eq!(view.current_mit_vector(), Some(u64_at(0x200)));
    assert_eq!(view.signed_bytes(), &bytes[..0x2a0]);
}

#[test]
fn fields_that_a_version_lacks_are_absent() {
    let view = |version| ReportView::parse(blank(version)).unwrap();
    assert_eq!((view(2).cpuid(), view(2).product()), (None, None));
    assert_eq!(view(3).cpuid(), Some([0; 3]));
    assert_eq!((view(3).launch_mit_vector(), view(3).current_mit_vector()), (None, None));
    assert_eq!(view(4).launch_mit_vector(), Some(0));
}

#[test]
fn padding_of_the_signature_must_be_zero() {
    let mut bytes = blank(3);
    bytes[0x2a0] = 7;
    bytes[0x2e8 + 47] = 9;
    let (r, s) = ReportView::parse(bytes.clone()).unwrap().signature().unwrap();
    assert_eq!((r[47], s[0]), (7, 9));
    for offset in (0x2d0..0x2e8).chain(0x318..REPORT_LEN) {
        let mut padded = bytes.clone();
        padded[offset] = 1;
        assert_eq!(ReportView::parse(padded).unwrap().signature(), None, "{offset:#x}");
    }
}
