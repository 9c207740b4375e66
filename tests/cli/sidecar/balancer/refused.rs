//! Workers that are not believed get nothing.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower_attest::platform::snp::Product;
use tower_attest::platform::snp::sim::SimulatedGuest;
use tower_attest::tls::Tls;

use super::support::{Tap, Worker, balancer, code, dir, policy, url};
use crate::server::{Ends, Server, provider};
use crate::sidecar::support::{Serve, client, collected, eventually, get};

const OTHER: [u8; 48] = [0x7a; 48];
/// More than a handshake, a preflight and an alert take.
const NOTHING: usize = 4096;

/// A server of another measurement, with a certificate that is as good as any.
fn stranger(dir: &tempfile::TempDir) -> Server {
    let tls = Tls::pem(dir.path().join("cert.pem"), dir.path().join("key.pem")).unwrap();
    Server::attested(provider(SimulatedGuest::new(Product::Genoa).with_measurement(OTHER)), Ends::Tls(tls))
}

async fn post(front: &Serve, to: &str, body: usize) -> http::Response<Bytes> {
    let connect = front.connect(&[]);
    let request = Request::post(format!("http://{}{to}", connect.addr())).body(Full::from(vec![7; body])).unwrap();
    collected(client().request(request).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_another_measurement_is_never_sent_a_byte_of_a_request() {
    let dir = dir();
    let good = Worker::start(&dir, &[]).await;
    let stranger = stranger(&dir);
    let tap = Tap::start(stranger.address.port()).await;
    let front = balancer(&dir, &[good.url(), url(tap.port)], &policy(&dir), &[]);
    let connect = front.connect(&[]);
    let client = client();
    for n in 0..40 {
        let request =
            Request::post(format!("http://{}/{n}", connect.addr())).body(Full::from(vec![7; 100_000])).unwrap();
        assert_eq!(collected(client.request(request).await.unwrap()).await.status(), StatusCode::OK);
        // It is looked at meanwhile, again and again.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(good.requests(), 40);
    let sent = tap.sent();
    assert!(!sent.is_empty() && sent.iter().all(|bytes| *bytes < NOTHING), "{sent:?}");
    eventually("the operator learns why", || front.sidecar.log().contains("worker ejected")).await;
    assert!(front.sidecar.log().contains("\"stage\":\"policy\""), "{}", front.sidecar.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_takes_a_workers_place_is_never_sent_a_byte_of_a_request() {
    let dir = dir();
    let (one, two) = (Worker::start(&dir, &[]).await, Worker::start(&dir, &[]).await);
    let front = balancer(&dir, &[one.url(), two.url()], &policy(&dir), &[]);
    let connect = front.connect(&[]);
    let client = client();
    while two.requests() == 0 {
        get(&client, connect.addr(), "/").await;
    }
    let stranger = stranger(&dir);
    let port = two.serve.addr().port();
    drop(two);
    // What listens at the worker's address now carries to the stranger.
    let tap = Tap::at(port, stranger.address.port()).await;
    eventually("it is found out", || {
        front.sidecar.log().lines().any(|line| line.contains("worker ejected") && line.contains("\"stage\":\"policy\""))
    })
    .await;
    for _ in 0..40 {
        assert_eq!(post_by(&client, connect.addr(), 100_000).await, StatusCode::OK);
    }
    let sent = tap.sent();
    assert!(!sent.is_empty() && sent.iter().all(|bytes| *bytes < NOTHING), "{sent:?}");
}

async fn post_by(client: &crate::sidecar::support::HttpClient, addr: std::net::SocketAddr, body: usize) -> StatusCode {
    let request = Request::post(format!("http://{addr}/")).body(Full::from(vec![7; body])).unwrap();
    client.request(request).await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_worker_is_believed_requests_are_502_with_a_code_of_their_own() {
    let dir = dir();
    let worker = Worker::start(&dir, &[]).await;
    let (gone, stranger) = (Worker::start(&dir, &[]).await, stranger(&dir));
    let urls = [gone.url(), url(stranger.address.port())];
    drop(gone);
    let front = balancer(&dir, &urls, &policy(&dir), &[]);
    let response = post(&front, "/secret", 10).await;
    assert_eq!(code(&response), (StatusCode::BAD_GATEWAY, "no-worker".to_owned()));
    let detail = String::from_utf8_lossy(response.body()).into_owned();
    assert!(detail.contains("1 cannot be reached, 1 are not believed"), "{detail}");
    let connect = front.connect(&[]);
    let request =
        Request::post(format!("http://{}/t.T/Unary", connect.addr())).header("content-type", "application/grpc");
    let response = client().request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!((response.status(), &response.headers()["grpc-status"]), (StatusCode::OK, &"14".parse().unwrap()));
    assert!(response.headers()["attestation-result"].to_str().unwrap().starts_with("verified"), "the balancer says so");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_demand_on_a_worker_is_made() {
    let dir = dir();
    let worker = Worker::start(&dir, &[]).await;
    let good = std::fs::read_to_string(policy(&dir)).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let config = worker.serve.sidecar.banner.lines().find_map(|line| line.strip_prefix("config")).unwrap().trim();
    let other = tempfile::tempdir().unwrap();
    let other_root = other.path().join("cert.pem");
    crate::sidecar::support::certificate(&other_root, &other.path().join("key.pem"));
    let right_config = write("a.toml", format!("[server]\nconfig = \"{config}\"\n{good}"));
    let wrong_config = write("b.toml", format!("[server]\nconfig = \"{}\"\n{good}", "5e".repeat(32)));
    let wrong_name = write("c.toml", format!("[server]\nname = \"other.example\"\n{good}"));
    let snp = good.split("[[tdx").next().unwrap();
    let tdx_alone = write("d.toml", good.replace(snp, ""));
    let by_name = ["--upstream-name", "other.example"];
    for (policy, flags, stage) in [
        (&right_config, &[][..], None),
        (&wrong_config, &[], Some("policy")),
        (&wrong_name, &[], Some("policy")),
        (&tdx_alone, &[], Some("evidence")),
        (&policy(&dir), &by_name, Some("certificate")),
    ] {
        let front = balancer(&dir, &[worker.url()], policy, flags);
        let before = worker.requests();
        let response = post(&front, "/secret", 10).await;
        match stage {
            None => assert_eq!(response.status(), StatusCode::OK, "{response:?}"),
            Some(stage) => {
                assert_eq!(code(&response), (StatusCode::BAD_GATEWAY, "no-worker".to_owned()));
                assert!(
                    front.sidecar.log().contains(&format!("\"stage\":\"{stage}\"")),
                    "{stage}: {}",
                    front.sidecar.log()
                );
                assert_eq!(worker.requests(), before);
            }
        }
    }
    // A root that did not issue the certificate, and hardware that is not believed.
    let root = other_root.to_str().unwrap();
    let policy = policy(&dir);
    for (flags, stage) in [
        (&["--upstream-roots-file", root, "--insecure-upstream-simulator"][..], "certificate"),
        (&["--dangerous-upstream-trust-attestation-alone", "--upstream-offline"], "evidence"),
    ] {
        let flags = [&["--upstream-policy", policy.to_str().unwrap()][..], flags].concat();
        let front = Serve::start_at("127.0.0.1:0", &worker.url(), &flags, std::sync::Arc::clone(&dir));
        let before = worker.requests();
        assert_eq!(code(&post(&front, "/secret", 10).await).1, "no-worker");
        assert!(front.sidecar.log().contains(&format!("\"stage\":\"{stage}\"")), "{stage}: {}", front.sidecar.log());
        assert_eq!(worker.requests(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_may_be_believed_by_their_evidence_alone_and_under_a_common_name() {
    let dir = dir();
    let worker = Worker::start(&dir, &[]).await;
    let policy = policy(&dir);
    let by_address = format!("https://127.0.0.1:{}", worker.serve.addr().port());
    let common = ["--upstream-policy", policy.to_str().unwrap(), "--insecure-upstream-simulator"];
    let alone = ["--dangerous-upstream-trust-attestation-alone", "--upstream-name", "LocalHost"];
    let flags = [&common[..], &alone].concat();
    let front = Serve::start_at("127.0.0.1:0", &by_address, &flags, std::sync::Arc::clone(&dir));
    assert_eq!(post(&front, "/", 10).await.status(), StatusCode::OK);
    assert_eq!(worker.upstream.seen.last()["host"], format!("localhost:{}", worker.serve.addr().port()));
    // Without the common name it would have to answer for its address.
    let flags = [&common[..], &alone[..1]].concat();
    let front = Serve::start_at("127.0.0.1:0", &by_address, &flags, std::sync::Arc::clone(&dir));
    assert_eq!(code(&post(&front, "/", 10).await).1, "no-worker");
    assert!(front.sidecar.log().contains("\"stage\":\"policy\""), "{}", front.sidecar.log());
}
