//! The effective configuration: a short text of what decides where plaintext goes, and its digest, which clients pin.
//!
//! `docs/SIDECAR.md` has the format. A change of the format is another first line.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// One line for what it is, then one `key=value` for each setting, each ended by a line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EffectiveConfig {
    text: String,
}

impl EffectiveConfig {
    /// Settings in the order given. No value may hold a control character: one setting could pose as another.
    pub(crate) fn new<V: AsRef<str>>(settings: &[(&str, V)]) -> Result<Self, String> {
        Self { text: "tower-attest serve 1\n".to_owned() }.with(settings)
    }

    /// The same with more settings after it.
    pub(crate) fn with<V: AsRef<str>>(&self, settings: &[(&str, V)]) -> Result<Self, String> {
        let mut text = self.text.clone();
        for (key, value) in settings {
            let value = value.as_ref();
            if value.contains(char::is_control) {
                return Err(format!("{key}: expected no control character, found {value:?}"));
            }
            // Writing to a string does not fail.
            let _ = writeln!(text, "{key}={value}");
        }
        Ok(Self { text })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text.
    pub(crate) fn digest(&self) -> [u8; 32] {
        sha256(self.text.as_bytes())
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut found = [0; 32];
    found.copy_from_slice(digest(&SHA256, bytes).as_ref());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_text_as_sha256sum_makes_it() {
        let config = EffectiveConfig::new(&[("names", "a,b"), ("upstream", "http://127.0.0.1:80")]).unwrap();
        assert_eq!(config.text(), "tower-attest serve 1\nnames=a,b\nupstream=http://127.0.0.1:80\n");
        // printf 'tower-attest serve 1\nnames=a,b\nupstream=http://127.0.0.1:80\n' | sha256sum
        assert_eq!(hex::encode(config.digest()), "90ee2ea51993eac44f556b7fbb53a5d0531c2b094427eb12c13eb4b04194a4d1");
    }

    #[test]
    fn no_value_can_pose_as_another_setting() {
        assert!(EffectiveConfig::new(&[("names", "a\nupstream=http://evil")]).is_err());
    }
}
