//! Chunked Oblivious HTTP by hand (RFC 9180, RFC 9458, draft-ietf-ohai-chunked-ohttp): ends that seal whatever they like.

use aws_lc_rs::aead::{AES_128_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hmac;
use tower_attest::protocol::{KeyConfig, Suite};

/// DHKEM(X25519, HKDF-SHA256).
const KEM: [u8; 2] = [0, 0x20];
/// A key identifier, three algorithms, an encapsulated key.
const HEADER: usize = 7 + 32;
/// The most plaintext of a chunk.
const CHUNK: usize = 16 * 1024;

/// How plaintext is cut.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Bytes of plaintext in a chunk: 1 or more.
    pub(super) chunk: usize,
    /// Whether the final chunk is an empty one.
    pub(super) empty_end: bool,
    /// Bytes in a frame of what carries it: 1 or more.
    pub(super) frame: usize,
}

impl Cut {
    /// As little as can be.
    pub(super) const WHOLE: Self = Self { chunk: CHUNK, empty_end: false, frame: usize::MAX };
}

/// What seals or opens one direction of an exchange.
struct Context {
    key: LessSafeKey,
    base_nonce: [u8; NONCE_LEN],
    sequence: u64,
}

impl Context {
    fn new(suite: Suite, key: &[u8], base_nonce: &[u8]) -> Self {
        let key = UnboundKey::new(algorithm(suite), key).expect("as long as the AEAD's");
        Self { key: LessSafeKey::new(key), base_nonce: base_nonce.try_into().expect("12 bytes"), sequence: 0 }
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.base_nonce;
        nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, count)| *byte ^= count);
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, plaintext: &[u8], last: bool) -> Vec<u8> {
        let (nonce, mut sealed) = (self.next_nonce(), plaintext.to_vec());
        self.key.seal_in_place_append_tag(nonce, Aad::from(aad(last)), &mut sealed).expect("short");
        let length = if last { 0 } else { sealed.len() };
        [varint(length), sealed].concat()
    }

    fn open(&mut self, sealed: &[u8], last: bool) -> Option<Vec<u8>> {
        let (nonce, mut chunk) = (self.next_nonce(), sealed.to_vec());
        self.key.open_in_place(nonce, Aad::from(aad(last)), &mut chunk).ok().map(|plaintext| plaintext.to_vec())
    }

    fn seal_all(&mut self, plaintext: &[u8], cut: Cut) -> Vec<u8> {
        let mut chunks: Vec<&[u8]> = plaintext.chunks(cut.chunk.min(CHUNK)).collect();
        if cut.empty_end || chunks.is_empty() {
            chunks.push(b"");
        }
        let last = chunks.len() - 1;
        chunks.into_iter().enumerate().flat_map(|(number, chunk)| self.seal(chunk, number == last)).collect()
    }

    fn open_all(&mut self, mut sealed: &[u8]) -> Option<Vec<u8>> {
        let mut plaintext = Vec::new();
        loop {
            let length = take_varint(&mut sealed)?;
            if length == 0 {
                plaintext.extend(self.open(sealed, true)?);
                return Some(plaintext);
            }
            plaintext.extend(self.open(sealed.split_off(..length)?, false)?);
        }
    }
}

/// What both ends of a request know, from which the key of its response is made.
pub(super) struct Shared {
    secret: Vec<u8>,
    enc: [u8; 32],
    suite: Suite,
}

impl Shared {
    /// HPKE's base mode: the context of the request, and this.
    fn new(dh: &[u8], enc: [u8; 32], recipient: &[u8], suite: Suite, info: &[u8]) -> (Context, Self) {
        let kem = [b"KEM", &KEM[..]].concat();
        let prk = labeled_extract(&kem, b"", b"eae_prk", dh);
        let shared = labeled_expand(&kem, &prk, b"shared_secret", &[&enc[..], recipient].concat(), 32);
        let hpke = [b"HPKE", &KEM[..], &suite.kdf.to_be_bytes(), &suite.aead.to_be_bytes()].concat();
        let context = [
            &[0][..],
            &labeled_extract(&hpke, b"", b"psk_id_hash", b""),
            &labeled_extract(&hpke, b"", b"info_hash", info),
        ]
        .concat();
        let secret = labeled_extract(&hpke, &shared, b"secret", b"");
        let key = labeled_expand(&hpke, &secret, b"key", &context, algorithm(suite).key_len());
        let base_nonce = labeled_expand(&hpke, &secret, b"base_nonce", &context, NONCE_LEN);
        let exporter = labeled_expand(&hpke, &secret, b"exp", &context, 32);
        let secret = labeled_expand(&hpke, &exporter, b"sec", b"message/bhttp chunked response", nonce_len(suite));
        (Context::new(suite, &key, &base_nonce), Self { secret, enc, suite })
    }

    fn response(&self, nonce: &[u8]) -> Context {
        let prk = hmac(&[&self.enc[..], nonce].concat(), &self.secret);
        let key = expand(&prk, b"key", algorithm(self.suite).key_len());
        Context::new(self.suite, &key, &expand(&prk, b"nonce", NONCE_LEN))
    }

    /// The sealed response that says `plaintext`.
    pub(super) fn seal_response(&self, plaintext: &[u8], cut: Cut) -> Vec<u8> {
        let nonce = vec![7; nonce_len(self.suite)];
        let sealed = self.response(&nonce).seal_all(plaintext, cut);
        [nonce, sealed].concat()
    }

    /// What a sealed response says; `None` if it is not for this request.
    pub(super) fn open_response(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, chunks) = sealed.split_at_checked(nonce_len(self.suite))?;
        self.response(nonce).open_all(chunks)
    }
}

/// The sealed request that says `plaintext`, under one of the suites that the server offers.
pub(super) fn seal_request(config: &KeyConfig, suite: Suite, plaintext: &[u8], cut: Cut) -> (Vec<u8>, Shared) {
    let prefix = [&[config.id][..], &KEM, &suite.kdf.to_be_bytes(), &suite.aead.to_be_bytes()].concat();
    let ephemeral = PrivateKey::generate(&X25519).expect("a key");
    let enc = public(&ephemeral);
    let (mut context, shared) =
        Shared::new(&dh(&ephemeral, &config.public), enc, &config.public, suite, &info(&prefix));
    (([prefix, enc.to_vec(), context.seal_all(plaintext, cut)].concat()), shared)
}

/// What a server with this key needs to answer an honest request.
pub(super) fn receive_request(key: &PrivateKey, sealed: &[u8]) -> Shared {
    let header: &[u8; HEADER] = sealed.first_chunk().expect("the client's own");
    let (prefix, enc) = header.split_at(7);
    let suite =
        Suite { kdf: u16::from_be_bytes([prefix[3], prefix[4]]), aead: u16::from_be_bytes([prefix[5], prefix[6]]) };
    let enc: [u8; 32] = enc.try_into().expect("32 bytes");
    let (mut context, shared) = Shared::new(&dh(key, &enc), enc, &public(key), suite, &info(prefix));
    assert!(context.open_all(&sealed[HEADER..]).is_some(), "the client's own request opens");
    shared
}

/// The public half of a key.
pub(super) fn public(key: &PrivateKey) -> [u8; 32] {
    key.compute_public_key().expect("it has one").as_ref().try_into().expect("32 bytes")
}

fn dh(key: &PrivateKey, peer: &[u8; 32]) -> Vec<u8> {
    agree(key, UnparsedPublicKey::new(&X25519, peer), (), |secret| Ok(secret.to_vec())).expect("an honest key")
}

fn info(prefix: &[u8]) -> Vec<u8> {
    [b"message/bhttp chunked request", &[0][..], prefix].concat()
}

fn aad(last: bool) -> &'static [u8] {
    if last { b"final" } else { b"" }
}

fn algorithm(suite: Suite) -> &'static Algorithm {
    if suite == Suite::AES_128_GCM { &AES_128_GCM } else { &CHACHA20_POLY1305 }
}

fn nonce_len(suite: Suite) -> usize {
    algorithm(suite).key_len().max(NONCE_LEN)
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

/// One block is enough for everything here.
fn expand(prk: &[u8], info: &[u8], length: usize) -> Vec<u8> {
    let mut block = hmac(prk, &[info, &[1]].concat());
    block.truncate(length);
    block
}

fn labeled_extract(suite: &[u8], salt: &[u8], label: &[u8], ikm: &[u8]) -> Vec<u8> {
    hmac(salt, &[b"HPKE-v1", suite, label, ikm].concat())
}

fn labeled_expand(suite: &[u8], prk: &[u8], label: &[u8], info: &[u8], length: usize) -> Vec<u8> {
    let length_bytes = u16::try_from(length).expect("short").to_be_bytes();
    expand(prk, &[&length_bytes[..], b"HPKE-v1", suite, label, info].concat(), length)
}

/// RFC 9000, section 16.
pub(super) fn varint(value: usize) -> Vec<u8> {
    let value = u32::try_from(value).expect("short");
    match value {
        0..0x40 => vec![u8::try_from(value).expect("small")],
        0x40..0x4000 => u16::try_from(value | 0x4000).expect("small").to_be_bytes().to_vec(),
        _ => (value | 0x8000_0000).to_be_bytes().to_vec(),
    }
}

/// In as many bytes as it may be written.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<usize> {
    let (encoded, rest) = bytes.split_at_checked(1 << (bytes.first()? >> 6))?;
    *bytes = rest;
    let all = encoded.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    usize::try_from(all & (u64::MAX >> (66 - 8 * encoded.len()))).ok()
}
