//! Writes chunks.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::{AAD, FINAL_AAD, RequestHeader, ResponseKey, info, nonce_len};
use crate::crypto;
use crate::crypto::seal::TAG;
use crate::seal::config::KeyConfig;
use crate::seal::error::SealError;
use crate::seal::hpke::{self, Cipher};
use crate::seal::varint;

/// The longest length prefix: 16 400 needs four bytes.
const PREFIX: usize = 4;
/// The most bytes that are written at once, framing included: what a frame of HTTP/2 holds unless its reader allows more
/// (RFC 9113 section 4.2). A chunk that is longer by a byte costs a second frame.
const MAX_WRITTEN: usize = 16 * 1024;

/// Seals one request or one response, chunk by chunk. Its first chunk begins with the header, or the nonce.
pub(crate) struct Sealer {
    head: Bytes,
    cipher: Cipher,
}

impl Sealer {
    /// Seals a request to `config` with the first algorithms that it offers.
    pub(crate) fn request(config: &KeyConfig) -> Result<(Self, ResponseKey), SealError> {
        let aead = config.suites.first().ok_or(SealError::Algorithms)?.aead;
        let (enc, cipher, exporter) = hpke::setup_sender(&config.public, aead, &info(config.id, aead))?;
        Ok(Self::from_context(RequestHeader { key_id: config.id, aead, enc }, cipher, &exporter))
    }

    pub(super) fn from_context(
        header: RequestHeader,
        cipher: Cipher,
        exporter: &hpke::Exporter,
    ) -> (Self, ResponseKey) {
        let head = Bytes::copy_from_slice(&header.encode());
        (Self { head, cipher }, ResponseKey::new(exporter, header.enc, header.aead))
    }

    /// Seals the response to the request that `key` comes from.
    pub(crate) fn response(key: &ResponseKey) -> Result<Self, SealError> {
        Self::response_with(key, crypto::random())
    }

    pub(super) fn response_with(key: &ResponseKey, random: [u8; 32]) -> Result<Self, SealError> {
        let head = Bytes::copy_from_slice(hpke::head(&random, nonce_len(key.aead)));
        let cipher = key.cipher(&head)?;
        Ok(Self { head, cipher })
    }

    /// An empty chunk with room for `capacity` bytes of plaintext.
    pub(crate) fn plaintext(&self, capacity: usize) -> Plaintext {
        let before = self.head.len() + PREFIX;
        let mut buffer = BytesMut::with_capacity((before + capacity + TAG).min(MAX_WRITTEN));
        buffer.resize(before, 0);
        Plaintext { buffer, before }
    }

    /// Seals a chunk that [`plaintext`](Self::plaintext) made, in place; the last one of a message ends it.
    pub(crate) fn seal(&mut self, chunk: Plaintext, last: bool) -> Result<Bytes, SealError> {
        let Plaintext { mut buffer, before } = chunk;
        let mut body = buffer.split_off(before);
        let tag = self.cipher.seal(if last { FINAL_AAD } else { AAD }, &mut body)?;
        body.extend_from_slice(&tag);

        let length = if last { 0 } else { u64::try_from(body.len()).unwrap_or(u64::MAX) };
        let prefix = varint::encode(length);
        let head = std::mem::take(&mut self.head);
        // Right before the sealed bytes, which join what stands before them without being moved.
        let unused = before.saturating_sub(head.len() + prefix.len());
        for (byte, value) in buffer.iter_mut().skip(unused).zip(head.iter().chain(prefix.as_ref())) {
            *byte = *value;
        }
        buffer.unsplit(body);
        buffer.advance(unused);
        Ok(buffer.freeze())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// The plaintext of one chunk, with room around it for what sealing adds: [`MAX_WRITTEN`] bytes in all.
pub(crate) struct Plaintext {
    buffer: BytesMut,
    before: usize,
}

impl Plaintext {
    /// How many bytes have been put.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len().saturating_sub(self.before)
    }

    /// How many more bytes fit.
    pub(crate) fn room(&self) -> usize {
        MAX_WRITTEN.saturating_sub(self.buffer.len().saturating_add(TAG))
    }

    /// Takes from the front of `data` what fits.
    pub(crate) fn put(&mut self, data: &mut impl Buf) {
        while data.has_remaining() && self.room() > 0 {
            let piece = data.chunk();
            let length = piece.len().min(self.room());
            self.buffer.extend_from_slice(piece.get(..length).unwrap_or(piece));
            data.advance(length);
        }
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plaintext").field("len", &self.len()).finish_non_exhaustive()
    }
}
