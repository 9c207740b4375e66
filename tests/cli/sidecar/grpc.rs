//! An unmodified grpcio client, both sidecars, and an unmodified grpcio server.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::support::Serve;

/// The Python that has grpcio, or a line that says that the test was skipped.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("TOWER_ATTEST_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let probe = Command::new(&python).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
    if probe.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    println!("skipped: {} has no grpcio (PyPI)", python.display());
    None
}

struct Server(Child, BufReader<std::process::ChildStdout>);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/sidecar/peer.py");

fn calls(case: &str) {
    calls_with(case, &[], &[]);
}

fn calls_with(case: &str, serving: &[&str], connecting: &[&str]) {
    let Some(python) = python() else { return };
    let mut child = Command::new(&python).args([PEER, "server"]).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut server = Server(child, stdout);
    let port = server.line();
    let serve = Serve::start(&format!("http://127.0.0.1:{port}"), serving);
    let connect = serve.connect(connecting);
    let client = Command::new(&python).args([PEER, "client", &connect.listening, case]).output().unwrap();
    let said = String::from_utf8_lossy(&client.stdout);
    assert!(
        client.status.success() && said.trim() == "passed",
        "{case}: {said}{}",
        String::from_utf8_lossy(&client.stderr)
    );
    if case == "cancellation" {
        assert_eq!(server.line(), "cancelled", "the server is told");
    }
}

#[test]
fn unary() {
    calls("unary");
}

#[test]
fn streaming_in_both_directions() {
    calls("streaming");
}

#[test]
fn a_hundred_megabytes_at_once() {
    calls("large");
}

#[test]
fn deadlines() {
    calls("deadline");
}

#[test]
fn cancellation() {
    calls("cancellation");
}

#[test]
fn error_codes_messages_and_trailers() {
    calls("errors");
}

#[test]
fn sealed() {
    for case in ["unary", "errors", "cancellation"] {
        calls_with(case, &["--sealed-only"], &["--sealed"]);
    }
}

#[test]
fn a_far_end_that_is_not_believed_is_unauthenticated_and_one_that_is_away_unavailable() {
    let Some(python) = python() else { return };
    let serve = Serve::start("http://127.0.0.1:1", &[]);
    for (connect, code) in
        [(serve.connect(&["--config", &"5e".repeat(32)]), "UNAUTHENTICATED"), (serve.connect(&[]), "UNAVAILABLE")]
    {
        let client = Command::new(&python).args([PEER, "client", &connect.listening, "code"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&client.stdout).trim(), code, "{client:?}");
    }
}
