//! Certificate chains in PEM, read strictly: what Intel's services write and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// Columns of base64 in every line but a certificate's last (RFC 7468 §2).
const COLUMNS: usize = 64;
/// Most characters of base64 per certificate: 16 KiB of DER.
const MAX_BASE64_LEN: usize = 16 * 1024 / 3 * 4;

/// The certificates of a chain of exactly `N`, or `None` if anything stands before, between or after them.
///
/// Lines end in LF or CRLF; the last may lack its end, and one NUL may follow (QPL's C string ends up in quotes). A
/// changed bit anywhere in the text is thus either refused or changes a certificate.
pub(super) fn chain<const N: usize>(text: &[u8]) -> Option<[CertificateDer<'static>; N]> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let text = std::str::from_utf8(text).ok()?;
    let mut lines =
        text.strip_suffix('\n').unwrap_or(text).split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let mut certificates = Vec::with_capacity(N);
    while let Some(line) = lines.next() {
        if line != BEGIN || certificates.len() == N {
            return None;
        }
        let mut base64 = String::new();
        let mut last = false;
        loop {
            let line = lines.next()?;
            if line == END {
                break;
            }
            if last || line.is_empty() || line.len() > COLUMNS || base64.len() > MAX_BASE64_LEN {
                return None;
            }
            last = line.len() < COLUMNS;
            base64.push_str(line);
        }
        certificates.push(CertificateDer::from(STANDARD.decode(base64).ok()?));
    }
    certificates.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(contents: &[&str]) -> String {
        contents.iter().map(|base64| format!("{BEGIN}\n{base64}\n{END}\n")).collect()
    }

    #[test]
    fn a_chain_is_read_with_each_line_ending_and_a_final_nul() {
        let text = pem(&["AAEC", "AwQF"]);
        let expected = [vec![0, 1, 2], vec![3, 4, 5]];
        for text in [text.clone(), text.replace('\n', "\r\n"), format!("{text}\0"), text.trim_end().to_owned()] {
            let chain = chain::<2>(text.as_bytes()).unwrap();
            assert_eq!(chain.map(|der| der.to_vec()), expected, "{text:?}");
        }
    }

    #[test]
    fn anything_but_the_certificates_is_refused() {
        let text = pem(&["AAEC", "AwQF"]);
        assert!(chain::<1>(text.as_bytes()).is_none());
        assert!(chain::<3>(text.as_bytes()).is_none());
        for text in [
            format!("\n{text}"),
            format!("{text}\n"),
            format!("{text}\0\0"),
            format!("{text}x"),
            text.replace("AAEC", "AAE\nC"),
            text.replace("AAEC", " AAEC"),
            text.replace("AAEC", "AAF="),
            text.replace("AAEC", ""),
            text.replace("AAEC", &"A".repeat(68)),
            text.replacen(END, BEGIN, 1),
            text.replacen("-----BEGIN", "----BEGIN", 1),
        ] {
            assert!(chain::<2>(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_changed_bit_is_refused_or_changes_a_certificate() {
        let text = format!("{}\0", pem(&["AAEC", "AwQF"])).into_bytes();
        let original = chain::<2>(&text).unwrap();
        for position in 0..text.len() * 8 {
            let mut changed = text.clone();
            changed[position / 8] ^= 1 << (position % 8);
            assert_ne!(chain::<2>(&changed).as_ref(), Some(&original), "bit {position}");
        }
    }
}
