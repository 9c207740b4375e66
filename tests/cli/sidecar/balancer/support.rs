//! Workers, a balancer in front of them, and taps between.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::sidecar::support::Serve;
use crate::sidecar::upstream::Upstream;

/// A `serve` with a service of its own behind it.
pub(crate) struct Worker {
    pub(crate) upstream: Upstream,
    pub(crate) serve: Serve,
}

/// Files that all parts share: one certificate for `localhost`, its own root, and the simulators' policy.
pub(crate) fn dir() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

impl Worker {
    pub(crate) async fn start(dir: &Arc<tempfile::TempDir>, flags: &[&str]) -> Self {
        let upstream = Upstream::start().await;
        let serve = Serve::start_at("127.0.0.1:0", &upstream.url(), flags, Arc::clone(dir));
        Self { upstream, serve }
    }

    pub(crate) fn url(&self) -> String {
        url(self.serve.addr().port())
    }

    pub(crate) fn requests(&self) -> usize {
        self.upstream.seen.requests().len()
    }
}

pub(crate) fn url(port: u16) -> String {
    format!("https://localhost:{port}")
}

/// The policy that workers on simulated hardware satisfy, in a file of its own.
pub(crate) fn policy(dir: &Arc<tempfile::TempDir>) -> PathBuf {
    let path = dir.path().join("workers.toml");
    if !path.exists() {
        std::fs::copy(dir.path().join("policy.toml"), &path).unwrap();
    }
    path
}

/// A balancer that believes the simulators under `policy`, and looks at its workers often.
pub(crate) fn balancer(dir: &Arc<tempfile::TempDir>, workers: &[String], policy: &Path, flags: &[&str]) -> Serve {
    let roots = dir.path().join("cert.pem");
    let mut all = vec!["--upstream-policy", policy.to_str().unwrap(), "--upstream-roots-file", roots.to_str().unwrap()];
    all.extend(["--insecure-upstream-simulator", "--upstream-check-interval", "50ms"]);
    all.extend(workers.iter().skip(1).flat_map(|worker| ["--upstream", worker]));
    all.extend(flags);
    Serve::start_at("127.0.0.1:0", &workers[0], &all, Arc::clone(dir))
}

pub(crate) fn problem(response: &Response<Bytes>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{response:?}");
    serde_json::from_slice(response.body()).unwrap()
}

pub(crate) fn code(response: &Response<Bytes>) -> (StatusCode, String) {
    (response.status(), problem(response)["code"].as_str().unwrap().to_owned())
}

/// Carries connections to a port, and counts the bytes that are sent there on each.
pub(crate) struct Tap {
    pub(crate) port: u16,
    sent: Arc<Mutex<Vec<Arc<AtomicUsize>>>>,
}

impl Tap {
    pub(crate) async fn start(to: u16) -> Self {
        Self::at(0, to).await
    }

    /// On a port that somebody else may be about to leave.
    pub(crate) async fn at(port: u16, to: u16) -> Self {
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        };
        let (port, sent) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<Arc<AtomicUsize>>>>::default());
        let counts = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let count = Arc::new(AtomicUsize::new(0));
                counts.lock().unwrap().push(Arc::clone(&count));
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    let back = Arc::default();
                    tokio::join!(carry(near_in, far_out, &count), carry(far_in, near_out, &back));
                });
            }
        });
        Self { port, sent }
    }

    /// The bytes that were sent on each connection.
    pub(crate) fn sent(&self) -> Vec<usize> {
        self.sent.lock().unwrap().iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    count: &Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(read, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
