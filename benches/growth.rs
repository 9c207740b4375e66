//! How cost grows with clients, replicas and key epochs: the real layers and their trust caches, on a clock that is moved by hand.
//!
//! `cargo bench --all-features --bench growth`, some minutes; `-- 100000` adds a row with so many clients, and hours.
//!
//! Clients share nothing but the replicas, so that a few stand for many; the table by clients shows it. Every exchange is a real
//! one: nonce, `have`, evidence, signature, verification. Hardware answers at once here, since what it costs is another bench's
//! subject (`attester`); the last table puts it back, on tokio's paused clock.

#![allow(missing_docs, clippy::unwrap_used, clippy::as_conversions, clippy::indexing_slicing)]

#[path = "support/simulation.rs"]
mod simulation;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use simulation::{Balancing, Scenario, Totals};
use tokio::runtime::Builder;
use tower_attest::mock::{Behaviour, MockTee};
use tower_attest::{Attester, AttesterErrorKind, Nonce};

const MINUTE: u64 = 60;

fn main() {
    let base = Scenario { replicas: 1, clients: 5, interval: 10, epoch: 60 * MINUTE, balancing: Balancing::Random };
    let run = |scenario: Scenario| Builder::new_current_thread().enable_all().build().unwrap().block_on(scenario.run());

    head("clients (4 replicas)");
    let more = std::env::args().filter_map(|argument| argument.parse().ok());
    for clients in [1, 10, 100].into_iter().chain(more) {
        row(&format!("{clients}"), &run(Scenario { clients, replicas: 4, interval: 30, ..base }));
    }
    head("a client's requests (1 replica)");
    for interval in [1, 10, MINUTE, 5 * MINUTE, 9 * MINUTE, 20 * MINUTE] {
        row(&format!("every {interval} s"), &run(Scenario { interval, ..base }));
    }
    head("key epochs (1 replica)");
    for epoch in [60, 30, 10, 5, 1] {
        row(&format!("{epoch} min"), &run(Scenario { epoch: epoch * MINUTE, ..base }));
    }
    head("replicas behind one name");
    let mut random = Vec::new();
    for replicas in [1, 2, 4, 8, 10, 16, 32, 100, 1000] {
        let totals = run(Scenario { replicas, ..base });
        row(&format!("{replicas}, at random"), &totals);
        random.push((replicas, totals));
    }
    let sticky = run(Scenario { replicas: 1000, balancing: Balancing::Sticky, ..base });
    row("1000, each client keeps to one", &sticky);
    row("1000, each by a name of its own", &run(Scenario { replicas: 1000, balancing: Balancing::OwnNames, ..base }));

    println!(
        "\n| 100 000 clients, a request each 10 s | evidence per replica and second | of an 8 ms device | of a 1 s device |"
    );
    println!("|---|---|---|---|");
    for (replicas, totals) in random.iter().filter(|(replicas, _)| [1, 8, 32, 100, 1000].contains(replicas)) {
        load(&format!("{replicas} replicas, at random"), totals, *replicas);
    }
    load("1000 replicas, each client keeps to one", &sticky, 1000);

    println!(
        "\n| all clients at once, none believing anything | device | batch, queue | served within | tries refused |"
    );
    println!("|---|---|---|---|---|");
    for clients in [1_000, 10_000, 100_000] {
        for (device, name) in [(Duration::from_millis(8), "8 ms"), (Duration::from_secs(1), "1 s")] {
            for (batch, queue) in [(256, 4_096), (4_096, 4_096), (65_536, 131_072)] {
                let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
                let (took, refused) = runtime.block_on(storm(clients, device, batch, queue));
                println!("| {clients} | {name} | {batch}, {queue} | {:.2} s | {refused} |", took.as_secs_f64());
            }
        }
    }
}

fn head(what: &str) {
    println!(
        "\n| {what} | warm | evidence in the answer | waited for evidence | evidence per client and hour | request field | answer's field |"
    );
    println!("|---|---|---|---|---|---|---|");
}

fn row(name: &str, totals: &Totals) {
    let share = |count: u64| 100.0 * count as f64 / totals.requests as f64;
    let inline = totals.evidence - totals.preflights;
    println!(
        "| {name} | {:.1} % | {:.1} % | {:.1} % | {:.1} | {:.0} B | {:.0} B |",
        share(totals.requests - totals.evidence.min(totals.requests)),
        share(inline),
        share(totals.preflights),
        totals.evidence as f64 / totals.client_hours,
        totals.request_bytes as f64 / totals.requests as f64,
        totals.response_bytes as f64 / totals.requests as f64,
    );
}

/// What 100 000 such clients ask of each replica's hardware, as a share of what the default batch of 4 096 gives.
fn load(name: &str, totals: &Totals, replicas: usize) {
    let rate = 100_000.0 * totals.evidence as f64 / totals.client_hours / 3600.0 / replicas as f64;
    println!("| {name} | {rate:.1} | {:.2} % | {:.0} % |", 100.0 * rate / (4_096.0 / 0.008), 100.0 * rate / 4_096.0);
}

/// Every client asks at the same moment, and after a refusal again: after a second, then two, up to 30, less a random part.
async fn storm(clients: u64, device: Duration, batch: usize, queue: usize) -> (Duration, u64) {
    let hardware = MockTee::new().provider();
    hardware.set_behaviour(Behaviour::Slow(device));
    let attester = Attester::builder(hardware).name("bench").batch(batch).queue(queue).start().await.unwrap();
    let refused = Arc::new(AtomicU64::new(0));
    let start = tokio::time::Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (attester, refused) = (attester.clone(), Arc::clone(&refused));
            tokio::spawn(async move {
                let mut nonce = [0; 32];
                nonce[..8].copy_from_slice(&client.to_be_bytes());
                let nonce = Nonce::from_bytes(nonce);
                let mut pause = 1_000;
                while let Err(error) = attester.evidence(&nonce, None).await {
                    assert_eq!(error.kind(), AttesterErrorKind::QueueFull);
                    let dice = refused.fetch_add(1, Ordering::Relaxed);
                    let pause_now = pause / 2 + simulation::mix(dice) % (pause / 2);
                    tokio::time::sleep(Duration::from_millis(pause_now)).await;
                    pause = (pause * 2).min(30_000);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (start.elapsed(), refused.load(Ordering::Relaxed))
}
