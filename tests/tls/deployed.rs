//! Real peers: nginx, HAProxy, curl and gRPC for Python. Each test says so and passes where its program is not
//! installed; CI installs them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::{ServiceBuilder, ServiceExt};
use tower_attest::mock::MockTee;
use tower_attest::tls::{AttestedChannel, BindingConnector, Stage, Tls};
use tower_attest::{AttestError, AttestLayer, ErrorKind, Strength, VerifiedReport};

use crate::support::{Attested, get, roots, text};

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// Where a program is, or a line that says that the test was skipped.
fn program(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>())
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: {name} is not installed");
    }
    found
}

/// A running proxy with a directory of its own. Both go when it is dropped.
struct Proxy {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Proxy {
    /// Fills in a configuration of `examples/deploy` and starts the program on it.
    async fn start(name: &str, config: &str, backends: &[&Attested]) -> Option<Self> {
        let program = program(name)?;
        let modules = Path::new("/usr/lib/nginx/modules");
        if config == "nginx-passthrough.conf" && !modules.join("ngx_stream_module.so").is_file() {
            println!("skipped: nginx has no stream module (Debian: libnginx-mod-stream)");
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = std::env::temp_dir().join(format!("tower-attest-{config}-{port}"));
        std::fs::create_dir_all(&dir).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) =
            (pem("CERTIFICATE", made.cert.der()), pem("PRIVATE KEY", &made.signing_key.serialize_der()));
        std::fs::write(dir.join("cert.pem"), &certificate).unwrap();
        std::fs::write(dir.join("key.pem"), &key).unwrap();
        std::fs::write(dir.join("both.pem"), certificate + &key).unwrap();

        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy").join(config);
        let mut text = std::fs::read_to_string(template).unwrap();
        text = text.replace("${PORT}", &port.to_string()).replace("${DIR}", dir.to_str().unwrap());
        text = text.replace("${MODULES}", modules.to_str().unwrap());
        for (number, backend) in backends.iter().enumerate() {
            text = text.replace(&format!("${{BACKEND_{}}}", number + 1), &backend.server.addr.port().to_string());
        }
        let file = dir.join(config);
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        match name {
            "nginx" => command.arg("-e").arg(dir.join("error.log")).arg("-c").arg(&file),
            _ => command.arg("-db").arg("-f").arg(&file),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut proxy = Self { child, dir, port };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(proxy.child.try_wait().unwrap().is_none(), "{name} ended: see its error log");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(proxy)
    }

    fn uri(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn roots(&self) -> rustls::RootCertStore {
        use rustls::pki_types::pem::PemObject;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(self.dir.join("cert.pem")).unwrap()).unwrap();
        roots
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

async fn passes_through(name: &str, config: &str) {
    let tee = MockTee::new();
    let tls = Tls::self_signed("localhost").unwrap();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Attested::start_at(&tee, LOCAL.into(), tls.clone(), |layer| layer).await);
    }
    let Some(proxy) = Proxy::start(name, config, &servers.iter().collect::<Vec<_>>()).await else { return };
    for _ in 0..6 {
        let builder = AttestedChannel::builder(proxy.uri().parse().unwrap(), tee.verifier()).roots(roots(&tls));
        let channel = builder.connect().await.unwrap();
        let response = get(&channel, "/").await.unwrap();
        assert_eq!(VerifiedReport::of(&response).unwrap().strength(), Strength::Channel);
        assert_eq!(text(response).await, "ok");
    }
    for server in &servers {
        assert!(server.record().applications() > 0, "all three serve");
        assert_eq!(server.record().preflights(), server.record().applications(), "every connection attested");
    }
}

async fn terminates(name: &str, config: &str, rewrites_path: bool) {
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let Some(proxy) = Proxy::start(name, config, &[&server]).await else { return };

    let builder = AttestedChannel::builder(proxy.uri().parse().unwrap(), tee.verifier()).roots(proxy.roots());
    let error = builder.connect().await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Evidence, ErrorKind::Stale), "{error}");
    assert_eq!(server.record().applications(), 0);

    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let connector = BindingConnector::roots(http, proxy.roots()).unwrap();
    let client: Client<_, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let layer = AttestLayer::new(tee.verifier()).accept_presence().name("localhost");
    let service = ServiceBuilder::new().layer(layer).service(client);
    let ask = |path: &str| {
        let request = Request::get(format!("{}{path}", proxy.uri())).body(Full::default()).unwrap();
        service.clone().oneshot(request)
    };
    // A report of this size leaves its evidence out of the head, which stays below nginx's page.
    server.provider.set_endorsements(Some(vec![7; 1500].into()), None);
    for _ in 0..3 {
        let response = ask("/x").await.unwrap();
        let report = VerifiedReport::of(&response).unwrap();
        assert_eq!((report.strength(), report.channel_bound()), (Strength::Presence, false));
        assert_eq!(response.status(), 200);
    }
    if rewrites_path {
        let error = ask("/api/x").await.unwrap_err();
        let error = error.downcast_ref::<AttestError>().expect("an AttestError");
        assert_eq!(error.kind(), ErrorKind::BadSignature, "{error}");
    }
}

#[tokio::test]
async fn behind_nginx_at_layer_4_every_connection_is_attested() {
    passes_through("nginx", "nginx-passthrough.conf").await;
}

#[tokio::test]
async fn behind_haproxy_at_layer_4_every_connection_is_attested() {
    passes_through("haproxy", "haproxy-passthrough.cfg").await;
}

#[tokio::test]
async fn nginx_at_layer_7_is_refused_on_channel_and_passes_at_presence_unless_it_rewrites_the_path() {
    terminates("nginx", "nginx-terminating.conf", true).await;
}

#[tokio::test]
async fn haproxy_at_layer_7_is_refused_on_channel_and_passes_at_presence() {
    terminates("haproxy", "haproxy-terminating.cfg", false).await;
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn curl_reads_the_endpoint_over_both_protocols_and_no_older_tls() {
    let Some(curl) = program("curl") else { return };
    let tee = MockTee::new();
    let server = Attested::start(&tee).await;
    let nonce = tower_attest::protocol::NonceHeader::new(tower_attest::Nonce::from_bytes([7; 32])).to_value();
    let header = format!("Attestation-Nonce: {}", nonce.to_str().unwrap());
    let url = format!("{}.well-known/tower-attest", server.server.uri());
    let curl = |options: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["-sS", "-k", "-i", "-H", &header]).args(options).arg(&url);
        command
    };
    for (option, version) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200")] {
        let output = run(curl(&[option])).await;
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(answer.starts_with(version), "{answer}");
        assert!(answer.to_lowercase().contains("content-type: application/cmw+json"), "{answer}");
        assert!(answer.contains("vnd.tower-attest.mock-report"), "{answer}");
    }
    let output = run(curl(&["--tls-max", "1.2"])).await;
    assert!(!output.status.success(), "TLS 1.2 is refused");
}

const PYTHON: &str = r#"
import sys, grpc
port, cert = sys.argv[1], open(sys.argv[2], "rb").read()
channel = grpc.secure_channel("localhost:" + port, grpc.ssl_channel_credentials(cert))
call = channel.unary_unary("/prover.v1.Prover/Prove", request_serializer=bytes, response_deserializer=bytes)
print(call(bytes([0x12, 3, 1, 2, 3]), timeout=20).hex())
"#;

#[tokio::test]
async fn grpc_for_python_is_served_without_knowing_of_attestation() {
    let python = std::env::var_os("TOWER_ATTEST_PYTHON").map(PathBuf::from).or_else(|| program("python3"));
    let Some(python) = python else { return };
    let mut probe = Command::new(&python);
    probe.args(["-c", "import grpc"]);
    if !run(probe).await.status.success() {
        println!("skipped: python3 has no grpcio (PyPI)");
        return;
    }
    let grpc = crate::grpc::serve(&MockTee::new()).await;
    let certificate = std::env::temp_dir().join(format!("tower-attest-grpcio-{}.pem", std::process::id()));
    std::fs::write(&certificate, pem("CERTIFICATE", grpc.tls.certificate().unwrap())).unwrap();
    let mut command = Command::new(python);
    command.arg("-c").arg(PYTHON).arg(grpc.uri.port_u16().unwrap().to_string()).arg(&certificate);
    let output = run(command).await;
    std::fs::remove_file(certificate).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0a03030201", "{output:?}");
}
