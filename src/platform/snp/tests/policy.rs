use super::super::{FirmwareVersion, GuestPolicy, PlatformInfo, SnpPolicy, Tcb, TcbKind};
use super::*;

const MEASUREMENT: [u8; 48] = [0x4d; 48];
const CSP: &str = "CN=cc-us-east-2.amazonaws.com";

fn pinned() -> SnpPolicy {
    SnpPolicy::pin(MEASUREMENT)
}

fn genoa() -> SimulatedGuest {
    guest(Product::Genoa)
}

fn accept(policy: &SnpPolicy, guest: &SimulatedGuest) -> Result<Option<String>, VerifyError> {
    let details = simulated().authenticate(&report(guest), now()).unwrap();
    let verdict = policy.accept(&details).map(|name| name.map(str::to_owned));
    if let Ok(judgement) = policy.judge(&details) {
        assert_eq!(judgement.accepted(), verdict.is_ok(), "the list of rules and the verdict differ");
    }
    verdict
}

/// `policy` accepts `good`, and refuses `bad` by exactly these rules.
#[track_caller]
fn tells_apart(policy: &SnpPolicy, good: &SimulatedGuest, bad: &SimulatedGuest, rules: &[&str]) {
    accept(policy, good).expect("the good guest");
    let error = accept(policy, bad).expect_err("the bad guest");
    assert_eq!(error.kind(), VerifyErrorKind::Policy, "{error}");
    let failed: Vec<_> = error.failed_rules().iter().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(failed, rules, "{error}");
}

/// `policy` cannot be applied to `guest`, because of exactly these rules.
#[track_caller]
fn inapplicable(policy: &SnpPolicy, guest: &SimulatedGuest, rules: &[&str]) {
    let error = accept(policy, guest).expect_err("a fault of configuration");
    assert_eq!(error.kind(), VerifyErrorKind::Configuration, "{error}");
    let failed: Vec<_> = error.failed_rules().iter().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(failed, rules, "{error}");
}

#[test]
fn only_pinned_measurements_are_accepted_and_named() {
    let policy = SnpPolicy::pin_named("one", [1; 48]).or_named("two", [2; 48]).or([3; 48]);
    let named = |byte: u8| accept(&policy, &genoa().with_measurement([byte; 48])).unwrap();
    assert_eq!(named(1).as_deref(), Some("one"));
    assert_eq!(named(2).as_deref(), Some("two"));
    assert_eq!(named(3), None);
    let error = accept(&policy, &genoa()).unwrap_err();
    assert_eq!(error.failed_rules()[0].rule, "measurement");
    assert!(error.failed_rules()[0].expected.contains("one (0101"));
    assert!(error.failed_rules()[0].found.starts_with("4d4d"));
    let mut last_bit = MEASUREMENT;
    last_bit[47] ^= 1;
    tells_apart(&pinned(), &genoa(), &genoa().with_measurement(last_bit), &["measurement"]);
}

#[test]
fn milan_is_refused_unless_it_is_named() {
    tells_apart(&pinned(), &genoa(), &guest(Product::Milan), &["products"]);
    assert!(accept(&pinned(), &guest(Product::Turin)).is_ok());
    let milan = pinned().with_products([Product::Milan]);
    tells_apart(&milan, &guest(Product::Milan), &genoa(), &["products"]);
}

#[test]
fn a_vlek_is_refused_unless_its_provider_is_named() {
    tells_apart(&pinned(), &genoa(), &genoa().with_vlek(CSP), &["signing-keys"]);
    let policy = pinned().allow_vlek([CSP]);
    tells_apart(&policy, &genoa().with_vlek(CSP), &genoa().with_vlek("CN=cc-us-east-1.amazonaws.com"), &["csp-ids"]);
    assert!(accept(&policy, &genoa()).is_ok());
    tells_apart(&policy.refuse_vcek(), &genoa().with_vlek(CSP), &genoa(), &["signing-keys"]);
}

#[test]
fn chips_may_be_listed() {
    let other = SimulatedGuest { chip_id: [7; 64], ..genoa() };
    tells_apart(&pinned().with_chip_ids([genoa().chip_id]), &genoa(), &other, &["chip-ids"]);
    let turin = guest(Product::Turin);
    let mut other = turin.clone();
    other.chip_id[0] ^= 1;
    tells_apart(&pinned().with_chip_ids([&turin.chip_id[..8]]), &turin, &other, &["chip-ids"]);
}

#[test]
fn only_listed_vmpls_are_accepted() {
    let at = |vmpl| SimulatedGuest { vmpl, ..genoa() };
    for vmpl in 1..=3 {
        tells_apart(&pinned(), &genoa(), &at(vmpl), &["vmpls"]);
        tells_apart(&pinned().with_vmpls([vmpl]), &at(vmpl), &genoa(), &["vmpls"]);
    }
}

fn with_policy(bits: u64) -> SimulatedGuest {
    SimulatedGuest { policy: GuestPolicy::from_bits(genoa().policy.bits() ^ bits), ..genoa() }
}

#[test]
fn bits_of_the_guest_policy_that_are_dangerous_or_unknown_are_forbidden() {
    let dangerous = [GuestPolicy::DEBUG, GuestPolicy::MIGRATE_MA, GuestPolicy::CXL_ALLOW];
    for bit in dangerous.into_iter().chain((26..64).map(|bit| 1 << bit)) {
        tells_apart(&pinned(), &genoa(), &with_policy(bit), &["guest-policy.forbid"]);
        let permitted = accept(&pinned().permit_guest_policy(bit), &with_policy(bit));
        assert_eq!(permitted.is_ok(), bit != GuestPolicy::DEBUG, "{bit:#x}");
    }
    assert!(accept(&pinned().dangerously_permit_debug(), &with_policy(GuestPolicy::DEBUG)).is_ok());
}

#[test]
fn every_bit_of_the_guest_policy_can_be_required_and_forbidden() {
    for (bit, name) in GuestPolicy::NAMES {
        let bit = 1 << bit;
        let (set, clear) = match genoa().policy.bits() & bit {
            0 => (with_policy(bit), genoa()),
            _ => (genoa(), with_policy(bit)),
        };
        let open = pinned().permit_guest_policy(u64::MAX).dangerously_permit_debug();
        tells_apart(&open.clone().require_guest_policy(bit), &set, &clear, &["guest-policy.require"]);
        tells_apart(&open.clone().forbid_guest_policy(bit), &clear, &set, &["guest-policy.forbid"]);
        let error = accept(&open.forbid_guest_policy(bit), &set).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_migration_agent_is_refused_unless_it_is_permitted() {
    let agent = SimulatedGuest { report_id_ma: [1; 32], ..genoa() };
    tells_apart(&pinned(), &genoa(), &agent, &["migration-agent"]);
    assert!(accept(&pinned(), &SimulatedGuest { report_id_ma: [0; 32], ..genoa() }).is_ok());
    assert!(accept(&pinned().permit_guest_policy(GuestPolicy::MIGRATE_MA), &agent).is_ok());
}

#[test]
fn the_guests_abi_has_a_floor() {
    let asks = |major: u64, minor: u64| with_policy(major << 8 | minor);
    let policy = pinned().with_min_abi(1, 51);
    tells_apart(&policy, &asks(1, 51), &asks(1, 50), &["guest-policy.min-abi"]);
    tells_apart(&policy, &asks(2, 0), &asks(0, 255), &["guest-policy.min-abi"]);
}

fn on_platform(bits: u64) -> SimulatedGuest {
    SimulatedGuest { platform_info: PlatformInfo::from_bits(genoa().platform_info.bits() ^ bits), ..genoa() }
}

#[test]
fn a_platform_without_alias_check_or_with_unknown_bits_is_refused() {
    let unchecked = on_platform(PlatformInfo::ALIAS_CHECK_COMPLETE);
    tells_apart(&pinned(), &genoa(), &unchecked, &["platform-info.require"]);
    assert!(accept(&pinned().permit_platform_info(PlatformInfo::ALIAS_CHECK_COMPLETE), &unchecked).is_ok());
    for bit in (8..64).map(|bit| 1 << bit) {
        tells_apart(&pinned(), &genoa(), &on_platform(bit), &["platform-info.forbid"]);
        assert!(accept(&pinned().permit_platform_info(bit), &on_platform(bit)).is_ok());
    }
}

#[test]
fn every_bit_of_the_platform_info_can_be_required_and_forbidden() {
    for (bit, name) in PlatformInfo::NAMES {
        let bit = 1 << bit;
        let (set, clear) = match genoa().platform_info.bits() & bit {
            0 => (on_platform(bit), genoa()),
            _ => (genoa(), on_platform(bit)),
        };
        let open = pinned().permit_platform_info(u64::MAX);
        tells_apart(&open.clone().require_platform_info(bit), &set, &clear, &["platform-info.require"]);
        tells_apart(&open.clone().forbid_platform_info(bit), &clear, &set, &["platform-info.forbid"]);
        let error = accept(&open.require_platform_info(bit), &clear).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn firmware_has_a_floor() {
    let runs = |major, minor, build| SimulatedGuest { firmware: FirmwareVersion { major, minor, build }, ..genoa() };
    let policy = pinned().with_min_firmware(FirmwareVersion { major: 1, minor: 55, build: 21 });
    for old in [runs(1, 55, 20), runs(1, 54, 99), runs(0, 99, 99)] {
        tells_apart(&policy, &runs(1, 55, 21), &old, &["min-firmware"]);
    }
    assert!(accept(&policy, &runs(2, 0, 0)).is_ok());
    let policy = pinned().permit_provisional_firmware().with_min_firmware(genoa().firmware);
    for minor in [0x1e9, 0x1ed] {
        let details = check(&forged(&genoa(), |bytes| bytes[minor] -= 1)).unwrap();
        let error = policy.accept(&details).expect_err("what runs and what is committed to, both");
        assert_eq!(error.failed_rules()[0].rule, "min-firmware");
    }
}

#[test]
fn firmware_that_may_be_rolled_back_is_refused_unless_permitted() {
    let mut provisional = genoa();
    provisional.committed_tcb.snp -= 1;
    tells_apart(&pinned(), &genoa(), &provisional, &["provisional-firmware"]);
    assert!(accept(&pinned().permit_provisional_firmware(), &provisional).is_ok());
    let report = forged(&genoa(), |bytes| bytes[0x1ec] ^= 1);
    let details = check(&report).unwrap();
    assert_eq!(pinned().accept(&details).unwrap_err().failed_rules()[0].rule, "provisional-firmware");
}

#[test]
fn each_tcb_of_the_report_has_a_floor_of_its_own() {
    let open = pinned().permit_provisional_firmware();
    for kind in TcbKind::ALL {
        let (mut low, rule) = (genoa(), format!("tcb-floor.{kind:?}").to_lowercase());
        let tcb = match kind {
            TcbKind::Reported => &mut low.reported_tcb,
            TcbKind::Committed => &mut low.committed_tcb,
            TcbKind::Current => &mut low.current_tcb,
            TcbKind::Launch => &mut low.launch_tcb,
        };
        let least = *tcb;
        tcb.bootloader -= 1;
        tells_apart(&open.clone().with_tcb_floor(Product::Genoa, [kind], least), &genoa(), &low, &[&rule]);
    }
}

#[test]
fn floors_follow_product_and_stepping() {
    let least = Tcb { microcode: 222, ..Tcb::default() };
    let low = |guest: SimulatedGuest| {
        let tcb = guest.reported_tcb;
        guest.with_tcb(Tcb { microcode: 71, ..tcb })
    };
    let reported = [TcbKind::Reported];
    let policy = pinned()
        .with_products([Product::Milan])
        .with_tcb_floor(Product::Milan, reported, least)
        .with_tcb_floor_of_stepping(Product::Milan, 2, reported, Tcb { microcode: 71, ..least });
    let milan = |stepping| SimulatedGuest { cpuid: [0x19, 1, stepping], ..guest(Product::Milan) };
    tells_apart(&policy, &low(milan(2)), &low(milan(1)), &["tcb-floor.reported"]);
    let lower = low(milan(2)).with_tcb(Tcb { microcode: 70, ..milan(2).reported_tcb });
    tells_apart(&policy, &milan(1), &lower, &["tcb-floor.reported"]);
    let old = SimulatedGuest { version: 2, ..milan(2) };
    let policy = policy.permit_platform_info(PlatformInfo::ALIAS_CHECK_COMPLETE);
    tells_apart(&policy, &old, &low(old.clone()), &["tcb-floor.reported"]);
}

#[test]
fn a_floor_that_is_not_for_this_chip_is_a_fault_of_configuration() {
    let reported = [TcbKind::Reported];
    let genoa_only = pinned().with_tcb_floor(Product::Genoa, reported, Tcb::default());
    assert!(accept(&genoa_only, &genoa()).is_ok());
    inapplicable(&genoa_only, &guest(Product::Turin), &["tcb-floor.reported"]);
    let stepping_2 = pinned().with_tcb_floor_of_stepping(Product::Genoa, 2, reported, Tcb::default());
    inapplicable(&stepping_2, &genoa(), &["tcb-floor.reported"]);
    let old = SimulatedGuest { version: 2, ..genoa() };
    inapplicable(&stepping_2, &old, &["tcb-floor.reported"]);
}

#[test]
fn mitigations_can_be_required_where_reports_name_them() {
    let with = |launch, current| SimulatedGuest { mit_vectors: [launch, current], ..genoa() };
    let policy = pinned().require_mitigations(0b01, 0b11);
    tells_apart(&policy, &with(0b01, 0b11), &with(0b10, 0b11), &["mitigations.launch"]);
    tells_apart(&policy, &with(0b11, 0b111), &with(0b11, 0b01), &["mitigations.current"]);
    let old = SimulatedGuest { version: 3, ..genoa() };
    inapplicable(&policy, &old, &["mitigations.launch", "mitigations.current"]);
}

#[test]
fn identities_of_the_id_block_and_host_data_can_be_pinned() {
    let guest = SimulatedGuest {
        guest_svn: 3,
        family_id: [1; 16],
        image_id: [2; 16],
        id_key_digest: [3; 48],
        author_key_digest: [4; 48],
        host_data: [5; 32],
        ..genoa()
    };
    let low = SimulatedGuest { guest_svn: 2, ..guest.clone() };
    tells_apart(&pinned().with_min_guest_svn(3), &guest, &low, &["min-guest-svn"]);
    let bare = genoa();
    tells_apart(&pinned().with_family_ids([[9; 16], [1; 16]]), &guest, &bare, &["family-ids"]);
    tells_apart(&pinned().with_image_ids([[2; 16]]), &guest, &bare, &["image-ids"]);
    tells_apart(&pinned().with_id_key_digests([[3; 48]]), &guest, &bare, &["id-key-digests"]);
    tells_apart(&pinned().with_author_key_digests([[4; 48]]), &guest, &bare, &["author-key-digests"]);
    tells_apart(&pinned().with_host_data([[5; 32]]), &guest, &bare, &["host-data"]);
}

#[test]
fn revocation_can_be_required() {
    let policy = pinned().require_crl();
    let error = accept(&policy, &genoa()).unwrap_err();
    assert_eq!(error.failed_rules()[0].rule, "require-crl");
    let list = SimulatedAmd::new().crl(Product::Genoa, &[], now() - days(1), now() + days(1));
    let judge = simulated().with_crls([list]).unwrap();
    assert!(policy.accept(&judge.check(&report(&genoa()), now()).unwrap()).is_ok());
}

#[test]
fn a_refusal_lists_every_rule_that_failed() {
    let bad = SimulatedGuest { vmpl: 2, guest_svn: 0, ..with_policy(GuestPolicy::DEBUG) }.with_measurement([0; 48]);
    tells_apart(
        &pinned().with_min_guest_svn(1),
        &SimulatedGuest { guest_svn: 1, ..genoa() },
        &bad,
        &["measurement", "vmpls", "min-guest-svn", "guest-policy.forbid"],
    );
}

#[test]
fn rules_that_contradict_each_other_are_faults_of_configuration() {
    let reported = [TcbKind::Reported];
    let floor = |policy: SnpPolicy, product| policy.with_tcb_floor(product, reported, Tcb::default());
    let fmc = Tcb { fmc: Some(1), ..Tcb::default() };
    let none: [Vec<u8>; 0] = [];
    for (policy, rules) in [
        (pinned().with_products([]), &["products"][..]),
        (pinned().with_vmpls([]), &["vmpls"]),
        (pinned().with_vmpls([0, 4]), &["vmpls"]),
        (pinned().or(MEASUREMENT), &["measurement"]),
        (pinned().refuse_vcek(), &["signing-keys"]),
        (pinned().allow_vlek([""; 0]), &["csp-ids"]),
        (pinned().allow_vlek([CSP]).with_chip_ids([[1; 64]]), &["chip-ids"]),
        (pinned().with_chip_ids(none), &["chip-ids"]),
        (pinned().with_chip_ids([[0; 64]]), &["chip-ids"]),
        (pinned().with_chip_ids([[1; 63]]), &["chip-ids"]),
        (pinned().with_products([Product::Genoa]).with_chip_ids([[1; 8]]), &["chip-ids"]),
        (pinned().with_family_ids([]), &["family-ids"]),
        (pinned().with_image_ids([]), &["image-ids"]),
        (pinned().with_id_key_digests([]), &["id-key-digests"]),
        (pinned().with_author_key_digests([]), &["author-key-digests"]),
        (pinned().with_host_data([]), &["host-data"]),
        (pinned().require_guest_policy(GuestPolicy::DEBUG), &["guest-policy"]),
        (pinned().require_platform_info(1).forbid_platform_info(1), &["platform-info"]),
        (floor(pinned(), Product::Milan), &["tcb-floor.reported"]),
        (floor(floor(pinned(), Product::Genoa), Product::Genoa), &["tcb-floor.reported"]),
        (pinned().with_tcb_floor(Product::Genoa, reported, fmc), &["tcb-floor.reported"]),
    ] {
        inapplicable(&policy, &genoa(), rules);
        assert_eq!(policy.validate().unwrap_err().kind(), VerifyErrorKind::Configuration);
    }
    assert!(pinned().with_tcb_floor(Product::Turin, reported, fmc).validate().is_ok());
}
