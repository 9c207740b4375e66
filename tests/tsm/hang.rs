//! A device that hangs in the kernel: the caller, the runtime and the process go on.

use std::process::{Command, Stdio};
use std::time::Duration;

use tower_attest::ProviderErrorKind;
use tower_attest::platform::tsm::{Tsm, TsmBuilder};

use super::fuse::Configfs;
use super::kernel::Machine;
use super::{data, mounted, until};

/// Where the child of [`a_hung_report_does_not_keep_the_process_from_ending`] finds its device.
const ROOT: &str = "TOWER_ATTEST_TEST_TSM_ROOT";

fn machine() -> Machine {
    Machine::new("tdx_guest", Box::new(|data, _| Ok((data.to_vec(), vec![]))))
}

fn builder(fs: &Configfs) -> TsmBuilder {
    Tsm::builder("tdx_guest").root(fs.root())
}

#[tokio::test]
async fn a_hung_report_blocks_no_async_thread_and_cleans_up_when_it_ends() {
    let fs = mounted!(machine());
    let tsm = builder(&fs).open().unwrap();
    fs.hang_reports();
    let (first, second) = (data(1), data(2));
    {
        // One thread runs this test: were it blocked, the loop below would never run.
        let mut hung = Box::pin(tsm.report(&first));
        tokio::select! {
            outcome = &mut hung => panic!("{outcome:?}"),
            () = until(|| fs.hanging() == 1) => {}
        }
    }
    assert_eq!(fs.entries().len(), 1);
    fs.release();
    assert_eq!(tsm.report(&second).await.unwrap().outblob, second.as_bytes());
    assert_eq!(fs.entries(), [""; 0]);
}

#[tokio::test]
async fn after_a_dropped_call_the_directory_goes_without_another_call() {
    let fs = mounted!(machine());
    let tsm = builder(&fs).open().unwrap();
    fs.hang_reports();
    let data = data(1);
    tokio::select! {
        outcome = tsm.report(&data) => panic!("{outcome:?}"),
        () = until(|| fs.hanging() == 1) => {}
    }
    drop(tsm);
    fs.release();
    until(|| fs.entries().is_empty()).await;
}

#[tokio::test]
async fn opening_gives_up_on_a_kernel_that_does_not_answer() {
    let fs = mounted!(machine());
    fs.hang_mkdirs();
    let error = builder(&fs).open_timeout(Duration::from_millis(20)).open().unwrap_err();
    assert_eq!(error.kind(), ProviderErrorKind::Timeout);
    fs.release();
    until(|| fs.entries().is_empty()).await;
}

#[test]
fn a_hung_report_does_not_keep_the_process_from_ending() {
    let fs = mounted!(machine());
    fs.hang_reports();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hang::child", "--ignored", "--nocapture"])
        .env(ROOT, fs.root())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Nothing but this bound, far beyond what is needed, ends a child that hangs.
    let ended = (0..60_000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(1));
        child.try_wait().unwrap()
    });
    let hanging = fs.hanging();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    assert!(ended.is_some_and(|status| status.success()), "the child hung or failed: {ended:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("child: hung"), "the child did not run");
    assert_eq!(hanging, 1, "the device was not hung when the child ended");
}

/// Not a test by itself: the process that must end while its device hangs.
#[tokio::test]
#[ignore = "run by a_hung_report_does_not_keep_the_process_from_ending"]
async fn child() {
    let root = std::env::var_os(ROOT).expect("run by another test");
    let tsm = Tsm::open(root, "tdx_guest").unwrap();
    let data = data(1);
    tokio::select! {
        outcome = tsm.report(&data) => panic!("{outcome:?}"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    println!("child: hung");
}
