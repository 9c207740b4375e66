//! Signals: the first to end drains, the second does not wait, and one that comes early leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};

use super::support::{Serve, client, eventually, signal};
use super::upstream::Upstream;
use crate::run::{Files, command};

/// Nothing but a second signal ends them in the time of a test.
const LONG: [&str; 4] = ["--drain-timeout", "1h", "--header-timeout", "1h"];

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once_what_the_first_would_wait_for() {
    let upstream = Upstream::start().await;
    for (name, code, which) in [("TERM", 143, "serve"), ("INT", 130, "connect")] {
        let serve = Serve::start(&upstream.url(), &LONG);
        let connect = serve.connect(&LONG);
        let request = Request::get(format!("http://{}/events", connect.addr())).body(Full::<Bytes>::default()).unwrap();
        let client = client();
        let events = client.request(request).await.unwrap();
        let (ends, _stays) = if which == "serve" { (serve.sidecar, connect) } else { (connect, serve.sidecar) };
        let addr = ends.addr();
        ends.signal("TERM");
        eventually("it stops listening", || std::net::TcpStream::connect(addr).is_err()).await;
        ends.signal(name);
        assert_eq!(ends.ended().await, Some(code), "{which}");
        assert!(events.into_body().collect().await.is_err(), "a body that is cut off does not look whole");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_it_listens_ends_it_too() {
    // A far end that takes connections and says nothing: the first attempt hangs.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let files = Files::new();
    let policy = files.write("policy", format!("[[snp.measurement]]\nvalue = \"{}\"\n", "4d".repeat(48)));
    let arguments = ["connect", "--to", &to, "--policy", policy.to_str().unwrap(), "--offline", "--listen"];
    let mut child = command(arguments.iter().chain(&["127.0.0.1:0"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("to "));
    let _connected = silent.accept().unwrap();
    // This one is kept until there is something to read again.
    signal(child.id(), "HUP");
    signal(child.id(), "TERM");
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(lines.next().is_none(), "it never listened");
}
