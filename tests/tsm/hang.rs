//! A device that hangs in the kernel: the caller, the runtime and the process go on.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tower_attest::ProviderErrorKind;
use tower_attest::platform::tsm::{Tsm, TsmBuilder};

use super::fuse::Configfs;
use super::kernel::Machine;
use super::{data, mounted, until};

/// Where the child of [`a_hung_report_keeps_neither_main_nor_the_runtime_from_returning`] finds its device.
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

/// The child's `main` and runtime return while its device hangs, which they would not do after a `spawn_blocking`. The
/// process itself stays until the kernel lets go of the thread: here FUSE does not, where real devices answer a signal.
#[test]
fn a_hung_report_keeps_neither_main_nor_the_runtime_from_returning() {
    let fs = mounted!(machine());
    fs.hang_reports();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hang::child", "--ignored", "--nocapture"])
        .env(ROOT, fs.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || output.lines().try_for_each(|line| sender.send(line.unwrap())));
    while fs.hanging() == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.stdin.take().unwrap().write_all(b"hung\n").unwrap();
    // The bound, far beyond what is needed, only keeps a defect from hanging this test too.
    let next = || lines.recv_timeout(Duration::from_secs(60));
    let ended = loop {
        match next() {
            Ok(line) if line.starts_with("test result: ok. 1 passed") => break true,
            Ok(_) => {}
            Err(_) => break false,
        }
    };
    let hanging = fs.hanging();
    fs.release();
    let status = child.wait().unwrap();
    reader.join().unwrap().unwrap_or_default();
    assert!(ended, "the child's runtime did not end");
    assert_eq!(hanging, 1, "the device was not hung when the child's runtime ended");
    assert!(status.success(), "{status}");
}

/// Not a test by itself: the process that must end while its device hangs.
#[tokio::test]
#[ignore = "run by a_hung_report_keeps_neither_main_nor_the_runtime_from_returning"]
async fn child() {
    let root = std::env::var_os(ROOT).expect("run by another test");
    let tsm = Tsm::open(root, "tdx_guest").unwrap();
    let data = data(1);
    let (told, hung) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || std::io::stdin().read_line(&mut String::new()).map(|_| told.send(())));
    tokio::select! {
        outcome = tsm.report(&data) => panic!("{outcome:?}"),
        told = hung => told.unwrap(),
    }
}
