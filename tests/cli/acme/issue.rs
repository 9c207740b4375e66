//! The first certificate: by both challenges, for names and addresses, with and without a CA that answers; and none where
//! it must not be.

use serde_json::json;

use super::pebble::{NAME, Pebble, is_issued_by, logs, mode, shown};
use crate::sidecar::support::{client, get};
use crate::sidecar::upstream::Upstream;

#[tokio::test]
async fn by_tls_alpn_01_once_the_ca_is_there_and_attested_clients_are_served_before() {
    let Some(mut pebble) = Pebble::new(json!({})) else { return };
    let upstream = Upstream::start().await;
    let directory = format!("https://localhost:{}/dir", pebble.port());
    let serve = pebble.serve_with(&directory, &format!("http://{}", upstream.addr), &[]);
    assert!(serve.banner.contains("self-signed until localhost has issued one"), "{}", serve.banner);
    logs(&serve, "no certificate yet; a self-signed one serves").await;
    assert_eq!(shown(serve.addr(), NAME).await.unwrap().len(), 1);
    let connect = pebble.connect(&["--dangerous-trust-attestation-alone"]);
    assert_eq!(get(&client(), connect.addr(), "/before").await.status(), 200);

    pebble.revive().await;
    pebble.issued(&serve, NAME).await;
    // The channel that stands, and one that asks for the CA's certificate.
    assert_eq!(get(&client(), connect.addr(), "/after").await.status(), 200);
    let roots = pebble.root_file().await;
    let connect = pebble.connect(&["--roots-file", roots.to_str().unwrap()]);
    assert_eq!(get(&client(), connect.addr(), "/ca").await.status(), 200);
    assert_eq!(upstream.seen.paths(), ["/before", "/after", "/ca"]);
    for file in ["account.json", "certificate.pem"] {
        assert_eq!(mode(&pebble.folder().join(file)), 0o600);
    }
}

#[tokio::test]
async fn by_http_01() {
    let Some(pebble) = Pebble::start(json!({})).await else { return };
    let redirect = format!("127.0.0.1:{}", pebble.http);
    // The listener with TLS is not where the CA would look for it.
    let serve = pebble.serve(&["--acme-challenge", "http-01", "--redirect", &redirect, "--listen", "127.0.0.1:0"]);
    pebble.issued(&serve, NAME).await;
    // The token that was answered is gone.
    let log = pebble.log();
    assert!(log.contains("/.well-known/acme-challenge/"), "{log}");
}

#[tokio::test]
async fn for_several_names_and_an_address_by_a_ca_that_refuses_many_nonces() {
    let Some(mut pebble) = Pebble::new(json!({})) else { return };
    pebble.refused_nonces = 20;
    pebble.revive().await;
    let redirect = format!("127.0.0.1:{}", pebble.http);
    let hosts = ["--host", NAME, "--host", "Other.example", "--host", "127.0.0.1"];
    for challenge in ["tls-alpn-01", "http-01"] {
        std::fs::remove_dir_all(pebble.state()).ok();
        let flags = [&hosts[..], &["--acme-challenge", challenge, "--redirect", &redirect]].concat();
        let serve = pebble.serve(&flags);
        for name in [NAME, "other.example", "127.0.0.1"] {
            pebble.issued(&serve, name).await;
        }
    }
}

#[tokio::test]
async fn a_restart_needs_no_ca() {
    let Some(mut pebble) = Pebble::start(json!({})).await else { return };
    let serve = pebble.serve(&[]);
    let before = pebble.issued(&serve, NAME).await;
    let root = pebble.root().await;
    assert_eq!(serve.terminate().await, Some(0));
    pebble.kill();
    let serve = pebble.serve(&[]);
    assert!(serve.banner.contains("by localhost, until 2"), "{}", serve.banner);
    let after = shown(serve.addr(), NAME).await.unwrap();
    assert!(after[0] == before && is_issued_by(&after, &root, NAME));
    assert_eq!(pebble.orders(), 1);
}

#[tokio::test]
async fn an_account_that_the_ca_knows_already_is_bound() {
    let keys = json!({ "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W" });
    let settings = json!({ "externalAccountBindingRequired": true, "externalAccountMACKeys": keys });
    let Some(pebble) = Pebble::start(settings).await else { return };
    let key = pebble.dir.path().join("eab");
    let serve = pebble.serve(&["--acme-contact", "ops@prover.example"]);
    logs(&serve, "externalAccountRequired").await;
    assert!(serve.log().contains("making an account"), "{}", serve.log());
    drop(serve);
    let bound = ["--acme-eab-id", "kid-1", "--acme-eab-key-file", key.to_str().unwrap()];
    // Of another account.
    std::fs::write(&key, "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH").unwrap();
    let serve = pebble.serve(&bound);
    logs(&serve, "no certificate yet").await;
    drop(serve);
    std::fs::write(&key, "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n").unwrap();
    let serve = pebble.serve(&bound);
    pebble.issued(&serve, NAME).await;
}

#[tokio::test]
async fn without_the_challenge_there_is_no_certificate_and_no_haste() {
    let Some(pebble) = Pebble::start(json!({})).await else { return };
    // Not where the CA looks.
    let serve = pebble.serve(&["--listen", "127.0.0.1:0"]);
    logs(&serve, "the CA could not validate it").await;
    let log = serve.log();
    assert!(log.contains(NAME) && log.contains("\"next_attempt_in\":\"1m"), "{log}");
    assert_eq!(shown(serve.addr(), NAME).await.unwrap().len(), 1, "self-signed");
    assert!(!pebble.folder().join("certificate.pem").exists());
    assert_eq!(pebble.orders(), 1);
}

#[tokio::test]
async fn a_profile_that_the_ca_does_not_have_is_told() {
    let Some(pebble) = Pebble::start(json!({})).await else { return };
    let serve = pebble.serve(&["--acme-profile", "shortlived"]);
    logs(&serve, "next_attempt_in").await;
    assert!(serve.log().contains("--acme-profile shortlived: the CA offers no profile"), "{}", serve.log());
    assert_eq!(pebble.orders(), 0);
}
