//! What a balancer tells whoever runs it of its workers.

use http::StatusCode;

use super::support::{Worker, balancer, dir, policy};
use crate::sidecar::admin::{admin, scraped, until_failing};
use crate::sidecar::support::{client, get};

fn of(name: &str, worker: &str) -> String {
    format!("tower_attest_worker_{name}{{worker=\"{worker}\"}}")
}

fn standing(worker: &str, standing: &str) -> String {
    format!("tower_attest_worker_standing{{standing=\"{standing}\",worker=\"{worker}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_told_one_by_one_and_readiness_lasts_while_one_is_believed() {
    let dir = dir();
    let (first, second) = (Worker::start(&dir, &[]).await, Worker::start(&dir, &[]).await);
    let workers = [first.url(), second.url()];
    let serve = balancer(&dir, &workers, &policy(&dir), &["--admin", "127.0.0.1:0"]);
    let (addr, client) = (admin(&serve.sidecar), client());
    let both = scraped(addr, "two workers", |samples| {
        workers.iter().all(|worker| samples.count(&standing(worker, "serving")) == 1.0)
    });
    let both = both.await;
    until_failing(addr, &[]).await;
    assert_eq!(both.value(&standing(&workers[0], "ejected")), 0.0);
    let verified = "tower_attest_attestations_total{check=\"\",kind=\"connection\",outcome=\"verified\",stage=\"\"}";
    assert!(both.value(verified) >= 2.0);
    assert!(both.value("tower_attest_verification_duration_seconds_count{outcome=\"accepted\"}") >= 2.0);

    let connect = serve.connect(&[]);
    for _ in 0..6 {
        assert_eq!(get(&client, connect.addr(), "/echo").await.status(), StatusCode::OK);
    }
    let sent = |samples: &crate::sidecar::admin::Samples| -> f64 {
        workers.iter().map(|worker| samples.value(&of("requests_total", worker))).sum()
    };
    let idle = |samples: &crate::sidecar::admin::Samples| {
        workers.iter().all(|worker| samples.value(&of("requests_in_flight", worker)) == 0.0)
    };
    scraped(addr, "six requests", |samples| sent(samples) == 6.0 && idle(samples)).await;

    drop(first);
    let one = scraped(addr, "one worker", |samples| samples.value(&standing(&workers[0], "ejected")) == 1.0).await;
    assert_eq!(one.value(&standing(&workers[1], "serving")), 1.0);
    assert!(one.value(&of("ejections_total", &workers[0])) >= 1.0);
    assert_eq!(one.value(&of("ejections_total", &workers[1])), 0.0);
    until_failing(addr, &[]).await;

    drop(second);
    let details = until_failing(addr, &["upstream"]).await;
    assert!(workers.iter().all(|worker| details[0].contains(worker)), "{details:?}");
    assert_eq!(get(&client, connect.addr(), "/echo").await.status(), StatusCode::BAD_GATEWAY);
    let refused =
        "tower_attest_requests_total{outcome=\"refused\",protocol=\"http\",reason=\"no-worker\",status=\"5xx\"}";
    scraped(addr, "a refusal", |samples| samples.count(refused) == 1.0).await;
}
