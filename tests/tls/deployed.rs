//! Real peers: nginx, HAProxy, curl and gRPC for Python. Each test says so and passes where its program is not
//! installed; CI installs them.

use std::path::PathBuf;
use std::process::{Command, Output};

use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::{ServiceBuilder, ServiceExt};
use tower_attest::mock::MockTee;
use tower_attest::tls::{AttestedChannel, BindingConnector, Stage, Tls};
use tower_attest::{AttestError, AttestLayer, ErrorKind, Strength, VerifiedReport};

use crate::proxy::{Proxy, pem, program};
use crate::support::{Attested, get, roots, text};

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn passes_through(name: &str, config: &str) {
    let tee = MockTee::new();
    let tls = Tls::self_signed("localhost").unwrap();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Attested::start_at(&tee, LOCAL.into(), tls.clone(), |layer| layer).await);
    }
    let Some(proxy) =
        Proxy::start(name, config, &servers.iter().map(|server| server.server.addr.port()).collect::<Vec<_>>()).await
    else {
        return;
    };
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
    let Some(proxy) = Proxy::start(name, config, &[server.server.addr.port()]).await else { return };

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
