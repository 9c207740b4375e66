//! The `ohttp` and `bhttp` crates as a client and as a server of sealed requests.

use std::io::Cursor;
use std::pin::Pin;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::body::Body;
use bhttp::{Message, Mode};
use futures::executor::block_on;
use futures::io::{AllowStdIo, AsyncReadExt, AsyncWriteExt};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use ohttp::hpke::{Aead, Kdf, Kem};
use ohttp::{ClientRequest, KeyConfig, Server, SymmetricSuite};
use tower_attest::ReportProvider;
use tower_attest::mock::{MockProvider, MockTee};
use tower_attest::protocol::{
    self, ATTESTATION_REPORT, BatchTree, Evidence, EvidenceStatement, KeyDocument, KeyDocumentFields, NonceHeader,
    ReportHeader, ResponseStatement, Target,
};

/// An error of either crate.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Seals `message` with `ohttp` to the first suite of `config`, in chunks of at most `chunk` bytes, and opens the answer that
/// `exchange` has for it.
pub fn exchange(
    config: &[u8],
    message: &[u8],
    chunk: usize,
    exchange: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, Error>,
) -> Result<Vec<u8>, Error> {
    let mut sealed = Vec::new();
    let mut request = ClientRequest::from_encoded_config(config)?.encapsulate_stream(AllowStdIo::new(&mut sealed))?;
    block_on(async {
        for piece in message.chunks(chunk) {
            request.write_all(piece).await?;
            request.flush().await?;
        }
        request.close().await
    })?;
    // The answer is asked for first, since the request borrows what is sent.
    let (sender, receiver) = std::sync::mpsc::channel::<Vec<u8>>();
    let reply = request.response(AllowStdIo::new(Late { receiver, bytes: None }))?;
    drop(request);
    sender.send(exchange(sealed)?)?;
    let mut reply = Box::pin(reply);
    let mut opened = Vec::new();
    block_on(reply.read_to_end(&mut opened))?;
    Ok(opened)
}

/// Bytes that come once they are asked for.
struct Late {
    receiver: std::sync::mpsc::Receiver<Vec<u8>>,
    bytes: Option<Cursor<Vec<u8>>>,
}

impl std::io::Read for Late {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.bytes.is_none() {
            self.bytes = self.receiver.recv().ok().map(Cursor::new);
        }
        match &mut self.bytes {
            Some(bytes) => bytes.read(buffer),
            None => Ok(0),
        }
    }
}

/// A server whose cryptography and framing are `ohttp`'s and `bhttp`'s, attested as tower-attest's clients demand.
pub struct OhttpServer {
    server: Server,
    document: KeyDocument,
    sign: Ed25519KeyPair,
    provider: MockProvider,
    mode: Mode,
    change: Option<Change>,
}

type Change = Box<dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync>;

impl OhttpServer {
    /// A server that offers this AEAD alone, and answers in this framing.
    pub fn new(tee: &MockTee, aead: Aead, mode: Mode) -> Result<Self, Error> {
        let suites = vec![SymmetricSuite::new(Kdf::HkdfSha256, aead)];
        let server = Server::new(KeyConfig::new(1, Kem::X25519Sha256, suites)?)?;
        let sign = Ed25519KeyPair::generate()?;
        let names = vec!["prover.example".into()];
        let mut fields = KeyDocumentFields::new([0; 16], 1, names, sign.public_key().as_ref().try_into()?);
        fields.seal = Some(protocol::KeyConfig::parse(&server.config().encode()?)?);
        let document = KeyDocument::build(fields)?;
        Ok(Self { server, document, sign, provider: tee.provider(), mode, change: None })
    }

    /// The same, its sealed responses changed on the way.
    pub fn changing(mut self, change: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.change = Some(Box::new(change));
        self
    }

    /// What it makes of a sealed request.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let mut opened = Vec::new();
        block_on(Pin::new(&mut self.server.clone().decapsulate_stream(sealed)).read_to_end(&mut opened))?;
        Ok(opened)
    }

    /// As a tower service for a client.
    pub async fn serve(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Error> {
        let nonce = NonceHeader::from_headers(request.headers())?.ok_or("no nonce")?;
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let (content_type, answer) = match parts.uri.path() {
            protocol::WELL_KNOWN_PATH => (protocol::CMW_JSON, self.evidence(&nonce).await?),
            _ => (protocol::SEALED_RESPONSE, self.answer(&body)?),
        };
        let target = Target::of(&parts.method, &parts.uri)?;
        let mut response = Response::builder().header("content-type", content_type).body(Body::from(answer))?;
        self.sign(&nonce, &parts.method, &target, response.headers_mut());
        Ok(response)
    }

    async fn evidence(&self, nonce: &NonceHeader) -> Result<Vec<u8>, Error> {
        let platform = self.provider.platform();
        let keys = self.document.digest();
        let leaf = EvidenceStatement { platform: &platform, nonce: &nonce.nonce, binding: None, keys }.leaf();
        let tree = BatchTree::new(vec![leaf])?;
        let report = self.provider.report(&tree.report_data(&platform)).await?;
        let keys = self.document.bytes().clone();
        Ok(Evidence { report, keys, batch: tree.proof(0).ok_or("no proof")? }.to_json())
    }

    /// Echoes the request's content, trailers and target.
    fn answer(&self, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let mut request = Box::pin(self.server.clone().decapsulate_stream(sealed));
        let mut opened = Vec::new();
        block_on(request.read_to_end(&mut opened))?;
        let message = Message::read_bhttp(&mut Cursor::new(opened))?;
        let mut reply = Message::response(bhttp::StatusCode::OK);
        reply.put_header("x-target", message.control().path().unwrap_or_default());
        reply.write_content(message.content());
        for field in message.trailer().fields() {
            reply.put_trailer(field.name(), field.value());
        }
        let mut plain = Vec::new();
        reply.write_bhttp(self.mode, &mut plain)?;
        let mut sealed = Vec::new();
        let mut response = request.response(AllowStdIo::new(&mut sealed))?;
        block_on(async {
            response.write_all(&plain).await?;
            response.close().await
        })?;
        drop(response);
        Ok(match &self.change {
            Some(change) => change(sealed),
            None => sealed,
        })
    }

    fn sign(&self, nonce: &NonceHeader, method: &Method, target: &Target, headers: &mut HeaderMap) {
        let keys = *self.document.digest();
        let status = StatusCode::OK;
        let statement =
            ResponseStatement { nonce: &nonce.nonce, binding: None, keys: &keys, method, target, status }.encode();
        let mut sig = [0; 64];
        sig.copy_from_slice(self.sign.sign(&statement).as_ref());
        headers.insert(ATTESTATION_REPORT, ReportHeader { keys, sig, evidence: None }.to_value());
    }
}
