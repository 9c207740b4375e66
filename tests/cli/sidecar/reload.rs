//! SIGHUP: what is good is taken up, what is bad is refused and the old stays.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::restart::load;
use super::support::{Serve, Sidecar, certificate, client, eventually, get};
use super::upstream::Upstream;

const INFO: [&str; 2] = ["--log", "info"];

/// How many lines of the log say so.
fn said(sidecar: &Sidecar, what: &str) -> usize {
    sidecar.log().lines().filter(|line| line.contains(what)).count()
}

/// Has it read its files again, and waits until it has said what came of it.
async fn reload(sidecar: &Sidecar, outcome: &str) {
    let before = said(sidecar, outcome);
    sidecar.signal("HUP");
    eventually(outcome, || said(sidecar, outcome) > before).await;
}

const RELOADED: &str = "\"reloaded\"";
const REFUSED: &str = "not reloaded: what was before stays in force";

fn code(response: &Response<Bytes>) -> (StatusCode, String) {
    let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    (response.status(), problem["check"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_reads_its_certificate_again_and_says_whether_it_will_do() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &INFO);
    let (cert, key) = (serve.file("cert.pem"), serve.file("key.pem"));
    reload(&serve.sidecar, RELOADED).await;
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, "no key").unwrap();
    reload(&serve.sidecar, REFUSED).await;
    assert_eq!(get(&client(), serve.connect(&[]).addr(), "/").await.status(), 200, "the last good pair serves");
    std::fs::write(&key, good).unwrap();
    certificate(&cert, &key);
    reload(&serve.sidecar, RELOADED).await;
    assert_eq!(get(&client(), serve.connect(&[]).addr(), "/").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_judges_connections_that_are_open_and_a_bad_one_is_refused() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&INFO);
    let (client, policy) = (client(), serve.file("policy.toml"));
    let good = std::fs::read_to_string(&policy).unwrap();
    assert_eq!(get(&client, connect.addr(), "/").await.status(), 200);

    std::fs::write(&policy, "[snp]\nunknown = 1\n").unwrap();
    reload(&connect, REFUSED).await;
    assert_eq!(get(&client, connect.addr(), "/").await.status(), 200, "the old policy stays");
    std::fs::remove_file(&policy).unwrap();
    reload(&connect, REFUSED).await;
    assert_eq!(get(&client, connect.addr(), "/").await.status(), 200, "the old policy stays");

    std::fs::write(&policy, format!("[[snp.measurement]]\nvalue = \"{}\"\n", "4d".repeat(48))).unwrap();
    reload(&connect, RELOADED).await;
    let refused = get(&client, connect.addr(), "/").await;
    assert_eq!(code(&refused), (StatusCode::BAD_GATEWAY, "refused".to_owned()));
    assert_eq!(upstream.seen.paths().len(), 3, "what is refused has not been sent");

    std::fs::write(&policy, good).unwrap();
    reload(&connect, RELOADED).await;
    eventually_served(&connect).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_sealed_requests_a_new_policy_counts_too() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &["--sealed-only"]);
    let connect = serve.connect(&["--sealed", "--log", "info"]);
    let (client, policy) = (client(), serve.file("policy.toml"));
    assert_eq!(get(&client, connect.addr(), "/").await.status(), 200);
    std::fs::write(&policy, format!("[[snp.measurement]]\nvalue = \"{}\"\n", "4d".repeat(48))).unwrap();
    reload(&connect, RELOADED).await;
    assert_eq!(get(&client, connect.addr(), "/").await.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_names_another_server_or_platform_is_followed_by_new_connections() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let connect = serve.connect(&INFO);
    let (client, policy) = (client(), serve.file("policy.toml"));
    let good = std::fs::read_to_string(&policy).unwrap();
    let tdx_alone = &good[good.find("[[tdx").unwrap()..];
    for (text, check) in [
        (format!("[server]\nconfig = \"{}\"\n{good}", "5e".repeat(32)), "config-mismatch"),
        (format!("[server]\nname = \"other.example\"\n{good}"), "name-mismatch"),
        (tdx_alone.to_owned(), "malformed"),
    ] {
        std::fs::write(&policy, text).unwrap();
        reload(&connect, RELOADED).await;
        assert_eq!(code(&get(&client, connect.addr(), "/").await), (StatusCode::BAD_GATEWAY, check.to_owned()));
    }
    let config = serve.sidecar.banner.lines().find_map(|line| line.strip_prefix("config")).unwrap();
    std::fs::write(&policy, format!("[server]\nconfig = \"{}\"\n{good}", config.trim())).unwrap();
    reload(&connect, RELOADED).await;
    eventually_served(&connect).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_to_a_reload_and_streams_go_on() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &INFO);
    let connect = serve.connect(&INFO);
    let policy = serve.file("policy.toml");
    let good = std::fs::read_to_string(&policy).unwrap();
    let request = Request::get(format!("http://{}/events", connect.addr())).body(Full::<Bytes>::default()).unwrap();
    let mut events = client().request(request).await.unwrap().into_body();
    let (tally, tasks) = load(connect.addr(), 16);
    // In place, in place, and by new connections.
    for text in [&good, &good, &format!("[server]\nname = \"localhost\"\n{good}"), &good] {
        std::fs::write(&policy, text).unwrap();
        reload(&connect, RELOADED).await;
        reload(&serve.sidecar, RELOADED).await;
        let before = tally.served.load(Ordering::SeqCst);
        eventually("served on", || tally.served.load(Ordering::SeqCst) > before + 50).await;
    }
    tally.stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((tally.failed.load(Ordering::SeqCst), tally.broken.load(Ordering::SeqCst)), (0, 0));
    upstream.seen.send("data: late\n\n").await;
    assert_eq!(events.frame().await.unwrap().unwrap().into_data().unwrap(), "data: late\n\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_on_a_connection_of_an_earlier_policy_is_not_sent_under_it() {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), &[]);
    let gate = Gate::start(serve.addr()).await;
    let connect = serve.connect_to(gate.port, &INFO);
    assert_eq!(get(&client(), connect.addr(), "/").await.status(), 200);
    gate.shut();
    let (addr, held) = (connect.addr(), Arc::clone(&gate.held));
    let waiting = tokio::spawn(async move {
        loop {
            let answer = get(&client(), addr, "/waits").await;
            // One that met the connection which was cut just now has not waited.
            let unavailable = String::from_utf8_lossy(answer.body()).contains("\"unavailable\"");
            if held.load(Ordering::SeqCst) > 0 && unavailable || answer.status() == StatusCode::OK {
                return answer;
            }
        }
    });
    gate.somebody_waits().await;
    let policy = serve.file("policy.toml");
    let config = serve.sidecar.banner.lines().find_map(|line| line.strip_prefix("config")).unwrap();
    let good = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, format!("[server]\nconfig = \"{}\"\n{good}", config.trim())).unwrap();
    reload(&connect, RELOADED).await;
    gate.open();
    assert_eq!(code(&waiting.await.unwrap()), (StatusCode::BAD_GATEWAY, "unavailable".to_owned()));
    assert_eq!(upstream.seen.paths(), ["/"]);
    eventually_served(&connect).await;
}

/// Carries connections, or holds them up.
struct Gate {
    port: u16,
    open: Arc<watch::Sender<bool>>,
    held: Arc<AtomicUsize>,
}

impl Gate {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, open) = (listener.local_addr().unwrap().port(), Arc::new(watch::Sender::new(true)));
        let gate = Self { port, open, held: Arc::default() };
        let (open, held) = (Arc::clone(&gate.open), Arc::clone(&gate.held));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut open, held) = (open.subscribe(), Arc::clone(&held));
                tokio::spawn(async move {
                    if !*open.borrow_and_update() {
                        held.fetch_add(1, Ordering::SeqCst);
                        open.wait_for(|open| *open).await.unwrap();
                    }
                    let mut far = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        gate
    }

    /// Cuts the connections that there are, and holds up new ones.
    fn shut(&self) {
        self.open.send_replace(false);
    }

    fn open(&self) {
        self.open.send_replace(true);
    }

    async fn somebody_waits(&self) {
        eventually("a connection is held up", || self.held.load(Ordering::SeqCst) > 0).await;
    }
}

/// A refusal is remembered for a moment: attempts pause.
async fn eventually_served(connect: &Sidecar) {
    let client = client();
    for _ in 0..600 {
        if get(&client, connect.addr(), "/").await.status() == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("never served: {}", connect.log());
}
