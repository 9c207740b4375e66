use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::super::sim::Authority;
use super::super::vek::{EndorsementError, EndorsementErrorKind, VekRequest, VekSource};
use super::super::{SnpPolicy, SnpVerifier};
use super::*;
use crate::verifier::{Claims, ReportVerifier};

fn verifier() -> SnpVerifier {
    SnpVerifier::trusting_simulator(SnpPolicy::pin_named("prover", [0x4d; 48]), &SimulatedAmd::new())
}

fn genoa() -> SimulatedGuest {
    guest(Product::Genoa)
}

async fn verify(verifier: &SnpVerifier, report: &Report) -> Result<Claims, VerifyErrorKind> {
    verifier.verify(report, now()).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn claims_hold_what_the_hardware_signed() {
    let report = report(&genoa());
    let claims = verify(&verifier(), &report).await.unwrap();
    assert_eq!(claims.platform(), &Platform::SNP);
    assert_eq!(claims.report_data(), &[0x64; 64]);
    assert_eq!(claims.measurement(), [0x4d; 48]);
    assert_eq!(claims.measurement_name(), Some("prover"));
    assert_eq!(claims.fact("product"), Some("Genoa"));
    assert_eq!(claims.fact("tcb"), Some("bl 10, tee 0, snp 27, ucode 222"));
    assert_eq!(claims.fact("vmpl"), Some("0"));
    assert_eq!(claims.fact("vek"), Some("VCEK"));
    assert_eq!(claims.fact("chip"), Some(hex::encode([0xc5; 64]).as_str()));
    let details = claims.details::<SnpDetails>().unwrap();
    assert_eq!(details.report().bytes(), report.bytes());
    assert_eq!(claims.valid_until(), Some(details.valid_until()));
    assert_eq!(details.valid_until(), details.vek().not_after());
}

#[tokio::test]
async fn claims_under_a_vlek_name_the_provider() {
    let policy = SnpPolicy::pin([0x4d; 48]).allow_vlek(["CN=x"]);
    let verifier = SnpVerifier::trusting_simulator(policy, &SimulatedAmd::new());
    let claims = verify(&verifier, &report(&genoa().with_vlek("CN=x"))).await.unwrap();
    assert_eq!((claims.fact("csp"), claims.fact("chip"), claims.fact("vek")), (Some("CN=x"), None, Some("VLEK")));
}

#[tokio::test]
async fn the_policy_is_applied_after_the_signature_and_only_then() {
    let wrong = report(&genoa().with_measurement([0; 48]));
    assert_eq!(verify(&verifier(), &wrong).await.unwrap_err(), VerifyErrorKind::Policy);
    let mut bytes = wrong.bytes().to_vec();
    bytes[0x2a0] ^= 1;
    let unsigned = Report::new(Platform::SNP, bytes).with_vek(wrong.vek().unwrap().clone());
    assert_eq!(verify(&verifier(), &unsigned).await.unwrap_err(), VerifyErrorKind::Signature);
}

#[tokio::test]
async fn amds_verifier_refuses_the_simulator() {
    let real = SnpVerifier::new(SnpPolicy::pin([0x4d; 48]));
    assert_eq!(verify(&real, &report(&genoa())).await.unwrap_err(), VerifyErrorKind::Endorsement);
}

#[tokio::test]
async fn a_new_policy_counts_at_once_and_changes_the_revision() {
    let verifier = verifier();
    let report = report(&genoa());
    let before = verifier.revision();
    assert!(verify(&verifier, &report).await.is_ok());
    verifier.set_policy(SnpPolicy::pin([0; 48]));
    assert_ne!(verifier.revision(), before);
    assert_eq!(verify(&verifier, &report).await.unwrap_err(), VerifyErrorKind::Policy);
}

#[tokio::test]
async fn new_revocation_lists_count_at_once_and_change_the_revision() {
    let verifier = verifier();
    let report = report(&genoa());
    assert!(verify(&verifier, &report).await.is_ok());
    let before = verifier.revision();
    let list =
        |revoked: &[Authority]| SimulatedAmd::new().crl(Product::Genoa, revoked, now() - days(1), now() + days(1));
    verifier.set_crls([list(&[Authority::Ask])]).unwrap();
    assert_ne!(verifier.revision(), before);
    assert_eq!(verify(&verifier, &report).await.unwrap_err(), VerifyErrorKind::Revoked);
    let before = verifier.revision();
    let mut unsigned = list(&[]);
    *unsigned.last_mut().unwrap() ^= 1;
    assert!(verifier.set_crls([unsigned]).is_err());
    assert_eq!(verifier.revision(), before);
    assert_eq!(verify(&verifier, &report).await.unwrap_err(), VerifyErrorKind::Revoked, "the lists before stay");
    let fresh = verifier.with_crls([list(&[])]).unwrap();
    let claims = verify(&fresh, &report).await.unwrap();
    assert_eq!(claims.valid_until(), Some(now() + days(1)));
}

#[tokio::test]
async fn a_renewed_list_counts_at_once_and_changes_the_revision_if_it_is_new() {
    let verifier = verifier();
    let list = |revoked: &[Authority], age: u64| {
        SimulatedAmd::new().crl(Product::Genoa, revoked, now() - days(age), now() + days(1))
    };
    let clean = list(&[], 2);
    verifier.renew_crl(Product::Genoa, &clean, now()).unwrap();
    assert!(verify(&verifier, &report(&genoa())).await.is_ok());
    let before = verifier.revision();
    verifier.renew_crl(Product::Genoa, &clean, now()).unwrap();
    assert_eq!(verifier.revision(), before, "the same list again");
    verifier.renew_crl(Product::Genoa, &list(&[Authority::Ask], 1), now()).unwrap();
    assert_ne!(verifier.revision(), before);
    assert_eq!(verify(&verifier, &report(&genoa())).await.unwrap_err(), VerifyErrorKind::Revoked);
    let rolled_back = verifier.renew_crl(Product::Genoa, &clean, now()).unwrap_err();
    assert!(rolled_back.to_string().contains("not older"), "{rolled_back}");
    assert_eq!(verify(&verifier, &report(&genoa())).await.unwrap_err(), VerifyErrorKind::Revoked);
    assert!(verifier.renew_crl(Product::Milan, &list(&[], 0), now()).is_err(), "the list of another product");
    assert!(verifier.renew_crl(Product::Genoa, &list(&[], 0), now() + days(2)).is_err(), "a list that has ended");
}

#[test]
fn a_renewed_list_holds_from_its_first_second_to_before_its_next_update() {
    let (from, until, second) = (now() - days(1), now() + days(1), Duration::from_secs(1));
    let list = SimulatedAmd::new().crl(Product::Genoa, &[], from, until);
    for (time, accepted) in [(from - second, false), (from, true), (until - second, true), (until, false)] {
        let verdict = verifier().renew_crl(Product::Genoa, &list, time);
        assert_eq!(verdict.is_ok(), accepted, "{time:?}: {verdict:?}");
        let Err(error) = verdict else { continue };
        let unix = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let expected = format!("expected a time from {} to {}, found {}", unix(from), unix(until), unix(time));
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[tokio::test]
async fn a_list_corrected_within_the_second_of_the_one_before_replaces_it() {
    let verifier = verifier();
    let list =
        |revoked: &[Authority]| SimulatedAmd::new().crl(Product::Genoa, revoked, now() - days(1), now() + days(1));
    verifier.renew_crl(Product::Genoa, &list(&[]), now()).unwrap();
    verifier.renew_crl(Product::Genoa, &list(&[Authority::Ask]), now()).unwrap();
    assert_eq!(verify(&verifier, &report(&genoa())).await.unwrap_err(), VerifyErrorKind::Revoked);
}

#[tokio::test]
async fn other_platforms_are_refused() {
    assert_eq!(verifier().platforms(), [Platform::SNP]);
    let other = Report::new(Platform::TDX, report(&genoa()).bytes().clone());
    assert_eq!(verify(&verifier(), &other).await.unwrap_err(), VerifyErrorKind::UnsupportedPlatform);
}

/// Answers with one certificate, whatever is asked for, and counts.
#[derive(Debug)]
struct Shelf {
    answer: Result<Bytes, EndorsementErrorKind>,
    asked: AtomicUsize,
}

impl Shelf {
    fn with(answer: Result<Vec<u8>, EndorsementErrorKind>) -> Arc<Self> {
        Arc::new(Self { answer: answer.map(Bytes::from), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl VekSource for Shelf {
    async fn vek(&self, request: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let der = self.answer.clone().map_err(|kind| EndorsementError::new(kind, "empty"))?;
        request.check(&der)?;
        Ok(der)
    }
}

#[tokio::test]
async fn a_source_is_asked_only_where_nothing_is_stapled() {
    let stapled = report(&genoa());
    let shelf = Shelf::with(Ok(genoa().vek()));
    let verifier = verifier().with_vek_source(Arc::clone(&shelf));
    assert!(verify(&verifier, &stapled).await.is_ok());
    assert_eq!(shelf.asked.load(Ordering::Relaxed), 0);
    assert!(verify(&verifier, &stapled.without_vek()).await.is_ok());
    assert_eq!(shelf.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_a_source_gives_is_judged_like_a_stapled_certificate() {
    let bare = report(&genoa()).without_vek();
    let other_chip = SimulatedGuest { chip_id: [1; 64], ..genoa() }.vek();
    for (answer, kind) in [
        (Ok(other_chip), VerifyErrorKind::Mismatch),
        (Ok(vec![0; 10]), VerifyErrorKind::Endorsement),
        (Err(EndorsementErrorKind::NotFound), VerifyErrorKind::EndorsementMissing),
        (Err(EndorsementErrorKind::Unavailable), VerifyErrorKind::Unavailable),
    ] {
        let verifier = verifier().with_vek_source(Shelf::with(answer));
        assert_eq!(verify(&verifier, &bare).await.unwrap_err(), kind);
    }
}

#[tokio::test]
async fn nothing_is_fetched_for_a_report_that_cannot_be_right() {
    let shelf = Shelf::with(Ok(genoa().vek()));
    let verifier = verifier().with_vek_source(Arc::clone(&shelf));
    let masked_key = forged(&genoa(), |bytes| bytes[0x48] |= 0b10).without_vek();
    assert_eq!(verify(&verifier, &masked_key).await.unwrap_err(), VerifyErrorKind::Signature);
    let masked_chip = forged(&genoa(), |bytes| bytes[0x1a0..0x1e0].fill(0)).without_vek();
    let vlek = report(&genoa().with_vlek("CN=x")).without_vek();
    let old = report(&SimulatedGuest { version: 2, ..genoa() }).without_vek();
    let unknown = report(&SimulatedGuest { cpuid: [0x1a, 0x50, 0], ..genoa() }).without_vek();
    for report in [masked_chip, vlek, old] {
        assert_eq!(verify(&verifier, &report).await.unwrap_err(), VerifyErrorKind::EndorsementMissing);
    }
    assert_eq!(verify(&verifier, &unknown).await.unwrap_err(), VerifyErrorKind::Endorsement);
    assert_eq!(shelf.asked.load(Ordering::Relaxed), 0);
}
