//! What AMD's KDS and Intel's PCS answer: anybody may stand for them, since plain HTTP is enough.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use tokio::runtime::{Builder, Runtime};
use tower::{ServiceExt, service_fn};
use tower_attest::platform::snp::vek::KdsClient;
use tower_attest::platform::tdx::sim::{SimulatedIntel, SimulatedPcs, SimulatedTd};
use tower_attest::platform::tdx::{Collateral, CollateralRequest, CollateralSource, PckCa, PcsClient, PlatformId};
use tower_attest::snp::sim::{SimulatedAmd, SimulatedGuest};
use tower_attest::snp::vek::{EndorsementError, EndorsementErrorKind};
use tower_attest::snp::{Product, SnpPolicy, SnpVerifier, VekKind};
use tower_attest::{Report, ReportVerifier, VerifyErrorKind};

use super::edit::edit;
use super::protocol::says_why;
use super::{snp, tdx};

const MEASUREMENT: [u8; 48] = [0x4d; 48];
/// The most that is believed of a `Retry-After`, unless set.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Where Intel's service puts chains.
static CHAINS: [HeaderName; 3] = [
    HeaderName::from_static("tcb-info-issuer-chain"),
    HeaderName::from_static("sgx-enclave-identity-issuer-chain"),
    HeaderName::from_static("sgx-pck-crl-issuer-chain"),
];

static RUNTIME: LazyLock<Mutex<Runtime>> =
    LazyLock::new(|| Mutex::new(Builder::new_current_thread().enable_time().build().expect("a runtime")));

fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).block_on(future)
}

/// Part of a response that is changed.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Body,
    Chain,
    /// Two bytes of the script.
    Status,
    /// 429 or 503 with this value.
    RetryAfter,
}

impl Part {
    fn of(what: u8) -> Self {
        [Self::Body, Self::Chain, Self::Status, Self::RetryAfter][usize::from(what) % 4]
    }

    /// Whether anything of the response is another.
    fn change(self, script: &[u8], response: Response<Bytes>) -> (Response<Bytes>, bool) {
        let (mut head, mut body) = response.into_parts();
        let before = (head.clone(), body.clone());
        match self {
            Self::Body => body = edit(&body, script).into(),
            Self::Chain => {
                let found = CHAINS.iter().find_map(|name| Some((name, head.headers.get(name)?.clone())));
                if let Some((name, value)) = found {
                    // What is no field value does not come through HTTP.
                    if let Ok(changed) = HeaderValue::from_bytes(&edit(value.as_bytes(), script)) {
                        head.headers.insert(name, changed);
                    }
                }
            }
            Self::Status => {
                if let Some(status) = script.first_chunk() {
                    head.status = StatusCode::from_u16(200 + u16::from_be_bytes(*status) % 400).expect("200 to 599");
                }
            }
            Self::RetryAfter => {
                if let Ok(value) = HeaderValue::from_bytes(script) {
                    head.status = StatusCode::TOO_MANY_REQUESTS;
                    head.headers.insert(RETRY_AFTER, value);
                }
            }
        }
        let changed = (head.status, &head.headers, &body) != (before.0.status, &before.0.headers, &before.1);
        (Response::from_parts(head, body), changed)
    }
}

/// A client that is told to pause is not told for how long, past its own limit.
fn bounded(kind: EndorsementErrorKind) {
    if let EndorsementErrorKind::RateLimited { retry_after } = kind {
        assert!(retry_after <= LONGEST_PAUSE, "a pause of {retry_after:?}");
    }
}

/// A PCS of which one response is changed: the first byte says which, the second which part, the rest how. Unchanged, the
/// collateral is Intel's; changed, it is refused, or no part of it that Intel signs is another.
pub fn tdx_pcs(data: &[u8]) {
    let Some(([which, what], script)) = data.split_first_chunk() else { return };
    let part = Part::of(*what);
    match fetched(usize::from(*which) % 4, part, script) {
        (Ok(collateral), changed) => {
            let genuine = tdx::vouches(&collateral);
            assert!(genuine || changed, "the simulator's own collateral is refused");
            assert!(!changed || part == Part::Body || part == Part::Chain, "another status is taken for 200");
        }
        (Err(error), changed) => {
            assert!(changed, "a good answer is refused: {error}");
            bounded(error.kind());
            says_why(&error);
        }
    }
}

/// What the service says, in the order in which it is asked.
static HONEST: LazyLock<Vec<Response<Bytes>>> = LazyLock::new(|| {
    let pcs = SimulatedPcs::new();
    pcs.publish(&SimulatedTd::new(MEASUREMENT).platform, &SimulatedIntel::new().collateral());
    let targets = [
        "/tdx/certification/v4/tcb?fmspc=51806f000000",
        "/tdx/certification/v4/qe/identity",
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "/IntelSGXRootCA.der",
    ];
    let answer = |target: &str| {
        let request = Request::get(target).body(()).expect("a request");
        block_on(async {
            let (head, body) = pcs.clone().oneshot(request).await.unwrap_or_else(|never| match never {}).into_parts();
            Response::from_parts(head, body.collect().await.expect("its own").to_bytes())
        })
    };
    targets.map(answer).into()
});

fn fetched(which: usize, part: Part, script: &[u8]) -> (Result<Arc<Collateral>, EndorsementError>, bool) {
    let (answer, changed) = part.change(script, HONEST[which].clone());
    let answers: Vec<_> = HONEST
        .iter()
        .enumerate()
        .map(|(at, honest)| if at == which { answer.clone() } else { honest.clone() })
        .collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let relay = service_fn(move |_: Request<Empty<Bytes>>| {
        let answer = answers[asked.fetch_add(1, Ordering::Relaxed)].clone();
        async move { Ok::<_, Infallible>(answer.map(Full::new)) }
    });
    let fmspc = SimulatedTd::new(MEASUREMENT).platform.pck.id.fmspc;
    let check = |_: &Arc<Collateral>| Ok(tdx::now() + Duration::from_secs(1));
    let request = CollateralRequest::new(PlatformId { fmspc, ca: PckCa::Platform }, tdx::now(), &check);
    (block_on(PcsClient::new(relay).with_attempts(1).collateral(&request)), changed)
}

static REPORTS: LazyLock<[Report; 3]> = LazyLock::new(|| {
    Product::ALL.map(|product| snp::made_by(SimulatedGuest::new(product).with_measurement(MEASUREMENT)))
});

/// A KDS whose response is changed: the first byte says for which product, the second which part, the rest how. Unchanged, a
/// report without a certificate is genuine; changed, only with a certificate that AMD signed. The script alone, as the
/// chain of a product, is certificates in PEM or refused.
pub fn snp_kds(data: &[u8]) {
    let Some(([whose, what], script)) = data.split_first_chunk() else { return };
    let product = Product::ALL[usize::from(*whose) % Product::ALL.len()];
    let part = Part::of(*what);
    let report = &REPORTS[usize::from(*whose) % REPORTS.len()];
    let (response, changed) = part.change(script, Response::new(report.vek().expect("stapled").clone()));
    let (ok, certificate) = (response.status() == StatusCode::OK, response.body().clone());
    let kds = KdsClient::new(answering(response)).with_attempts(1);
    let policy = SnpPolicy::pin(MEASUREMENT).with_products(Product::ALL);
    let verifier = SnpVerifier::trusting_simulator(policy, &SimulatedAmd::new()).with_vek_source(kds);
    match block_on(verifier.verify(&report.clone().without_vek(), snp::now())) {
        Ok(_) => assert!(ok && snp::issued(&certificate), "a certificate that nobody issued"),
        Err(error) => {
            assert!(changed, "a good answer is refused: {error}");
            let passing = error.kind() == VerifyErrorKind::Unavailable;
            assert!(!(ok && passing), "what was answered in full is not worth asking again: {error}");
            says_why(&error);
        }
    }

    let kds = KdsClient::new(answering(Response::new(Bytes::copy_from_slice(script)))).with_attempts(1);
    match block_on(kds.cert_chain(product, VekKind::Vcek)) {
        Ok(chain) => assert!(!chain.is_empty() && script.windows(11).any(|window| window == b"-----BEGIN ")),
        Err(error) => {
            assert_eq!(error.kind(), EndorsementErrorKind::Refused);
            says_why(&error);
        }
    }
}

/// A service that always answers this.
fn answering(
    response: Response<Bytes>,
) -> impl tower::Service<Request<Empty<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(move |_: Request<Empty<Bytes>>| {
        let response = response.clone();
        async move { Ok(response.map(Full::new)) }
    })
}
