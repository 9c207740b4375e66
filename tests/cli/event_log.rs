//! `inspect --event-log` on a simulated TD.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tower_attest::platform::tdx::EventLog;
use tower_attest::platform::tdx::sim::{SimProvider, SimulatedIntel, SimulatedTd};

use crate::run::{Files, Run, run};

/// A log of one event in RTMR1: the head that says SHA-384, and the event.
fn log(measured: u8) -> Vec<u8> {
    let mut log = [1_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
    log.extend([0; 20]);
    log.extend(33_u32.to_le_bytes());
    log.extend(b"Spec ID Event03\0");
    log.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 48, 0, 0]);
    for field in [2_u32, 0xd, 1] {
        log.extend(field.to_le_bytes());
    }
    log.extend([0x0c, 0]);
    log.extend([measured; 48]);
    log.extend(7_u32.to_le_bytes());
    log.extend(b"vmlinuz");
    log
}

/// A TD that booted as `log(1)` says.
fn quote(files: &Files) -> PathBuf {
    let mut td = SimulatedTd::new([0x4d; 48]);
    td.report.rtmr = EventLog::parse(log(1)).unwrap().replay();
    files.write("quote.bin", SimProvider::new(td).make(&[7; 64]).bytes())
}

fn inspect(quote: &Path, log: &Path, more: &[OsString]) -> Run {
    let arguments = ["inspect".into(), quote.into(), "--event-log".into(), log.into(), "--insecure-simulator".into()];
    run(arguments.into_iter().chain(more.iter().cloned()))
}

#[test]
fn a_log_that_leads_to_the_quotes_registers_is_shown_and_another_is_refused() {
    let files = Files::new();
    let quote = quote(&files);
    let yesterday = SystemTime::now() - std::time::Duration::from_secs(86_400);
    let collateral = SimulatedIntel::new().collateral().issued_at(yesterday).build();
    let collateral = files.write("collateral.json", collateral.to_json());
    let collateral: [OsString; 2] = ["--collateral".into(), collateral.into()];

    let good = files.write("ccel.bin", [log(1), vec![0xff; 100]].concat());
    let accepted = inspect(&quote, &good, &collateral);
    assert_eq!(accepted.code, 0, "{}{}", accepted.stdout, accepted.stderr);
    assert!(accepted.stdout.contains("RTMR1 EV_IPL 0101"), "{}", accepted.stdout);
    assert!(accepted.stdout.contains("  pass  rtmr1 by the log"), "{}", accepted.stdout);
    assert!(accepted.stdout.contains("VERDICT  accepted"), "{}", accepted.stdout);

    let other = files.write("other.bin", log(2));
    let refused = inspect(&quote, &other, &collateral);
    assert_eq!(refused.code, 1, "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stdout.contains("  FAIL  rtmr1 by the log"), "{}", refused.stdout);
    assert!(refused.stdout.contains("  pass  rtmr2 by the log"), "{}", refused.stdout);
    assert!(refused.stdout.contains("the event log does not lead to the quote's RTMRs"), "{}", refused.stdout);

    // A quote that is not known to be genuine stays refused, whatever the log says.
    let unjudged = inspect(&quote, &good, &[]);
    assert_eq!(unjudged.code, 1, "{}{}", unjudged.stdout, unjudged.stderr);
}

#[test]
fn what_is_no_log_and_what_has_no_registers_is_unreadable() {
    let files = Files::new();
    let cut = log(1);
    let cut = files.write("cut.bin", &cut[..cut.len() - 1]);
    let run = inspect(&quote(&files), &cut, &[]);
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("end inside"), "{}", run.stderr);

    let guest = tower_attest::snp::sim::SimulatedGuest::new(tower_attest::snp::Product::Genoa);
    let report = files.write("report.bin", guest.report(&[7; 64]));
    let run = inspect(&report, &files.write("ccel.bin", log(1)), &[]);
    assert_eq!(run.code, 2, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("no RTMRs"), "{}", run.stderr);
}
