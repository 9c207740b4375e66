//! Changes to bytes that are good as they stand. A fuzzer that starts from noise would never get past a signature.

/// `original` after a script of four-byte steps: what to do, where (16 bits, wrapping at the end), and a value. No step, no
/// change.
pub(super) fn edit(original: &[u8], script: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for [step, high, low, value] in script.as_chunks().0 {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % bytes.len().max(1);
        let run = (at + 1 + usize::from(*value)).min(bytes.len());
        match (step % 6, bytes.get_mut(at)) {
            (0, Some(byte)) => *byte ^= value,
            (1, Some(byte)) => *byte = *value,
            (2, _) => bytes.insert(at, *value),
            (3, _) => drop(bytes.drain(at.min(run)..run)),
            (4, _) => bytes.truncate(at),
            (5, _) => bytes.extend_from_within(at.min(run)..run),
            _ => {}
        }
    }
    bytes
}

/// Whether `part` stands in `whole`.
pub(super) fn holds(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}
