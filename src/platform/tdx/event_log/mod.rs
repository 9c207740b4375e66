//! The log of what a TD measured into its RTMRs as it booted, and its replay.
//!
//! Written here because the one library found on crates.io (`eventlog-rs` 0.1.8) panics on a log that is cut short.

mod reader;
#[cfg(all(test, feature = "sim"))]
mod tests;

use std::fmt;

use bytes::Bytes;

use self::reader::Reader;
use super::quote::TdReport;
use crate::crypto::sha384;
use crate::report::Hex;
use crate::verifier::{FailedRule, VerifyError, VerifyErrorKind};

/// The most bytes that an event log may have, 1 MiB. Firmware reserves 64 KiB as a rule.
pub const MAX_EVENT_LOG: usize = 1024 * 1024;

/// Carries information, and is not measured into any register.
const EV_NO_ACTION: u32 = 3;
/// Algorithm id of SHA-384 (TCG Algorithm Registry), and its length.
const SHA384: u16 = 0x000c;
const SHA384_LEN: usize = 48;
/// Starts the data of the first event.
const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";
/// More digest algorithms than any firmware uses.
const MAX_ALGORITHMS: u32 = 16;
/// The register indexes of UEFI: 0 for MRTD, 1 to 4 for RTMR0 to RTMR3.
const REGISTERS: u32 = 5;
const RULES: [&str; 4] = ["event-log rtmr0", "event-log rtmr1", "event-log rtmr2", "event-log rtmr3"];

/// What a TD measured, event by event, as its firmware and boot loader wrote it down.
///
/// A log is a claim of the guest's. [`check`](Self::check) compares it with a quote: only then are its digests those that
/// went into the registers, in this order. It does not travel in evidence: get it from whoever publishes the image, or from
/// the service itself by a way of its own, and give it to [`TdxVerifier::with_event_log`](super::TdxVerifier::with_event_log).
///
/// Format: TCG PC Client Platform Firmware Profile 1.06, section 10 (crypto-agile log), as UEFI 2.10, section 38.4, uses it
/// for confidential guests. Linux shows the log at `/sys/firmware/acpi/tables/data/CCEL`.
///
/// ```no_run
/// use tower_attest::platform::tdx::EventLog;
///
/// let log = EventLog::parse(std::fs::read("ccel.bin")?)?;
/// for event in log.events() {
///     println!("{event}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct EventLog {
    events: Vec<Event>,
    replayed: [[u8; SHA384_LEN]; 4],
}

/// One measurement.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    register: u32,
    kind: u32,
    digest: [u8; SHA384_LEN],
    data: Bytes,
}

/// Why bytes are not an event log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// More than [`MAX_EVENT_LOG`] bytes.
    #[error("event log: expected at most {MAX_EVENT_LOG} bytes, found {0}")]
    TooLong(usize),
    /// The bytes end inside a field.
    #[error("event log: the bytes end inside {part} at byte {offset}")]
    Truncated {
        /// Where the field begins.
        offset: usize,
        /// The field.
        part: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("event log: {part} at byte {offset}: expected {expected}, found {found}")]
    Unexpected {
        /// Where the field begins.
        offset: usize,
        /// The field.
        part: &'static str,
        /// What is expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}

impl EventLog {
    /// Reads a log, with or without the 0xff or zero bytes that fill the firmware's buffer behind it.
    ///
    /// # Errors
    ///
    /// An [`EventLogError`] that names the field and where it stands: a log that is cut short, does not begin with a
    /// specification event (`Spec ID Event03`) that has SHA-384 among its algorithms, or has an event without exactly one
    /// SHA-384 digest, with an algorithm that the first event does not list, or for a register that TDX does not have.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, EventLogError> {
        let bytes = bytes.into();
        if bytes.len() > MAX_EVENT_LOG {
            return Err(EventLogError::TooLong(bytes.len()));
        }
        let mut log = Reader::new(bytes);
        let algorithms = specification(&mut log)?;
        let mut events = Vec::new();
        while !log.is_padding() {
            events.push(event(&mut log, &algorithms)?);
        }
        Ok(Self { replayed: replay(&events), events })
    }

    /// The events, in their order, without the first, which describes the log.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What RTMR0 to RTMR3 hold after these events: each was `SHA-384(register ‖ digest)` of the one before, from zero.
    pub fn replay(&self) -> [[u8; 48]; 4] {
        self.replayed
    }

    /// Whether the log leads to the registers of this TD: `expected` in a refusal is what the quote says, `found` what the
    /// log leads to.
    ///
    /// What a program extends RTMR3 by at run time is seldom in the firmware's log, which is then refused.
    ///
    /// # Errors
    ///
    /// [`VerifyErrorKind::Policy`] with the rule `event-log rtmrN` for each register that differs.
    pub fn check(&self, report: &TdReport) -> Result<(), VerifyError> {
        let mut failed = Vec::new();
        for ((rule, expected), found) in RULES.into_iter().zip(&report.rtmr).zip(&self.replayed) {
            if expected != found {
                failed.push(FailedRule::new(rule, Hex(expected).to_string(), format!("{} by the log", Hex(found))));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(VerifyError::failed(VerifyErrorKind::Policy, failed)) }
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Event {
    /// The RTMR that it was measured into, 0 to 3; `None` for MRTD, which the TDX module measures and a log only mentions.
    pub fn rtmr(&self) -> Option<usize> {
        self.register.checked_sub(1).and_then(|rtmr| rtmr.try_into().ok())
    }

    /// The event type, such as 0x8000_0003 for `EV_EFI_BOOT_SERVICES_APPLICATION`.
    pub fn kind(&self) -> u32 {
        self.kind
    }

    /// The name of the event type, where the specification gives one.
    pub fn kind_name(&self) -> Option<&'static str> {
        KINDS.iter().find(|(kind, _)| *kind == self.kind).map(|(_, name)| *name)
    }

    /// The SHA-384 digest that the register was extended by.
    pub fn digest(&self) -> &[u8; 48] {
        &self.digest
    }

    /// What the log says was measured. **Not covered by the digest** for most types, which measure something else (a file,
    /// a firmware volume) and merely describe it here: see [`data_is_measured`](Self::data_is_measured).
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Whether the digest is that of [`data`](Self::data) itself, so that a log that passes the check vouches for it too.
    pub fn data_is_measured(&self) -> bool {
        sha384(&[&self.data]) == self.digest
    }

    fn is_measured(&self) -> bool {
        self.kind != EV_NO_ACTION
    }
}

/// `RTMR1 EV_SEPARATOR 394341b7…`
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rtmr() {
            Some(rtmr) => write!(f, "RTMR{rtmr} ")?,
            None => f.write_str("MRTD ")?,
        }
        match self.kind_name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{:#010x}", self.kind)?,
        }
        write!(f, " {}", Hex(&self.digest))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({self}, {} bytes)", self.data.len())
    }
}

/// Event types (PC Client Platform Firmware Profile 1.06, table 27).
const KINDS: &[(u32, &str)] = &[
    (0x0000_0001, "EV_POST_CODE"),
    (EV_NO_ACTION, "EV_NO_ACTION"),
    (0x0000_0004, "EV_SEPARATOR"),
    (0x0000_0005, "EV_ACTION"),
    (0x0000_0006, "EV_EVENT_TAG"),
    (0x0000_0008, "EV_S_CRTM_VERSION"),
    (0x0000_000a, "EV_PLATFORM_CONFIG_FLAGS"),
    (0x0000_000c, "EV_COMPACT_HASH"),
    (0x0000_000d, "EV_IPL"),
    (0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION"),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
    (0x8000_0006, "EV_EFI_GPT_EVENT"),
    (0x8000_0007, "EV_EFI_ACTION"),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000b, "EV_EFI_HANDOFF_TABLES2"),
    (0x8000_000c, "EV_EFI_VARIABLE_BOOT2"),
    (0x8000_0010, "EV_EFI_HCRTM_EVENT"),
    (0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY"),
];

/// A digest algorithm of the log and the length of its digests.
type Algorithm = (u16, usize);

fn replay(events: &[Event]) -> [[u8; SHA384_LEN]; 4] {
    let mut registers = [[0; SHA384_LEN]; 4];
    for event in events.iter().filter(|event| event.is_measured()) {
        if let Some(register) = event.rtmr().and_then(|rtmr| registers.get_mut(rtmr)) {
            *register = sha384(&[register, &event.digest]);
        }
    }
    registers
}

/// Reads the first event, a TCG_PCClientPCREvent with a TCG_EfiSpecIdEvent: which digests each later event has.
fn specification(log: &mut Reader) -> Result<Vec<Algorithm>, EventLogError> {
    log.u32("the register of the first event")?;
    log.expect_u32("the type of the first event", "3 (EV_NO_ACTION)", |kind| kind == EV_NO_ACTION)?;
    log.take(20, "the SHA-1 digest of the first event")?;
    let mut data = log.part("the data of the first event")?;
    let offset = data.offset();
    let signature = data.take(SPEC_ID.len(), "the signature")?;
    if *signature != SPEC_ID[..] {
        let found = Hex(&signature).to_string();
        return Err(EventLogError::Unexpected {
            offset,
            part: "the signature",
            expected: "\"Spec ID Event03\"",
            found,
        });
    }
    data.take(8, "the platform class and version")?;
    let offset = data.offset();
    let fits = |count| (1..=MAX_ALGORITHMS).contains(&count);
    let count = data.expect_u32("the number of algorithms", "1 to 16", fits)?;
    let mut algorithms = Vec::new();
    for _ in 0..count {
        algorithms.push((data.u16("an algorithm")?, data.u16("the length of a digest")?.into()));
    }
    let length = data.u8("the length of the vendor's data")?;
    data.take(length.into(), "the vendor's data")?;
    data.end("the data of the first event")?;
    if algorithms.iter().filter(|(id, _)| *id == SHA384).ne([&(SHA384, SHA384_LEN)]) {
        let (part, expected) = ("the algorithms", "SHA-384, 48 bytes, once");
        return Err(EventLogError::Unexpected { offset, part, expected, found: format!("{algorithms:x?}") });
    }
    Ok(algorithms)
}

/// Reads a TCG_PCR_EVENT2.
fn event(log: &mut Reader, algorithms: &[Algorithm]) -> Result<Event, EventLogError> {
    let register = log.expect_u32("a register", "0 (MRTD) to 4 (RTMR3)", |register| register < REGISTERS)?;
    let kind = log.u32("an event type")?;
    let offset = log.offset();
    let mut digest = None;
    for _ in 0..log.u32("the number of digests")? {
        let offset = log.offset();
        let id = log.u16("the algorithm of a digest")?;
        let Some((_, length)) = algorithms.iter().find(|(known, _)| *known == id) else {
            let (part, expected) = ("the algorithm of a digest", "one that the first event lists");
            return Err(EventLogError::Unexpected { offset, part, expected, found: format!("{id:#06x}") });
        };
        let value = log.take(*length, "a digest")?;
        let repeated = id == SHA384 && digest.replace(value).is_some();
        if repeated {
            let (part, expected) = ("the digests of an event", "SHA-384 once");
            return Err(EventLogError::Unexpected { offset, part, expected, found: "it again".to_owned() });
        }
    }
    let Some(digest) = digest.and_then(|digest| <[u8; SHA384_LEN]>::try_from(&digest[..]).ok()) else {
        let (part, expected) = ("the digests of an event", "SHA-384 among them");
        return Err(EventLogError::Unexpected { offset, part, expected, found: "others or none".to_owned() });
    };
    let data = log.part("the data of an event")?.rest();
    Ok(Event { register, kind, digest, data })
}
