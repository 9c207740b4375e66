use std::error::Error as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::platform::snp::Product;
use crate::platform::snp::sim::{SimProvider as SnpSim, SimulatedAmd, SimulatedGuest};
use crate::platform::tdx::sim::{SimProvider as TdxSim, SimulatedIntel, SimulatedTd};
use crate::report::Report;
use crate::verifier::ReportVerifier;
use crate::verifier::VerifyErrorKind;

const EXAMPLE: &str = include_str!("../../../examples/policy.toml");

/// Within the window of the simulator's collateral.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 86_400)
}

fn snp_section() -> String {
    format!("[snp]\n[[snp.measurement]]\nname = 'p'\nvalue = '{}'\n", "4d".repeat(48))
}

fn tdx_section() -> String {
    format!("[tdx]\n[[tdx.measurement]]\nname = 'p'\nmrtd = '{}'\n", "ab".repeat(48))
}

fn snp_report(measurement: u8) -> Report {
    SnpSim::new(SimulatedGuest::new(Product::Genoa).with_measurement([measurement; 48])).make(&[7; 64])
}

fn tdx_report(measurement: u8) -> Report {
    TdxSim::new(SimulatedTd::new([measurement; 48])).stapling(SimulatedIntel::new().collateral()).make(&[7; 64])
}

/// A verifier of the file's sections that trusts the simulators.
fn simulated(file: &PolicyFile) -> AnyOf {
    let snp = file.snp().map(|policy| SnpVerifier::trusting_simulator(policy.clone(), &SimulatedAmd::new()));
    let tdx = file.tdx().map(|policy| TdxVerifier::trusting_simulator(policy.clone(), &SimulatedIntel::new()));
    AnyOf::none().or_maybe(snp).or_maybe(tdx)
}

fn verdict(verifier: &AnyOf, report: &Report) -> Result<Option<String>, VerifyErrorKind> {
    match tokio_test::block_on(verifier.verify(report, now())) {
        Ok(claims) => Ok(claims.measurement_name().map(str::to_owned)),
        Err(error) => Err(error.kind()),
    }
}

#[track_caller]
fn refused(text: &str, message: &str) -> InvalidPolicyFile {
    let error = PolicyFile::from_toml(text).expect_err("a refusal");
    assert!(error.to_string().contains(message), "expected {message:?}, found {error}");
    error
}

#[test]
fn one_file_accepts_both_platforms_each_by_its_own_section() {
    let verifier = simulated(&PolicyFile::from_toml(&(snp_section() + &tdx_section())).unwrap());
    assert_eq!(verdict(&verifier, &snp_report(0x4d)), Ok(Some("p".to_owned())));
    assert_eq!(verdict(&verifier, &tdx_report(0xab)), Ok(Some("p".to_owned())));
    assert_eq!(verdict(&verifier, &snp_report(0xab)), Err(VerifyErrorKind::Policy));
    assert_eq!(verdict(&verifier, &tdx_report(0x4d)), Err(VerifyErrorKind::Policy));
}

#[test]
fn a_platform_without_a_section_is_refused() {
    let snp = PolicyFile::from_toml(&snp_section()).unwrap();
    assert_eq!((snp.platforms(), snp.tdx()), (vec![Platform::SNP], None));
    assert_eq!(verdict(&simulated(&snp), &tdx_report(0xab)), Err(VerifyErrorKind::UnsupportedPlatform));
    assert_eq!(snp.verifier().platforms(), [Platform::SNP]);

    let tdx = PolicyFile::from_toml(&tdx_section()).unwrap();
    assert_eq!((tdx.platforms(), tdx.snp()), (vec![Platform::TDX], None));
    assert_eq!(verdict(&simulated(&tdx), &snp_report(0x4d)), Err(VerifyErrorKind::UnsupportedPlatform));
    assert_eq!(tdx.verifier().platforms(), [Platform::TDX]);
}

#[test]
fn no_verifier_accepts_nothing() {
    let none = AnyOf::none().or_maybe(None::<SnpVerifier>);
    assert_eq!(verdict(&none, &snp_report(0x4d)), Err(VerifyErrorKind::UnsupportedPlatform));
}

#[test]
fn the_files_own_verifier_trusts_the_vendors_and_no_simulator() {
    let verifier = PolicyFile::from_toml(&(snp_section() + &tdx_section())).unwrap().verifier();
    assert_eq!(verdict(&verifier, &snp_report(0x4d)), Err(VerifyErrorKind::Endorsement));
    assert_eq!(verdict(&verifier, &tdx_report(0xab)), Err(VerifyErrorKind::Endorsement));
}

#[test]
fn a_section_is_the_policy_that_its_own_file_would_be() {
    let file = PolicyFile::from_toml(EXAMPLE).unwrap();
    let (_, sections) = EXAMPLE.split_once("[snp]\n").unwrap();
    let (snp, tdx) = sections.split_once("[tdx]\n").unwrap();
    let alone =
        |section: &str, name: &str| section.replace(&format!("[{name}."), "[").replace(&format!("[[{name}."), "[[");
    assert_eq!(file.snp(), Some(&alone(snp, "snp").parse().unwrap()));
    assert_eq!(file.tdx(), Some(&TdxPolicy::from_toml(&alone(tdx, "tdx")).unwrap()));
}

#[test]
fn the_example_names_the_server() {
    let file: PolicyFile = EXAMPLE.parse().unwrap();
    assert_eq!(file.platforms(), [Platform::SNP, Platform::TDX]);
    assert_eq!(file.server_name(), Some("prover.example"));
    assert_eq!(file.server_configs(), [[0x5e; 32]]);
}

#[test]
fn the_server_section_and_each_of_its_keys_may_be_left_out() {
    for (section, name) in [("", None), ("[server]\n", None), ("[server]\nname = 'a.example'\n", Some("a.example"))] {
        let file = PolicyFile::from_toml(&(section.to_owned() + &snp_section())).unwrap();
        assert_eq!((file.server_name(), file.server_configs().len()), (name, 0));
    }
}

#[test]
fn names_are_hosts_without_scheme_and_port() {
    let file = |name: &str| format!("[server]\nname = '{name}'\n") + &snp_section();
    for name in ["prover.example", "localhost", "my_service", "10.0.0.1", "::1", "[::1]"] {
        assert_eq!(PolicyFile::from_toml(&file(name)).unwrap().server_name(), Some(name));
    }
    let long = "a".repeat(254);
    for name in ["", "https://prover.example", "prover.example:443", "a b", "[10.0.0.1]", "é.example", &long] {
        refused(&file(name), "without scheme and port");
    }
}

#[test]
fn a_configuration_is_32_bytes_in_hexadecimal() {
    for config in ["", "5e", &"5e".repeat(31), &"5e".repeat(33), &"5g".repeat(32), &format!("{}5", "5e".repeat(31))] {
        refused(&(format!("[server]\nconfig = '{config}'\n") + &snp_section()), "64 hexadecimal digits");
        let good = "5e".repeat(32);
        refused(&(format!("[server]\nconfig = ['{good}', '{config}']\n") + &snp_section()), "64 hexadecimal digits");
    }
}

#[test]
fn several_configurations_may_do_and_a_list_of_none_is_refused() {
    let (first, second) = ("5e".repeat(32), "6f".repeat(32));
    let file = format!("[server]\nconfig = ['{first}', '{second}']\n") + &snp_section();
    assert_eq!(PolicyFile::from_toml(&file).unwrap().server_configs(), [[0x5e; 32], [0x6f; 32]]);
    refused(&("[server]\nconfig = []\n".to_owned() + &snp_section()), "at least one configuration");
    refused(&("[server]\nconfig = 7\n".to_owned() + &snp_section()), "or a list of such");
}

#[test]
fn a_file_without_a_platform_is_refused() {
    for text in ["", "[server]\nname = 'prover.example'\n"] {
        assert!(matches!(refused(text, "[snp] or [tdx], found neither"), InvalidPolicyFile::NoPlatform));
    }
}

#[test]
fn a_section_that_pins_no_measurement_is_refused() {
    refused("[snp]\n", "missing field `measurement`");
    assert!(matches!(refused("[tdx]\n", "names no measurement"), InvalidPolicyFile::Tdx(_)));
}

#[test]
fn unknown_keys_and_sections_are_refused_wherever_they_stand() {
    let (snp, tdx) = (snp_section(), tdx_section());
    for text in [
        format!("name = 'x'\n{snp}"),
        format!("{snp}[sev]\n"),
        format!("[server]\nnames = ['x']\n{snp}"),
        format!("[snp]\nproduct = ['genoa']\n{}", snp.replacen("[snp]\n", "", 1)),
        format!("[tdx]\nmrtd = 'x'\n{}", tdx.replacen("[tdx]\n", "", 1)),
        // The file of one platform, without its section.
        snp.replacen("[snp]\n", "", 1).replace("snp.", ""),
    ] {
        assert!(matches!(refused(&text, "unknown field"), InvalidPolicyFile::Toml(_)), "{text}");
    }
}

#[test]
fn rules_that_contradict_each_other_are_refused_with_their_section() {
    let text = format!("[snp]\nvmpls = [9]\n{}", snp_section().replacen("[snp]\n", "", 1));
    let error = refused(&text, "section [snp]: policy cannot be applied: vmpls");
    let source = error.source().and_then(|source| source.downcast_ref::<VerifyError>());
    assert_eq!(source.map(VerifyError::kind), Some(VerifyErrorKind::Configuration));
    let accept = "[[tdx.accept]]\nstatus = 'Revoked'\nadvisories = []\n";
    refused(&(tdx_section() + accept), "section [tdx]: [[accept]] of Revoked");
}

#[test]
fn text_that_is_no_toml_or_too_long_is_refused() {
    assert!(matches!(refused("[snp", ""), InvalidPolicyFile::Toml(_)));
    let long = snp_section() + &"#".repeat(MAX_POLICY_FILE);
    assert!(matches!(refused(&long, "at most 1048576 bytes"), InvalidPolicyFile::TooLarge(_)));
}
