//! Fresh evidence against concurrency: many nonces under one report, beside one report for each as every peer does it.
//!
//! `cargo bench --all-features --bench attester > attester.csv`
//!
//! A closed loop: each client asks, waits, and asks again. The device makes one report at a time. Two devices:
//!
//! - 8 ms, as SEV-SNP guests measure, in real time, on an OS thread of its own as the crate's providers do it: hashing trees and
//!   waking clients count.
//! - 1 s, as throttled hosts do it, on tokio's paused clock: time passes only when nobody can go on, so that only waiting counts.
//!   What computing adds is in the rows of 8 ms, where it weighs 125 times as much.
//!
//! Prints CSV, which `tools/plots.py` draws. `device_times` is `p99_ms` over the device's time; the goal is 2.5.

#![allow(missing_docs, clippy::unwrap_used, clippy::as_conversions, clippy::indexing_slicing)]

use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Builder;
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;
use tower_attest::mock::MockTee;
use tower_attest::protocol::{BatchTree, Evidence, EvidenceStatement, KeyDocument};
use tower_attest::{
    Attester, Nonce, Platform, ProviderError, ProviderErrorKind, Report, ReportData, ReportProvider, async_trait,
};

const CLIENTS: [usize; 7] = [1, 4, 16, 64, 256, 1024, 4096];
/// Requests per run, at least one for each client.
const REQUESTS: usize = 8192;
/// The same where each request costs a report: some seconds of an 8 ms device.
const REQUESTS_ALONE: usize = 512;

fn main() {
    println!("device_ms,scheme,clients,requests_per_s,p50_ms,p99_ms,device_times");
    let real = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let paused = || Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for clients in CLIENTS {
        let time = Duration::from_millis(8);
        real.block_on(async {
            for batch in [256, 4096] {
                together(&format!("batch {batch}"), Thread::start(time), time, batch, clients).await;
            }
            alone(Thread::start(time), time, clients).await;
        });
        let time = Duration::from_secs(1);
        for batch in [256, 4096] {
            paused().block_on(together(&format!("batch {batch}"), Timer(time), time, batch, clients));
        }
        paused().block_on(alone(Timer(time), time, clients));
    }
}

/// The crate's attester.
async fn together(scheme: &str, device: impl ReportProvider + 'static, time: Duration, batch: usize, clients: usize) {
    let attester = Attester::builder(device).name("bench").batch(batch).start().await.unwrap();
    let run = closed_loop(clients, REQUESTS, move |nonce| {
        let attester = attester.clone();
        async move { attester.evidence(&nonce, None).await.unwrap() }
    });
    run.await.print(scheme, time, clients);
}

/// What every peer does: each request takes its turn at the device, for a report of its own.
async fn alone(device: impl ReportProvider + 'static, time: Duration, clients: usize) {
    let keys = Attester::builder(MockTee::new().provider()).name("bench").start().await.unwrap().key_document();
    let (device, keys): (Arc<Mutex<dyn ReportProvider>>, _) = (Arc::new(Mutex::new(device)), Arc::new(keys));
    let run = closed_loop(clients, REQUESTS_ALONE, move |nonce| {
        let (device, keys): (_, Arc<KeyDocument>) = (Arc::clone(&device), Arc::clone(&keys));
        async move {
            let platform = &Platform::MOCK;
            let statement = EvidenceStatement { platform, nonce: &nonce, binding: None, keys: keys.digest() };
            let tree = BatchTree::new(vec![statement.leaf()]).unwrap();
            let report = device.lock().await.report(&tree.report_data(platform)).await.unwrap();
            Evidence { report, keys: keys.bytes().clone(), batch: tree.proof(0).unwrap() }
        }
    });
    run.await.print("one report each", time, clients);
}

struct Run {
    took: Duration,
    latencies: Vec<Duration>,
}

async fn closed_loop<F>(clients: usize, requests: usize, ask: impl Fn(Nonce) -> F + Clone + Send + 'static) -> Run
where
    F: Future<Output = Evidence> + Send + 'static,
{
    let each = requests.div_ceil(clients);
    // A lone client cannot share: it need not ask so often.
    let each = if clients < 64 { each.min(64) } else { each };
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let ask = ask.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(each);
                for round in 0..each {
                    let mut nonce = [0; 32];
                    nonce[..8].copy_from_slice(&(client * each + round).to_be_bytes());
                    let start = Instant::now();
                    let evidence = ask(Nonce::from_bytes(nonce)).await;
                    latencies.push(start.elapsed());
                    assert!(evidence.batch.size() >= 1);
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::with_capacity(clients * each);
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    latencies.sort_unstable();
    Run { took: start.elapsed(), latencies }
}

impl Run {
    fn print(&self, scheme: &str, device: Duration, clients: usize) {
        let at = |percent: usize| self.latencies[(self.latencies.len() * percent / 100).min(self.latencies.len() - 1)];
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{},{scheme},{clients},{:.1},{:.2},{:.2},{:.2}",
            device.as_millis(),
            self.latencies.len() as f64 / self.took.as_secs_f64(),
            ms(at(50)),
            ms(at(99)),
            ms(at(99)) / ms(device),
        );
    }
}

type Call = ([u8; 64], oneshot::Sender<Report>);

/// A device behind a thread, in real time.
#[derive(Debug)]
struct Thread(std::sync::Mutex<mpsc::Sender<Call>>);

impl Thread {
    fn start(time: Duration) -> Self {
        let (calls, queue) = mpsc::channel::<Call>();
        std::thread::spawn(move || {
            for (data, reply) in queue {
                std::thread::sleep(time);
                let _ = reply.send(report(&data));
            }
        });
        Self(std::sync::Mutex::new(calls))
    }
}

#[async_trait]
impl ReportProvider for Thread {
    fn platform(&self) -> Platform {
        Platform::MOCK
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        let (reply, report) = oneshot::channel();
        self.0.lock().unwrap().send((*data.as_bytes(), reply)).unwrap();
        report.await.map_err(|_| ProviderError::new(ProviderErrorKind::Failed, "the thread has ended"))
    }
}

/// A device on tokio's clock.
#[derive(Debug)]
struct Timer(Duration);

#[async_trait]
impl ReportProvider for Timer {
    fn platform(&self) -> Platform {
        Platform::MOCK
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        tokio::time::sleep(self.0).await;
        Ok(report(data.as_bytes()))
    }
}

/// As large as an SNP report. Nobody judges it: what making it costs is the device's time.
fn report(data: &[u8; 64]) -> Report {
    let mut bytes = vec![0; 1184];
    bytes[..64].copy_from_slice(data);
    Report::new(Platform::MOCK, Bytes::from(bytes))
}
