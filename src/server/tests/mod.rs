mod attach;
mod endpoint;
mod outcome;
mod refuse;
mod stacks;

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use super::*;
use crate::crypto;
use crate::mock::{MockProvider, MockTee};
use crate::protocol::{
    ATTESTATION_NONCE, ATTESTATION_REPORT, ChannelBinding, Evidence, EvidenceStatement, KeyDocument, Nonce,
    NonceHeader, ReportHeader, ResponseStatement, SEALED_PATH, Target, WELL_KNOWN_PATH,
};
use crate::report::Platform;
use crate::verifier::ReportVerifier;

const SECOND: Duration = Duration::from_secs(1);

type Body = Full<Bytes>;
type Reply = Response<ReportBody<Body>>;

/// A server with its hardware.
struct Server {
    attester: Attester,
    tee: MockTee,
    provider: MockProvider,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    async fn start_with(setting: impl FnOnce(AttesterBuilder) -> AttesterBuilder) -> Self {
        let tee = MockTee::new();
        let provider = tee.provider();
        let builder = setting(Attester::builder(provider.clone()).name("prover.example"));
        Self { attester: builder.start().await.unwrap(), tee, provider }
    }

    fn layer(&self) -> ReportLayer {
        ReportLayer::new(self.attester.clone())
    }

    /// Sends one request to an application that echoes its request's head, see [`echo`].
    async fn send(&self, request: Request<Body>) -> Reply {
        send(self.layer(), request).await
    }

    fn keys(&self) -> KeyDocument {
        self.attester.key_document()
    }

    /// Judges a response as a client would that trusts `keys`.
    fn signed_by(&self, keys: &KeyDocument, reply: &Reply, asked: &Asked) -> ReportHeader {
        let report = ReportHeader::from_headers(reply.headers()).unwrap().expect("a signed response");
        assert_eq!(&report.keys, keys.digest());
        let statement = ResponseStatement {
            nonce: &asked.nonce,
            binding: asked.binding.as_ref(),
            keys: keys.digest(),
            method: &asked.method,
            target: &Target::of(&asked.method, &asked.uri).unwrap(),
            status: reply.status(),
        };
        assert!(crypto::verify_ed25519(&keys.fields().sign, &statement.encode(), &report.sig), "the signature");
        report
    }

    fn signed(&self, reply: &Reply, asked: &Asked) -> ReportHeader {
        self.signed_by(&self.keys(), reply, asked)
    }

    /// Judges evidence as a client would.
    async fn assert_fresh(&self, evidence: &Evidence, asked: &Asked) {
        let claims = self.tee.verifier().verify(&evidence.report, SystemTime::UNIX_EPOCH).await.unwrap();
        let keys = KeyDocument::parse(evidence.keys.clone()).unwrap();
        let leaf = EvidenceStatement {
            platform: &Platform::MOCK,
            nonce: &asked.nonce,
            binding: asked.binding.as_ref(),
            keys: keys.digest(),
        }
        .leaf();
        assert_eq!(claims.report_data(), evidence.batch.report_data(&Platform::MOCK, &leaf).as_bytes());
    }
}

fn nonce() -> Nonce {
    Nonce::from_bytes([7; 32])
}

/// What a client knows of its own request.
struct Asked {
    nonce: Nonce,
    binding: Option<ChannelBinding>,
    method: Method,
    uri: Uri,
}

fn asked(method: Method, uri: &str) -> Asked {
    Asked { nonce: nonce(), binding: None, method, uri: uri.parse().unwrap() }
}

impl Asked {
    fn request(&self) -> Request<Body> {
        self.request_with(&NonceHeader { bind: self.binding.is_some(), ..NonceHeader::new(self.nonce) })
    }

    fn request_with(&self, header: &NonceHeader) -> Request<Body> {
        let mut request = plain(self.method.clone(), &self.uri.to_string());
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(ATTESTATION_NONCE, header.to_value());
        request
    }
}

fn plain(method: Method, uri: &str) -> Request<Body> {
    Request::builder().method(method).uri(uri).body(Body::default()).unwrap()
}

async fn send(layer: ReportLayer, request: Request<Body>) -> Reply {
    ServiceBuilder::new().layer(layer).service(service_fn(echo)).oneshot(request).await.unwrap()
}

/// Answers with the status in the request's field `want`, its fields whose names begin with `answer-`, and the body
/// `application`.
async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::from("application"));
    if let Some(status) = request.headers().get("want") {
        *response.status_mut() = StatusCode::from_bytes(status.as_bytes()).unwrap();
    }
    for (name, value) in request.headers() {
        if let Some(name) = name.as_str().strip_prefix("answer-") {
            response.headers_mut().append(http::HeaderName::try_from(name).unwrap(), value.clone());
        }
    }
    if request.headers().contains_key(ATTESTATION_REPORT) {
        response.headers_mut().insert("saw", "attestation-report".parse().unwrap());
    }
    Ok(response)
}

async fn text(reply: Reply) -> String {
    String::from_utf8(reply.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn problem(reply: Reply) -> serde_json::Value {
    assert_eq!(reply.headers()["content-type"], "application/problem+json");
    assert_eq!(reply.headers()["cache-control"], "no-store");
    serde_json::from_str(&text(reply).await).unwrap()
}
