//! Every metric moves, and none by more than it should.

use std::collections::BTreeSet;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::support::{Serve, client, get, raw};
use super::super::upstream::Upstream;
use super::exposition::{Samples, open_metrics, prometheus};
use super::{ADMIN, admin, metrics_as, promtool, scrape, scraped};

fn requests(protocol: &str, status: &str, outcome: &str, reason: &str) -> String {
    format!(
        "tower_attest_requests_total{{outcome=\"{outcome}\",protocol=\"{protocol}\",reason=\"{reason}\",status=\"{status}\"}}"
    )
}

fn attested(nonce: &str, outcome: &str, reason: &str) -> String {
    format!("tower_attest_attested_requests_total{{nonce=\"{nonce}\",outcome=\"{outcome}\",reason=\"{reason}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_formats_are_well_formed_and_hold_the_same() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &ADMIN);
    let connect = serve.connect(&ADMIN);
    get(&client(), connect.addr(), "/echo").await;
    for addr in [admin(&serve.sidecar), admin(&connect)] {
        let plain = metrics_as(addr, "*/*").await;
        assert_eq!(plain.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(
            (&plain.headers()["vary"], &plain.headers()["cache-control"]),
            (&"accept".parse().unwrap(), &"no-store".parse().unwrap())
        );
        promtool(plain.body());
        let plain = prometheus(std::str::from_utf8(plain.body()).unwrap());
        let open = metrics_as(addr, "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.5").await;
        assert_eq!(open.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let open = open_metrics(std::str::from_utf8(open.body()).unwrap());
        let names = |samples: &Samples| samples.values.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&plain), names(&open));
        for name in plain.families.keys() {
            assert!(name.starts_with("tower_attest_") || name.starts_with("process_"), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_what_became_of_them_on_both_sides() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--admin", "127.0.0.1:0", "--max-body-bytes", "10"]);
    let connect = serve.connect(&["--admin", "127.0.0.1:0", "--idle-timeout", "2s"]);
    let client = client();
    for _ in 0..3 {
        get(&client, connect.addr(), "/echo").await;
    }
    assert_eq!(get(&client, connect.addr(), "/teapot").await.status(), StatusCode::IM_A_TEAPOT);
    let large = Request::post(format!("http://{}/echo", connect.addr())).body(Full::from("more than ten")).unwrap();
    assert_eq!(client.request(large).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(get(&client, connect.addr(), "/hang").await.status(), StatusCode::GATEWAY_TIMEOUT);

    let near = scraped(admin(&connect), "six requests", |samples| {
        samples.count("tower_attest_request_duration_seconds_count{protocol=\"http\"}") == 6.0
    });
    let near = near.await;
    assert_eq!(near.value(&requests("http", "2xx", "answered", "")), 3.0);
    assert_eq!(near.value(&requests("http", "4xx", "answered", "")), 2.0, "the server's 413 is the far end's answer");
    assert_eq!(near.value(&requests("http", "5xx", "refused", "timeout")), 1.0);
    assert_eq!((near.value("tower_attest_requests_in_flight"), near.of("tower_attest_requests_total")), (0.0, 3));

    let far = scraped(admin(&serve.sidecar), "six requests", |samples| {
        samples.count("tower_attest_request_duration_seconds_count{protocol=\"http\"}") == 6.0
    });
    let far = far.await;
    assert_eq!(far.value(&requests("http", "2xx", "answered", "")), 3.0);
    assert_eq!(far.value(&requests("http", "4xx", "answered", "")), 1.0);
    assert_eq!(far.value(&requests("http", "4xx", "refused", "body-too-large")), 1.0);
    assert_eq!(far.value(&requests("http", "none", "broken", "client-gone")), 1.0, "connect gave up first");

    drop(upstream);
    assert_eq!(get(&client, connect.addr(), "/echo").await.status(), StatusCode::BAD_GATEWAY);
    let down = requests("http", "5xx", "refused", "upstream-down");
    scraped(admin(&serve.sidecar), "an upstream that is down", |samples| samples.count(&down) == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_exchanges_count_while_they_last() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--admin", "127.0.0.1:0", "--max-connections", "9"]);
    let connect = serve.connect(&ADMIN);
    let request =
        Request::get(format!("http://{}/events", connect.addr())).body(Full::<bytes::Bytes>::default()).unwrap();
    let client = client();
    let mut events = client.request(request).await.unwrap().into_body();
    for addr in [admin(&serve.sidecar), admin(&connect)] {
        let samples = scrape(addr).await;
        assert_eq!(
            (samples.value("tower_attest_requests_in_flight"), samples.value("tower_attest_connections")),
            (1.0, 1.0)
        );
        assert_eq!(samples.value("tower_attest_connections_accepted_total"), 1.0);
    }
    assert_eq!(scrape(admin(&serve.sidecar)).await.value("tower_attest_connections_limit"), 9.0);
    upstream.seen.end_events();
    assert!(events.frame().await.is_none());
    drop((client, events));
    for addr in [admin(&serve.sidecar), admin(&connect)] {
        scraped(addr, "no exchange", |samples| samples.value("tower_attest_requests_in_flight") == 0.0).await;
    }
    drop(connect);
    scraped(admin(&serve.sidecar), "no connection", |samples| samples.value("tower_attest_connections") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_report_and_who_does_not_is_told_apart() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &ADMIN);
    let addr = admin(&serve.sidecar);
    let before = scrape(addr).await;
    assert_eq!(
        (before.value("tower_attest_reports_total{outcome=\"made\"}"), before.value("tower_attest_key_epoch")),
        (2.0, 1.0),
        "at the start, and for the banner"
    );
    let close = "host: localhost\r\nconnection: close\r\n";
    let nonce = format!("attestation-nonce: :{}=:\r\n", "A".repeat(43));
    for (target, more, sample) in [
        ("/echo", "", attested("no", "unasked", "")),
        ("/echo", nonce.as_str(), attested("yes", "attested", "")),
        ("/.well-known/tower-attest", nonce.as_str(), attested("yes", "evidence", "")),
        ("/.well-known/tower-attest", "", attested("no", "refused", "missing-nonce")),
        ("/echo", "attestation-nonce: marked\r\n", attested("yes", "refused", "malformed-nonce")),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\n{close}{more}\r\n");
        raw(serve.tls("http/1.1").await, request.as_bytes()).await;
        scraped(addr, &sample, |samples| samples.count(&sample) == 1.0).await;
    }
    let after = scrape(addr).await;
    assert_eq!(after.value("tower_attest_reports_total{outcome=\"made\"}"), 4.0);
    assert_eq!(after.value("tower_attest_report_duration_seconds_count"), 4.0);
    assert_eq!(after.value("tower_attest_report_batch_bucket{le=\"1.0\"}"), 4.0, "nobody shared one");
    assert_eq!(after.value("tower_attest_nonces_total{outcome=\"answered\"}"), 4.0);
    assert_eq!(
        (after.value("tower_attest_report_queue"), after.value("tower_attest_report_queue_limit")),
        (0.0, 4096.0)
    );
    assert_eq!(after.value("tower_attest_attester_health{state=\"ready\"}"), 1.0);
    assert_eq!(after.value("tower_attest_attester_health{state=\"stalled\"}"), 0.0);
    assert_eq!(after.value("tower_attest_key_lifetime_seconds"), 3600.0);
    assert!(after.value("tower_attest_key_age_seconds") > before.value("tower_attest_key_age_seconds"));
    assert_eq!(after.value("tower_attest_sealed_requests_limit"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_certificate_build_and_process_are_told() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &ADMIN);
    let addr = admin(&serve.sidecar);
    drop(serve.tls("http/1.1").await);
    let mut noise = TcpStream::connect(serve.addr()).await.unwrap();
    noise.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let of = |outcome: &str| format!("tower_attest_tls_handshakes_total{{outcome=\"{outcome}\"}}");
    let samples = scraped(addr, "two handshakes", |samples| samples.count(&of("failed")) == 1.0).await;
    assert_eq!((samples.value(&of("completed")), samples.value(&of("timed-out"))), (1.0, 0.0));

    let year = 365.25 * 86400.0;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(samples.value("tower_attest_certificate_expiry_timestamp_seconds") > now + 100.0 * year, "rcgen's own end");
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("tower_attest_build_info{{command=\"serve\",platform=\"snp\",version=\"{version}\"}}");
    assert_eq!(samples.value(&build), 1.0);
    let started = samples.value("process_start_time_seconds");
    assert!(started <= now && started > now - 3600.0);
    assert!(samples.value("process_resident_memory_bytes") > 1e6);
    assert!(
        samples.value("process_open_fds") > 3.0 && samples.value("process_max_fds") > samples.value("process_open_fds")
    );
    assert!(samples.value("process_cpu_seconds_total") >= 0.0 && samples.value("process_threads") > 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_are_counted_by_name_and_outcome() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &ADMIN);
    let connect = serve.connect(&ADMIN);
    let of = |name: &str, outcome: &str| format!("tower_attest_reloads_total{{name=\"{name}\",outcome=\"{outcome}\"}}");
    // The certificate comes last: it is also the root that the policy's reload reads.
    for (sidecar, name, file) in [(&connect, "policy", "policy.toml"), (&serve.sidecar, "certificate", "cert.pem")] {
        let before = scrape(admin(sidecar)).await;
        assert_eq!((before.value(&of(name, "reloaded")), before.value(&of(name, "refused"))), (0.0, 0.0));
        sidecar.signal("HUP");
        scraped(admin(sidecar), "a reload", |samples| samples.value(&of(name, "reloaded")) == 1.0).await;
        std::fs::write(serve.file(file), "nothing that can be read").unwrap();
        sidecar.signal("HUP");
        scraped(admin(sidecar), "a refusal", |samples| samples.value(&of(name, "refused")) == 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_tells_whom_it_believed_how_long_that_took_and_why_not() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&ADMIN);
    get(&client(), connect.addr(), "/echo").await;
    let samples = scrape(admin(&connect)).await;
    let of = |outcome: &str, stage: &str, check: &str| {
        format!(
            "tower_attest_attestations_total{{check=\"{check}\",kind=\"connection\",outcome=\"{outcome}\",stage=\"{stage}\"}}"
        )
    };
    assert_eq!(samples.value(&of("verified", "", "")), 1.0);
    assert_eq!(samples.value("tower_attest_attestation_duration_seconds_count{outcome=\"verified\"}"), 1.0);
    assert_eq!(samples.value("tower_attest_verification_duration_seconds_count{outcome=\"accepted\"}"), 1.0);
    assert_eq!(samples.value("tower_attest_endpoints{state=\"attested\"}"), 1.0);
    let age = samples.value("tower_attest_evidence_age_seconds");
    assert!((0.0..600.0).contains(&age), "{age}");
    scraped(admin(&connect), "older evidence", |samples| samples.value("tower_attest_evidence_age_seconds") > age)
        .await;
    assert_eq!(samples.of("tower_attest_trusted_keys"), 0, "of sealed requests alone");

    let policy = std::fs::read_to_string(serve.file("policy.toml")).unwrap();
    let measurement = hex::encode(b"tower-attest simulated measurement, not hardware");
    std::fs::write(serve.file("policy.toml"), policy.replace(&measurement, &"00".repeat(48))).unwrap();
    let other = serve.connect(&ADMIN);
    assert_eq!(get(&client(), other.addr(), "/echo").await.status(), StatusCode::BAD_GATEWAY);
    let samples = scrape(admin(&other)).await;
    assert!(samples.value(&of("refused", "policy", "refused")) >= 1.0);
    assert!(samples.value("tower_attest_verification_duration_seconds_count{outcome=\"refused\"}") >= 1.0);
    assert_eq!(samples.value(&requests("http", "5xx", "refused", "not-attested")), 1.0);
    assert_eq!(samples.of("tower_attest_evidence_age_seconds"), 0, "there is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_requests_are_told_on_both_sides() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--admin", "127.0.0.1:0", "--sealed-only"]);
    let connect = serve.connect(&["--admin", "127.0.0.1:0", "--sealed"]);
    for _ in 0..2 {
        get(&client(), connect.addr(), "/teapot").await;
    }
    let near = scrape(admin(&connect)).await;
    assert_eq!(near.value("tower_attest_verdicts_total{check=\"\",outcome=\"verified\"}"), 2.0);
    assert_eq!((near.value("tower_attest_trusted_keys"), near.value("tower_attest_trusted_origins")), (1.0, 1.0));
    let far = scraped(admin(&serve.sidecar), "two requests", |samples| {
        samples.count(&requests("http", "4xx", "answered", "")) == 2.0
    });
    let far = far.await;
    assert_eq!(
        (far.value("tower_attest_sealed_requests_opened"), far.value("tower_attest_sealed_requests_limit")),
        (2.0, 900_000.0)
    );
    raw(serve.tls("http/1.1").await, b"GET /echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    let refused = requests("http", "4xx", "refused", "not-opened");
    scraped(admin(&serve.sidecar), "one in the clear", |samples| samples.count(&refused) == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_make_no_series_and_nothing_of_them_shows() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &ADMIN);
    let addr = admin(&serve.sidecar);
    // One of each kind first, so that what follows adds to what is there.
    let mut series = None;
    for round in 0..2 {
        for number in 0..50 {
            let marked = format!("marked{}", number + 50 * round);
            let request = format!(
                "{} /{marked}?{marked} HTTP/1.1\r\nhost: {marked}.example\r\nuser-agent: {marked}\r\n\
                 content-type: application/grpc+{marked}\r\ngrpc-status: {marked}\r\nattestation-nonce: {marked}\r\n\
                 x-{marked}: {marked}\r\nconnection: close\r\n\r\n",
                marked.to_uppercase()
            );
            let plain =
                request.replace("content-type: application/grpc+", "x-type: ").replace("attestation-nonce", "x-nonce");
            for request in [request, plain] {
                raw(serve.tls("http/1.1").await, request.as_bytes()).await;
            }
        }
        let response = metrics_as(addr, "text/plain").await;
        let text = std::str::from_utf8(response.body()).unwrap().to_lowercase();
        assert!(!text.contains("marked"), "{text}");
        let found = prometheus(std::str::from_utf8(response.body()).unwrap()).values.len();
        assert_eq!(*series.get_or_insert(found), found, "fifty more add no series");
    }
}
