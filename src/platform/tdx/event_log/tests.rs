use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::platform::tdx::sim::{SimProvider, SimulatedIntel, SimulatedTd};
use crate::platform::tdx::{TdMeasurement, TdxPolicy, TdxVerifier};
use crate::verifier::ReportVerifier as _;

const SHA256: u16 = 0x000b;

/// The first event, for these algorithms.
fn header(algorithms: &[(u16, u16)]) -> Vec<u8> {
    let mut data = SPEC_ID.to_vec();
    data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    data.extend(u32::try_from(algorithms.len()).unwrap().to_le_bytes());
    for (id, length) in algorithms {
        data.extend([id.to_le_bytes(), length.to_le_bytes()].concat());
    }
    data.push(0);
    let mut event = [1_u32.to_le_bytes(), EV_NO_ACTION.to_le_bytes()].concat();
    event.extend([0; 20]);
    event.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    event.extend(data);
    event
}

fn event(register: u32, kind: u32, digests: &[(u16, &[u8])], data: &[u8]) -> Vec<u8> {
    let mut event = [register, kind, u32::try_from(digests.len()).unwrap()].map(u32::to_le_bytes).concat();
    for (id, digest) in digests {
        event.extend(id.to_le_bytes());
        event.extend(*digest);
    }
    event.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    event.extend(data);
    event
}

fn measured(register: u32, kind: u32, what: &[u8], data: &[u8]) -> Vec<u8> {
    event(register, kind, &[(SHA384, &sha384(&[what]))], data)
}

fn sha384_only() -> Vec<u8> {
    header(&[(SHA384, 48)])
}

/// The first event; two events into RTMR0, one into RTMR2, and two that go into none.
fn parts() -> [Vec<u8>; 6] {
    [
        sha384_only(),
        measured(1, 0x8000_0001, b"one", b"a description"),
        measured(1, 4, &[0; 4], &[0; 4]),
        measured(0, 0x8000_000a, b"firmware", b""),
        event(2, EV_NO_ACTION, &[(SHA384, &[0; 48])], b"information"),
        measured(3, 0xd, b"two", b"vmlinuz"),
    ]
}

fn log() -> Vec<u8> {
    parts().concat()
}

fn parse(bytes: &[u8]) -> Result<EventLog, EventLogError> {
    EventLog::parse(bytes.to_vec())
}

#[track_caller]
fn refused(bytes: &[u8], message: &str) {
    let error = parse(bytes).expect_err("a refusal");
    assert!(error.to_string().contains(message), "expected {message:?}, found {error}");
}

/// As another implementation of SHA-384 (Python's hashlib) replays the same events.
#[test]
fn a_replay_extends_each_register_by_its_own_events_in_order() {
    let expected = [
        "b2336d0da6a396d57ef40d20586b7f73bbadcce4a668dbd48b4e47eb672f495102cb19e26def871ec08d4f9a800040f9",
        &"00".repeat(48),
        "520a75a89f23576738754eecacb557b46a3e2d140c8d09370a959613db76bd3ee3a97b59cb4acbafd90108e8a7b0186e",
        &"00".repeat(48),
    ];
    let replay = parse(&log()).unwrap().replay();
    assert_eq!(replay.map(|register| Hex(&register).to_string()), expected);
}

#[test]
fn events_say_what_they_are() {
    let log = parse(&log()).unwrap();
    let shown: Vec<String> = log.events().iter().map(ToString::to_string).collect();
    let names = [
        "RTMR0 EV_EFI_VARIABLE_DRIVER_CONFIG ",
        "RTMR0 EV_SEPARATOR 394341b7",
        "MRTD EV_EFI",
        "RTMR1 EV_NO",
        "RTMR2 EV_IPL ",
    ];
    assert!(
        shown.iter().zip(names).all(|(event, name)| event.starts_with(name)) && shown.len() == names.len(),
        "{shown:?}"
    );
    let measured: Vec<bool> = log.events().iter().map(Event::data_is_measured).collect();
    assert_eq!(measured, [false, true, false, false, false]);
    assert_eq!((log.events()[4].data().as_ref(), log.events()[4].kind()), (&b"vmlinuz"[..], 0xd));
}

#[test]
fn what_fills_the_firmwares_buffer_ends_the_log() {
    let plain = parse(&log()).unwrap();
    for fill in [0x00, 0xff] {
        for count in [1, 4, 60_000] {
            assert_eq!(parse(&[log(), vec![fill; count]].concat()).unwrap(), plain);
        }
    }
    refused(&[log(), vec![0xff; 64], vec![1]].concat(), "a register");
    refused(&[log(), vec![0; 64], vec![1]].concat(), "SHA-384 among them");
    assert_eq!(parse(&sha384_only()).unwrap().events(), []);
}

#[test]
fn digests_of_other_algorithms_are_passed_over() {
    let digest = sha384(&[b"one"]);
    let both = [(SHA256, &[7; 32][..]), (SHA384, &digest)];
    let log = [header(&[(4, 20), (SHA256, 32), (SHA384, 48)]), event(1, 4, &both, b"")].concat();
    assert_eq!(*parse(&log).unwrap().events()[0].digest(), digest);
}

#[test]
fn a_log_that_is_cut_short_anywhere_is_refused() {
    let log = log();
    let ends = parts().into_iter().scan(0, |end, part| {
        *end += part.len();
        Some(*end)
    });
    let ends: Vec<usize> = ends.collect();
    for length in 0..log.len() {
        let whole = ends.iter().filter(|end| **end <= length).count();
        let begun = &log[whole.checked_sub(1).map_or(0, |last| ends[last])..length];
        match parse(&log[..length]) {
            // The zeros that an event for MRTD begins with look like a filled buffer.
            Ok(shorter) => assert!(shorter.events().len() == whole - 1 && begun.iter().all(|byte| *byte == 0)),
            Err(error) => assert!(matches!(error, EventLogError::Truncated { .. }) && !begun.is_empty() || whole == 0),
        }
    }
    refused(&[], "the register of the first event");
    assert_eq!(parse(&vec![0; MAX_EVENT_LOG + 1]), Err(EventLogError::TooLong(MAX_EVENT_LOG + 1)));
}

#[test]
fn the_first_event_must_describe_the_log() {
    let good = sha384_only();
    let with = |position: usize, byte: u8| {
        let mut changed = good.clone();
        changed[position] = byte;
        changed
    };
    refused(&with(4, 4), "type of the first event at byte 4: expected 3");
    refused(&with(32, b's'), "the signature at byte 32");
    refused(&with(56, 0), "number of algorithms at byte 56: expected 1 to 16, found 0");
    refused(&with(56, 17), "expected 1 to 16, found 17");
    refused(&with(56, 2), "end inside an algorithm");
    refused(&with(60, 0xb), "expected SHA-384, 48 bytes, once");
    refused(&with(62, 47), "expected SHA-384, 48 bytes, once");
    refused(&header(&[(SHA384, 48), (SHA384, 48)]), "expected SHA-384, 48 bytes, once");
    refused(&with(64, 1), "the vendor's data");
    let mut longer = with(28, good[28] + 1);
    longer.push(0);
    refused(&longer, "expected its end, found 1 bytes more");
}

#[test]
fn an_event_must_have_one_sha_384_digest_of_a_listed_algorithm_and_a_register_of_tdx() {
    let digest = sha384(&[b"one"]);
    let after = |event: Vec<u8>| [header(&[(SHA256, 32), (SHA384, 48)]), event].concat();
    refused(
        &after(event(5, 4, &[(SHA384, &digest)], b"")),
        "a register at byte 69: expected 0 (MRTD) to 4 (RTMR3), found 5",
    );
    refused(&after(event(1, 4, &[], b"")), "SHA-384 among them");
    refused(&after(event(1, 4, &[(SHA256, &[0; 32])], b"")), "SHA-384 among them");
    refused(&after(event(1, 4, &[(SHA384, &digest), (SHA384, &digest)], b"")), "SHA-384 once");
    refused(&after(event(1, 4, &[(4, &[0; 20]), (SHA384, &digest)], b"")), "found 0x0004");
}

/// A TD that booted as `log` says.
fn td() -> SimulatedTd {
    let mut td = SimulatedTd::new([1; 48]);
    td.report.rtmr = parse(&log()).unwrap().replay();
    td
}

fn verdict(td: &SimulatedTd, policy: TdxPolicy, log: &[u8]) -> Result<(), VerifyError> {
    let report = SimProvider::new(td.clone()).stapling(SimulatedIntel::new().collateral()).make(&[7; 64]);
    let verifier = TdxVerifier::trusting_simulator(policy, &SimulatedIntel::new()).with_event_log(parse(log).unwrap());
    tokio_test::block_on(verifier.verify(&report, UNIX_EPOCH + Duration::from_secs(1_767_312_000))).map(drop)
}

#[test]
fn a_verifier_refuses_a_td_whose_registers_the_log_does_not_lead_to() {
    let policy = || TdxPolicy::pin([1; 48]);
    verdict(&td(), policy(), &log()).unwrap();
    for register in 0..4 {
        let mut td = td();
        td.report.rtmr[register][47] ^= 1;
        let error = verdict(&td, policy(), &log()).unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::Policy);
        let [failed] = error.failed_rules() else { panic!("one register: {error}") };
        assert_eq!(failed.rule, format!("event-log rtmr{register}"));
        assert_eq!(failed.expected, Hex(&td.report.rtmr[register]).to_string());
        let by_log = parse(&log()).unwrap().replay()[register];
        assert_eq!(failed.found, format!("{} by the log", Hex(&by_log)));
    }
    // An event more, an event less, two events in the other order.
    let (first, second) = (measured(1, 4, b"a", b""), measured(1, 4, b"b", b""));
    let mut td = td();
    td.report.rtmr = parse(&[sha384_only(), first.clone(), second.clone()].concat()).unwrap().replay();
    for events in [vec![], first.clone(), [&first[..], &second, &second].concat(), [&second[..], &first].concat()] {
        let error = verdict(&td, policy(), &[sha384_only(), events].concat()).unwrap_err();
        assert_eq!(error.failed_rules().len(), 1, "{error}");
    }
    verdict(&td, policy(), &[sha384_only(), first, second].concat()).unwrap();
}

#[test]
fn the_policys_rules_and_the_logs_are_listed_together_and_neither_replaces_the_other() {
    let strict = TdxPolicy::of(TdMeasurement::new([1; 48]).with_rtmr(3, [[9; 48]]));
    let error = verdict(&td(), strict.clone(), &log()).unwrap_err();
    assert_eq!(error.failed_rules().len(), 1, "the policy's own: {error}");
    let error = verdict(&td(), strict, &sha384_only()).unwrap_err();
    let rules: Vec<&str> = error.failed_rules().iter().map(|failed| failed.rule.as_str()).collect();
    assert_eq!(rules, ["rtmr3", "event-log rtmr0", "event-log rtmr2"]);
    let inapplicable = TdxPolicy::pin([1; 48]).with_mr_service_td([[9; 48]]);
    assert_eq!(verdict(&td(), inapplicable, &sha384_only()).unwrap_err().kind(), VerifyErrorKind::Configuration);
}
