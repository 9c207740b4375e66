//! What a service manager learns, and what it is asked to allow.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use super::support::{PATIENCE, Serve, Sidecar, eventually};
use super::upstream::Upstream;
use crate::run::{Files, command};

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Manager {
    fn start(files: &Files) -> Self {
        let path = files.write("unused", "").with_file_name("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    /// The next message that is none of the watchdog's.
    fn next(&self) -> String {
        loop {
            let message = self.any();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    fn any(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_learns_of_start_reload_and_end() {
    let (upstream, files) = (Upstream::start().await, Files::new());
    let manager = Manager::start(&files);
    let policy = files.write("policy.toml", "");
    let serve = Sidecar::start_with(
        command(["serve", "--host", "localhost", "--upstream", &upstream.url(), "--listen", "127.0.0.1:0"])
            .args(["--platform", "sim-snp", "--insecure-no-hardware", "--simulated-policy", policy.to_str().unwrap()])
            .env("NOTIFY_SOCKET", &manager.path)
            .env("WATCHDOG_USEC", "100000"),
    );
    let measurement = hex::encode("tower-attest simulated measurement, not hardware");
    let ready = format!("READY=1\nSTATUS=snp {measurement} on {}\n", serve.listening);
    assert_eq!(manager.next(), ready);
    for _ in 0..3 {
        while manager.any() != "WATCHDOG=1\n" {}
    }
    serve.signal("HUP");
    let reloading = manager.next();
    let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(at.trim().parse::<u64>().unwrap() > 0);
    assert_eq!(manager.next(), ready);
    let ended = tokio::spawn(serve.terminate());
    assert_eq!(manager.next(), "STOPPING=1\nSTATUS=ending: running exchanges go on\n");
    assert_eq!(ended.await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_is_refused_is_shown_until_one_succeeds() {
    let (upstream, files) = (Upstream::start().await, Files::new());
    let manager = Manager::start(&files);
    let serve = Serve::start(&upstream.url(), &[]);
    let (to, policy) = (format!("https://localhost:{}", serve.addr().port()), serve.file("policy.toml"));
    let connect = Sidecar::start_with(
        command(["connect", "--to", &to, "--insecure-simulator", "--dangerous-trust-attestation-alone"])
            .args(["--listen", "127.0.0.1:0", "--policy", policy.to_str().unwrap()])
            .env("NOTIFY_SOCKET", &manager.path),
    );
    let ready = format!("READY=1\nSTATUS={to}/ on {}", connect.listening);
    assert_eq!(manager.next(), format!("{ready}\n"));
    let good = std::fs::read(&policy).unwrap();
    for (text, end) in [(&b"broken"[..], "; not reloaded: policy\n"), (&good, "\n")] {
        std::fs::write(&policy, text).unwrap();
        connect.signal("HUP");
        assert!(manager.next().starts_with("RELOADING=1\n"));
        assert_eq!(manager.next(), format!("{ready}{end}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_that_cannot_be_told_stops_nothing() {
    let (upstream, files) = (Upstream::start().await, Files::new());
    let policy = files.write("policy.toml", "");
    let serve = Sidecar::start_with(
        command(["serve", "--host", "localhost", "--upstream", &upstream.url(), "--listen", "127.0.0.1:0"])
            .args(["--platform", "sim-snp", "--insecure-no-hardware", "--simulated-policy", policy.to_str().unwrap()])
            .env("NOTIFY_SOCKET", "/nonexistent/notify"),
    );
    eventually("it says so", || serve.log().contains("the service manager cannot be told")).await;
    assert_eq!(serve.terminate().await, Some(0));
}

#[test]
fn the_units_are_well_formed_and_hardened() {
    let Some(analyze) =
        ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join("systemd-analyze")).into_iter().find(|path| path.exists())
    else {
        println!("skipped: systemd-analyze is not installed");
        return;
    };
    // Exposure by systemd's own measure, in tenths, from 0 to 100. A unit without any setting has 96.
    for (unit, exposure) in [("tower-attest.service", "20"), ("tower-attest-connect.service", "15")] {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy").join(unit)).unwrap();
        let text = text.replace("/usr/local/bin/tower-attest", env!("CARGO_BIN_EXE_tower-attest"));
        let files = Files::new();
        let path = files.write(unit, text);
        let run = |arguments: &[&str]| {
            let output = Command::new(&analyze).args(arguments).arg(&path).output().unwrap();
            let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            (output.status.success(), said)
        };
        let (verified, said) = run(&["verify", "--man=no"]);
        if said[1].contains("Failed to initialize manager") {
            println!("skipped: systemd-analyze cannot run here: {}", said[1]);
            return;
        }
        assert!(verified && said.concat().is_empty(), "{unit}: {said:?}");
        let (hardened, said) = run(&["security", "--offline=true", "--no-pager", &format!("--threshold={exposure}")]);
        assert!(hardened, "{unit}: {}", said[0]);
    }
}
