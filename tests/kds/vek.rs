//! Reports without their certificate.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_attest::platform::fetch::HttpsClient;
use tower_attest::platform::snp::sim::{SimProvider, SimulatedAmd, SimulatedGuest};
use tower_attest::platform::snp::vek::{
    EndorsementDirectory, EndorsementError, EndorsementErrorKind, KdsClient, MemoryVeks, VekSource,
};
use tower_attest::platform::snp::{Product, SnpPolicy, SnpVerifier, VekKind};
use tower_attest::time::ManualClock;
use tower_attest::{Claims, Report, ReportVerifier, VerifyError, VerifyErrorKind};

use crate::server::{Fault, Kds};

const MEASUREMENT: [u8; 48] = [0xab; 48];

fn guest(product: Product) -> SimulatedGuest {
    SimulatedGuest::new(product).with_measurement(MEASUREMENT)
}

/// A report as a host without a certificate table gives it.
fn bare_report(product: Product) -> Report {
    SimProvider::new(guest(product)).without_vek().make(&[7; 64])
}

fn client(kds: &Kds) -> KdsClient<HttpsClient> {
    KdsClient::new(HttpsClient::new()).with_base_url(&kds.url()).unwrap()
}

fn verifier(source: impl VekSource + 'static) -> SnpVerifier {
    SnpVerifier::trusting_simulator(SnpPolicy::pin(MEASUREMENT), &SimulatedAmd::new()).with_vek_source(source)
}

async fn verify(verifier: &SnpVerifier, report: &Report) -> Result<Claims, VerifyError> {
    verifier.verify(report, SystemTime::now()).await
}

fn cause(error: &VerifyError) -> Option<EndorsementErrorKind> {
    let source = error.source()?;
    source.downcast_ref::<EndorsementError>().map(EndorsementError::kind)
}

#[tokio::test]
async fn a_report_without_its_certificate_is_verified_with_the_fetched_one() {
    let kds = Kds::start().await;
    let verifier = verifier(client(&kds));
    let claims = verify(&verifier, &bare_report(Product::Genoa)).await.unwrap();
    assert_eq!(claims.report_data(), &[7; 64]);
    let requests = kds.requests();
    assert_eq!(requests.len(), 1);
    let chip = hex::encode(guest(Product::Genoa).chip_id);
    assert!(requests[0].starts_with(&format!("/vcek/v1/Genoa/{chip}?blSPL=")), "{}", requests[0]);
}

#[tokio::test]
async fn turin_is_asked_for_by_its_short_chip_id_with_the_fmc() {
    let kds = Kds::start().await;
    verify(&verifier(client(&kds)), &bare_report(Product::Turin)).await.unwrap();
    let requests = kds.requests();
    let chip = hex::encode(&guest(Product::Turin).chip_id[..8]);
    assert!(requests[0].starts_with(&format!("/vcek/v1/Turin/{chip}?fmcSPL=")), "{}", requests[0]);
}

#[tokio::test]
async fn a_stapled_certificate_is_used_and_nothing_is_fetched() {
    let kds = Kds::start().await;
    let stapled = SimProvider::new(guest(Product::Genoa)).make(&[7; 64]);
    verify(&verifier(client(&kds)), &stapled).await.unwrap();
    assert_eq!(kds.count(), 0);
}

#[tokio::test]
async fn concurrent_verifications_make_one_fetch() {
    let kds = Kds::start().await;
    let verifier = Arc::new(verifier(MemoryVeks::new(client(&kds))));
    let report = bare_report(Product::Genoa);
    let verdicts: Vec<_> = (0..32)
        .map(|_| {
            let (verifier, report) = (Arc::clone(&verifier), report.clone());
            tokio::spawn(async move { verify(&verifier, &report).await.is_ok() })
        })
        .collect();
    for verdict in verdicts {
        assert!(verdict.await.unwrap());
    }
    assert_eq!(kds.count(), 1);
}

#[tokio::test]
async fn what_was_written_to_the_directory_serves_without_network() {
    let kds = Kds::start().await;
    let place = tempfile::tempdir().unwrap();
    let online = verifier(EndorsementDirectory::new(place.path()).then(client(&kds)).write_back());
    verify(&online, &bare_report(Product::Genoa)).await.unwrap();
    let offline = verifier(MemoryVeks::new(EndorsementDirectory::new(place.path())));
    verify(&offline, &bare_report(Product::Genoa)).await.unwrap();
    assert_eq!(kds.count(), 1);
}

/// Asks once, with little time.
fn impatient(kds: &Kds) -> KdsClient<HttpsClient> {
    client(kds).with_attempts(1).with_timeout(Duration::from_millis(500))
}

#[tokio::test]
async fn outages_are_told_as_unavailable() {
    for fault in [
        Fault::Silent,
        Fault::Stalled,
        Fault::BrokenOff,
        Fault::TooManyRequests(60),
        Fault::Status(500),
        Fault::Status(503),
    ] {
        let kds = Kds::start().await;
        kds.set(fault);
        let error = verify(&verifier(impatient(&kds)), &bare_report(Product::Genoa)).await.unwrap_err();
        assert_eq!(error.kind(), VerifyErrorKind::Unavailable, "{fault:?}: {error}");
        assert_eq!(kds.count(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_as_unavailable() {
    let kds = Kds::start().await;
    let source = impatient(&kds);
    drop(kds);
    tokio::task::yield_now().await;
    let error = verify(&verifier(source), &bare_report(Product::Genoa)).await.unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn answers_that_are_not_the_certificate_are_refused() {
    for (fault, expected) in [
        (Fault::AnotherChip, VerifyErrorKind::Mismatch),
        (Fault::AnotherTcb, VerifyErrorKind::Mismatch),
        (Fault::HalfACertificate, VerifyErrorKind::Endorsement),
        (Fault::Huge, VerifyErrorKind::Endorsement),
        (Fault::Endless, VerifyErrorKind::Endorsement),
        (Fault::Redirect, VerifyErrorKind::Endorsement),
        (Fault::Status(404), VerifyErrorKind::EndorsementMissing),
        (Fault::Status(403), VerifyErrorKind::Endorsement),
        (Fault::Status(204), VerifyErrorKind::Endorsement),
    ] {
        let kds = Kds::start().await;
        kds.set(fault);
        let source = client(&kds).with_attempts(1);
        let error = verify(&verifier(MemoryVeks::new(source)), &bare_report(Product::Genoa)).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{fault:?}: {error}");
        assert_eq!(kds.count(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn the_content_type_is_not_looked_at() {
    let kds = Kds::start().await;
    kds.set(Fault::AnotherContentType);
    verify(&verifier(client(&kds)), &bare_report(Product::Genoa)).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_failed_is_kept_nowhere() {
    let kds = Kds::start().await;
    let place = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let directory = EndorsementDirectory::new(place.path()).then(client(&kds)).write_back();
    let verifier = verifier(MemoryVeks::new(directory).with_clock(clock.clone()));
    kds.set(Fault::AnotherChip);
    verify(&verifier, &bare_report(Product::Genoa)).await.unwrap_err();
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    kds.set(Fault::None);
    clock.advance(Duration::from_secs(60));
    verify(&verifier, &bare_report(Product::Genoa)).await.unwrap();
    assert_eq!(kds.count(), 2);
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_asked_for_once_a_minute() {
    let kds = Kds::start().await;
    kds.set(Fault::Status(404));
    let clock = ManualClock::new();
    let verifier = verifier(MemoryVeks::new(client(&kds)).with_clock(clock.clone()));
    for _ in 0..5 {
        let error = verify(&verifier, &bare_report(Product::Genoa)).await.unwrap_err();
        assert_eq!(cause(&error), Some(EndorsementErrorKind::NotFound));
    }
    assert_eq!(kds.count(), 1);
    clock.advance(Duration::from_secs(60));
    verify(&verifier, &bare_report(Product::Genoa)).await.unwrap_err();
    assert_eq!(kds.count(), 2);
}

#[tokio::test]
async fn a_requested_pause_is_kept_for_all_chips() {
    let kds = Kds::start().await;
    kds.set(Fault::TooManyRequests(120));
    let clock = ManualClock::new();
    let verifier = verifier(client(&kds).with_clock(clock.clone()));
    let error = verify(&verifier, &bare_report(Product::Genoa)).await.unwrap_err();
    let pause = EndorsementErrorKind::RateLimited { retry_after: Duration::from_secs(120) };
    assert_eq!(cause(&error), Some(pause));
    kds.set(Fault::None);
    verify(&verifier, &bare_report(Product::Turin)).await.unwrap_err();
    assert_eq!(kds.count(), 1);
    clock.advance(Duration::from_secs(120));
    verify(&verifier, &bare_report(Product::Turin)).await.unwrap();
}

#[tokio::test]
async fn nothing_is_fetched_for_a_report_that_makes_no_sense() {
    let kds = Kds::start().await;
    let verifier = verifier(client(&kds));
    let edits: [fn(&mut Vec<u8>); 6] = [
        |report| report.truncate(1183),
        |report| report[0] = 99,
        |report| report[0x48] |= 1 << 1,
        |report| report[0x48] |= 7 << 2,
        |report| report[0x188] = 0x17,
        |report| report[0x1a0..0x1e0].fill(0),
    ];
    for edit in edits {
        let mut bytes = bare_report(Product::Genoa).bytes().to_vec();
        edit(&mut bytes);
        let report = Report::new(tower_attest::Platform::SNP, bytes);
        let error = verify(&verifier, &report).await.unwrap_err();
        assert_ne!(error.kind(), VerifyErrorKind::Unavailable);
    }
    let vlek = SimProvider::new(guest(Product::Genoa).with_vlek("cc-us-east-2.amazonaws.com")).without_vek();
    verify(&verifier, &vlek.make(&[7; 64])).await.unwrap_err();
    assert_eq!(kds.count(), 0);
}

#[tokio::test]
async fn a_forged_report_fails_with_the_fetched_certificate_too() {
    let kds = Kds::start().await;
    let mut bytes = bare_report(Product::Genoa).bytes().to_vec();
    bytes[0x50] ^= 1;
    let forged = Report::new(tower_attest::Platform::SNP, bytes);
    let error = verify(&verifier(client(&kds)), &forged).await.unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::Signature);
    assert_eq!(kds.count(), 1);
}

#[tokio::test]
async fn the_chain_is_read_from_pem() {
    let kds = Kds::start().await;
    let chain = client(&kds).cert_chain(Product::Milan, VekKind::Vcek).await.unwrap();
    assert_eq!(chain.len(), 2);
    for fault in [Fault::HalfACertificate, Fault::Status(200), Fault::Huge] {
        kds.set(fault);
        let error = client(&kds).cert_chain(Product::Milan, VekKind::Vcek).await.unwrap_err();
        assert_eq!(error.kind(), EndorsementErrorKind::Refused, "{fault:?}");
    }
    kds.set(Fault::Status(404));
    let error = client(&kds).cert_chain(Product::Milan, VekKind::Vlek).await.unwrap_err();
    assert_eq!(error.kind(), EndorsementErrorKind::NotFound);
}
