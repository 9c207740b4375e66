//! The kernel's rules: what `Tsm` does with each thing that configfs-tsm can do to it.

use std::collections::BTreeSet;
use std::time::Duration;

use tower_attest::platform::tsm::{Backoff, MAX_BLOB, Tsm, TsmBuilder};
use tower_attest::{ProviderError, ProviderErrorKind};

use super::fuse::Configfs;
use super::kernel::{Attribute, EBUSY, EFBIG, EINTR, EIO, ETIMEDOUT, Foreign, Hardware, Machine};
use super::{data, mounted};

const ATTEMPTS: u32 = 4;

/// Hardware whose report is what was asked for, and whose table says at which level.
fn echo() -> Hardware {
    Box::new(|data, level| Ok((data.to_vec(), vec![level])))
}

fn tdx(hardware: Hardware) -> Machine {
    Machine::new("tdx_guest", hardware)
}

fn builder(fs: &Configfs) -> TsmBuilder {
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(2), ATTEMPTS);
    Tsm::builder("tdx_guest").root(fs.root()).backoff(backoff)
}

/// Asks once over a machine as `prepare` leaves it after opening; gives the outcome and how many directories it took.
async fn ask(fs: &Configfs, prepare: impl FnOnce(&mut Machine)) -> (Result<Vec<u8>, ProviderError>, u32) {
    let tsm = builder(fs).open().unwrap();
    prepare(&mut fs.machine());
    let before = fs.machine().made;
    let outcome = tsm.report(&data(1)).await;
    let made = fs.machine().made - before;
    assert_eq!(fs.entries(), [""; 0], "a directory was left behind");
    (outcome.map(|report| report.outblob), made)
}

fn kind<T>(outcome: Result<T, ProviderError>) -> Option<ProviderErrorKind> {
    outcome.err().map(|error| error.kind())
}

#[tokio::test]
async fn a_report_is_over_exactly_what_was_asked_for() {
    let fs = mounted!(tdx(echo()));
    let tsm = Tsm::open(fs.root(), "tdx_guest").unwrap();
    assert_eq!((tsm.root(), tsm.provider()), (fs.root(), "tdx_guest"));
    for n in 0..3 {
        assert_eq!(tsm.report(&data(n)).await.unwrap().outblob, data(n).as_bytes());
    }
    assert_eq!(fs.entries(), [""; 0]);
}

#[tokio::test]
async fn calls_from_many_tasks_each_get_their_own_report() {
    let fs = mounted!(tdx(echo()));
    let tsm = std::sync::Arc::new(builder(&fs).open().unwrap());
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let tsm = tsm.clone();
            tokio::spawn(async move { (n, tsm.report(&data(n)).await.unwrap().outblob) })
        })
        .collect();
    for task in tasks {
        let (n, outblob) = task.await.unwrap();
        assert_eq!(outblob, data(n).as_bytes());
    }
    assert_eq!(fs.entries(), [""; 0]);
}

#[tokio::test]
async fn each_report_has_a_directory_of_its_own_name() {
    let fs = mounted!(tdx(echo()));
    let tsm = builder(&fs).open().unwrap();
    let mut names = BTreeSet::new();
    for _ in 0..2 {
        fs.hang_reports();
        let data = data(1);
        let report = tsm.report(&data);
        let look = async {
            super::until(|| fs.hanging() == 1).await;
            names.extend(fs.entries());
            fs.release();
        };
        tokio::join!(report, look).0.unwrap();
    }
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("tower-attest-")), "{names:?}");
}

#[tokio::test]
async fn a_device_that_is_busy_slow_or_interrupted_is_asked_again() {
    let fs = mounted!(tdx(echo()));
    for fault in [EBUSY, ETIMEDOUT, EINTR] {
        let (outcome, made) = ask(&fs, |machine| machine.faults = [fault, fault].into()).await;
        assert_eq!(outcome.unwrap(), data(1).as_bytes(), "after {fault}");
        assert_eq!(made, 3, "after {fault}");
    }
}

#[tokio::test]
async fn it_is_not_asked_for_ever() {
    let fs = mounted!(tdx(echo()));
    for (fault, expected) in
        [(EBUSY, ProviderErrorKind::Busy), (EINTR, ProviderErrorKind::Busy), (ETIMEDOUT, ProviderErrorKind::Timeout)]
    {
        let (outcome, made) = ask(&fs, |machine| machine.faults = [fault; 16].into()).await;
        assert_eq!((kind(outcome), made), (Some(expected), ATTEMPTS));
        fs.machine().faults.clear();
    }
}

#[tokio::test]
async fn an_error_that_time_does_not_heal_is_not_repeated() {
    let fs = mounted!(tdx(echo()));
    for fault in [EIO, EFBIG] {
        let (outcome, made) = ask(&fs, |machine| machine.faults = [fault].into()).await;
        assert_eq!((kind(outcome), made), (Some(ProviderErrorKind::Failed), 1));
    }
}

#[tokio::test]
async fn an_interrupted_read_of_an_attribute_is_repeated_too() {
    let fs = mounted!(tdx(echo()));
    for attribute in [Attribute::Generation, Attribute::Provider, Attribute::AuxBlob] {
        let (outcome, made) = ask(&fs, |machine| machine.attribute_faults = [(attribute, EINTR)].into()).await;
        assert_eq!((outcome.unwrap(), made), (data(1).as_bytes().to_vec(), 2), "{attribute:?}");
    }
}

#[tokio::test]
async fn a_report_over_another_processs_input_is_never_returned() {
    let fs = mounted!(tdx(echo()));
    for foreign in [Foreign::BeforeRead, Foreign::AfterRead] {
        let (outcome, made) = ask(&fs, |machine| machine.foreign = [foreign].into()).await;
        assert_eq!((outcome.unwrap(), made), (data(1).as_bytes().to_vec(), 2), "{foreign:?}");

        let (outcome, made) = ask(&fs, |machine| machine.foreign = [foreign; 16].into()).await;
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), made), (ProviderErrorKind::Busy, ATTEMPTS), "{foreign:?}");
        assert!(error.to_string().contains("another process writes there"), "{error}");
        fs.machine().foreign.clear();
    }
}

#[tokio::test]
async fn an_inblob_that_the_kernel_lost_is_noticed() {
    let fs = mounted!(tdx(echo()));
    let (outcome, _) = ask(&fs, |machine| machine.lose = 1).await;
    assert_eq!(kind(outcome), Some(ProviderErrorKind::Failed));
}

#[tokio::test]
async fn blobs_are_read_to_their_end_and_not_beyond_the_limit() {
    let fs = mounted!(tdx(echo()));
    let sized =
        |outblob: usize, auxblob: usize| -> Hardware { Box::new(move |_, _| Ok((vec![7; outblob], vec![8; auxblob]))) };
    let tsm = builder(&fs).open().unwrap();
    for (outblob, auxblob) in [(1, 0), (4095, 4097), (4096, 4096), (MAX_BLOB, MAX_BLOB)] {
        fs.machine().hardware = sized(outblob, auxblob);
        let report = tsm.report(&data(1)).await.unwrap();
        assert_eq!((report.outblob.len(), report.auxblob.len()), (outblob, auxblob));
    }
    for limits_blobs in [true, false] {
        fs.machine().limits_blobs = limits_blobs;
        for (outblob, auxblob) in [(MAX_BLOB + 1, 0), (1, MAX_BLOB + 1), (1 << 20, 1 << 20)] {
            fs.machine().hardware = sized(outblob, auxblob);
            assert_eq!(kind(tsm.report(&data(1)).await), Some(ProviderErrorKind::Failed));
        }
    }
    assert_eq!(fs.entries(), [""; 0]);
}

#[tokio::test]
async fn an_empty_report_is_refused_and_a_missing_auxblob_is_not() {
    let fs = mounted!(tdx(Box::new(|_, _| Ok((vec![], vec![1])))));
    let (outcome, _) = ask(&fs, |_| ()).await;
    assert_eq!(kind(outcome), Some(ProviderErrorKind::Failed));

    fs.machine().hardware = echo();
    fs.machine().hidden = vec![Attribute::AuxBlob, Attribute::PrivLevel, Attribute::PrivLevelFloor];
    let report = builder(&fs).open().unwrap().report(&data(1)).await.unwrap();
    assert_eq!((&report.outblob[..], &report.auxblob[..]), (&data(1).as_bytes()[..], &[][..]));
}

#[tokio::test]
async fn another_provider_is_refused_at_opening_and_later() {
    let fs = mounted!(tdx(echo()));
    let error = Tsm::open(fs.root(), "sev_guest").unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Unsupported);
    assert!(error.to_string().contains("expected \"sev_guest\", found \"tdx_guest\""), "{error}");

    let (outcome, made) = ask(&fs, |machine| machine.provider = Some("sev_guest")).await;
    assert_eq!((kind(outcome), made), (Some(ProviderErrorKind::Unsupported), 1));
}

#[tokio::test]
async fn without_a_provider_it_says_what_to_load() {
    let fs = mounted!(tdx(echo()));
    let tsm = builder(&fs).open().unwrap();
    fs.machine().provider = None;
    let opening = builder(&fs).open().unwrap_err();
    let asking = tsm.report(&data(1)).await.unwrap_err();
    for error in [opening, asking] {
        assert_eq!(error.kind(), ProviderErrorKind::Unsupported);
        assert!(error.to_string().contains("load the kernel module"), "{error}");
    }
}

#[tokio::test]
async fn the_privilege_level_is_the_one_set_or_the_kernels_own() {
    let fs = mounted!(tdx(echo()));
    fs.machine().floor = 1;
    for (set, expected) in [(None, 1), (Some(1), 1), (Some(2), 2), (Some(3), 3)] {
        let mut builder = builder(&fs);
        if let Some(level) = set {
            builder = builder.privlevel(level);
        }
        let report = builder.open().unwrap().report(&data(1)).await.unwrap();
        assert_eq!((report.outblob, report.auxblob), (data(1).as_bytes().to_vec(), vec![expected]));
    }
}

#[tokio::test]
async fn a_privilege_level_out_of_range_is_refused_at_opening() {
    let fs = mounted!(tdx(echo()));
    fs.machine().floor = 2;
    for (level, directories) in [(0, 1), (1, 1), (4, 0), (255, 0)] {
        let before = fs.machine().made;
        let error = builder(&fs).privlevel(level).open().unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Unsupported);
        assert!(error.to_string().contains(&format!("found {level}")), "{error}");
        assert_eq!(fs.machine().made - before, directories);
    }
    assert_eq!(fs.entries(), [""; 0]);
}

#[tokio::test]
async fn opening_makes_no_report_and_leaves_nothing() {
    let fs = mounted!(tdx(Box::new(|_, _| panic!("a report was made"))));
    let _tsm = builder(&fs).privlevel(0).open().unwrap();
    assert_eq!(fs.machine().made, 1);
    assert_eq!(fs.entries(), [""; 0]);
}
