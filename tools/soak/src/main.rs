//! A soak: millions of requests through layers, channels and seals, over HTTP/1.1, HTTP/2 and gRPC, while hardware stalls,
//! keys rotate every few seconds, servers restart, connections break, clocks step and collateral fails.
//!
//! `cargo run --release -p soak -- --minutes 20 --requests 2000000`
//!
//! It fails if anything is accepted that no genuine server said, if a genuine server is refused for anything but an answer
//! that could not be had, if a request gets stuck, if faults that are over still cost anything, or if memory or descriptors
//! grow. It goes on until both the time has passed and the requests have been settled.

mod clients;
mod cuttable;
mod faults;
mod grpc;
mod impostors;
mod process;
mod server;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tower_attest::mock::MockTee;
use tower_attest::snp::sim::{SimProvider as SnpHardware, SimulatedAmd, SimulatedGuest};
use tower_attest::snp::{Product, SnpPolicy, SnpVerifier};
use tower_attest::tdx::sim::{SimProvider as TdxHardware, SimulatedIntel, SimulatedTd};
use tower_attest::tdx::{MemoryCollateral, TdxPolicy, TdxVerifier};
use tower_attest::{BoxError, ReportVerifier};

use crate::clients::{Kind, Target, Verifiers};
use crate::faults::{FlakyCollateral, SteppedClock, between, yesterday};
use crate::impostors::Impostor;
use crate::process::Holdings;
use crate::server::Server;
use crate::tally::Tally;

/// Clients of each kind at each server at once.
const CLIENTS: usize = 2;
const SERIES: Duration = Duration::from_secs(15);
/// After the last fault everything must work again within the first, and go on without a miss for the second.
const RECOVERY: Duration = Duration::from_secs(45);
const QUIET: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (minutes, requests) = arguments()?;
    let world = World::build().await?;
    let faulty = Arc::new(AtomicBool::new(true));
    world.start_clients();
    world.start_faults(&faulty);
    let series = world.run(Duration::from_secs(minutes * 60), requests).await;

    faulty.store(false, Ordering::Relaxed);
    println!("\nno more faults");
    tokio::time::sleep(RECOVERY).await;
    let missed = world.tally.no_answer_of(&Kind::ALL.map(Kind::name));
    tokio::time::sleep(QUIET).await;
    let missed = world.tally.no_answer_of(&Kind::ALL.map(Kind::name)) - missed;
    if missed > 0 {
        world.tally.fault(format!("{missed} requests without an answer although nothing fails any more"));
    }
    flat(&series, &world.tally);
    world.tally.print();
    match world.tally.faults() {
        0 => {
            println!("\nOK: nothing accepted that should not be, nothing refused that should not be, nothing grew");
            Ok(())
        }
        faults => Err(format!("{faults} faults").into()),
    }
}

fn arguments() -> Result<(u64, u64), BoxError> {
    let usage = || "usage: soak [--minutes N] [--requests N]";
    let (mut minutes, mut requests) = (20, 2_000_000);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok()).ok_or_else(usage)?;
        match name.as_str() {
            "--minutes" => minutes = value,
            "--requests" => requests = value,
            _ => return Err(usage().into()),
        }
    }
    Ok((minutes, requests))
}

/// Three genuine servers, one that runs another program, and what their clients believe.
struct World {
    targets: Vec<Target>,
    other: Arc<Server>,
    collateral: tokio::sync::watch::Sender<bool>,
    clock: SteppedClock,
    tally: Arc<Tally>,
}

impl World {
    async fn build() -> Result<Self, BoxError> {
        let (program, clock) = ([0x4d; 48], SteppedClock::default());

        let tee = MockTee::new();
        let mock = Server::start("mock", tee.provider()).await?;
        let other = Server::start("other", tee.clone().with_measurement([0x66; 48]).provider()).await?;
        let mocks: Verifiers = Arc::new(move || Arc::new(tee.verifier()));

        let guest = SimulatedGuest::new(Product::Genoa).with_measurement(program);
        let snp = Server::start("SNP", SnpHardware::new(guest)).await?;
        let amd = Arc::new(SimulatedAmd::new());
        let snps: Verifiers =
            Arc::new(move || Arc::new(SnpVerifier::trusting_simulator(SnpPolicy::pin(program), &amd)));

        let tdx = Server::start("TDX", TdxHardware::new(SimulatedTd::new(program))).await?;
        let intel = Arc::new(SimulatedIntel::new());
        let (collateral, source) = FlakyCollateral::new(intel.collateral().issued_at(yesterday()).build());
        let source = Arc::new(source);
        let tdxs: Verifiers = Arc::new(move || {
            let verifier = TdxVerifier::trusting_simulator(TdxPolicy::pin(program), &intel);
            Arc::new(verifier.with_collateral_source(MemoryCollateral::new(Arc::clone(&source))))
                as Arc<dyn ReportVerifier>
        });

        let target = |server, verifiers| Target {
            server: Arc::new(server),
            verifiers,
            measurement: program,
            clock: clock.clone(),
        };
        let kinds = Kind::ALL.map(Kind::name).into_iter().chain(Impostor::ALL.map(Impostor::name));
        let tally = Arc::new(Tally::new(kinds));
        let targets = vec![target(mock, mocks), target(snp, snps), target(tdx, tdxs)];
        Ok(Self { targets, other: Arc::new(other), collateral, clock, tally })
    }

    fn start_clients(&self) {
        for target in &self.targets {
            for kind in Kind::ALL {
                for _ in 0..CLIENTS {
                    let (target, tally) = (target.clone(), Arc::clone(&self.tally));
                    tokio::spawn(async move {
                        loop {
                            let tell = |outcome: &_, again| tally.genuine(kind.name(), outcome, again);
                            if let Err(error) = clients::live(kind, &target, tell).await {
                                tally.fault(format!("{}: cannot start: {error}", kind.name()));
                            }
                        }
                    });
                }
            }
        }
        let Some(target) = self.targets.first() else { return };
        for impostor in Impostor::ALL {
            let (target, other, tally) = (target.clone(), Arc::clone(&self.other), Arc::clone(&self.tally));
            tokio::spawn(async move {
                if let Err(error) = impostors::try_for_ever(impostor, target, other, Arc::clone(&tally)).await {
                    tally.fault(format!("{}: cannot start: {error}", impostor.name()));
                }
            });
        }
    }

    fn start_faults(&self, faulty: &Arc<AtomicBool>) {
        for target in &self.targets {
            let (server, faulty) = (Arc::clone(&target.server), Arc::clone(faulty));
            tokio::spawn(async move {
                while faulty.load(Ordering::Relaxed) {
                    tokio::time::sleep(between(1_000, 6_000)).await;
                    let what = server.fault().await;
                    println!("        {}: {what}", server.title);
                }
            });
        }
        let (clock, collateral, faulty) = (self.clock.clone(), self.collateral.clone(), Arc::clone(faulty));
        tokio::spawn(async move {
            while faulty.load(Ordering::Relaxed) {
                tokio::time::sleep(between(3_000, 8_000)).await;
                if fastrand::bool() {
                    clock.set(fastrand::i64(-10_800..10_800));
                    tokio::time::sleep(between(500, 4_000)).await;
                    clock.set(0);
                    println!("        clients' clock stepped, and back");
                } else {
                    collateral.send_replace(false);
                    tokio::time::sleep(between(500, 4_000)).await;
                    collateral.send_replace(true);
                    println!("        collateral was down");
                }
            }
        });
    }

    /// Until both the time has passed and so many requests are settled. Gives what the process held on the way.
    async fn run(&self, time: Duration, requests: u64) -> Vec<Holdings> {
        let start = Instant::now();
        let mut series = Vec::new();
        while start.elapsed() < time || self.tally.settled() < requests {
            tokio::time::sleep(SERIES).await;
            let now = Holdings::now();
            println!(
                "{:>5} s {:>9} settled {:>7} without an answer {now}",
                start.elapsed().as_secs(),
                self.tally.settled(),
                self.tally.no_answer()
            );
            series.push(now);
        }
        series
    }
}

/// The last quarter of the time holds no more than the second did, but for a tenth.
fn flat(series: &[Holdings], tally: &Tally) {
    // Records of sealed requests and pools take some minutes to get their size.
    if series.len() < 20 {
        return println!("too short a run to say whether anything grows");
    }
    let quarter = series.len() / 4;
    let most = |part: &[Holdings], of: fn(&Holdings) -> u64| part.iter().map(of).max().unwrap_or_default();
    let (Some(before), Some(after)) = (series.get(quarter..2 * quarter), series.get(series.len() - quarter..)) else {
        return;
    };
    for (what, of) in [
        ("KiB of memory", (|held| held.resident_kib) as fn(&Holdings) -> u64),
        ("descriptors", |held| held.descriptors),
    ] {
        let (before, after) = (most(before, of), most(after, of));
        println!("most {what}: {before} in the second quarter, {after} in the last");
        if after > before + before / 10 {
            tally.fault(format!("{what} grew from {before} to {after}"));
        }
    }
}
