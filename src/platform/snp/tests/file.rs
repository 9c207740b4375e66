use super::super::{FirmwareVersion, GuestPolicy, PlatformInfo, SnpPolicy, Tcb, TcbKind};
use super::*;

fn hexadecimal<const N: usize>(byte: u8) -> String {
    hex::encode([byte; N])
}

fn least() -> String {
    format!("[[measurement]]\nvalue = \"{}\"\n", hexadecimal::<48>(0x4d))
}

#[test]
fn the_least_file_is_the_least_policy() {
    assert_eq!(SnpPolicy::from_toml(&least()).unwrap(), SnpPolicy::pin([0x4d; 48]));
}

#[test]
fn every_rule_can_be_set_from_a_file_as_from_code() {
    let text = format!(
        r#"
        products = ["Milan", "turin"]
        signing-keys = ["vlek", "vcek"]
        csp-ids = ["CN=x"]
        vmpls = [0, 1]
        min-firmware = "1.55.21"
        permit-provisional-firmware = true
        min-guest-svn = 4
        family-ids = ["{family}"]
        image-ids = ["{image}"]
        id-key-digests = ["{id_key}"]
        author-key-digests = ["{author_key}"]
        host-data = ["{host_data}"]
        require-crl = true

        [[measurement]]
        name = "one"
        value = "{one}"

        [[measurement]]
        value = "{two}"

        [guest-policy]
        require = ["single-socket"]
        forbid = ["smt"]
        permit = ["cxl", "bit 26"]
        min-abi = "1.51"
        dangerously-permit-debug = true

        [platform-info]
        require = ["ecc", "ciphertext-hiding-dram"]
        forbid = ["smt"]
        permit = ["alias-check-complete"]

        [[tcb-floor]]
        product = "milan"
        stepping = 1
        reported = {{ bl = 4, tee = 0, snp = 24, ucode = 219 }}
        launch = {{ bl = 3, tee = 0, snp = 8, ucode = 115 }}

        [[tcb-floor]]
        product = "turin"
        committed = {{ fmc = 1, bl = 1, tee = 1, snp = 4, ucode = 81 }}
        current = {{ bl = 1, tee = 1, snp = 4, ucode = 81 }}

        [mitigations]
        launch = 0x01
        current = 0x0f
        "#,
        family = hexadecimal::<16>(1),
        image = hexadecimal::<16>(2),
        id_key = hexadecimal::<48>(3),
        author_key = hexadecimal::<48>(4),
        host_data = hexadecimal::<32>(5),
        one = hexadecimal::<48>(6),
        two = hexadecimal::<48>(7).to_uppercase(),
    );
    let milan = |bootloader, snp, microcode| Tcb { bootloader, snp, microcode, ..Tcb::default() };
    let turin = Tcb { fmc: None, bootloader: 1, tee: 1, snp: 4, microcode: 81 };
    let expected = SnpPolicy::pin_named("one", [6; 48])
        .or([7; 48])
        .with_products([Product::Milan, Product::Turin])
        .allow_vlek(["CN=x"])
        .with_vmpls([0, 1])
        .with_min_firmware(FirmwareVersion { major: 1, minor: 55, build: 21 })
        .permit_provisional_firmware()
        .with_min_guest_svn(4)
        .with_family_ids([[1; 16]])
        .with_image_ids([[2; 16]])
        .with_id_key_digests([[3; 48]])
        .with_author_key_digests([[4; 48]])
        .with_host_data([[5; 32]])
        .require_crl()
        .permit_guest_policy(GuestPolicy::CXL_ALLOW | 1 << 26)
        .require_guest_policy(GuestPolicy::SINGLE_SOCKET)
        .forbid_guest_policy(GuestPolicy::SMT)
        .with_min_abi(1, 51)
        .dangerously_permit_debug()
        .permit_platform_info(PlatformInfo::ALIAS_CHECK_COMPLETE)
        .require_platform_info(PlatformInfo::ECC_EN | PlatformInfo::CIPHERTEXT_HIDING_DRAM_EN)
        .forbid_platform_info(PlatformInfo::SMT_EN)
        .with_tcb_floor_of_stepping(Product::Milan, 1, [TcbKind::Reported], milan(4, 24, 219))
        .with_tcb_floor_of_stepping(Product::Milan, 1, [TcbKind::Launch], milan(3, 8, 115))
        .with_tcb_floor(Product::Turin, [TcbKind::Committed], Tcb { fmc: Some(1), ..turin })
        .with_tcb_floor(Product::Turin, [TcbKind::Current], turin)
        .require_mitigations(1, 0x0f);
    assert_eq!(SnpPolicy::from_toml(&text).unwrap(), expected);
    let chips = format!("products = [\"turin\"]\nchip-ids = [\"{}\"]\n{}", hexadecimal::<8>(9), least());
    let expected = SnpPolicy::pin([0x4d; 48]).with_products([Product::Turin]).with_chip_ids([[9; 8]]);
    assert_eq!(SnpPolicy::from_toml(&chips).unwrap(), expected);
    let firmware = format!("min-firmware = \"1.55\"\n{}", least());
    let version = FirmwareVersion { major: 1, minor: 55, build: 0 };
    assert_eq!(SnpPolicy::from_toml(&firmware).unwrap(), SnpPolicy::pin([0x4d; 48]).with_min_firmware(version));
    let longest = format!("{}{}", least(), "#".repeat(1024 * 1024 - least().len()));
    assert!(SnpPolicy::from_toml(&longest).is_ok());
    let error = SnpPolicy::from_toml(&format!("{longest}#")).unwrap_err();
    assert!(error.to_string().contains("at most 1048576 bytes, found 1048577"), "{error}");
}

#[test]
fn what_a_file_must_not_say_is_refused_with_the_reason() {
    let least = least();
    let before = |line: &str| format!("{line}\n{least}");
    let after = |lines: &str| format!("{least}\n{lines}");
    let floor = |rest: &str| after(&format!("[[tcb-floor]]\nproduct = \"genoa\"\n{rest}"));
    for (text, reason) in [
        (String::new(), "missing field `measurement`"),
        ("measurement = []".to_owned(), "at least one"),
        ("[[measurement]]\nname = \"x\"".to_owned(), "missing field `value`"),
        ("[[measurement]]\nvalue = \"4d\"".to_owned(), "48 bytes in hexadecimal"),
        (least.replace("4d", "4g"), "48 bytes in hexadecimal"),
        (after("colour = \"red\""), "unknown field `colour`"),
        (before("measurements = 1"), "unknown field `measurements`"),
        (before("products = [\"rome\"]"), "unknown product \"rome\""),
        (before("products = []"), "at least one product"),
        (before("signing-keys = [\"vxek\"]"), "unknown variant `vxek`"),
        (before("signing-keys = []"), "at least one of vcek and vlek"),
        (before("signing-keys = [\"vlek\"]"), "no list, although VLEKs are trusted"),
        (before("csp-ids = [\"CN=x\"]"), "VLEKs are not trusted"),
        (before("chip-ids = [\"00\"]"), "64 bytes (8 for Turin)"),
        (before("chip-ids = []"), "an empty list"),
        (before("vmpls = [4]"), "levels from 0 to 3"),
        (before("vmpls = [-1]"), "invalid value"),
        (before("min-firmware = \"1\""), "min-firmware"),
        (before("min-firmware = \"1.55.21.1\""), "min-firmware"),
        (before("min-firmware = \"1.256\""), "min-firmware"),
        (before("host-data = [\"00\"]"), "32 bytes in hexadecimal"),
        (before("min-guest-svn = 4294967296"), "invalid value"),
        (after("[guest-policy]\nrequire = [\"debugging\"]"), "found \"debugging\""),
        (after("[guest-policy]\npermit = [\"debug\"]"), "dangerously-permit-debug"),
        (after("[guest-policy]\npermit = [\"bit 19\"]"), "found \"bit 19\""),
        (after("[guest-policy]\npermit = [\"bit 64\"]"), "found \"bit 64\""),
        (after("[guest-policy]\npermit = [\"smt\"]\nforbid = [\"smt\"]"), "permitted and also"),
        (after("[guest-policy]\nrequire = [\"smt\"]\nforbid = [\"smt\"]"), "both for smt"),
        (after("[guest-policy]\nmin-abi = \"1\""), "min-abi"),
        (after("[guest-policy]\nmin-api = \"1.0\""), "unknown field `min-api`"),
        (after("[platform-info]\nrequire = [\"aliases\"]"), "found \"aliases\""),
        (after("[platform-info]\nmin-abi = \"1.0\""), "unknown field `min-abi`"),
        (after("[mitigations]\nlater = 1"), "unknown field `later`"),
        (floor(""), "none of reported, committed, current, launch"),
        (floor("reported = { bl = 1 }"), "missing field"),
        (floor("reported = { bl = 1, tee = 0, snp = 1, ucode = 256 }"), "invalid value"),
        (floor("reported = { bl = 1, tee = 0, snp = 1, ucode = 1, spl4 = 0 }"), "unknown field `spl4`"),
        (floor("reported = { fmc = 1, bl = 1, tee = 0, snp = 1, ucode = 1 }"), "FMC level for Turin only"),
        (floor("reporting = 1"), "unknown field `reporting`"),
        ("= [".to_owned(), "policy file"),
        (format!("#{}", " ".repeat(1024 * 1024)), "at most 1048576 bytes"),
    ] {
        let error = SnpPolicy::from_toml(&text).expect_err(&text);
        assert_eq!(error.kind(), VerifyErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains(reason), "{text}\n{error}");
    }
}
