//! Policy files as the tools read them: one for both platforms, or the bare policy of one.

use tower_attest::platform::snp::SnpPolicy;
use tower_attest::platform::tdx::TdxPolicy;

use crate::show::Section;

/// A policy for one platform or several.
#[derive(Debug, Clone)]
pub(crate) struct PolicyFile {
    rules: Rules,
    table: toml::Table,
}

#[derive(Debug, Clone)]
enum Rules {
    File(Box<tower_attest::PolicyFile>),
    Snp(Box<SnpPolicy>),
    Tdx(Box<TdxPolicy>),
}

impl PolicyFile {
    /// Whether `text` is meant to be a policy: TOML with a section or a measurement.
    pub(crate) fn resembles(text: &str) -> bool {
        let table = text.parse::<toml::Table>();
        table.is_ok_and(|table| ["snp", "tdx", "server", "measurement"].iter().any(|key| table.contains_key(*key)))
    }

    /// Reads a policy file, or the bare policy of one platform: that has its measurements at the top, TDX's with `mrtd`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let table = text.parse::<toml::Table>().map_err(|error| error.to_string())?;
        let rules = match table.get("measurement").and_then(toml::Value::as_array) {
            Some(list) if list.iter().any(|entry| entry.get("mrtd").is_some()) => {
                Rules::Tdx(Box::new(TdxPolicy::from_toml(text).map_err(|error| error.to_string())?))
            }
            Some(_) => Rules::Snp(Box::new(SnpPolicy::from_toml(text).map_err(|error| error.to_string())?)),
            None => Rules::File(Box::new(
                text.parse().map_err(|error: tower_attest::platform::InvalidPolicyFile| error.to_string())?,
            )),
        };
        Ok(Self { rules, table })
    }

    pub(crate) fn snp(&self) -> Option<&SnpPolicy> {
        match &self.rules {
            Rules::File(file) => file.snp(),
            Rules::Snp(policy) => Some(policy),
            Rules::Tdx(_) => None,
        }
    }

    pub(crate) fn tdx(&self) -> Option<&TdxPolicy> {
        match &self.rules {
            Rules::File(file) => file.tdx(),
            Rules::Snp(_) => None,
            Rules::Tdx(policy) => Some(policy),
        }
    }

    /// What it accepts, and what it leaves open.
    pub(crate) fn sections(&self) -> Vec<Section> {
        let mut sections = Vec::new();
        if let Rules::File(file) = &self.rules {
            let mut server = Section::new("Server");
            server.field("name", file.server_name().unwrap_or("any, unless the client names one"));
            let configs: Vec<_> = file.server_configs().iter().map(hex::encode).collect();
            server.field("config", if configs.is_empty() { "any".to_owned() } else { configs.join(" or ") });
            sections.push(server);
        } else {
            let mut server = Section::new("Server");
            server.note("The bare policy of one platform: `inspect` takes it. Commands that speak to servers want its rules under [snp] or [tdx].");
            sections.push(server);
        }
        let accepted = |name: &str| self.table.get(name).and_then(toml::Value::as_table).unwrap_or(&self.table);
        if self.snp().is_some() {
            sections.push(snp(accepted("snp")));
        }
        if self.tdx().is_some() {
            sections.push(tdx(accepted("tdx")));
        }
        sections
    }
}

fn snp(table: &toml::Table) -> Section {
    let mut section = Section::new("SEV-SNP");
    measurements(&mut section, table, "value");
    open(&mut section, table, "tcb-floor", "firmware and microcode of any age will do");
    open(&mut section, table, "require-crl", "a revocation list is consulted only where the client has one");
    open(&mut section, table, "chip-ids", "any machine will do, that of somebody else included");
    section
}

fn tdx(table: &toml::Table) -> Section {
    let mut section = Section::new("TDX");
    measurements(&mut section, table, "mrtd");
    let pinned = |entry: &toml::Value| entry.get("rtmr1").is_some() && entry.get("rtmr2").is_some();
    if !entries(table).all(pinned) {
        section.note("open: RTMR1 or RTMR2 of a measurement: most stacks measure kernel and initrd there, and MRTD is the firmware alone");
    }
    open(&mut section, table, "min-tcb-evaluation-data-number", "collateral of any age within its dates will do");
    open(&mut section, table, "ppid", "any machine will do, that of somebody else included");
    section
}

fn entries(table: &toml::Table) -> impl Iterator<Item = &toml::Value> {
    table.get("measurement").and_then(toml::Value::as_array).into_iter().flatten()
}

fn measurements(section: &mut Section, table: &toml::Table, value: &str) {
    for entry in entries(table) {
        let text = |key: &str| entry.get(key).and_then(toml::Value::as_str);
        section.field(
            "accepts",
            format_args!("{} {}", text("name").unwrap_or("(no name)"), text(value).unwrap_or_default()),
        );
    }
}

fn open(section: &mut Section, table: &toml::Table, key: &str, meaning: &str) {
    if !table.contains_key(key) {
        section.note(format!("open: {key}: {meaning}"));
    }
}
