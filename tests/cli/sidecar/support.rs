//! The two sidecars as child processes, and clients that speak bytes.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::run::command;

/// A sidecar that listens. Killed when it is dropped.
pub(crate) struct Sidecar {
    child: Child,
    /// What it listens on: an address, or `unix:PATH`.
    pub(crate) listening: String,
    /// What it said of itself before it listened.
    pub(crate) banner: String,
    log: Arc<Mutex<String>>,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }
}

impl Sidecar {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(&mut command(arguments))
    }

    pub(crate) fn start_with(command: &mut std::process::Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (sink, mut stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = stderr.read(&mut chunk) {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..read]));
            }
        });
        let mut banner = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(listening) = line.strip_prefix("listening") {
                return Self { child, listening: listening.trim().to_owned(), banner, log };
            }
            banner.push_str(&line);
            banner.push('\n');
        }
        let status = child.wait().unwrap();
        panic!("{command:?} ended with {status}: {}", log.lock().unwrap());
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listening.parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(self) -> Option<i32> {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        let ended = tokio::task::spawn_blocking(move || {
            for _ in 0..PATIENCE.as_millis() / 10 {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("it does not end: {}", self.log());
        });
        ended.await.unwrap()
    }
}

/// By the shell's own `kill`: a program of that name is not on every machine.
pub(crate) fn signal(pid: u32, name: &str) {
    let kill = format!("kill -s {name} {pid}");
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// A `serve` on simulated hardware, and what clients of it need.
pub(crate) struct Serve {
    pub(crate) sidecar: Sidecar,
    pub(crate) dir: Arc<tempfile::TempDir>,
}

impl Serve {
    pub(crate) fn start(upstream: &str, flags: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", upstream, flags, Arc::new(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn start_at(listen: &str, upstream: &str, flags: &[&str], dir: Arc<tempfile::TempDir>) -> Self {
        let (cert, key, policy) =
            (dir.path().join("cert.pem"), dir.path().join("key.pem"), dir.path().join("policy.toml"));
        if !cert.exists() {
            certificate(&cert, &key);
        }
        let mut arguments = vec!["serve", "--host", "localhost", "--upstream", upstream, "--listen", listen];
        arguments.extend(["--tls", "pem", "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()]);
        if !flags.contains(&"--platform") {
            arguments.extend(["--platform", "sim-snp"]);
        }
        arguments.extend(["--insecure-no-hardware", "--simulated-policy", policy.to_str().unwrap()]);
        arguments.extend(flags);
        Self { sidecar: Sidecar::start(&arguments), dir }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.sidecar.addr()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A `connect` that believes it.
    pub(crate) fn connect(&self, flags: &[&str]) -> Sidecar {
        self.connect_to(self.addr().port(), flags)
    }

    /// A `connect` that believes it, by way of another port.
    pub(crate) fn connect_to(&self, port: u16, flags: &[&str]) -> Sidecar {
        let (to, policy, roots) =
            (format!("https://localhost:{port}"), self.file("policy.toml"), self.file("cert.pem"));
        let mut arguments = vec!["connect", "--to", &to, "--policy", policy.to_str().unwrap()];
        arguments.extend(["--roots-file", roots.to_str().unwrap(), "--insecure-simulator"]);
        if !flags.contains(&"--listen") {
            arguments.extend(["--listen", "127.0.0.1:0"]);
        }
        arguments.extend(flags);
        Sidecar::start(&arguments)
    }

    /// A TLS connection to it that knows nothing of attestation.
    pub(crate) async fn tls(&self, alpn: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.dial().tls(alpn).await
    }

    pub(crate) fn dial(&self) -> Dial {
        Dial { addr: self.addr(), cert: self.file("cert.pem") }
    }
}

/// Where a `serve` listens, and the certificate that it shows.
pub(crate) struct Dial {
    addr: SocketAddr,
    cert: PathBuf,
}

impl Dial {
    pub(crate) async fn tls(&self, alpn: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.cert).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let tcp = TcpStream::connect(self.addr).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }
}

/// A self-signed certificate for `localhost`.
pub(crate) fn certificate(cert: &Path, key: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(cert, pem("CERTIFICATE", made.cert.der())).unwrap();
    std::fs::write(key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// Long enough for a busy machine: reached only by what never ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Sends bytes and reads until the other end closes.
pub(crate) async fn raw(mut io: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    let reading = async {
        // The other end may have refused before it read everything.
        let _ = io.write_all(bytes).await;
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = io.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..read]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the connection is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

pub(crate) async fn get(client: &HttpClient, addr: SocketAddr, path: &str) -> Response<Bytes> {
    let request = Request::get(format!("http://{addr}{path}")).body(Full::default()).unwrap();
    collected(client.request(request).await.unwrap()).await
}

pub(crate) async fn collected(response: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

/// Waits for something that happens soon, and says what if it does not.
pub(crate) async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened: {what}");
}
