//! Reads hexadecimal, as policies, collateral and measurement lists spell bytes.

/// Bytes of a hexadecimal string of exactly `2 * N` digits, of either case.
pub(super) fn hex_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex_bytes(text)?.try_into().ok()
}

/// Bytes of a hexadecimal string of an even number of digits, of either case.
pub(super) fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|&[high, low]| {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            Some((digit(high)? << 4) | digit(low)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_of_another_length_or_alphabet_is_refused() {
        assert_eq!(hex_array::<2>("00fF"), Some([0, 255]));
        for text in ["", "00", "00f", "00fg", "00ff00", "+0ff"] {
            assert_eq!(hex_array::<2>(text), None, "{text}");
        }
    }
}
