//! Revocation lists, from the key server to the verifier.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_attest::platform::fetch::HttpsClient;
use tower_attest::platform::snp::sim::{Authority, SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::platform::snp::vek::{
    CrlRefresher, CrlRequest, CrlSource, EndorsementDirectory, EndorsementErrorKind, KdsClient,
};
use tower_attest::platform::snp::{Product, SnpPolicy, SnpVerifier};
use tower_attest::{ReportVerifier, VerifyErrorKind};

use crate::server::{Fault, Kds, crl};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MEASUREMENT: [u8; 48] = [0xab; 48];

fn verifier() -> Arc<SnpVerifier> {
    Arc::new(SnpVerifier::trusting_simulator(SnpPolicy::pin(MEASUREMENT), &SimulatedAmd::new()))
}

fn client(kds: &Kds) -> KdsClient<HttpsClient> {
    KdsClient::new(HttpsClient::new()).with_base_url(&kds.url()).unwrap().with_attempts(1)
}

async fn verdict(verifier: &SnpVerifier) -> Result<(), VerifyErrorKind> {
    let guest = SimulatedGuest::new(Product::Genoa).with_measurement(MEASUREMENT);
    let report = SimProvider::new(guest).make(&[7; 64]);
    verifier.verify(&report, SystemTime::now()).await.map(drop).map_err(|error| error.kind())
}

async fn fetch(source: &impl CrlSource, verifier: &SnpVerifier) -> Result<SystemTime, EndorsementErrorKind> {
    let request = CrlRequest::new(Product::Genoa, verifier, SystemTime::now());
    match source.crl(&request).await {
        Ok(der) => request.check(&der).map_err(|error| error.kind()),
        Err(error) => Err(error.kind()),
    }
}

#[tokio::test]
async fn the_refresher_brings_a_revocation_to_the_verifier() {
    let kds = Kds::start().await;
    kds.publish(Product::Genoa, crl(Product::Genoa, &[Authority::Ask], DAY, 30 * DAY));
    let verifier = verifier();
    verdict(&verifier).await.unwrap();
    let before = verifier.revision();
    let refresh = CrlRefresher::new(client(&kds), [Product::Genoa]).spawn(&verifier);
    refresh.first_round().await.unwrap();
    assert_eq!(kds.requests(), ["/vcek/v1/Genoa/crl"]);
    assert_eq!(verdict(&verifier).await, Err(VerifyErrorKind::Revoked));
    assert_ne!(verifier.revision(), before, "trust given before the revocation ends");
}

#[tokio::test]
async fn the_same_list_again_ends_no_trust() {
    let kds = Kds::start().await;
    kds.publish(Product::Genoa, crl(Product::Genoa, &[], DAY, 30 * DAY));
    let (verifier, source) = (verifier(), client(&kds));
    fetch(&source, &verifier).await.unwrap();
    let revision = verifier.revision();
    fetch(&source, &verifier).await.unwrap();
    assert_eq!(verifier.revision(), revision);
    kds.publish(Product::Genoa, crl(Product::Genoa, &[], Duration::ZERO, 30 * DAY));
    fetch(&source, &verifier).await.unwrap();
    assert_ne!(verifier.revision(), revision);
    verdict(&verifier).await.unwrap();
}

#[tokio::test]
async fn lists_of_other_products_stay_in_force() {
    let kds = Kds::start().await;
    let verifier = verifier();
    verifier.set_crls([crl(Product::Genoa, &[Authority::Ask], DAY, 30 * DAY)]).unwrap();
    kds.publish(Product::Milan, crl(Product::Milan, &[], DAY, 30 * DAY));
    let refresh = CrlRefresher::new(client(&kds), [Product::Milan]).spawn(&verifier);
    refresh.first_round().await.unwrap();
    assert_eq!(verdict(&verifier).await, Err(VerifyErrorKind::Revoked));
}

#[tokio::test]
async fn a_list_that_must_not_be_taken_changes_nothing() {
    let in_force = crl(Product::Genoa, &[Authority::Ask], 2 * DAY, 30 * DAY);
    let mut forged = crl(Product::Genoa, &[], DAY, 30 * DAY);
    *forged.last_mut().unwrap() ^= 1;
    for (what, list) in [
        ("older", crl(Product::Genoa, &[], 3 * DAY, 30 * DAY)),
        ("of another product", crl(Product::Milan, &[], DAY, 30 * DAY)),
        ("over", crl(Product::Genoa, &[], DAY, Duration::ZERO)),
        ("forged", forged),
        ("empty", Vec::new()),
    ] {
        let kds = Kds::start().await;
        kds.publish(Product::Genoa, list);
        let verifier = verifier();
        verifier.set_crls([&in_force]).unwrap();
        let revision = verifier.revision();
        assert_eq!(fetch(&client(&kds), &verifier).await, Err(EndorsementErrorKind::Refused), "{what}");
        assert_eq!(verifier.revision(), revision, "{what}");
        assert_eq!(verdict(&verifier).await, Err(VerifyErrorKind::Revoked), "{what}");
    }
    let early = SimulatedAmd::new().crl(Product::Genoa, &[], SystemTime::now() + DAY, SystemTime::now() + 2 * DAY);
    verifier().renew_crl(Product::Genoa, &early, SystemTime::now()).unwrap_err();
}

#[tokio::test]
async fn lists_may_be_large_but_not_larger_than_the_limit() {
    let kds = Kds::start().await;
    for fault in [Fault::Huge, Fault::Endless] {
        kds.set(fault);
        assert_eq!(fetch(&client(&kds), &verifier()).await, Err(EndorsementErrorKind::Refused), "{fault:?}");
    }
}

#[tokio::test]
async fn the_directory_serves_the_last_list_through_an_outage() {
    let kds = Kds::start().await;
    kds.publish(Product::Genoa, crl(Product::Genoa, &[Authority::Ask], DAY, 30 * DAY));
    let place = tempfile::tempdir().unwrap();
    let source = EndorsementDirectory::new(place.path()).then(client(&kds)).write_back();
    fetch(&source, &verifier()).await.unwrap();
    assert!(place.path().join("crl-genoa.der").is_file());

    kds.set(Fault::Status(500));
    let after_restart = verifier();
    fetch(&source, &after_restart).await.unwrap();
    assert_eq!(verdict(&after_restart).await, Err(VerifyErrorKind::Revoked));

    let offline = verifier();
    fetch(&EndorsementDirectory::new(place.path()), &offline).await.unwrap();
    assert_eq!(verdict(&offline).await, Err(VerifyErrorKind::Revoked));
}

#[tokio::test]
async fn a_refused_list_is_not_written_and_a_bad_file_not_taken() {
    let kds = Kds::start().await;
    kds.publish(Product::Genoa, b"no list".to_vec());
    let place = tempfile::tempdir().unwrap();
    let source = EndorsementDirectory::new(place.path()).then(client(&kds)).write_back();
    assert_eq!(fetch(&source, &verifier()).await, Err(EndorsementErrorKind::Refused));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);

    std::fs::write(place.path().join("crl-genoa.der"), b"no list").unwrap();
    let alone = EndorsementDirectory::new(place.path());
    assert_eq!(fetch(&alone, &verifier()).await, Err(EndorsementErrorKind::Refused));
    kds.set(Fault::Status(503));
    assert_eq!(fetch(&source, &verifier()).await, Err(EndorsementErrorKind::Unavailable), "the outage is told");
}
