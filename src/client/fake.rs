//! For this room's tests: a server, its hardware and a verifier for it, without the server's room or any platform.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Semaphore;
use tower_service::Service;

use super::transport::AttestedTransport;
use crate::crypto::SigningKey;
use crate::error::BoxError;
#[cfg(feature = "seal")]
use crate::protocol::Suite;
use crate::protocol::{
    ATTESTATION_REPORT, BatchTree, CMW_JSON, ChannelBinding, Evidence, EvidenceStatement, KeyConfig, KeyDocument,
    KeyDocumentFields, KeysDigest, Nonce, NonceHeader, ReportHeader, ResponseStatement, Target, WELL_KNOWN_PATH,
};
use crate::report::{Platform, Report};
use crate::verifier::{Claims, ReportVerifier, VerifyError};

pub(super) const NAME: &str = "prover.example";
pub(super) const CONFIG: [u8; 32] = [9; 32];

/// One epoch of a server's keys.
pub(super) struct Keys {
    pub(super) sign: SigningKey,
    pub(super) document: KeyDocument,
}

impl Keys {
    pub(super) fn new(seed: u8) -> Arc<Self> {
        Self::with_config(seed, Some(CONFIG))
    }

    pub(super) fn with_config(seed: u8, config: Option<[u8; 32]>) -> Arc<Self> {
        Self::built(seed, config, None)
    }

    /// Keys that requests can be sealed to.
    #[cfg(feature = "seal")]
    pub(super) fn with_seal(seed: u8) -> Arc<Self> {
        let seal = KeyConfig { id: seed, public: [seed; 32], suites: vec![Suite::AES_128_GCM] };
        Self::built(seed, Some(CONFIG), Some(seal))
    }

    fn built(seed: u8, config: Option<[u8; 32]>, seal: Option<KeyConfig>) -> Arc<Self> {
        let sign = SigningKey::from_seed(&[seed; 32]);
        let names = vec![NAME.to_owned()];
        let fields = KeyDocumentFields {
            instance: [seed; 16],
            epoch: 1,
            names,
            sign: sign.public_key(),
            config,
            seal,
            route: None,
        };
        Arc::new(Self { document: KeyDocument::build(fields).unwrap(), sign })
    }

    pub(super) fn digest(&self) -> KeysDigest {
        *self.document.digest()
    }

    pub(super) fn sign(&self, statement: &ResponseStatement<'_>) -> ReportHeader {
        ReportHeader { keys: *statement.keys, sig: self.sign.sign(&statement.encode()), evidence: None }
    }

    /// Evidence for these keys: a batch of three, of which the given nonce is the second.
    pub(super) fn evidence(&self, nonce: &Nonce, binding: Option<&ChannelBinding>) -> Evidence {
        let platform = Platform::SNP;
        let keys = self.digest();
        let leaf = EvidenceStatement { platform: &platform, nonce, binding, keys: &keys }.leaf();
        let tree = BatchTree::new(vec![[1; 48], leaf, [3; 48]]).unwrap();
        Evidence {
            report: Report::new(platform.clone(), tree.report_data(&platform).as_bytes().to_vec()),
            keys: self.document.bytes().clone(),
            batch: tree.proof(1).unwrap(),
        }
    }
}

/// Reads REPORTDATA from a report that is nothing else.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeVerifier(Arc<VerifierState>);

#[derive(Debug, Default)]
struct VerifierState {
    revision: AtomicU64,
    calls: AtomicUsize,
    error: Mutex<Option<VerifyError>>,
    valid_until: Mutex<Option<SystemTime>>,
    gate: Mutex<Option<Arc<Semaphore>>>,
    yields: Mutex<bool>,
}

impl FakeVerifier {
    pub(super) fn bump(&self) {
        self.0.revision.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    pub(super) fn refuse(&self, error: Option<VerifyError>) {
        *self.0.error.lock().unwrap() = error;
    }

    pub(super) fn valid_until(&self, end: SystemTime) {
        *self.0.valid_until.lock().unwrap() = Some(end);
    }

    pub(super) fn gate(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.0.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    pub(super) fn yields(&self) {
        *self.0.yields.lock().unwrap() = true;
    }
}

pub(super) fn claims_of(report: &Report) -> Claims {
    let data = <[u8; 64]>::try_from(report.bytes().as_ref()).unwrap();
    Claims::new(report.platform().clone(), data, vec![0x4d; 48]).with_measurement_name("prover 1")
}

#[async_trait]
impl ReportVerifier for FakeVerifier {
    fn platforms(&self) -> Vec<Platform> {
        vec![Platform::SNP]
    }

    async fn verify(&self, report: &Report, _: SystemTime) -> Result<Claims, VerifyError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let yields = *self.0.yields.lock().unwrap();
        if yields {
            yield_once().await;
        }
        if let Some(error) = self.0.error.lock().unwrap().clone() {
            return Err(error);
        }
        let claims = claims_of(report);
        match *self.0.valid_until.lock().unwrap() {
            Some(end) => Ok(claims.with_valid_until(end)),
            None => Ok(claims),
        }
    }

    fn revision(&self) -> u64 {
        self.0.revision.load(Ordering::SeqCst)
    }
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

type Tamper = Arc<dyn Fn(&str, &mut Response<FakeBody>) + Send + Sync>;

/// How the server behaves.
#[derive(Clone)]
pub(super) struct Behaviour {
    /// Signs application responses, and the endpoint's unless `endpoint_keys` does.
    pub(super) keys: Arc<Keys>,
    pub(super) endpoint_keys: Option<Arc<Keys>>,
    /// Without it the server knows nothing of attestation.
    pub(super) attests: bool,
    /// Whether evidence fits into the response's head.
    pub(super) evidence_fits: bool,
    pub(super) endpoint_status: StatusCode,
    pub(super) status: StatusCode,
    pub(super) binding: Option<ChannelBinding>,
    /// The connection's transport says it was attested.
    pub(super) attested: bool,
    /// What the server takes for the exporter, if it is another than the client's.
    pub(super) server_binding: Option<ChannelBinding>,
    pub(super) gate: Option<Arc<Semaphore>>,
    pub(super) yields: bool,
    pub(super) fails: bool,
    pub(super) tamper: Option<Tamper>,
}

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) uri: http::Uri,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) nonce: Option<NonceHeader>,
    pub(super) body: String,
}

/// An attesting server as a tower service.
pub(super) struct FakeServer {
    behaviour: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    ready: bool,
    yielded: bool,
}

impl FakeServer {
    pub(super) fn new() -> Self {
        let behaviour = Behaviour {
            keys: Keys::new(1),
            endpoint_keys: None,
            attests: true,
            evidence_fits: true,
            endpoint_status: StatusCode::OK,
            status: StatusCode::OK,
            binding: None,
            attested: false,
            server_binding: None,
            gate: None,
            yields: false,
            fails: false,
            tamper: None,
        };
        let (behaviour, seen) = (Arc::new(Mutex::new(behaviour)), Arc::default());
        Self { behaviour, seen, ready: false, yielded: false }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    pub(super) fn tamper(&self, tamper: impl Fn(&str, &mut Response<FakeBody>) + Send + Sync + 'static) {
        self.set(|b| b.tamper = Some(Arc::new(tamper)));
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests for evidence, and how many others.
    pub(super) fn counts(&self) -> (usize, usize) {
        let seen = self.seen();
        let asked = seen.iter().filter(|seen| seen.path == WELL_KNOWN_PATH).count();
        (asked, seen.len() - asked)
    }
}

impl Service<Request<String>> for FakeServer {
    type Response = Response<FakeBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.behaviour.lock().unwrap().yields && !std::mem::replace(&mut self.yielded, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        self.yielded = false;
        let behaviour = self.behaviour.lock().unwrap().clone();
        let seen = Seen {
            path: request.uri().path().to_owned(),
            uri: request.uri().clone(),
            method: request.method().clone(),
            headers: request.headers().clone(),
            nonce: NonceHeader::from_headers(request.headers()).unwrap(),
            body: request.body().clone(),
        };
        self.seen.lock().unwrap().push(seen.clone());
        Box::pin(async move {
            if let Some(gate) = &behaviour.gate
                && seen.path == WELL_KNOWN_PATH
            {
                gate.acquire().await?.forget();
            }
            if behaviour.yields {
                yield_once().await;
            }
            if behaviour.fails {
                return Err("connection refused".into());
            }
            let mut response = behaviour.answer(&seen);
            if let Some(tamper) = &behaviour.tamper {
                tamper(&seen.path, &mut response);
            }
            Ok(response)
        })
    }
}

/// Clones are not ready, like those of a service with permits.
impl Clone for FakeServer {
    fn clone(&self) -> Self {
        let (behaviour, seen) = (Arc::clone(&self.behaviour), Arc::clone(&self.seen));
        Self { behaviour, seen, ready: false, yielded: false }
    }
}

impl Behaviour {
    fn answer(&self, seen: &Seen) -> Response<FakeBody> {
        let endpoint = seen.path == WELL_KNOWN_PATH;
        let mut response = Response::new(FakeBody::new("proof", self.yields));
        *response.status_mut() = self.status;
        if let Some(binding) = self.binding {
            response.extensions_mut().insert(binding);
            if self.attested {
                response.extensions_mut().insert(AttestedTransport::new(binding));
            }
        }
        let Some(asked) = seen.nonce.as_ref().filter(|_| self.attests) else { return response };
        let keys = self.endpoint_keys.as_ref().filter(|_| endpoint).unwrap_or(&self.keys);
        let binding = self.server_binding.or(self.binding).filter(|_| asked.bind);
        if endpoint {
            *response.status_mut() = self.endpoint_status;
        }
        let target = Target::of(&seen.method, &seen.uri).unwrap();
        let mut header = keys.sign(&ResponseStatement {
            nonce: &asked.nonce,
            binding: binding.as_ref(),
            keys: &keys.digest(),
            method: &seen.method,
            target: &target,
            status: response.status(),
        });
        let evidence = keys.evidence(&asked.nonce, binding.as_ref());
        if endpoint {
            response.headers_mut().insert(header::CONTENT_TYPE, CMW_JSON.parse().unwrap());
            *response.body_mut() = FakeBody::new(evidence.to_json(), self.yields);
        } else if self.evidence_fits && !asked.have.contains(&keys.digest()) {
            header.evidence = Some(evidence.to_cbor().into());
        }
        response.headers_mut().insert(ATTESTATION_REPORT, header.to_value());
        response
    }
}

/// A body in chunks that may yield before each.
#[derive(Debug, Default)]
pub(super) struct FakeBody {
    pub(super) chunks: VecDeque<Result<Bytes, BoxError>>,
    pub(super) announced: Option<u64>,
    yields: bool,
    yielded: bool,
}

impl FakeBody {
    pub(super) fn new(data: impl Into<Bytes>, yields: bool) -> Self {
        Self { chunks: VecDeque::from([Ok(data.into())]), announced: None, yields, yielded: false }
    }
}

impl Body for FakeBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.yields && !self.yielded {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        Poll::Ready(self.chunks.pop_front().map(|chunk| chunk.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.announced.unwrap_or(0));
        hint
    }
}
