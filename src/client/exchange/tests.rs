use bytes::Bytes;
use http::Uri;

use super::super::fake::{CONFIG, Keys, NAME, claims_of};
use super::*;
use crate::client::Strength;
use crate::protocol::ATTESTATION_REPORT;
use crate::verifier::FailedRule;

const NONCE: Nonce = Nonce::from_bytes([7; 32]);
const BINDING: ChannelBinding = ChannelBinding::from_tls_exporter([5; 32]);

/// A response that passes every check; each test changes one thing.
struct Case {
    exchange: Exchange,
    carrier: Carrier,
    status: StatusCode,
    headers: HeaderMap,
    evidence: Evidence,
    expected: Expectations,
    claims: Result<Claims, VerifyError>,
    at: SystemTime,
}

fn now() -> Now {
    Now { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000), monotonic: Duration::from_secs(1000) }
}

fn target(path: &'static str) -> Target {
    Target::of(&Method::POST, &Uri::from_static(path)).unwrap()
}

fn case() -> Case {
    bound_case(Carrier::Unbound, None)
}

fn bound_case(carrier: Carrier, binding: Option<ChannelBinding>) -> Case {
    let keys = Keys::new(1);
    let evidence = keys.evidence(&NONCE, binding.as_ref());
    let mut case = Case {
        exchange: Exchange::new(NONCE, now(), Method::POST, target("/prove?a=1")),
        carrier,
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        claims: Ok(claims_of(&evidence.report)),
        evidence,
        expected: Expectations {
            name: Some(NAME.to_owned()),
            configs: vec![CONFIG],
            platforms: vec![Platform::SNP, Platform::TDX],
        },
        at: now().wall,
    };
    case.sign(&keys, |statement| statement.binding = binding_ref(binding));
    case
}

fn binding_ref(binding: Option<ChannelBinding>) -> Option<&'static ChannelBinding> {
    binding.map(|binding| &*Box::leak(Box::new(binding)))
}

impl Case {
    fn sign(&mut self, keys: &Keys, change: impl FnOnce(&mut ResponseStatement<'_>)) {
        let (digest, target) = (keys.digest(), target("/prove?a=1"));
        let mut statement = ResponseStatement {
            nonce: &NONCE,
            binding: None,
            keys: &digest,
            method: &Method::POST,
            target: &target,
            status: StatusCode::OK,
        };
        change(&mut statement);
        let mut header = keys.sign(&statement);
        header.keys = digest;
        self.headers.insert(ATTESTATION_REPORT, header.to_value());
    }

    fn judge(self) -> Result<VerifiedReport, AttestError> {
        let head = self.exchange.judge_head(Ok(self.carrier), self.status, &self.headers)?;
        let cbor = self.evidence.to_cbor();
        let pending = self.exchange.judge_evidence(&head, Encoded::Cbor(&cbor), &self.expected)?;
        let keys = pending.finish(self.claims, self.at)?;
        self.exchange.judge_signature(&head, &keys)
    }

    fn refused(self) -> ErrorKind {
        self.judge().unwrap_err().kind()
    }
}

#[test]
fn a_good_response_is_verified_with_all_that_is_known_about_it() {
    let report = case().judge().unwrap();
    assert_eq!(report.platform(), &Platform::SNP);
    assert_eq!(report.measurement(), [0x4d; 48]);
    assert_eq!(report.measurement_name(), Some("prover 1"));
    assert_eq!(report.server_names(), [NAME]);
    assert_eq!(report.config_digest(), Some(&CONFIG));
    assert_eq!(report.keys_digest(), &Keys::new(1).digest());
    assert_eq!((report.age(), report.drawn_at()), (Duration::ZERO, now().wall));
    assert_eq!(report.strength(), Strength::Presence);
    assert!(!report.channel_bound() && !report.secret_before_send() && !report.response_intact());
}

#[test]
fn only_an_attested_carrier_makes_a_channel() {
    let bound = bound_case(Carrier::Bound(BINDING), Some(BINDING)).judge().unwrap();
    assert_eq!(bound.strength(), Strength::Presence);
    assert!(bound.channel_bound() && !bound.secret_before_send());
    let attested = bound_case(Carrier::Attested(BINDING), Some(BINDING)).judge().unwrap();
    assert_eq!(attested.strength(), Strength::Channel);
    assert!(attested.channel_bound() && attested.secret_before_send() && attested.response_intact());
}

#[test]
fn a_stripped_field_is_refused_and_an_intermediary_is_named() {
    for (status, grpc, expected) in [
        (200, None, 200),
        (503, None, 503),
        (404, None, 404),
        (200, Some("14"), 503),
        (200, Some("8"), 429),
        (200, Some("5"), 200),
    ] {
        let mut case = case();
        case.headers.clear();
        case.status = StatusCode::from_u16(status).unwrap();
        if let Some(grpc) = grpc {
            case.headers.insert("grpc-status", grpc.parse().unwrap());
        }
        assert_eq!(case.refused(), ErrorKind::NoReport { status: expected }, "{status} {grpc:?}");
    }
}

#[test]
fn a_report_on_two_lines_is_refused() {
    let mut case = case();
    let same = case.headers[ATTESTATION_REPORT].clone();
    case.headers.append(ATTESTATION_REPORT, same);
    assert_eq!(case.refused(), ErrorKind::Malformed);
}

#[test]
fn a_report_that_does_not_parse_is_refused() {
    for text in ["", "v=1", "x", "v=1, keys=::, sig=::"] {
        let mut case = case();
        case.headers.insert(ATTESTATION_REPORT, text.parse().unwrap());
        assert_eq!(case.refused(), ErrorKind::Malformed, "{text:?}");
    }
}

#[test]
fn another_version_is_refused() {
    let mut case = case();
    let text = case.headers[ATTESTATION_REPORT].to_str().unwrap().replace("v=1", "v=2");
    case.headers.insert(ATTESTATION_REPORT, text.parse().unwrap());
    assert_eq!(case.refused(), ErrorKind::Malformed);
}

#[test]
fn a_transport_without_the_binding_that_was_asked_for_is_an_error() {
    let case = case();
    let missing = AttestError::new(ErrorKind::Configuration, "");
    let error = case.exchange.judge_head(Err(missing), case.status, &case.headers).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[test]
fn evidence_that_does_not_parse_is_refused() {
    let case = case();
    let head = case.exchange.judge_head(Ok(case.carrier), case.status, &case.headers).unwrap();
    let (cbor, json) = (case.evidence.to_cbor(), case.evidence.to_json());
    let judge = |encoded| case.exchange.judge_evidence(&head, encoded, &case.expected);
    assert!(judge(Encoded::Json(&json)).is_ok());
    for encoded in [Encoded::Cbor(&json), Encoded::Json(&cbor), Encoded::Cbor(b""), Encoded::Json(b"{}")] {
        assert_eq!(judge(encoded).unwrap_err().kind(), ErrorKind::Malformed);
    }
}

#[test]
fn evidence_of_a_platform_that_the_verifier_does_not_judge_is_refused() {
    let mut case = case();
    case.expected.platforms = vec![Platform::TDX];
    assert_eq!(case.refused(), ErrorKind::Malformed);
}

#[test]
fn a_key_document_that_does_not_parse_is_refused() {
    let mut case = case();
    case.evidence.keys = Bytes::from_static(b"{}");
    assert_eq!(case.refused(), ErrorKind::Malformed);
}

#[test]
fn evidence_for_other_keys_than_those_that_signed_is_refused() {
    let mut case = case();
    case.evidence = Keys::new(2).evidence(&NONCE, None);
    case.claims = Ok(claims_of(&case.evidence.report));
    assert_eq!(case.refused(), ErrorKind::KeysMismatch);
}

#[test]
fn another_name_is_refused() {
    let mut case = case();
    case.expected.name = Some("other.example".to_owned());
    let error = case.judge().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameMismatch);
    assert!(error.message().contains("other.example") && error.message().contains(NAME), "{error}");
}

#[test]
fn another_configuration_and_none_at_all_are_refused() {
    let mut other = case();
    other.expected.configs = vec![[8; 32], [18; 32]];
    assert_eq!(other.refused(), ErrorKind::ConfigMismatch);

    let keys = Keys::with_config(1, None);
    let mut none = case();
    none.evidence = keys.evidence(&NONCE, None);
    none.claims = Ok(claims_of(&none.evidence.report));
    none.sign(&keys, |_| ());
    assert_eq!(none.refused(), ErrorKind::ConfigMismatch);
}

#[test]
fn one_of_several_configurations_is_enough() {
    let mut case = case();
    case.expected.configs = vec![[8; 32], CONFIG];
    assert_eq!(case.judge().unwrap().config_digest(), Some(&CONFIG));
}

#[test]
fn evidence_for_another_nonce_is_refused() {
    let mut case = case();
    case.evidence = Keys::new(1).evidence(&Nonce::from_bytes([8; 32]), None);
    case.claims = Ok(claims_of(&case.evidence.report));
    assert_eq!(case.refused(), ErrorKind::Stale);
}

#[test]
fn evidence_for_another_channel_is_refused() {
    let other = ChannelBinding::from_tls_exporter([6; 32]);
    for (carrier, binding) in [
        (Carrier::Unbound, Some(BINDING)),
        (Carrier::Bound(BINDING), None),
        (Carrier::Bound(BINDING), Some(other)),
        (Carrier::Attested(BINDING), None),
        (Carrier::Attested(BINDING), Some(other)),
    ] {
        // Signed for the right channel: only the evidence is for another.
        let mut case = bound_case(carrier, carrier.binding().copied());
        case.evidence = Keys::new(1).evidence(&NONCE, binding.as_ref());
        case.claims = Ok(claims_of(&case.evidence.report));
        assert_eq!(case.refused(), ErrorKind::Stale, "{carrier:?}");
    }
}

/// The report vouches for other keys, while the key document and the signature agree with each other.
#[test]
fn a_report_that_vouches_for_other_keys_is_refused() {
    let mut case = case();
    case.evidence = Evidence { keys: case.evidence.keys, ..Keys::new(2).evidence(&NONCE, None) };
    case.claims = Ok(claims_of(&case.evidence.report));
    assert_eq!(case.refused(), ErrorKind::Stale);
}

#[test]
fn a_proof_for_another_place_in_the_batch_is_refused() {
    let tree = crate::protocol::BatchTree::new(vec![[4; 48], [5; 48], [6; 48]]).unwrap();
    for index in 0..3 {
        let mut case = case();
        case.evidence.batch = tree.proof(index).unwrap();
        assert_eq!(case.refused(), ErrorKind::Stale, "{index}");
    }
}

#[test]
fn report_data_that_differs_in_any_byte_is_refused() {
    for position in 0..64 {
        let mut case = case();
        let mut data = *case.claims.as_ref().unwrap().report_data();
        data[position] ^= 1;
        case.claims = Ok(Claims::new(Platform::SNP, data, vec![0; 48]));
        assert_eq!(case.refused(), ErrorKind::Stale, "{position}");
    }
}

#[test]
fn claims_of_another_platform_are_refused() {
    let mut case = case();
    let data = *case.claims.as_ref().unwrap().report_data();
    case.claims = Ok(Claims::new(Platform::TDX, data, vec![0; 48]));
    assert_eq!(case.refused(), ErrorKind::Refused);
}

#[test]
fn claims_that_have_ended_are_refused() {
    for (ago, accepted) in [(1, false), (0, false), (-1, true)] {
        let mut case = case();
        let end = if ago < 0 { case.at + Duration::from_secs(1) } else { case.at - Duration::from_secs(ago as u64) };
        case.claims = case.claims.map(|claims| claims.with_valid_until(end));
        assert_eq!(case.judge().is_ok(), accepted, "{ago}");
    }
}

#[test]
fn what_the_verifier_refuses_is_refused_with_its_reason() {
    for (kind, expected) in [
        (VerifyErrorKind::Policy, ErrorKind::Refused),
        (VerifyErrorKind::Signature, ErrorKind::Refused),
        (VerifyErrorKind::Revoked, ErrorKind::Refused),
        (VerifyErrorKind::Configuration, ErrorKind::Configuration),
        (VerifyErrorKind::Unavailable, ErrorKind::Unavailable),
    ] {
        let mut case = case();
        case.claims = Err(VerifyError::failed(kind, vec![FailedRule::new("debug", "false", "true")]));
        let error = case.judge().unwrap_err();
        assert_eq!(error.kind(), expected);
        let cause = error.cause().and_then(|cause| cause.downcast_ref::<VerifyError>()).unwrap();
        assert_eq!(cause.failed_rules()[0].rule, "debug");
    }
}

/// Each field of the response statement, signed by the right keys for another exchange.
#[test]
fn a_signature_over_another_exchange_is_refused() {
    type Change = fn(&mut ResponseStatement<'_>);
    let changes: [(&str, Change); 6] = [
        ("nonce", |s| s.nonce = &const { Nonce::from_bytes([8; 32]) }),
        ("binding", |s| s.binding = Some(&BINDING)),
        ("keys", |s| s.keys = &const { KeysDigest::from_bytes([8; 32]) }),
        ("method", |s| s.method = &Method::PUT),
        ("target", |s| s.target = Box::leak(Box::new(target("/prove?a=2")))),
        ("status", |s| s.status = StatusCode::ACCEPTED),
    ];
    for (field, change) in changes {
        let mut case = case();
        case.sign(&Keys::new(1), change);
        let error = case.judge().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadSignature, "{field}");
        assert!(error.message().contains("rewrote the path") && error.message().contains("AttestLayer"), "{error}");
    }
}

#[test]
fn a_signature_for_no_channel_or_another_is_refused_where_one_is_bound() {
    let other = ChannelBinding::from_tls_exporter([6; 32]);
    for carrier in [Carrier::Bound(BINDING), Carrier::Attested(BINDING)] {
        for signed in [None, Some(other)] {
            let mut case = bound_case(carrier, Some(BINDING));
            case.sign(&Keys::new(1), |statement| statement.binding = binding_ref(signed));
            assert_eq!(case.refused(), ErrorKind::BadSignature, "{carrier:?}");
        }
    }
}

#[test]
fn a_signature_by_other_keys_under_the_trusted_digest_is_refused() {
    let mut case = case();
    let trusted = Keys::new(1).digest();
    let target = target("/prove?a=1");
    let statement = ResponseStatement {
        nonce: &NONCE,
        binding: None,
        keys: &trusted,
        method: &Method::POST,
        target: &target,
        status: StatusCode::OK,
    };
    case.headers.insert(ATTESTATION_REPORT, Keys::new(2).sign(&statement).to_value());
    assert_eq!(case.refused(), ErrorKind::BadSignature);
}

#[test]
fn verified_keys_do_not_vouch_for_a_response_by_others() {
    let case = case();
    let head = case.exchange.judge_head(Ok(case.carrier), case.status, &case.headers).unwrap();
    let cbor = case.evidence.to_cbor();
    let pending = case.exchange.judge_evidence(&head, Encoded::Cbor(&cbor), &case.expected).unwrap();
    let keys = pending.finish(case.claims, case.at).unwrap();

    let mut other = self::case();
    other.sign(&Keys::new(2), |_| ());
    let head = case.exchange.judge_head(Ok(Carrier::Unbound), StatusCode::OK, &other.headers).unwrap();
    assert_eq!(case.exchange.judge_signature(&head, &keys).unwrap_err().kind(), ErrorKind::UnknownKeys);
}

#[test]
fn no_error_shows_the_nonce_the_exporter_or_the_target() {
    let mut case = bound_case(Carrier::Bound(BINDING), Some(BINDING));
    case.sign(&Keys::new(1), |_| ());
    let debug = format!("{:?}", case.exchange);
    let error = case.judge().unwrap_err();
    for text in [debug, format!("{error:?} {error}")] {
        for secret in ["0707", "0505", "7, 7", "5, 5", "a=1"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}
