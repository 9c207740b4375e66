//! Quotes of one machine: the simulator signs its certificates anew for each quote, and a real machine keeps them.

/// Where a version 4 quote says how long its signature data is; the lengths of its certification data stand behind.
const SIGNATURE_DATA: usize = 48 + 584;
const OUTER: usize = SIGNATURE_DATA + 4 + 128 + 2;
const INNER: usize = OUTER + 4 + 384 + 64 + 2 + 32 + 2;

/// `quote` with the PCK chain of `first`, whose keys are the same.
pub(crate) fn with_chain_of(first: &[u8], quote: &[u8]) -> Vec<u8> {
    let chain = &first[INNER + 4..];
    let mut quote = quote[..INNER + 4].to_vec();
    quote.extend_from_slice(chain);
    for at in [SIGNATURE_DATA, OUTER, INNER] {
        let length = u32::try_from(quote.len() - at - 4).expect("a short quote");
        quote[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
    quote
}
