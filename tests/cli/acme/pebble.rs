//! A Pebble with a DNS server that says 127.0.0.1 for every name, and a `serve` that asks it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use serde_json::json;
use tokio::net::TcpStream;
use tower::ServiceExt;
use tower_attest::platform::fetch::HttpsClient;

use crate::sidecar::support::{PATIENCE, Sidecar, certificate};

pub(crate) const NAME: &str = "prover.example";

/// Pebble, its DNS server, and the ports at which it looks for challenges. All goes when it is dropped.
pub(crate) struct Pebble {
    pub(crate) dir: tempfile::TempDir,
    settings: serde_json::Value,
    /// How many good nonces of a hundred it refuses.
    pub(crate) refused_nonces: u8,
    acme: u16,
    management: u16,
    dns_port: u16,
    /// Where it looks for TLS-ALPN-01 and HTTP-01.
    pub(crate) tls: u16,
    pub(crate) http: u16,
    running: Option<Child>,
    dns: Child,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.kill();
        let _ = self.dns.kill();
        let _ = self.dns.wait();
        if std::thread::panicking() {
            let log = self.log();
            println!("{}", log.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
        }
    }
}

impl Pebble {
    /// Not running yet. `None`, and a line that says so, where it is not installed.
    pub(crate) fn new(settings: serde_json::Value) -> Option<Self> {
        for program in ["pebble", "pebble-challtestsrv"] {
            let paths = std::env::var_os("PATH")?;
            if !std::env::split_paths(&paths).any(|dir| dir.join(program).is_file()) {
                println!("skipped: {program} is not installed");
                return None;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        certificate(&dir.path().join("cert.pem"), &dir.path().join("key.pem"));
        let [acme, management, dns_port, dns_management, tls, http] = std::array::from_fn(|_| free_port());
        let mut dns = Command::new("pebble-challtestsrv");
        dns.arg("-dns01").arg(format!("127.0.0.1:{dns_port}"));
        dns.arg("-management").arg(format!("127.0.0.1:{dns_management}"));
        dns.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        let dns = dns.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Some(Self { dir, settings, refused_nonces: 0, acme, management, dns_port, tls, http, running: None, dns })
    }

    pub(crate) async fn start(settings: serde_json::Value) -> Option<Self> {
        let mut pebble = Self::new(settings)?;
        pebble.revive().await;
        Some(pebble)
    }

    /// Starts it. It has forgotten accounts, orders and its own keys.
    pub(crate) async fn revive(&mut self) {
        let mut config = json!({
            "listenAddress": format!("127.0.0.1:{}", self.acme),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": self.dir.path().join("cert.pem"),
            "privateKey": self.dir.path().join("key.pem"),
            "httpPort": self.http,
            "tlsPort": self.tls,
        });
        config.as_object_mut().unwrap().extend(self.settings.as_object().unwrap().clone());
        let path = self.dir.path().join("config.json");
        std::fs::write(&path, json!({ "pebble": config }).to_string()).unwrap();
        let log = File::options().create(true).append(true).open(self.dir.path().join("pebble.log")).unwrap();
        let child = Command::new("pebble")
            .arg("-config")
            .arg(path)
            .args(["-dnsserver", &format!("127.0.0.1:{}", self.dns_port)])
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_AUTHZREUSE", "0")])
            .env("PEBBLE_WFE_NONCEREJECT", self.refused_nonces.to_string())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.running = Some(child.unwrap());
        while TcpStream::connect(("127.0.0.1", self.acme)).await.is_err() {
            assert!(self.running.as_mut().unwrap().try_wait().unwrap().is_none(), "pebble ended: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("pebble.log")).unwrap_or_default()
    }

    /// Orders that it was asked for, since it is there.
    pub(crate) fn orders(&self) -> usize {
        self.log().matches("Added order").count()
    }

    pub(crate) fn port(&self) -> u16 {
        self.acme
    }

    /// What it shows on its own port, and who issued that.
    pub(crate) fn own_certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The folder of the state directory that is this CA's.
    pub(crate) fn folder(&self) -> PathBuf {
        self.state().join(format!("localhost_{}_dir", self.acme))
    }

    /// The root of what it issues.
    pub(crate) async fn root(&self) -> CertificateDer<'static> {
        let url = format!("https://localhost:{}/roots/0", self.management);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.own_certificate()).unwrap()).unwrap();
        let request = Request::get(url).body(Empty::<Bytes>::new()).unwrap();
        let response = HttpsClient::with_roots(roots).oneshot(request).await.unwrap();
        CertificateDer::from_pem_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    /// The same as a file for `--roots-file`.
    pub(crate) async fn root_file(&self) -> PathBuf {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(self.root().await);
        let path = self.dir.path().join("root.pem");
        std::fs::write(&path, format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")).unwrap();
        path
    }

    /// A `serve` where it looks for challenges.
    pub(crate) fn serve(&self, more: &[&str]) -> Sidecar {
        self.serve_with(&format!("https://localhost:{}/dir", self.acme), "http://127.0.0.1:1", more)
    }

    pub(crate) fn serve_with(&self, directory: &str, upstream: &str, more: &[&str]) -> Sidecar {
        let (state, roots) = (self.state(), self.own_certificate());
        let listen = format!("127.0.0.1:{}", self.tls);
        let mut arguments = vec!["serve", "--log", "info", "--upstream", upstream, "--tls", "acme"];
        if !more.contains(&"--host") {
            arguments.extend(["--host", NAME]);
        }
        if !more.contains(&"--listen") {
            arguments.extend(["--listen", &listen]);
        }
        let policy = self.dir.path().join("policy.toml");
        arguments.extend(["--platform", "sim-snp", "--insecure-no-hardware", "--simulated-policy"]);
        arguments.extend([policy.to_str().unwrap(), "--state-dir", state.to_str().unwrap()]);
        arguments.extend(["--acme-directory", directory, "--acme-roots-file", roots.to_str().unwrap()]);
        arguments.push("--acme-accept-terms");
        arguments.extend(more);
        Sidecar::start(&arguments)
    }

    /// A `connect` to that `serve`.
    pub(crate) fn connect(&self, more: &[&str]) -> Sidecar {
        let policy = self.dir.path().join("policy.toml");
        let (to, address) = (format!("https://{NAME}:{}", self.tls), format!("127.0.0.1:{}", self.tls));
        let mut arguments = vec!["connect", "--to", &to, "--address", &address, "--listen", "127.0.0.1:0"];
        arguments.extend(["--policy", policy.to_str().unwrap(), "--insecure-simulator"]);
        arguments.extend(more);
        Sidecar::start(&arguments)
    }

    /// Waits until a `serve` shows a certificate that this CA has issued for a name, and returns it.
    pub(crate) async fn issued(&self, serve: &Sidecar, name: &str) -> CertificateDer<'static> {
        let root = self.root().await;
        soon(&format!("a certificate of this CA for {name}"), serve, async || {
            let shown = shown(serve.addr(), name).await?;
            is_issued_by(&shown, &root, name).then(|| shown[0].clone())
        })
        .await
    }
}

/// Waits for something, and says what and shows the log if it does not happen.
pub(crate) async fn soon<T>(what: &str, serve: &Sidecar, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "it never happened: {what}\n{}", serve.log());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

pub(crate) async fn logs(serve: &Sidecar, text: &str) {
    soon(text, serve, async || serve.log().contains(text).then_some(())).await;
}

/// The chain that a server shows for a name, believed or not.
pub(crate) async fn shown(addr: SocketAddr, name: &str) -> Option<Vec<CertificateDer<'static>>> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let tcp = TcpStream::connect(addr).await.ok()?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.iter().map(|der| der.clone().into_owned()).collect())
}

/// As a client judges that trusts this root alone; dates included.
pub(crate) fn is_issued_by(chain: &[CertificateDer<'_>], root: &CertificateDer<'static>, name: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let (leaf, others) = chain.split_first().unwrap();
    verifier.build().unwrap().verify_server_cert(leaf, others, &name, &[], UnixTime::now()).is_ok()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A port that nobody listens on, below those from which the system takes the ends of outgoing connections.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The mode of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
