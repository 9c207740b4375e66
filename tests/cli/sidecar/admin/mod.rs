//! The admin listener of both sidecars: what probes and scrapers see.

mod exposition;
mod metrics;
mod ready;
mod server;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

pub(crate) use self::exposition::Samples;
use super::support::{HttpClient, Sidecar, client, collected, get};

/// The flags that every test here gives.
const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

/// Where a sidecar's admin listener is, as it says itself.
pub(crate) fn admin(sidecar: &Sidecar) -> SocketAddr {
    let line = sidecar.banner.lines().find_map(|line| line.strip_prefix("admin ")).expect("the line in the banner");
    line.trim().parse().unwrap()
}

async fn metrics_as(addr: SocketAddr, accept: &str) -> Response<Bytes> {
    let request = Request::get(format!("http://{addr}/metrics")).header("accept", accept);
    collected(client().request(request.body(Full::default()).unwrap()).await.unwrap()).await
}

/// What a scraper reads that takes OpenMetrics.
async fn scrape(addr: SocketAddr) -> Samples {
    let response = metrics_as(addr, "application/openmetrics-text; version=1.0.0").await;
    assert_eq!(response.status(), StatusCode::OK);
    exposition::open_metrics(std::str::from_utf8(response.body()).unwrap())
}

/// Scrapes until `seen` holds: a connection's task may be a moment behind its client.
pub(crate) async fn scraped(addr: SocketAddr, what: &str, seen: impl Fn(&Samples) -> bool) -> Samples {
    for _ in 0..1000 {
        let samples = scrape(addr).await;
        if seen(&samples) {
            return samples;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it never came to {what}: {:#?}", scrape(addr).await.values);
}

/// The status of `/readyz`, and its checks that fail with their details.
async fn readyz(client: &HttpClient, addr: SocketAddr) -> (StatusCode, Vec<(String, String)>) {
    let response = get(client, addr, "/readyz").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let json: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(json["ready"], response.status().is_success());
    let checks = json["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (response.status(), checks.map(|check| (text(&check["check"]), text(&check["detail"]))).collect())
}

/// Asks until exactly these checks fail, and returns their details.
pub(crate) async fn until_failing(addr: SocketAddr, expected: &[&str]) -> Vec<String> {
    let client = client();
    for _ in 0..600 {
        let (status, failing) = readyz(&client, addr).await;
        assert_eq!(status == StatusCode::OK, failing.is_empty());
        if failing.iter().map(|(check, _)| check.as_str()).eq(expected.iter().copied()) {
            return failing.into_iter().map(|(_, detail)| detail).collect();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{expected:?} never failed: {:?}", readyz(&client, addr).await);
}

/// What Prometheus's own tool says of a text, or a line that says that it was skipped.
fn promtool(text: &[u8]) {
    use std::io::Write as _;
    let child =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return println!("skipped: promtool (Debian: prometheus)") };
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
