//! One file for all that a client demands of a server: a policy per platform, and the server's name and configuration.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

#[cfg(not(feature = "snp"))]
use serde::de::IgnoredAny as SnpTable;
#[cfg(not(feature = "tdx"))]
use serde::de::IgnoredAny as TdxTable;

use super::hex::hex_array;
#[cfg(feature = "snp")]
use super::snp::{PolicyTable as SnpTable, SnpPolicy, SnpVerifier};
#[cfg(feature = "tdx")]
use super::tdx::{self, PolicyTable as TdxTable, TdxPolicy, TdxVerifier};
use crate::report::Platform;
use crate::verifier::AnyOf;
#[cfg(feature = "snp")]
use crate::verifier::VerifyError;

/// The most bytes that a policy file may have, 1 MiB.
pub const MAX_POLICY_FILE: usize = 1024 * 1024;

/// What a client demands of a server, from one TOML file: `[snp]`, `[tdx]` or both say which TEEs are acceptable, and
/// `[server]` which server.
///
/// ```
/// # #[cfg(all(feature = "snp", feature = "tdx"))]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_attest::platform::PolicyFile;
/// use tower_attest::{AttestLayer, Platform};
///
/// let file: PolicyFile = r#"
///     [server]                # may be left out, and each key in it
///     name = "prover.example"
///     config = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e"
///
///     [snp]                   # the keys of SnpPolicy::from_toml
///     products = ["genoa"]
///     [[snp.measurement]]
///     name = "prover 1.4"
///     value = "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d"
///
///     [tdx]                   # the keys of TdxPolicy::from_toml
///     min-tcb-evaluation-data-number = 19
///     [[tdx.measurement]]
///     name = "prover 1.4"
///     mrtd = "abababababababababababababababababababababababababababababababababababababababababababababababab"
/// "#.parse()?;
/// assert_eq!(file.platforms(), [Platform::SNP, Platform::TDX]);
///
/// let mut layer = AttestLayer::new(file.verifier());
/// if let Some(name) = file.server_name() {
///     layer = layer.name(name);
/// }
/// for config in file.server_configs() {
///     layer = layer.config(*config);
/// }
/// # let _ = layer; Ok(()) }
/// # #[cfg(not(all(feature = "snp", feature = "tdx")))] fn main() {}
/// ```
///
/// A server of a platform that the file has no section for is refused. A section whose feature this build lacks is an error
/// rather than ignored: the file would mean less than it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    #[cfg(feature = "snp")]
    snp: Option<SnpPolicy>,
    #[cfg(feature = "tdx")]
    tdx: Option<TdxPolicy>,
    server: ServerTable,
}

/// Why a text is not a [`PolicyFile`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicyFile {
    /// More than [`MAX_POLICY_FILE`] bytes.
    #[error("policy file: expected at most {MAX_POLICY_FILE} bytes, found {0}")]
    TooLarge(usize),
    /// Not TOML, an unknown key, or a value of another type or length; the message has the line.
    #[error("policy file: {0}")]
    Toml(#[from] toml::de::Error),
    /// Neither `[snp]` nor `[tdx]`: no TEE would be acceptable.
    #[error("policy file: expected a section [snp] or [tdx], found neither")]
    NoPlatform,
    /// A section for a platform that this build cannot judge.
    #[error("policy file: the section [{0}] needs the feature \"{0}\" of tower-attest, which this build lacks")]
    FeatureOff(&'static str),
    /// The rules of `[snp]` cannot be applied.
    #[cfg(feature = "snp")]
    #[error("section [snp]: {0}")]
    Snp(#[source] VerifyError),
    /// The rules of `[tdx]` cannot be applied.
    #[cfg(feature = "tdx")]
    #[error("section [tdx]: {0}")]
    Tdx(#[source] tdx::InvalidPolicy),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    snp: Option<SnpTable>,
    tdx: Option<TdxTable>,
    #[serde(default)]
    server: ServerTable,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerTable {
    #[serde(default, deserialize_with = "host")]
    name: Option<String>,
    #[serde(default, deserialize_with = "digests")]
    config: Vec<[u8; 32]>,
}

impl PolicyFile {
    /// Reads the text of a policy file.
    ///
    /// `[snp]` has the keys of [`SnpPolicy::from_toml`](crate::platform::snp::SnpPolicy::from_toml), `[tdx]` those of
    /// [`TdxPolicy::from_toml`](crate::platform::tdx::TdxPolicy::from_toml). `[server]` has `name`, a host name or IP
    /// address without port, and `config`, the SHA-256 of the server's effective configuration as 64 hexadecimal digits,
    /// or a list of those that will do.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicyFile`]: among others for unknown keys, and for a file that names no TEE.
    pub fn from_toml(text: &str) -> Result<Self, InvalidPolicyFile> {
        if text.len() > MAX_POLICY_FILE {
            return Err(InvalidPolicyFile::TooLarge(text.len()));
        }
        let tables: Tables = toml::from_str(text)?;
        #[cfg(not(feature = "snp"))]
        if tables.snp.is_some() {
            return Err(InvalidPolicyFile::FeatureOff("snp"));
        }
        #[cfg(not(feature = "tdx"))]
        if tables.tdx.is_some() {
            return Err(InvalidPolicyFile::FeatureOff("tdx"));
        }
        let file = Self {
            #[cfg(feature = "snp")]
            snp: tables.snp.map(SnpPolicy::from_table).transpose().map_err(InvalidPolicyFile::Snp)?,
            #[cfg(feature = "tdx")]
            tdx: tables.tdx.map(TdxPolicy::from_table).transpose().map_err(InvalidPolicyFile::Tdx)?,
            server: tables.server,
        };
        if file.platforms().is_empty() { Err(InvalidPolicyFile::NoPlatform) } else { Ok(file) }
    }

    /// The platforms that the file has a section for. Never empty.
    pub fn platforms(&self) -> Vec<Platform> {
        let sections = [
            #[cfg(feature = "snp")]
            self.snp.as_ref().map(|_| Platform::SNP),
            #[cfg(feature = "tdx")]
            self.tdx.as_ref().map(|_| Platform::TDX),
        ];
        sections.into_iter().flatten().collect()
    }

    /// What `[snp]` demands, if the file has that section.
    #[cfg(feature = "snp")]
    pub fn snp(&self) -> Option<&SnpPolicy> {
        self.snp.as_ref()
    }

    /// What `[tdx]` demands, if the file has that section.
    #[cfg(feature = "tdx")]
    pub fn tdx(&self) -> Option<&TdxPolicy> {
        self.tdx.as_ref()
    }

    /// A name that the server must answer for, to be handed to [`AttestLayer::name`](crate::AttestLayer::name) or to the
    /// channel's builder.
    pub fn server_name(&self) -> Option<&str> {
        self.server.name.as_deref()
    }

    /// The SHA-256 of each configuration that the server may run with, to be handed one by one to
    /// [`AttestLayer::config`](crate::AttestLayer::config) or to the channel's builder. Empty if any will do.
    pub fn server_configs(&self) -> &[[u8; 32]] {
        &self.server.config
    }

    /// A verifier for every section, under the vendors' roots.
    ///
    /// It has no source of certificates, revocation lists or collateral: reports must bring theirs along, and `require-crl`
    /// refuses. A client with sources makes its verifiers itself, from the same file:
    ///
    /// ```
    /// # #[cfg(all(feature = "snp", feature = "tdx"))]
    /// # fn verifier(file: &tower_attest::PolicyFile) -> tower_attest::AnyOf {
    /// use tower_attest::platform::snp::{SnpVerifier, vek::EndorsementDirectory};
    /// use tower_attest::platform::tdx::{CollateralDirectory, MemoryCollateral, TdxVerifier};
    /// use tower_attest::AnyOf;
    ///
    /// let veks = EndorsementDirectory::new("/etc/attest/veks");
    /// let snp = file.snp().map(|policy| SnpVerifier::new(policy.clone()).with_vek_source(veks));
    /// let collateral = MemoryCollateral::new(CollateralDirectory::new("/etc/attest/collateral"));
    /// let tdx = file.tdx().map(|policy| TdxVerifier::new(policy.clone()).with_collateral_source(collateral));
    /// AnyOf::none().or_maybe(snp).or_maybe(tdx)
    /// # }
    /// ```
    pub fn verifier(&self) -> AnyOf {
        let verifier = AnyOf::none();
        #[cfg(feature = "snp")]
        let verifier = verifier.or_maybe(self.snp.clone().map(SnpVerifier::new));
        #[cfg(feature = "tdx")]
        let verifier = verifier.or_maybe(self.tdx.clone().map(TdxVerifier::new));
        verifier
    }
}

impl FromStr for PolicyFile {
    type Err = InvalidPolicyFile;

    fn from_str(text: &str) -> Result<Self, InvalidPolicyFile> {
        Self::from_toml(text)
    }
}

/// A host as key documents list them. A URL or a port, the likely mistakes, would never match one.
fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = text.parse::<IpAddr>().is_ok() || bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok());
    let is_name = (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if is_address || is_name {
        Ok(Some(text))
    } else {
        Err(D::Error::custom(format!("expected a host name or an IP address without scheme and port, found {text:?}")))
    }
}

/// One or several. None would be a server that nobody can run.
fn digests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<[u8; 32]>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected 64 hexadecimal digits, or a list of such")]
    enum Digests {
        One(String),
        Several(Vec<String>),
    }
    let texts = match Digests::deserialize(deserializer)? {
        Digests::One(text) => vec![text],
        Digests::Several(texts) => texts,
    };
    if texts.is_empty() {
        return Err(D::Error::custom("expected at least one configuration, found an empty list"));
    }
    let digest = |text: &String| {
        hex_array(text).ok_or_else(|| D::Error::custom(format!("expected 64 hexadecimal digits, found {text:?}")))
    };
    texts.iter().map(digest).collect()
}

#[cfg(all(test, feature = "sim", feature = "tdx"))]
mod tests;

#[cfg(all(test, any(feature = "snp", feature = "tdx"), not(all(feature = "snp", feature = "tdx"))))]
mod one_platform {
    use super::*;

    #[test]
    fn a_section_of_a_platform_that_this_build_cannot_judge_is_refused_by_name() {
        let off = if cfg!(feature = "snp") { "tdx" } else { "snp" };
        let error = PolicyFile::from_toml(&format!("[{off}]\n[[{off}.measurement]]\n")).unwrap_err();
        assert!(matches!(error, InvalidPolicyFile::FeatureOff(section) if section == off), "{error}");
    }
}
