//! Policy files as the tools read them: one for both platforms, or the bare policy of one.

use tower_attest::platform::snp::SnpPolicy;
use tower_attest::platform::tdx::TdxPolicy;

use crate::show::Section;

/// Keys that only policies have at the top.
const SECTIONS: [&str; 3] = ["snp", "tdx", "server"];

/// A policy for one platform or several.
#[derive(Debug, Clone)]
pub(crate) struct PolicyFile {
    snp: Option<SnpPolicy>,
    tdx: Option<TdxPolicy>,
}

impl PolicyFile {
    /// Whether `text` is meant to be a policy: TOML with a section or a measurement.
    pub(crate) fn resembles(text: &str) -> bool {
        let table = text.parse::<toml::Table>();
        table.is_ok_and(|table| SECTIONS.iter().chain(&["measurement"]).any(|key| table.contains_key(*key)))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let table = text.parse::<toml::Table>().map_err(|error| error.to_string())?;
        let measurements = table.get("measurement").and_then(toml::Value::as_array);
        let is_tdx = measurements.is_some_and(|list| list.iter().any(|entry| entry.get("mrtd").is_some()));
        if is_tdx {
            let policy = TdxPolicy::from_toml(text).map_err(|error| error.to_string())?;
            return Ok(Self { snp: None, tdx: Some(policy) });
        }
        let policy = SnpPolicy::from_toml(text).map_err(|error| error.to_string())?;
        Ok(Self { snp: Some(policy), tdx: None })
    }

    pub(crate) fn snp(&self) -> Option<&SnpPolicy> {
        self.snp.as_ref()
    }

    pub(crate) fn tdx(&self) -> Option<&TdxPolicy> {
        self.tdx.as_ref()
    }

    /// What it is about.
    pub(crate) fn section(&self) -> Section {
        let mut section = Section::new("Policy");
        section.field("SEV-SNP", if self.snp.is_some() { "judged by the rules of this file" } else { "not accepted" });
        section.field("TDX", if self.tdx.is_some() { "judged by the rules of this file" } else { "not accepted" });
        section
    }
}
