//! A policy from TOML, with the same rules as from code.

use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{AcceptedStatus, Bits, TdMeasurement, TdxPolicy};
use crate::platform::hex::hex_array;
use crate::platform::tdx::encoding::rfc3339;
use crate::platform::tdx::tcb::TcbStatus;

/// The longest policy, 1 MiB.
const MAX_POLICY_LEN: usize = 1024 * 1024;

/// Why a text is not a policy.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// More than 1 MiB.
    #[error("a TDX policy of {0} bytes: expected at most {MAX_POLICY_LEN}")]
    TooLarge(usize),
    /// Not TOML, an unknown key, or a value of another type or length; the message has the line.
    #[error("not a TDX policy: {0}")]
    Toml(#[from] toml::de::Error),
    /// The policy accepts no measurement.
    #[error("the policy names no measurement: add a [[measurement]] with an mrtd")]
    NoMeasurement,
    /// The policy accepts `Revoked`, or `OutOfDate` for ever.
    #[error("[[accept]] of {status}: {why}")]
    Accept {
        /// The status.
        status: TcbStatus,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A rule has an empty list, which nothing can meet.
    #[error("the rule {0} accepts nothing: leave it out, or name a value")]
    Empty(&'static str),
}

/// The file, or the section `[tdx]` of a [`PolicyFile`](crate::platform::PolicyFile).
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::platform) struct PolicyTable {
    #[serde(default)]
    measurement: Vec<Measurement>,
    mr_config_id: Option<List<48>>,
    mr_owner: Option<List<48>>,
    mr_owner_config: Option<List<48>>,
    mr_seam: Option<List<48>>,
    mr_signer_seam: Option<List<48>>,
    mr_service_td: Option<List<48>>,
    td_attributes: Option<Masks>,
    xfam: Option<Masks>,
    min_tee_tcb_svn: Option<HexArray<16>>,
    #[serde(default)]
    accept: Vec<Accept>,
    #[serde(default)]
    denied_advisories: Vec<String>,
    min_tcb_evaluation_data_number: Option<u32>,
    dynamic_platform: Option<bool>,
    smt: Option<bool>,
    cached_keys: Option<bool>,
    ppid: Option<List<16>>,
    platform_instance: Option<List<16>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Measurement {
    name: Option<String>,
    mrtd: HexArray<48>,
    rtmr0: Option<List<48>>,
    rtmr1: Option<List<48>>,
    rtmr2: Option<List<48>>,
    rtmr3: Option<List<48>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Masks {
    require: Option<Mask>,
    forbid: Option<Mask>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accept {
    status: Status,
    advisories: Vec<String>,
    until: Option<Time>,
}

impl TdxPolicy {
    /// Reads a policy file: every rule that code can set, by the names that refusals show. Byte strings are hexadecimal; a
    /// list of one may be written bare.
    ///
    /// ```toml
    /// mr-config-id = "…"            # also mr-owner, mr-owner-config, mr-seam; not judged where left out
    /// mr-signer-seam = "…"          # default: zero, Intel
    /// mr-service-td = "…"           # default: zero, none
    /// td-attributes = { require = "0x10000000", forbid = "0x…" }   # defaults: see TdxPolicy
    /// xfam = { require = "0x3", forbid = "0x…" }
    /// min-tee-tcb-svn = "05010200000000000000000000000000"
    /// min-tcb-evaluation-data-number = 18
    /// denied-advisories = ["INTEL-SA-01397"]
    /// dynamic-platform = false      # also smt, cached-keys; Platform CA only
    /// ppid = ["…"]                  # 16 bytes; also platform-instance
    ///
    /// [[measurement]]               # at least one
    /// name = "prover 1.4"
    /// mrtd = "…"                    # 48 bytes
    /// rtmr1 = ["…", "…"]            # any of these; rtmr0 to rtmr3, not judged where left out
    ///
    /// [[accept]]                    # beside UpToDate
    /// status = "OutOfDate"
    /// advisories = ["INTEL-SA-00960"]
    /// until = "2026-12-31T00:00:00Z"   # required for OutOfDate and its kin
    /// ```
    ///
    /// # Errors
    ///
    /// More than 1 MiB, an unknown key, a value that does not parse, no measurement, an empty list, or an acceptance
    /// without limits.
    pub fn from_toml(text: &str) -> Result<Self, InvalidPolicy> {
        if text.len() > MAX_POLICY_LEN {
            return Err(InvalidPolicy::TooLarge(text.len()));
        }
        Self::from_table(toml::from_str(text)?)
    }

    pub(in crate::platform) fn from_table(file: PolicyTable) -> Result<Self, InvalidPolicy> {
        let mut measurements = Vec::with_capacity(file.measurement.len());
        for measurement in file.measurement {
            measurements.push(TdMeasurement {
                name: measurement.name,
                mr_td: measurement.mrtd.0,
                rtmr: [
                    list("rtmr0", measurement.rtmr0)?,
                    list("rtmr1", measurement.rtmr1)?,
                    list("rtmr2", measurement.rtmr2)?,
                    list("rtmr3", measurement.rtmr3)?,
                ],
            });
        }
        let first = measurements.first().cloned().ok_or(InvalidPolicy::NoMeasurement)?;
        let defaults = Self::of(first);
        Ok(Self {
            measurements,
            mr_config_id: list("mr-config-id", file.mr_config_id)?,
            mr_owner: list("mr-owner", file.mr_owner)?,
            mr_owner_config: list("mr-owner-config", file.mr_owner_config)?,
            mr_seam: list("mr-seam", file.mr_seam)?,
            mr_signer_seam: list("mr-signer-seam", file.mr_signer_seam)?.unwrap_or(defaults.mr_signer_seam),
            mr_service_td: list("mr-service-td", file.mr_service_td)?.unwrap_or(defaults.mr_service_td),
            td_attributes: bits(file.td_attributes, defaults.td_attributes),
            xfam: bits(file.xfam, defaults.xfam),
            min_tee_tcb_svn: file.min_tee_tcb_svn.map(|svn| svn.0),
            accepted: file.accept.into_iter().map(accept).collect::<Result<_, _>>()?,
            denied_advisories: file.denied_advisories,
            min_evaluation_number: file.min_tcb_evaluation_data_number,
            dynamic_platform: file.dynamic_platform,
            smt: file.smt,
            cached_keys: file.cached_keys,
            ppids: list("ppid", file.ppid)?,
            platform_instances: list("platform-instance", file.platform_instance)?,
        })
    }
}

impl FromStr for TdxPolicy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        Self::from_toml(text)
    }
}

fn list<const N: usize>(rule: &'static str, list: Option<List<N>>) -> Result<Option<Vec<[u8; N]>>, InvalidPolicy> {
    let Some(list) = list else { return Ok(None) };
    let values = match list {
        List::One(value) => vec![value.0],
        List::Many(values) => values.into_iter().map(|value| value.0).collect(),
    };
    if values.is_empty() { Err(InvalidPolicy::Empty(rule)) } else { Ok(Some(values)) }
}

fn bits(masks: Option<Masks>, defaults: Bits) -> Bits {
    let Some(masks) = masks else { return defaults };
    Bits {
        require: masks.require.map_or(defaults.require, |mask| mask.0),
        forbid: masks.forbid.map_or(defaults.forbid, |mask| mask.0),
    }
}

fn accept(accept: Accept) -> Result<AcceptedStatus, InvalidPolicy> {
    let status = accept.status.0;
    let until = accept.until.map(|time| time.0);
    match status {
        TcbStatus::Revoked => Err(InvalidPolicy::Accept { status, why: "it is never accepted" }),
        _ if status.is_outdated() && until.is_none() => {
            Err(InvalidPolicy::Accept { status, why: "it needs an end, until = \"…\"" })
        }
        _ => Ok(AcceptedStatus { status, advisories: accept.advisories, until }),
    }
}

struct HexArray<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for HexArray<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex_array(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("expected {} hexadecimal digits, found {text:?}", 2 * N)))
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a hexadecimal string of the right length, or a list of them")]
enum List<const N: usize> {
    One(HexArray<N>),
    Many(Vec<HexArray<N>>),
}

struct Mask(u64);

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.strip_prefix("0x")
            .filter(|digits| !digits.starts_with('+'))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("expected a mask such as \"0x10000000\", found {text:?}")))
    }
}

struct Status(TcbStatus);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

struct Time(std::time::SystemTime);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        rfc3339(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format!("expected a time such as \"2026-12-31T00:00:00Z\", found {text:?}"))
        })
    }
}
