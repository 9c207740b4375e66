//! Why something sealed does not open.

/// What is wrong with sealed bytes. The client says which; the server says none of it to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    #[error("key configuration: {0}")]
    Config(&'static str),
    #[error("the public key is a point of small order")]
    WeakKey,
    #[error("sealed to the key {found}, expected {expected}")]
    KeyId { expected: u8, found: u8 },
    #[error("sealed with algorithms that are not on offer")]
    Algorithms,
    #[error("a chunk of {found} bytes, expected at most {limit}")]
    ChunkTooLarge { found: u64, limit: usize },
    #[error("a chunk does not authenticate: altered, out of order, or sealed to another key")]
    Broken,
    #[error("the stream ends before its final chunk")]
    Truncated,
    #[error("more than {0} bytes under one key")]
    Exhausted(u64),
    #[error("binary HTTP: {0}")]
    Message(&'static str),
    #[error("a message head of more than {0} bytes")]
    HeadTooLarge(usize),
}
