//! Reads chunks.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::{AAD, FINAL_AAD, MAX_SEALED_CHUNK, RequestHeader, ResponseKey, info, nonce_len};
use crate::seal::error::SealError;
use crate::seal::hpke::{self, Cipher, KeyPair};
use crate::seal::varint;

/// Opens one request or one response, whatever pieces it comes in. Holds one chunk at most.
pub(crate) struct Opener {
    step: Step,
    partial: BytesMut,
}

enum Step {
    /// Reading a response's nonce.
    Nonce(ResponseKey),
    /// Reading a chunk's length.
    Length(Cipher),
    /// Reading a chunk of this length.
    Chunk(Cipher, usize),
    /// Reading the final chunk, which the stream's end ends.
    Final(Cipher),
    /// Ended, or failed for this reason: nothing more is opened.
    Closed(Result<(), SealError>),
}

impl Opener {
    /// Opens what follows a request's header. The request must be sealed to `key_id`.
    pub(crate) fn request(
        pair: &KeyPair,
        key_id: u8,
        header: &RequestHeader,
    ) -> Result<(Self, ResponseKey), SealError> {
        if header.key_id != key_id {
            return Err(SealError::KeyId { expected: key_id, found: header.key_id });
        }
        let info = info(header.key_id, header.aead);
        let (cipher, exporter) = hpke::setup_receiver(pair, &header.enc, header.aead, &info)?;
        let key = ResponseKey::new(&exporter, header.enc, header.aead);
        Ok((Self::new(Step::Length(cipher)), key))
    }

    /// Opens the response to the request that `key` comes from.
    pub(crate) fn response(key: ResponseKey) -> Self {
        Self::new(Step::Nonce(key))
    }

    fn new(step: Step) -> Self {
        Self { step, partial: BytesMut::new() }
    }

    /// Takes bytes from the front of `input` up to the end of the next chunk, and opens that. `None`: all are taken, and
    /// more are needed. Once it has failed it fails for ever.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, SealError> {
        let result = self.advance(input);
        if let Err(error) = result {
            self.step = Step::Closed(Err(error));
        }
        result
    }

    /// The stream has ended: opens the final chunk. An end anywhere else is a truncation.
    pub(crate) fn finish(&mut self) -> Result<Bytes, SealError> {
        let closed = Step::Closed(Ok(()));
        let result = match std::mem::replace(&mut self.step, closed) {
            Step::Final(mut cipher) => open(&mut cipher, FINAL_AAD, &mut self.partial),
            Step::Closed(Err(error)) => Err(error),
            Step::Closed(Ok(())) => Ok(Bytes::new()),
            Step::Nonce(_) | Step::Length(_) | Step::Chunk(..) => Err(SealError::Truncated),
        };
        if let Err(error) = result {
            self.step = Step::Closed(Err(error));
        }
        result
    }

    fn advance(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, SealError> {
        loop {
            let step = std::mem::replace(&mut self.step, Step::Closed(Ok(())));
            self.step = match step {
                Step::Nonce(key) => {
                    if !self.fill(input, nonce_len(key.aead)) {
                        self.step = Step::Nonce(key);
                        return Ok(None);
                    }
                    Step::Length(key.cipher(&self.partial.split())?)
                }
                Step::Length(cipher) => match self.length(input) {
                    None => {
                        self.step = Step::Length(cipher);
                        return Ok(None);
                    }
                    Some(0) => Step::Final(cipher),
                    Some(found) => {
                        let too_large = SealError::ChunkTooLarge { found, limit: MAX_SEALED_CHUNK };
                        let length = usize::try_from(found).map_err(|_| too_large)?;
                        if length > MAX_SEALED_CHUNK {
                            return Err(too_large);
                        }
                        self.partial.reserve(length);
                        Step::Chunk(cipher, length)
                    }
                },
                Step::Chunk(mut cipher, length) => {
                    if !self.fill(input, length) {
                        self.step = Step::Chunk(cipher, length);
                        return Ok(None);
                    }
                    let chunk = open(&mut cipher, AAD, &mut self.partial)?;
                    self.step = Step::Length(cipher);
                    return Ok(Some(chunk));
                }
                Step::Final(cipher) => {
                    let found = self.partial.len().saturating_add(input.len());
                    if found > MAX_SEALED_CHUNK {
                        let found = u64::try_from(found).unwrap_or(u64::MAX);
                        return Err(SealError::ChunkTooLarge { found, limit: MAX_SEALED_CHUNK });
                    }
                    self.partial.extend_from_slice(input);
                    input.clear();
                    self.step = Step::Final(cipher);
                    return Ok(None);
                }
                Step::Closed(result) => {
                    result?;
                    return Ok(None);
                }
            };
        }
    }

    /// Moves bytes until `length` are there.
    fn fill(&mut self, input: &mut Bytes, length: usize) -> bool {
        let wanted = length.saturating_sub(self.partial.len()).min(input.len());
        self.partial.extend_from_slice(&input.split_to(wanted));
        self.partial.len() >= length
    }

    fn length(&mut self, input: &mut Bytes) -> Option<u64> {
        loop {
            if let Some((length, used)) = varint::decode(&self.partial) {
                self.partial.advance(used);
                return Some(length);
            }
            if input.is_empty() {
                return None;
            }
            self.partial.extend_from_slice(&input.split_to(1));
        }
    }
}

/// Opens what stands in `sealed`, in place, and takes it out.
fn open(cipher: &mut Cipher, aad: &[u8], sealed: &mut BytesMut) -> Result<Bytes, SealError> {
    let mut chunk = sealed.split();
    let length = cipher.open(aad, &mut chunk)?;
    chunk.truncate(length);
    Ok(chunk.freeze())
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}
