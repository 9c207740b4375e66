//! The client layer over an honest server whose answers are changed on the way.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::response::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, ServiceExt, service_fn};
use tower_attest::mock::{MockTee, MockVerifier};
use tower_attest::protocol::{
    ATTESTATION_NONCE, ATTESTATION_REPORT, BatchProof, Evidence, ReportHeader, WELL_KNOWN_PATH,
};
use tower_attest::{AttestError, AttestLayer, Attester, Mode, Observation, Platform, ReportLayer, VerifiedReport};

use super::edit::edit;

struct World {
    runtime: Runtime,
    server: ReportLayer,
    verifier: Arc<MockVerifier>,
}

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let tee = MockTee::from_seed([7; 32]);
    let attester = runtime.block_on(Attester::builder(tee.provider()).name("prover.example").start());
    let server = ReportLayer::new(attester.expect("the mock works"));
    Mutex::new(World { runtime, server, verifier: Arc::new(tee.verifier()) })
});

/// What may be changed: a head's report field, the endpoint's body, a status. Or a field is added.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Field,
    Evidence,
    Status,
    Line,
}

/// Fields that are added: the first makes two reports, the others mean nothing beside one.
static ADDED: [HeaderName; 4] =
    [ATTESTATION_REPORT, HeaderName::from_static("grpc-status"), RETRY_AFTER, ATTESTATION_NONCE];

/// The first byte says whether the client asks before it sends, whether the endpoint's or the application's answer is
/// changed, and which part, or whether a field is added; the rest how. Unchanged the answer is verified; changed it is refused, or says the same.
pub fn response_head(data: &[u8]) {
    let Some((what, script)) = data.split_first() else { return };
    let mode = if what & 1 == 0 { Mode::Required } else { Mode::Optional };
    let endpoint = what & 2 == 0;
    let changed = [Part::Field, Part::Evidence, Part::Status][usize::from(what >> 2) % 3];
    let part = if what & 0x40 == 0 { changed } else { Part::Line };
    let world = WORLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let lies = Arc::new(Mutex::new(false));
    let (script, told) = (script.to_vec(), Arc::clone(&lies));
    let handler =
        service_fn(|_: Request<Full<Bytes>>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) });
    let server = world.server.layer(handler);
    let relay = service_fn(move |request: Request<Full<Bytes>>| {
        let (server, script, told) = (server.clone(), script.clone(), Arc::clone(&told));
        let this_one = endpoint == (request.uri().path() == WELL_KNOWN_PATH);
        async move {
            let (mut head, body) = server.oneshot(request).await?.into_parts();
            let mut body = body.collect().await?.to_bytes();
            if this_one {
                *told.lock().expect("one thread") = change(part, &script, &mut head, &mut body);
            }
            Ok::<_, Infallible>(Response::from_parts(head, Full::new(body)))
        }
    });
    let client =
        AttestLayer::new(Arc::clone(&world.verifier)).accept_presence().name("prover.example").mode(mode).layer(relay);
    let request = Request::get("https://prover.example/prove?a=1").body(Full::default()).expect("a request");
    let answer = world.runtime.block_on(client.oneshot(request));
    let changed = *lies.lock().expect("one thread");
    match answer {
        Ok(response) => match verified(mode, &response) {
            Some(report) => {
                assert!(!changed, "a changed answer is verified");
                assert_eq!(report.server_names(), ["prover.example"]);
            }
            None => assert!(changed && mode == Mode::Optional, "an answer without a verdict"),
        },
        Err(error) => {
            let error = error.downcast::<AttestError>().expect("a refusal");
            assert!(changed, "an honest answer is refused: {error}");
            assert!(!format!("{error} {error:?}").is_empty());
        }
    }
}

/// A client that must know gets a report; one that may do without gets an observation.
fn verified<B>(mode: Mode, response: &Response<B>) -> Option<&VerifiedReport> {
    match mode {
        Mode::Required => VerifiedReport::of(response),
        _ => Observation::of(response).expect("an observation").report(),
    }
}

/// Changes the answer, and says whether it now claims something else. Evidence that is lost claims nothing: the client asks
/// for it.
fn change(part: Part, script: &[u8], head: &mut Parts, body: &mut Bytes) -> bool {
    match part {
        Part::Field => {
            let Some(field) = head.headers.remove(&ATTESTATION_REPORT) else { return false };
            let before = ReportHeader::parse(field.as_bytes()).expect("the server's own");
            if let Ok(changed) = HeaderValue::from_bytes(&edit(field.as_bytes(), script)) {
                head.headers.insert(ATTESTATION_REPORT, changed);
            }
            let Ok(Some(after)) = ReportHeader::from_headers(&head.headers) else { return true };
            let claims = |evidence: &Bytes| claims(Evidence::from_cbor(evidence, &[Platform::MOCK]).ok());
            let other_evidence = after.evidence.as_ref().is_some_and(|evidence| {
                let (before, after) = (before.evidence.as_ref().and_then(claims), claims(evidence));
                after.is_none() || before != after
            });
            other_evidence || (before.keys, before.sig) != (after.keys, after.sig)
        }
        Part::Evidence => {
            let read = |body: &[u8]| claims(Evidence::from_json(body, &[Platform::MOCK]).ok());
            let before = read(body);
            *body = edit(body, script).into();
            before.is_some() && read(body) != before
        }
        Part::Status => {
            let before = head.status;
            if let Some(status) = script.first_chunk() {
                let status = 200 + u16::from_be_bytes(*status) % 400;
                head.status = StatusCode::from_u16(status).expect("200 to 599");
            }
            head.status != before
        }
        Part::Line => {
            let Some((name, value)) = script.split_first() else { return false };
            let (name, Ok(value)) = (&ADDED[usize::from(*name) % 4], HeaderValue::from_bytes(value)) else {
                return false;
            };
            head.headers.append(name, value);
            *name == ATTESTATION_REPORT
        }
    }
}

/// What evidence of the mock consists of.
fn claims(evidence: Option<Evidence>) -> Option<(Bytes, Bytes, BatchProof)> {
    evidence.map(|evidence| (evidence.report.bytes().clone(), evidence.keys, evidence.batch))
}
