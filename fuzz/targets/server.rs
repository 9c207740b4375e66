//! The server's layers over an application: heads of requests as anybody may write them.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Mutex};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bytes::Bytes;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::protocol::{
    ATTESTATION_REPORT, Evidence, KeysDigest, NonceHeader, ReportHeader, ResponseStatement, SEALED_PATH, Target,
    WELL_KNOWN_PATH,
};
use tower_attest::seal::UnsealLayer;
use tower_attest::seal::server::UnsealedBody;
use tower_attest::{Attester, Platform, ReportLayer};

struct World {
    runtime: Runtime,
    attester: Attester,
}

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let attester = Attester::builder(MockTee::from_seed([7; 32]).provider()).name("prover.example").seal();
    let attester = runtime.block_on(attester.start()).expect("the mock works");
    Mutex::new(World { runtime, attester })
});

/// A head in lines: method and target, then fields. Whoever has a valid nonce gets one report, with a signature over what he
/// sent, and evidence unless he has these keys; anybody else gets none. No report of another's gets through either way.
pub fn request_head(data: &[u8]) {
    let Some(request) = request(data) else { return };
    let world = WORLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let seen = Arc::new(Mutex::new(false));
    let told = Arc::clone(&seen);
    let application = service_fn(move |request: Request<UnsealedBody<Full<Bytes>>>| {
        assert!(!request.headers().contains_key(ATTESTATION_REPORT), "the application sees a report");
        *told.lock().expect("one thread") = true;
        let mut response = Response::new(Full::new(Bytes::from_static(b"application")));
        response.headers_mut().insert(ATTESTATION_REPORT, HeaderValue::from_static("the application's own"));
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        async { Ok::<_, Infallible>(response) }
    });
    let unseal = UnsealLayer::new(world.attester.clone()).expect("it seals");
    let server = ServiceBuilder::new().layer(unseal).service(application);
    let server = ReportLayer::new(world.attester.clone()).layer(server);
    let (head, ()) = request.clone().into_parts();
    let (answer, body) = world.runtime.block_on(async {
        let response = server.oneshot(request.map(|()| Full::default())).await.unwrap_or_else(|never| match never {});
        let (head, body) = response.into_parts();
        (head, body.collect().await.expect("a whole body").to_bytes())
    });
    let reached = *seen.lock().expect("one thread");
    let report = ReportHeader::from_headers(&answer.headers).expect("one report or none");
    let target = Target::of(&head.method, &head.uri);
    let (nonce, target) = match (NonceHeader::from_headers(&head.headers), target) {
        (Ok(Some(nonce)), Ok(target)) => (nonce, target),
        (nonce, target) => {
            assert!(report.is_none(), "a report for nobody's nonce");
            // A plain CONNECT is the application's; what is malformed is nobody's.
            let passes = nonce.as_ref().is_ok_and(Option::is_none) || nonce.is_ok() && target.is_err();
            assert!(!reached || passes, "the application sees a malformed nonce");
            return;
        }
    };
    let report = report.expect("a report for a valid nonce");
    let document = world.attester.key_document();
    assert_eq!(report.keys, *document.digest());
    let statement = ResponseStatement {
        nonce: &nonce.nonce,
        binding: None,
        keys: &report.keys,
        method: &head.method,
        target: &target,
        status: answer.status,
    };
    let key = UnparsedPublicKey::new(&ED25519, document.fields().sign);
    assert!(key.verify(&statement.encode(), &report.sig).is_ok(), "a signature over something else");
    assert!(!(nonce.bind && reached), "bound to a channel that this server does not see");
    let endpoint = answer.status == StatusCode::OK && !reached && head.uri.path() == WELL_KNOWN_PATH;
    if endpoint && head.method == Method::GET {
        let evidence = Evidence::from_json(&body, &[Platform::MOCK]).expect("the endpoint gives evidence");
        assert_eq!(KeysDigest::of(&evidence.keys), report.keys);
    } else if reached {
        assert_eq!(report.evidence.is_none(), nonce.have.contains(&report.keys));
        assert!(head.uri.path() != SEALED_PATH || head.method == Method::OPTIONS, "a sealed request in the clear");
    }
}

/// `None` where it is no head that a server of HTTP would hand on.
fn request(data: &[u8]) -> Option<Request<()>> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let line = lines.next()?;
    let (method, target) = line.split_at(line.iter().position(|byte| *byte == b' ')?);
    let mut request = Request::builder().method(method).uri(target.trim_ascii());
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(&name.to_ascii_lowercase()).ok()?;
        request = request.header(name, HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?);
    }
    request.body(()).ok()
}
