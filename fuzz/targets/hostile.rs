//! Peers that hold the right keys and seal whatever they like: what authenticates is still input.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::runtime::{Builder, Runtime};
use tower::util::BoxCloneService;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_attest::mock::{MockProvider, MockTee};
use tower_attest::protocol::{
    ATTESTATION_KEYS, ATTESTATION_REPORT, BatchTree, CMW_JSON, Evidence, EvidenceStatement, KeyConfig, KeyDocument,
    KeyDocumentFields, KeysHeader, NonceHeader, ReportHeader, ResponseStatement, SEALED_PATH, SEALED_REQUEST,
    SEALED_RESPONSE, Suite, Target, WELL_KNOWN_PATH,
};
use tower_attest::seal::client::CarrierRequestBody;
use tower_attest::seal::server::UnsealedBody;
use tower_attest::seal::{SealLayer, UnsealLayer};
use tower_attest::{AttestError, Attester, BoxError, ErrorKind, ReportLayer, ReportProvider, Strength, VerifiedReport};

use super::message::{Frames, Message};
use super::ohttp::{Cut, Shared, public, receive_request, seal_request};

/// More than a head, trailers or a chunk may have.
const PAST_LIMITS: usize = 70 * 1024;

type Body = UnsyncBoxBody<Bytes, BoxError>;
type Client<B> = BoxCloneService<Request<B>, Response<Body>, BoxError>;

/// What came of a message: it was read to its end, its head alone was, or it was refused.
#[derive(Debug, PartialEq)]
enum Outcome {
    Whole(Message),
    Cut,
    Refused(u16, String),
}

/// The first four bytes say with which AEAD the rest is sealed and whether the final chunk is empty, how long a chunk is, how
/// long a frame, and how much of the rest's end is repeated until it is past every limit.
fn cut(data: &[u8]) -> Option<(Suite, Cut, Vec<u8>)> {
    let ([how, chunk, frame, repeated], plaintext) = data.split_first_chunk()?;
    let suite = if how & 1 == 0 { Suite::AES_128_GCM } else { Suite::CHACHA20_POLY1305 };
    let mut plaintext = plaintext.to_vec();
    let end = plaintext.split_off(plaintext.len().saturating_sub((*repeated).into()));
    let (times, unit) = if end.is_empty() { (0, 1) } else { (PAST_LIMITS / end.len(), 100) };
    plaintext.extend(end.repeat(times));
    let (chunk, frame) = ((1 + usize::from(*chunk)) * unit, (1 + usize::from(*frame)) * unit);
    Some((suite, Cut { chunk, empty_end: how & 2 != 0, frame }, plaintext))
}

fn locked<T>(world: &Mutex<T>) -> MutexGuard<'_, T> {
    world.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn boxed<B>(response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    response.map(|body| UnsyncBoxBody::new(body.map_err(Into::into)))
}

/// A server, and a client of this crate for it.
struct Server {
    runtime: Runtime,
    attester: Attester,
    unseal: BoxCloneService<Request<Frames>, Response<Body>, Infallible>,
    client: Client<Frames>,
    /// What the application saw last: nothing, a request that broke off, a whole one.
    seen: Arc<Mutex<Option<Option<Seen>>>>,
}

type Seen = (http::request::Parts, Bytes, Option<http::HeaderMap>);

static SERVER: LazyLock<Mutex<Server>> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let tee = MockTee::from_seed([7; 32]);
    // So small that keys are renewed all the time.
    let attester = Attester::builder(tee.provider()).name("prover.example").seal().replay_cache(1000);
    let attester = runtime.block_on(attester.start()).expect("the mock works");
    let seen = Arc::default();
    let unseal = UnsealLayer::new(attester.clone()).expect("it seals");
    let plain = ServiceBuilder::new().map_response(boxed).layer(unseal.clone()).service(application(&seen));
    let attested = ServiceBuilder::new()
        .map_response(boxed)
        .layer(ReportLayer::new(attester.clone()))
        .layer(unseal)
        .service(application::<CarrierRequestBody<Frames>>(&seen));
    let client = SealLayer::new(tee.verifier()).name("prover.example").layer(attested);
    let client = BoxCloneService::new(client.map_response(boxed));
    Mutex::new(Server { runtime, attester, unseal: BoxCloneService::new(plain), client, seen })
});

fn application<B>(
    seen: &Arc<Mutex<Option<Option<Seen>>>>,
) -> BoxCloneService<Request<UnsealedBody<B>>, Response<Full<Bytes>>, Infallible>
where
    B: http_body::Body<Error: Into<BoxError>> + Send + 'static,
{
    let seen = Arc::clone(seen);
    BoxCloneService::new(service_fn(move |request: Request<UnsealedBody<B>>| {
        let seen = Arc::clone(&seen);
        let (head, body) = request.into_parts();
        let body = UnsyncBoxBody::new(body);
        async move {
            let body = body.collect().await.ok();
            *locked(&seen) = Some(body.map(|body| {
                let trailers = body.trailers().cloned();
                (head, body.to_bytes(), trailers)
            }));
            Ok(Response::new(Full::default()))
        }
    }))
}

/// A client seals what it likes to a server's genuine key. However it is cut, the server makes the same of it, and whoever
/// sealed it is told so, sealed. What the application gets is what `bhttp` reads, and can be sent again by a client of this
/// crate.
pub fn sealed_request(data: &[u8]) {
    let Some((suite, cut, plaintext)) = cut(data) else { return };
    let server = locked(&SERVER);
    let whole = server.make_of(suite, &plaintext, Cut::WHOLE);
    let pieces = server.make_of(suite, &plaintext, cut);
    assert_eq!(outcome(&whole), outcome(&pieces), "in one piece and in several");
    let Ok(Some((head, content, trailers))) = whole else { return };
    let message = Message::request(&head, content.clone(), trailers.as_ref());
    assert_eq!(message, Message::by_bhttp(&plaintext).without_attestation());
    if plaintext.len() >= PAST_LIMITS / 2 {
        // The line counts towards what is written, and not towards a section of known length that is read.
        return;
    }
    server.send(&head, &content, trailers.as_ref());
    let again = locked(&server.seen)
        .take()
        .flatten()
        .map(|(head, body, trailers)| Message::request(&head, body, trailers.as_ref()));
    assert_eq!(again, Some(message), "what was read can be written");
}

/// A request, `None` if it broke off, or the refusal.
fn outcome(of: &Result<Option<Seen>, (u16, String)>) -> Outcome {
    match of {
        Ok(Some((head, body, trailers))) => Outcome::Whole(Message::request(head, body.clone(), trailers.as_ref())),
        Ok(None) => Outcome::Cut,
        Err((status, code)) => Outcome::Refused(*status, code.clone()),
    }
}

impl Server {
    /// Sends a request by the client of this crate. One that meets keys which have just ended is not repeated by itself.
    fn send(&self, head: &http::request::Parts, content: &Bytes, trailers: Option<&http::HeaderMap>) {
        for last in [false, true] {
            let request = Request::from_parts(head.clone(), Frames::with_trailers(content.clone(), trailers.cloned()));
            match self.runtime.block_on(self.client.clone().oneshot(request)) {
                Ok(response) => return assert_eq!(response.status(), StatusCode::OK),
                Err(error) => {
                    let kind = error.downcast_ref::<AttestError>().map(AttestError::kind);
                    assert!(!last && kind == Some(ErrorKind::UnknownKeys), "what was read cannot be written: {error}");
                }
            }
        }
    }

    fn make_of(&self, suite: Suite, plaintext: &[u8], cut: Cut) -> Result<Option<Seen>, (u16, String)> {
        let document = self.attester.key_document();
        let config = document.fields().seal.as_ref().expect("it seals");
        let (sealed, shared) = seal_request(config, suite, plaintext, cut);
        let keys = KeysHeader { keys: *document.digest() }.to_value();
        let request = Request::post(SEALED_PATH).header(CONTENT_TYPE, SEALED_REQUEST).header(ATTESTATION_KEYS, keys);
        let request = request.body(Frames::cut(sealed, cut.frame)).expect("a request");
        locked(&self.seen).take();
        let (head, body) = self.runtime.block_on(async {
            let (head, body) =
                self.unseal.clone().oneshot(request).await.unwrap_or_else(|never| match never {}).into_parts();
            (head, body.collect().await.expect("the server's own").to_bytes())
        });
        assert_eq!(head.status, StatusCode::OK, "what authenticates is answered sealed");
        assert_eq!(head.headers[CONTENT_TYPE], SEALED_RESPONSE);
        let reply = shared.open_response(&body).expect("sealed for this request");
        let reply = bhttp::Message::read_bhttp(&mut std::io::Cursor::new(reply)).expect("a response");
        let status = reply.control().status().expect("a response").code();
        match locked(&self.seen).take() {
            Some(seen) => {
                assert_eq!(status, 200, "the application's own");
                Ok(seen)
            }
            None => {
                assert!(matches!(status, 400 | 431), "refused with {status}");
                let problem: serde_json::Value = serde_json::from_slice(reply.content()).expect("a problem");
                Err((status, problem["code"].as_str().unwrap_or_default().to_owned()))
            }
        }
    }
}

/// A program in a genuine TEE that answers what it is told, and a client of it.
struct Told {
    runtime: Runtime,
    client: Client<Full<Bytes>>,
    lie: Arc<Mutex<(Vec<u8>, Cut)>>,
}

static TOLD: LazyLock<Mutex<Told>> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let tee = MockTee::from_seed([7; 32]);
    let lie = Arc::new(Mutex::new((Vec::new(), Cut::WHOLE)));
    let (liar, told) = (Arc::new(Liar::new(&tee)), Arc::clone(&lie));
    let service = service_fn(move |request: Request<CarrierRequestBody<Full<Bytes>>>| {
        let (liar, told) = (Arc::clone(&liar), Arc::clone(&told));
        async move { Ok::<_, Infallible>(liar.answer(request, &told).await) }
    });
    let client = SealLayer::new(tee.verifier()).name("prover.example").layer(service);
    Mutex::new(Told { runtime, client: BoxCloneService::new(client.map_response(boxed)), lie })
});

/// A server seals what it likes as a response, with genuine keys. However it is cut, the client makes the same of it: an
/// error that says that the seal is broken, or what `bhttp` reads.
pub fn sealed_response(data: &[u8]) {
    let Some((_, cut, plaintext)) = cut(data) else { return };
    let told = locked(&TOLD);
    let (whole, pieces) = (told.make_of(&plaintext, Cut::WHOLE), told.make_of(&plaintext, cut));
    assert_eq!(whole, pieces, "in one piece and in several");
    if let Outcome::Whole(message) = whole {
        assert_eq!(message, Message::by_bhttp(&plaintext));
    }
}

impl Told {
    fn make_of(&self, plaintext: &[u8], cut: Cut) -> Outcome {
        *locked(&self.lie) = (plaintext.to_vec(), cut);
        let request = Request::get("https://prover.example/prove").body(Full::default()).expect("a request");
        self.runtime.block_on(async {
            let response = match self.client.clone().oneshot(request).await {
                Ok(response) => response,
                Err(error) => return Outcome::Refused(0, broken(error)),
            };
            assert_eq!(VerifiedReport::of(&response).map(VerifiedReport::strength), Some(Strength::Sealed));
            let (head, body) = response.into_parts();
            match body.collect().await {
                Ok(body) => {
                    let trailers = body.trailers().cloned();
                    Outcome::Whole(Message::response(&head, body.to_bytes(), trailers.as_ref()))
                }
                Err(error) => {
                    broken(error);
                    Outcome::Cut
                }
            }
        })
    }
}

/// Why a response is refused: it authenticated, so that it can only be no message.
fn broken(error: BoxError) -> String {
    let error = error.downcast::<AttestError>().expect("a refusal");
    assert_eq!(error.kind(), ErrorKind::SealBroken, "{error}");
    error.to_string()
}

/// The keys of a server, and a report that vouches for them.
struct Liar {
    seal: PrivateKey,
    sign: Ed25519KeyPair,
    document: KeyDocument,
    provider: MockProvider,
}

impl Liar {
    fn new(tee: &MockTee) -> Self {
        let seal = PrivateKey::from_private_key(&X25519, &[9; 32]).expect("a key");
        let sign = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).expect("a key");
        let suites = vec![Suite::AES_128_GCM];
        let names = vec!["prover.example".to_owned()];
        let key = sign.public_key().as_ref().try_into().expect("32 bytes");
        let mut fields = KeyDocumentFields::new([0; 16], 1, names, key);
        fields.seal = Some(KeyConfig { id: 1, public: public(&seal), suites });
        let document = KeyDocument::build(fields);
        Self { seal, sign, document: document.expect("a document"), provider: tee.provider() }
    }

    async fn answer(
        &self,
        request: Request<CarrierRequestBody<Full<Bytes>>>,
        lie: &Mutex<(Vec<u8>, Cut)>,
    ) -> Response<Frames> {
        let (head, body) = request.into_parts();
        let nonce = NonceHeader::from_headers(&head.headers).expect("the client's own").expect("a nonce");
        let body = body.collect().await.expect("the client's own").to_bytes();
        let (media_type, answer) = if head.uri.path() == WELL_KNOWN_PATH {
            (CMW_JSON, Frames::cut(self.evidence(&nonce).await, usize::MAX))
        } else {
            let shared: Shared = receive_request(&self.seal, &body);
            let (plaintext, cut) = &*locked(lie);
            (SEALED_RESPONSE, Frames::cut(shared.seal_response(plaintext, *cut), cut.frame))
        };
        let (keys, target) = (*self.document.digest(), Target::of(&head.method, &head.uri).expect("a target"));
        let (method, status) = (&head.method, StatusCode::OK);
        let statement =
            ResponseStatement { nonce: &nonce.nonce, binding: None, keys: &keys, method, target: &target, status };
        let sig = self.sign.sign(&statement.encode()).as_ref().try_into().expect("64 bytes");
        let report = ReportHeader { keys, sig, evidence: None }.to_value();
        let response = Response::builder().header(CONTENT_TYPE, media_type).header(ATTESTATION_REPORT, report);
        response.body(answer).expect("a response")
    }

    async fn evidence(&self, nonce: &NonceHeader) -> Vec<u8> {
        let (platform, keys) = (self.provider.platform(), self.document.digest());
        let leaf = EvidenceStatement { platform: &platform, nonce: &nonce.nonce, binding: None, keys }.leaf();
        let tree = BatchTree::new(vec![leaf]).expect("one leaf");
        let report = self.provider.report(&tree.report_data(&platform)).await.expect("the mock works");
        let batch = tree.proof(0).expect("of the one leaf");
        Evidence { report, keys: self.document.bytes().clone(), batch }.to_json()
    }
}
