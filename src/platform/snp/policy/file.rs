//! A policy from a TOML file, with the same rules as from code.

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::list::Bits;
use super::{Measurement, SnpPolicy, TcbFloor, TcbKind};
use crate::platform::hex::{hex_array, hex_bytes};
use crate::platform::snp::cert::VekKind;
use crate::platform::snp::fields::{BitNames, FirmwareVersion, GuestPolicy, PlatformInfo};
use crate::platform::snp::tcb::{Product, Tcb};
use crate::verifier::{VerifyError, VerifyErrorKind};

/// Most bytes of a policy file.
const MAX_POLICY_LEN: usize = 1024 * 1024;

/// The file, or the section `[snp]` of a [`PolicyFile`](crate::platform::PolicyFile).
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::platform) struct PolicyTable {
    measurement: Vec<MeasurementTable>,
    products: Option<Vec<String>>,
    signing_keys: Option<Vec<KeyName>>,
    csp_ids: Option<Vec<String>>,
    chip_ids: Option<Vec<String>>,
    vmpls: Option<Vec<u32>>,
    #[serde(default)]
    guest_policy: GuestPolicyTable,
    #[serde(default)]
    platform_info: BitsTable,
    min_firmware: Option<String>,
    #[serde(default)]
    permit_provisional_firmware: bool,
    #[serde(default)]
    tcb_floor: Vec<FloorTable>,
    #[serde(default)]
    mitigations: MitigationsTable,
    min_guest_svn: Option<u32>,
    family_ids: Option<Vec<Hexadecimal<16>>>,
    image_ids: Option<Vec<Hexadecimal<16>>>,
    id_key_digests: Option<Vec<Hexadecimal<48>>>,
    author_key_digests: Option<Vec<Hexadecimal<48>>>,
    host_data: Option<Vec<Hexadecimal<32>>>,
    #[serde(default)]
    require_crl: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MeasurementTable {
    name: Option<String>,
    value: Hexadecimal<48>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeyName {
    Vcek,
    Vlek,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct GuestPolicyTable {
    require: Vec<String>,
    forbid: Vec<String>,
    permit: Vec<String>,
    min_abi: Option<String>,
    dangerously_permit_debug: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct BitsTable {
    require: Vec<String>,
    forbid: Vec<String>,
    permit: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FloorTable {
    product: String,
    stepping: Option<u8>,
    reported: Option<TcbTable>,
    committed: Option<TcbTable>,
    current: Option<TcbTable>,
    launch: Option<TcbTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcbTable {
    fmc: Option<u8>,
    bl: u8,
    tee: u8,
    snp: u8,
    ucode: u8,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct MitigationsTable {
    launch: u64,
    current: u64,
}

/// Exactly N bytes in hexadecimal.
struct Hexadecimal<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hexadecimal<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex_array(&text).map(Self).ok_or_else(|| serde::de::Error::custom(format!("expected {N} bytes in hexadecimal")))
    }
}

impl SnpPolicy {
    /// Reads a policy file: every rule that code can set, by the names that refusals show.
    ///
    /// ```
    /// let policy: tower_attest::platform::snp::SnpPolicy = r#"
    ///     products = ["genoa"]
    ///     require-crl = true
    ///
    ///     [[measurement]]
    ///     name = "prover 1.4"
    ///     value = "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d"
    ///
    ///     [guest-policy]
    ///     forbid = ["smt"]
    ///
    ///     [[tcb-floor]]
    ///     product = "genoa"
    ///     reported = { bl = 10, tee = 0, snp = 23, ucode = 84 }
    /// "#.parse()?;
    /// # Ok::<_, tower_attest::VerifyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`VerifyErrorKind::Configuration`] for text that is not TOML, keys that are unknown, values out of range, a file
    /// without a measurement or above 1 MiB, and everything that [`validate`](Self::validate) refuses.
    pub fn from_toml(text: &str) -> Result<Self, VerifyError> {
        if text.len() > MAX_POLICY_LEN {
            return Err(fault(format!("expected at most {MAX_POLICY_LEN} bytes, found {}", text.len())));
        }
        let table = toml::from_str(text).map_err(|error| {
            VerifyError::with_source(VerifyErrorKind::Configuration, format!("policy file: {error}"), error)
        })?;
        Self::from_table(table)
    }

    pub(in crate::platform) fn from_table(table: PolicyTable) -> Result<Self, VerifyError> {
        let policy = table.into_policy().map_err(fault)?;
        policy.validate()?;
        Ok(policy)
    }
}

impl FromStr for SnpPolicy {
    type Err = VerifyError;

    fn from_str(text: &str) -> Result<Self, VerifyError> {
        Self::from_toml(text)
    }
}

impl PolicyTable {
    fn into_policy(self) -> Result<SnpPolicy, String> {
        let mut measurements = self.measurement.into_iter().map(|m| Measurement { value: m.value.0, name: m.name });
        let first = measurements.next().ok_or("measurement: expected at least one, found none")?;
        let mut policy = SnpPolicy::with_measurement(first);
        policy.measurements.extend(measurements);
        if let Some(names) = self.products {
            policy.products = names.iter().map(|name| product(name)).collect::<Result<_, _>>()?;
        }
        if let Some(keys) = self.signing_keys {
            let kind = |key| match key {
                KeyName::Vcek => VekKind::Vcek,
                KeyName::Vlek => VekKind::Vlek,
            };
            policy.signing_keys = keys.into_iter().map(kind).collect();
        }
        policy.csp_ids = self.csp_ids;
        policy.chip_ids = self.chip_ids.map(chip_ids).transpose()?;
        if let Some(vmpls) = self.vmpls {
            policy.vmpls = vmpls.into_iter().collect();
        }
        let GuestPolicyTable { require, forbid, permit, min_abi, dangerously_permit_debug } = self.guest_policy;
        let table = BitsTable { require, forbid, permit };
        let before = policy.guest_policy;
        policy.guest_policy = table.apply("guest-policy", before, GuestPolicy::NAMES, GuestPolicy::DEBUG)?;
        if dangerously_permit_debug {
            policy = policy.dangerously_permit_debug();
        }
        policy.min_abi = min_abi.map(|text| abi(&text)).transpose()?;
        policy.platform_info =
            self.platform_info.apply("platform-info", policy.platform_info, PlatformInfo::NAMES, 0)?;
        policy.min_firmware = self.min_firmware.map(|text| firmware(&text)).transpose()?;
        policy.permit_provisional_firmware = self.permit_provisional_firmware;
        for floor in self.tcb_floor {
            floor.add_to(&mut policy)?;
        }
        policy = policy.require_mitigations(self.mitigations.launch, self.mitigations.current);
        policy.min_guest_svn = self.min_guest_svn;
        policy.family_ids = self.family_ids.map(values);
        policy.image_ids = self.image_ids.map(values);
        policy.id_key_digests = self.id_key_digests.map(values);
        policy.author_key_digests = self.author_key_digests.map(values);
        policy.host_data = self.host_data.map(values);
        policy.require_crl = self.require_crl;
        Ok(policy)
    }
}

impl BitsTable {
    /// The masks after `require` and `forbid` are added and `permit` is taken away. `fixed` bits cannot be permitted.
    fn apply(self, table: &str, before: Bits, names: BitNames, fixed: u64) -> Result<Bits, String> {
        let mask = |key: &str, list: &[String]| {
            list.iter().try_fold(0, |mask, name| {
                let numbered = name.strip_prefix("bit ").and_then(|bit| bit.parse().ok());
                let unnamed = numbered.filter(|bit| *bit < 64 && names.iter().all(|(known, _)| known != bit));
                let named = names.iter().find(|(_, known)| known == name).map(|(bit, _)| *bit);
                let unknown = || {
                    let known: Vec<_> = names.iter().map(|(_, known)| *known).collect();
                    format!("{table}.{key}: expected one of {}, \"bit N\" for others, found {name:?}", known.join(", "))
                };
                named.or(unnamed).map(|bit: u32| mask | 1 << bit).ok_or_else(unknown)
            })
        };
        let permit = mask("permit", &self.permit)?;
        if permit & fixed != 0 {
            return Err(format!("{table}.permit: debug is permitted by dangerously-permit-debug alone"));
        }
        let (require, forbid) = (mask("require", &self.require)?, mask("forbid", &self.forbid)?);
        if permit & (require | forbid) != 0 {
            return Err(format!("{table}: a bit is permitted and also required or forbidden"));
        }
        Ok(Bits { require: before.require & !permit | require, forbid: before.forbid & !permit | forbid })
    }
}

impl FloorTable {
    fn add_to(self, policy: &mut SnpPolicy) -> Result<(), String> {
        let product = product(&self.product)?;
        let kinds = [
            (TcbKind::Reported, self.reported),
            (TcbKind::Committed, self.committed),
            (TcbKind::Current, self.current),
            (TcbKind::Launch, self.launch),
        ];
        let before = policy.tcb_floors.len();
        for (kind, table) in kinds {
            let Some(TcbTable { fmc, bl, tee, snp, ucode }) = table else { continue };
            let least = Tcb { fmc, bootloader: bl, tee, snp, microcode: ucode };
            policy.tcb_floors.push(TcbFloor { product, stepping: self.stepping, kind, least });
        }
        if policy.tcb_floors.len() == before {
            return Err(format!("tcb-floor: the table for {product} has none of reported, committed, current, launch"));
        }
        Ok(())
    }
}

fn values<const N: usize>(list: Vec<Hexadecimal<N>>) -> Vec<[u8; N]> {
    list.into_iter().map(|value| value.0).collect()
}

fn product(name: &str) -> Result<Product, String> {
    name.parse().map_err(|error| format!("products: {error}"))
}

fn chip_ids(list: Vec<String>) -> Result<Vec<Vec<u8>>, String> {
    let read = |text: &String| {
        let id = hex_bytes(text).filter(|id| id.len() == 64 || id.len() == 8);
        id.ok_or_else(|| format!("chip-ids: expected 64 bytes (8 for Turin) in hexadecimal, found {text:?}"))
    };
    list.iter().map(read).collect()
}

fn abi(text: &str) -> Result<(u8, u8), String> {
    let parts = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parts.ok_or_else(|| format!("guest-policy.min-abi: expected \"major.minor\", found {text:?}"))
}

/// `1.55` or `1.55.21`.
fn firmware(text: &str) -> Result<FirmwareVersion, String> {
    let mut parts = text.split('.').map(str::parse::<u8>);
    let version = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor)), None, None) => Some(FirmwareVersion { major, minor, build: 0 }),
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(build)), None) => Some(FirmwareVersion { major, minor, build }),
        _ => None,
    };
    version.ok_or_else(|| format!("min-firmware: expected \"major.minor\" or \"major.minor.build\", found {text:?}"))
}

fn fault(message: String) -> VerifyError {
    VerifyError::new(VerifyErrorKind::Configuration, format!("policy file: {message}"))
}
