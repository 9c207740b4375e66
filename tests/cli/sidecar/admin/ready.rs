//! Readiness: each cause makes it go, and it comes back.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};

use super::super::support::{Serve, certificate, client, eventually, get};
use super::super::upstream::Upstream;
use super::{ADMIN, admin, readyz, scrape, scraped, until_failing};
use crate::acme::pebble::Pebble;

#[tokio::test(flavor = "multi_thread")]
async fn serve_is_ready_while_its_upstream_takes_connections() {
    let upstream = Upstream::start().await;
    let (at, url) = (upstream.addr, upstream.url());
    let serve = Serve::start(&url, &ADMIN);
    let addr = admin(&serve.sidecar);
    until_failing(addr, &[]).await;
    assert_eq!(scrape(addr).await.value("tower_attest_ready{check=\"upstream\"}"), 1.0);
    drop(upstream);
    let details = until_failing(addr, &["upstream"]).await;
    assert!(details[0].contains("refused"), "{details:?}");
    assert_eq!(scrape(addr).await.value("tower_attest_ready{check=\"upstream\"}"), 0.0);
    assert_eq!(get(&client(), addr, "/livez").await.status(), StatusCode::OK, "to start it again would help nobody");
    let _back = Upstream::start_at(at).await;
    until_failing(addr, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_is_not_ready_with_a_certificate_outside_its_dates() {
    let (upstream, dir) = (Upstream::start().await, tempfile::tempdir().unwrap());
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    for (from, until) in [((2020, 1, 1), (2021, 1, 1)), ((2999, 1, 1), (3000, 1, 1))] {
        dated(&cert, &key, from, until);
        let serve = Serve::start_at("127.0.0.1:0", &upstream.url(), &ADMIN, std::sync::Arc::new(tempfile_in(&dir)));
        let details = until_failing(admin(&serve.sidecar), &["certificate"]).await;
        assert!(details[0].contains(&format!("until {}-01-01", until.0)), "{details:?}");
        certificate(&serve.file("cert.pem"), &serve.file("key.pem"));
        serve.sidecar.signal("HUP");
        until_failing(admin(&serve.sidecar), &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_is_ready_once_the_ca_has_issued() {
    let Some(mut pebble) = Pebble::new(serde_json::json!({})) else { return };
    let upstream = Upstream::start().await;
    let directory = format!("https://localhost:{}/dir", pebble.port());
    let serve = pebble.serve_with(&directory, &upstream.url(), &ADMIN);
    let addr = admin(&serve);
    let details = until_failing(addr, &["certificate"]).await;
    assert!(details[0].contains("none yet"), "{details:?}");
    eventually("an attempt", || serve.log().contains("no certificate yet")).await;
    pebble.revive().await;
    serve.signal("HUP");
    until_failing(addr, &[]).await;
    let samples = scrape(addr).await;
    assert_eq!(samples.value("tower_attest_acme_orders_total{outcome=\"issued\"}"), 1.0);
    assert!(samples.value("tower_attest_acme_orders_total{outcome=\"failed\"}") >= 1.0);
    assert!(samples.value("tower_attest_tls_handshakes_total{outcome=\"challenge\"}") >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_is_not_ready_while_its_hardware_stalls_and_counts_the_calls_that_did() {
    let (upstream, files) = (Upstream::start().await, tempfile::tempdir().unwrap());
    let stall = files.path().join("stall");
    let flags =
        [&ADMIN[..], &["--report-timeout", "200ms", "--simulated-stall-file", stall.to_str().unwrap()]].concat();
    let serve = Serve::start(&upstream.url(), &flags);
    let addr = admin(&serve.sidecar);
    until_failing(addr, &[]).await;
    let stalled = "tower_attest_reports_total{outcome=\"stalled\"}";
    assert_eq!(scrape(addr).await.count(stalled), 0.0);
    std::fs::write(&stall, "").unwrap();
    // A client that wants evidence is who asks the hardware, and learns that there is none.
    let connect = serve.connect(&ADMIN);
    let answer = get(&client(), connect.addr(), "/echo").await;
    assert_eq!(answer.headers()["attestation-result"], "undecided");
    let details = until_failing(addr, &["attester"]).await;
    assert!(details[0].contains("hangs"), "{details:?}");
    let samples = scrape(addr).await;
    assert!(samples.value(stalled) >= 1.0);
    assert_eq!(samples.value("tower_attest_attester_health{state=\"stalled\"}"), 1.0);
    assert!(upstream.seen.requests().is_empty(), "nothing was sent without evidence");
    std::fs::remove_file(&stall).unwrap();
    until_failing(addr, &[]).await;
    until_failing(admin(&connect), &[]).await;
    assert_eq!(get(&client(), connect.addr(), "/echo").await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_renewed_after_the_lifetime_that_the_operator_sets() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[&ADMIN[..], &["--key-lifetime", "1s"]].concat());
    let connect = serve.connect(&[]);
    let (addr, client) = (admin(&serve.sidecar), client());
    let first = scrape(addr).await;
    assert_eq!(first.value("tower_attest_key_lifetime_seconds"), 1.0);
    let mut last = first.value("tower_attest_key_epoch");
    for _ in 0..3 {
        let next = scraped(addr, "new keys", |samples| samples.value("tower_attest_key_epoch") > last).await;
        last = next.value("tower_attest_key_epoch");
        let answer = get(&client, connect.addr(), "/echo").await;
        assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
    }
    let default = Serve::start(&upstream.url(), &ADMIN);
    assert_eq!(scrape(admin(&default.sidecar)).await.value("tower_attest_key_lifetime_seconds"), 3600.0);
}

/// A directory for a server that starts with the pair of `dir`.
fn tempfile_in(dir: &tempfile::TempDir) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

fn dated(cert: &std::path::Path, key: &std::path::Path, from: (i32, u8, u8), until: (i32, u8, u8)) {
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
    let pair = rcgen::KeyPair::generate().unwrap();
    let made = parameters.self_signed(&pair).unwrap();
    std::fs::write(cert, super::super::support::pem("CERTIFICATE", made.der())).unwrap();
    std::fs::write(key, super::super::support::pem("PRIVATE KEY", &pair.serialize_der())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_drains_is_alive_and_not_ready_and_ends_when_its_exchanges_do() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &ADMIN);
    let connect = serve.connect(&ADMIN);
    let client = client();
    let request =
        || Request::get(format!("http://{}/events", connect.addr())).body(Full::<bytes::Bytes>::default()).unwrap();
    let mut events = client.request(request()).await.unwrap().into_body();
    let (serving, connecting) = (admin(&serve.sidecar), admin(&connect));
    serve.sidecar.signal("TERM");
    connect.signal("TERM");
    for addr in [serving, connecting] {
        let (status, failing) = loop {
            let found = readyz(&client, addr).await;
            if found.0 != StatusCode::OK {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!((status, failing[0].0.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "draining"));
        assert_eq!(get(&client, addr, "/livez").await.status(), StatusCode::OK);
        assert_eq!(get(&client, addr, "/metrics").await.status(), StatusCode::OK, "the drain is told to its end");
    }
    upstream.seen.send("data: last\n\n").await;
    assert_eq!(events.frame().await.unwrap().unwrap().into_data().unwrap(), "data: last\n\n");
    upstream.seen.end_events();
    while events.frame().await.is_some() {}
    assert_eq!(serve.sidecar.ended().await, Some(0));
    assert_eq!(connect.ended().await, Some(0));
    eventually("the admin listeners end too", || std::net::TcpStream::connect(serving).is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_ready_once_its_far_end_is_attested_and_asks_by_itself() {
    let upstream = Upstream::start().await;
    for sealed in [false, true] {
        let flags: &[&str] = if sealed { &["--admin", "127.0.0.1:0", "--sealed"] } else { &ADMIN };
        let serve = Serve::start(&upstream.url(), if sealed { &["--sealed-only"] } else { &[] });
        let (listen, dir) = (serve.addr().to_string(), serve.dir.clone());
        let connect = serve.connect(flags);
        let addr = admin(&connect);
        until_failing(addr, &[]).await;
        drop(serve);
        if sealed {
            // Keys that are believed still are: whether the server can be reached shows with the next request.
            assert_eq!(readyz(&client(), addr).await.0, StatusCode::OK);
            continue;
        }
        let details = until_failing(addr, &["far-end"]).await;
        assert!(details[0].contains("connect"), "{details:?}");
        assert_eq!(scrape(addr).await.value("tower_attest_ready{check=\"far-end\"}"), 0.0);
        let again = Serve::start_at(&listen, &upstream.url(), &[], dir);
        until_failing(addr, &[]).await;
        drop(again);
    }
    assert!(upstream.seen.requests().is_empty(), "to ask sends no request");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_not_ready_with_a_far_end_that_is_not_believed_and_says_why() {
    let upstream = Upstream::start().await;
    for flags in [&["--admin", "127.0.0.1:0"][..], &["--admin", "127.0.0.1:0", "--sealed"]] {
        let serve = Serve::start(&upstream.url(), &["--sealed"]);
        let policy = std::fs::read_to_string(serve.file("policy.toml")).unwrap();
        let measurement = hex::encode(b"tower-attest simulated measurement, not hardware");
        std::fs::write(serve.file("policy.toml"), policy.replace(&measurement, &"00".repeat(48))).unwrap();
        let connect = serve.connect(flags);
        let details = until_failing(admin(&connect), &["far-end"]).await;
        assert!(details[0].contains("measurement"), "{details:?}");
    }
}
