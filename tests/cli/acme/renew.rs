//! Renewal while requests run, and what becomes of a server whose CA is away.

use serde_json::json;

use super::pebble::{NAME, Pebble, logs, shown, soon};
use crate::sidecar::support::{client, get};
use crate::sidecar::upstream::Upstream;

#[tokio::test]
async fn no_request_is_lost_while_certificates_come_and_go() {
    let Some(pebble) = Pebble::start(json!({ "certificateValidityPeriod": 6 })).await else { return };
    let upstream = Upstream::start().await;
    let directory = format!("https://localhost:{}/dir", pebble.port());
    let serve = pebble.serve_with(&directory, &format!("http://{}", upstream.addr), &[]);
    let mut last = pebble.issued(&serve, NAME).await;
    let roots = pebble.root_file().await;
    let connect = pebble.connect(&["--roots-file", roots.to_str().unwrap()]);
    let http = client();
    let mut renewals = 0;
    soon("three renewals", &serve, async || {
        let answer = get(&http, connect.addr(), "/").await;
        assert_eq!(answer.status(), 200);
        assert!(answer.headers()["attestation-result"].to_str().unwrap().starts_with("verified"));
        let now = shown(serve.addr(), NAME).await.unwrap().remove(0);
        if now != last {
            (last, renewals) = (now, renewals + 1);
        }
        (renewals == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_the_ca_is_away_the_old_one_serves_and_when_it_has_forgotten_all_an_account_is_made_anew() {
    let Some(mut pebble) = Pebble::start(json!({ "certificateValidityPeriod": 9 })).await else { return };
    let serve = pebble.serve(&[]);
    pebble.issued(&serve, NAME).await;
    pebble.kill();
    let old = shown(serve.addr(), NAME).await.unwrap().remove(0);
    logs(&serve, "no new certificate; the old one serves on").await;
    logs(&serve, "no new certificate; the one that serves has expired").await;
    assert_eq!(shown(serve.addr(), NAME).await.unwrap().remove(0), old);
    let account = std::fs::read(pebble.folder().join("account.json")).unwrap();

    pebble.revive().await;
    serve.signal("HUP");
    logs(&serve, "the CA does not know the account that is kept").await;
    pebble.issued(&serve, NAME).await;
    assert_ne!(std::fs::read(pebble.folder().join("account.json")).unwrap(), account);
}
