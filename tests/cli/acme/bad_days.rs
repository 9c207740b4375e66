//! State that is damaged, foreign or another server's, and names that have changed.

use serde_json::json;

use super::pebble::{NAME, Pebble, is_issued_by, logs, shown};

#[tokio::test]
async fn damaged_files_are_told_and_made_anew() {
    let Some(pebble) = Pebble::start(json!({})).await else { return };
    let serve = pebble.serve(&[]);
    let first = pebble.issued(&serve, NAME).await;
    assert_eq!(serve.terminate().await, Some(0));
    let (account, certificate) = (pebble.folder().join("account.json"), pebble.folder().join("certificate.pem"));
    let whole = std::fs::read_to_string(&certificate).unwrap();
    std::fs::write(&certificate, &whole[..whole.len() / 3]).unwrap();
    std::fs::write(&account, "{").unwrap();
    let serve = pebble.serve(&[]);
    logs(&serve, "the certificate that is kept is not usable").await;
    logs(&serve, "the account that is kept is not usable").await;
    assert_ne!(pebble.issued(&serve, NAME).await, first);
    // And both are whole again.
    let orders = pebble.orders();
    assert_eq!(serve.terminate().await, Some(0));
    let serve = pebble.serve(&[]);
    pebble.issued(&serve, NAME).await;
    assert_eq!(pebble.orders(), orders);
    assert!(!serve.log().contains("not usable"), "{}", serve.log());
}

#[tokio::test]
async fn a_key_that_others_could_read_is_given_up() {
    use std::os::unix::fs::PermissionsExt;
    let Some(pebble) = Pebble::start(json!({})).await else { return };
    let serve = pebble.serve(&[]);
    let first = pebble.issued(&serve, NAME).await;
    assert_eq!(serve.terminate().await, Some(0));
    let certificate = pebble.folder().join("certificate.pem");
    std::fs::set_permissions(&certificate, std::fs::Permissions::from_mode(0o644)).unwrap();
    let serve = pebble.serve(&[]);
    logs(&serve, "found mode 644").await;
    let second = pebble.issued(&serve, NAME).await;
    assert_ne!(public_key(&first), public_key(&second));
    assert_eq!(super::pebble::mode(&certificate), 0o600);
}

#[tokio::test]
async fn what_cannot_be_written_any_more_is_told_and_serves_all_the_same() {
    let Some(mut pebble) = Pebble::new(json!({})) else { return };
    let serve = pebble.serve(&[]);
    logs(&serve, "no certificate yet").await;
    std::fs::remove_dir_all(pebble.folder()).unwrap();
    std::fs::write(pebble.folder(), "no directory").unwrap();
    pebble.revive().await;
    serve.signal("HUP");
    pebble.issued(&serve, NAME).await;
    for what in ["the new account cannot be kept", "the new certificate cannot be kept"] {
        assert!(serve.log().contains(what), "{}", serve.log());
    }
    assert_eq!(pebble.orders(), 1);
}

/// Each certificate has a key of its own.
fn public_key(certificate: &[u8]) -> Vec<u8> {
    let certificate = rustls::pki_types::CertificateDer::from(certificate.to_vec());
    rustls::server::ParsedCertificate::try_from(&certificate).unwrap().subject_public_key_info().to_vec()
}

#[tokio::test]
async fn a_certificate_for_some_of_the_names_serves_until_there_is_one_for_all() {
    let Some(mut pebble) = Pebble::start(json!({})).await else { return };
    let serve = pebble.serve(&[]);
    let first = pebble.issued(&serve, NAME).await;
    let root = pebble.root().await;
    assert_eq!(serve.terminate().await, Some(0));
    pebble.kill();
    let serve = pebble.serve(&["--host", NAME, "--host", "new.example"]);
    logs(&serve, "no new certificate; the old one serves on").await;
    assert_eq!(shown(serve.addr(), NAME).await.unwrap()[0], first);
    pebble.revive().await;
    serve.signal("HUP");
    pebble.issued(&serve, "new.example").await;
    pebble.issued(&serve, NAME).await;
    drop(serve);

    // For none of them it is no better than a self-signed one.
    pebble.kill();
    let serve = pebble.serve(&["--host", "third.example"]);
    logs(&serve, "it is for other names").await;
    let chain = shown(serve.addr(), "third.example").await.unwrap();
    assert!(chain.len() == 1 && !is_issued_by(&chain, &root, "third.example"));
}
