//! What hardware produces: a [`Report`] of some [`Platform`] over a [`ReportData`].
//!
//! ```
//! use tower_attest::{Platform, Report};
//!
//! let report = Report::new(Platform::SNP, vec![0; 1184]);
//! assert_eq!(report.platform().name(), "snp");
//! assert!(report.vek().is_none());
//! ```

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// A kind of TEE: its protocol name and the media type of its raw report.
///
/// The set is open: a backend of your own defines its platform with [`Platform::new`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    name: Cow<'static, str>,
    media_type: Cow<'static, str>,
}

impl Platform {
    /// AMD SEV-SNP: an ATTESTATION_REPORT of 1 184 bytes.
    pub const SNP: Self = Self::known("snp", "application/vnd.amd.sev-snp.attestation-report");
    /// Intel TDX: a quote, version 4 or 5.
    pub const TDX: Self = Self::known("tdx", "application/vnd.tower-attest.tdx-quote");
    /// The mock of this crate's feature `mock`.
    pub const MOCK: Self = Self::known("mock", "application/vnd.tower-attest.mock-report");
    /// The platforms that the protocol defines.
    pub const KNOWN: [Self; 3] = [Self::SNP, Self::TDX, Self::MOCK];

    const fn known(name: &'static str, media_type: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), media_type: Cow::Borrowed(media_type) }
    }

    /// A platform of your own.
    ///
    /// # Errors
    ///
    /// The name is 1 to 32 bytes of `a-z`, `0-9` and `-`; the media type is 3 to 127 visible ASCII bytes with one `/`,
    /// without parameters.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        media_type: impl Into<Cow<'static, str>>,
    ) -> Result<Self, InvalidPlatform> {
        let (name, media_type) = (name.into(), media_type.into());
        let name_fits = (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let type_fits = (3..=127).contains(&media_type.len())
            && media_type.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b';' | b',' | b'"'))
            && media_type.split('/').filter(|part| !part.is_empty()).count() == 2
            && media_type.matches('/').count() == 1;
        if name_fits && type_fits { Ok(Self { name, media_type }) } else { Err(InvalidPlatform { name, media_type }) }
    }

    /// The name that stands in statements, such as `snp`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The media type that labels this platform's report in evidence.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Platform({})", self.name)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A name or media type that [`Platform::new`] does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a platform: name {name:?} (expected 1 to 32 of a-z, 0-9, -) with media type {media_type:?} (expected type/subtype)"
)]
pub struct InvalidPlatform {
    name: Cow<'static, str>,
    media_type: Cow<'static, str>,
}

/// The 64 bytes that the hardware signs for its guest: REPORT_DATA of SNP, REPORTDATA of TDX.
///
/// Only this crate's core makes one, so that a provider cannot be asked to vouch for anything else.
#[derive(Clone, PartialEq, Eq)]
pub struct ReportData([u8; 64]);

impl ReportData {
    pub(crate) fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes to hand to the hardware.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for ReportData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReportData({})", Hex(&self.0))
    }
}

/// A raw report as the hardware made it, with the endorsements that came along.
///
/// Endorsements are untrusted until a verifier has chained them to a pinned root.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    platform: Platform,
    bytes: Bytes,
    vek: Option<Bytes>,
    collateral: Option<Bytes>,
}

impl Report {
    /// A report without endorsements.
    pub fn new(platform: Platform, bytes: impl Into<Bytes>) -> Self {
        Self { platform, bytes: bytes.into(), vek: None, collateral: None }
    }

    /// Staples the VCEK or VLEK certificate (DER) that signed an SNP report.
    #[must_use]
    pub fn with_vek(mut self, der: impl Into<Bytes>) -> Self {
        self.vek = Some(der.into());
        self
    }

    /// Staples TDX collateral (JSON as a PCCS serves it).
    #[must_use]
    pub fn with_collateral(mut self, json: impl Into<Bytes>) -> Self {
        self.collateral = Some(json.into());
        self
    }

    /// Leaves the VEK certificate out, as a small header must.
    #[must_use]
    pub fn without_vek(mut self) -> Self {
        self.vek = None;
        self
    }

    /// Leaves the collateral out, as a header must.
    #[must_use]
    pub fn without_collateral(mut self) -> Self {
        self.collateral = None;
        self
    }

    /// The kind of TEE.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The raw report.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The stapled VCEK or VLEK, DER.
    pub fn vek(&self) -> Option<&Bytes> {
        self.vek.as_ref()
    }

    /// The stapled TDX collateral, JSON.
    pub fn collateral(&self) -> Option<&Bytes> {
        self.collateral.as_ref()
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("platform", &self.platform)
            .field("bytes", &self.bytes.len())
            .field("vek", &self.vek.as_ref().map(Bytes::len))
            .field("collateral", &self.collateral.as_ref().map(Bytes::len))
            .finish()
    }
}

/// The beginning of a text from the other end, short enough for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// Shows bytes as lower-case hexadecimal.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_names_and_media_types_are_limited() {
        assert!(Platform::new("my-tee-2", "application/vnd.example.report").is_ok());
        let long = "a".repeat(33);
        for name in ["", "SNP", "a_b", "a b", "é", long.as_str()] {
            assert!(Platform::new(name.to_owned(), "application/x").is_err(), "{name:?}");
        }
        for media in ["", "a", "/b", "a/", "a/b/c", "a/b;c=d", "a/ b", "a/é"] {
            assert!(Platform::new("x", media).is_err(), "{media:?}");
        }
        for known in Platform::KNOWN {
            assert_eq!(Platform::new(known.name().to_owned(), known.media_type().to_owned()), Ok(known));
        }
    }
}
