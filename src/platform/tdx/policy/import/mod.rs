//! Policies from measurement lists in the format of flashbots' attested-tls and cvm-reverse-proxy.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{TdMeasurement, TdxPolicy};
use crate::platform::hex::hex_array;

/// Most bytes of a list.
const MAX_LIST_LEN: usize = 1024 * 1024;
/// The `attestation_type`s that are TDX quotes: of a platform that is not named, of Google's cloud, of a QEMU of one's own.
const TDX_TYPES: [&str; 3] = ["dcap-tdx", "gcp-tdx", "qemu-tdx"];
/// The registers by both of their names; the numbers are the older ones.
const REGISTERS: [[&str; 2]; 5] = [["0", "mrtd"], ["1", "rtmr0"], ["2", "rtmr1"], ["3", "rtmr2"], ["4", "rtmr3"]];

/// Measurements from a JSON file as flashbots' attested-tls and cvm-reverse-proxy read it.
///
/// ```
/// use tower_attest::platform::tdx::{MeasurementList, TdMeasurement, TdxPolicy};
///
/// let json = format!(
///     r#"[{{ "measurement_id": "image 1.4", "attestation_type": "dcap-tdx", "measurements": {{
///         "0": {{ "expected_any": ["{mrtd}"] }}, "2": {{ "expected_any": ["{one}", "{two}"] }} }} }}]"#,
///     mrtd = "42".repeat(48), one = "43".repeat(48), two = "44".repeat(48),
/// );
/// let policy = MeasurementList::from_json(&json)?.into_policy()?.with_min_tcb_evaluation_data_number(19);
///
/// let same = TdxPolicy::of(TdMeasurement::new([0x42; 48]).with_name("image 1.4").with_rtmr(1, [[0x43; 48], [0x44; 48]]));
/// assert_eq!(policy, same.with_min_tcb_evaluation_data_number(19));
/// # Ok::<(), tower_attest::platform::tdx::InvalidMeasurementList>(())
/// ```
///
/// Fields `0` (or `mrtd`) and `1` to `4` (`rtmr0` to `rtmr3`) of entries of the types `dcap-tdx`, `gcp-tdx` and `qemu-tdx`
/// become MRTD and the RTMRs; what an entry leaves out is not judged. The types say where an image runs, which a quote
/// does not: they make no difference here. Everything else about the TD is judged by [`TdxPolicy`]'s defaults, which are
/// stricter than those programs.
///
/// Refused although those programs take it: an entry without MRTD, which any firmware would satisfy, and so one without
/// measurements; an unknown or repeated member, whose meaning would be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasurementList {
    measurements: Vec<TdMeasurement>,
    others: Vec<OtherMeasurement>,
}

/// An entry for something else than a TDX quote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherMeasurement {
    /// Its `measurement_id`, or its place in the list, from 0.
    pub id: String,
    /// Its `attestation_type`, such as `azure-tdx`.
    pub attestation_type: String,
}

/// Why a text is not a list of measurements, or a list no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMeasurementList {
    /// More than 1 MiB.
    #[error("measurement list: expected at most {MAX_LIST_LEN} bytes, found {0}")]
    TooLong(usize),
    /// Not the JSON that is expected: an array of entries with known members, each once.
    #[error("measurement list: {entry}: {source}")]
    Json {
        /// The entry's `measurement_id`, or its place; `the list` if none was reached.
        entry: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Not a register of a TD, or the same one by both of its names.
    #[error(
        "measurement list: {entry}: expected each of 0 to 4 (mrtd, rtmr0 to rtmr3) at most once, found {register:?}"
    )]
    Register {
        /// The entry's `measurement_id`, or its place.
        entry: String,
        /// What stands for a register.
        register: String,
    },
    /// A register without exactly one of `expected_any` (not empty) and `expected`, or a value of another length.
    #[error("measurement list: {entry}: register {register:?}: expected {expected}")]
    Value {
        /// The entry's `measurement_id`, or its place.
        entry: String,
        /// The register.
        register: String,
        /// What is expected.
        expected: &'static str,
    },
    /// An entry that any firmware would satisfy.
    #[error("measurement list: {entry}: expected a value of MRTD (field 0), found none: any firmware would do")]
    NoMrtd {
        /// The entry's `measurement_id`, or its place.
        entry: String,
    },
    /// An entry for a platform that TDX quotes say nothing about. [`MeasurementList::without_others`] leaves it out.
    #[error(
        "measurement list: {}: attestation_type: expected one of dcap-tdx, gcp-tdx, qemu-tdx, found {:?}", .0.id,
        .0.attestation_type
    )]
    OtherPlatform(OtherMeasurement),
    /// No entry is left that names a TD.
    #[error("measurement list: expected an entry for a TD, found none")]
    Empty,
}

#[derive(Deserialize)]
struct Kind {
    measurement_id: Option<String>,
    attestation_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(rename = "measurement_id")]
    _measurement_id: Option<String>,
    #[serde(rename = "attestation_type")]
    _attestation_type: String,
    #[serde(default)]
    measurements: Registers,
}

/// In their order, repeated ones included.
#[derive(Default)]
struct Registers(Vec<(String, Expected)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    expected: Option<String>,
    expected_any: Option<Vec<String>>,
}

impl MeasurementList {
    /// Reads a list, at most 1 MiB.
    ///
    /// # Errors
    ///
    /// [`InvalidMeasurementList`] for whatever is malformed in an entry for a TD. Of entries for other platforms only the
    /// type is looked at.
    pub fn from_json(json: &str) -> Result<Self, InvalidMeasurementList> {
        if json.len() > MAX_LIST_LEN {
            return Err(InvalidMeasurementList::TooLong(json.len()));
        }
        let fault = |entry: &str, source| InvalidMeasurementList::Json { entry: entry.to_owned(), source };
        let entries: Vec<&RawValue> = serde_json::from_str(json).map_err(|error| fault("the list", error))?;
        let mut list = Self { measurements: Vec::new(), others: Vec::new() };
        for (position, raw) in entries.into_iter().enumerate() {
            let place = format!("entry {position}");
            let kind: Kind = serde_json::from_str(raw.get()).map_err(|error| fault(&place, error))?;
            let id = kind.measurement_id.clone().unwrap_or(place);
            if TDX_TYPES.contains(&kind.attestation_type.as_str()) {
                let entry: Entry = serde_json::from_str(raw.get()).map_err(|error| fault(&id, error))?;
                list.measurements.extend(measurements(&id, kind.measurement_id, entry.measurements)?);
            } else {
                list.others.push(OtherMeasurement { id, attestation_type: kind.attestation_type });
            }
        }
        Ok(list)
    }

    /// The entries for other platforms, such as Azure's vTPM.
    pub fn others(&self) -> &[OtherMeasurement] {
        &self.others
    }

    /// Leaves out the entries for other platforms: the policy will refuse their servers.
    #[must_use]
    pub fn without_others(mut self) -> Self {
        self.others.clear();
        self
    }

    /// A policy that accepts the TDs of this list, with [`TdxPolicy`]'s defaults for everything else.
    ///
    /// # Errors
    ///
    /// [`OtherPlatform`](InvalidMeasurementList::OtherPlatform) if the list has [others](Self::others), which no TDX policy
    /// can accept; [`Empty`](InvalidMeasurementList::Empty).
    pub fn into_policy(self) -> Result<TdxPolicy, InvalidMeasurementList> {
        if let Some(other) = self.others.into_iter().next() {
            return Err(InvalidMeasurementList::OtherPlatform(other));
        }
        let mut measurements = self.measurements.into_iter();
        let first = measurements.next().ok_or(InvalidMeasurementList::Empty)?;
        Ok(measurements.fold(TdxPolicy::of(first), TdxPolicy::or))
    }
}

/// One measurement for each value of MRTD that the entry accepts.
fn measurements(
    entry: &str,
    name: Option<String>,
    registers: Registers,
) -> Result<Vec<TdMeasurement>, InvalidMeasurementList> {
    let mut values: [Option<Vec<[u8; 48]>>; 5] = Default::default();
    for (register, expected) in registers.0 {
        let known = |names: &[&str; 2]| names.iter().any(|name| name.eq_ignore_ascii_case(&register));
        let slot = REGISTERS.iter().position(known).and_then(|index| values.get_mut(index));
        match slot.filter(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(expected.values(entry, &register)?),
            None => return Err(InvalidMeasurementList::Register { entry: entry.to_owned(), register }),
        }
    }
    let [mr_td, rtmr @ ..] = values;
    let mr_td = mr_td.ok_or_else(|| InvalidMeasurementList::NoMrtd { entry: entry.to_owned() })?;
    Ok(mr_td.into_iter().map(|mr_td| TdMeasurement { name: name.clone(), mr_td, rtmr: rtmr.clone() }).collect())
}

impl Expected {
    fn values(self, entry: &str, register: &str) -> Result<Vec<[u8; 48]>, InvalidMeasurementList> {
        let fault = |expected| InvalidMeasurementList::Value {
            entry: entry.to_owned(),
            register: register.to_owned(),
            expected,
        };
        let values = match (self.expected, self.expected_any) {
            (Some(value), None) => vec![value],
            (None, Some(values)) if !values.is_empty() => values,
            _ => return Err(fault("either expected_any, a list that is not empty, or expected")),
        };
        let value = |text: &String| hex_array(text).ok_or_else(|| fault("values of 48 bytes in hexadecimal"));
        values.iter().map(value).collect()
    }
}

impl<'de> Deserialize<'de> for Registers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Registers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of registers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Registers, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Registers(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}
