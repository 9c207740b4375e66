//! What a source is asked for, and how what it finds is judged before it is kept.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::Collateral;
use crate::platform::endorser::{EndorsementError, EndorsementErrorKind};
use crate::platform::tdx::encoding::show_time;
use crate::report::Hex;
use crate::verifier::VerifyError;

/// Which CA issued a platform's PCK certificate; each has a CRL of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PckCa {
    /// Intel SGX PCK Processor CA: single-socket platforms.
    Processor,
    /// Intel SGX PCK Platform CA: platforms that were registered, multi-socket ones among them.
    Platform,
}

impl PckCa {
    /// The `ca` parameter of `GET /sgx/certification/v4/pckcrl`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Platform => "platform",
        }
    }
}

/// What collateral is asked for by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlatformId {
    /// Family, model, stepping, platform and custom SKU of the processor, 6 bytes, from the PCK certificate.
    pub fmspc: [u8; 6],
    /// Who issued the PCK certificate.
    pub ca: PckCa,
}

impl fmt::Debug for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlatformId({self})")
    }
}

impl fmt::Display for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fmspc {}, {} CA", Hex(&self.fmspc), self.ca.as_str())
    }
}

/// Judges collateral, and says until when it holds.
type Check<'a> = dyn Fn(&Arc<Collateral>) -> Result<SystemTime, VerifyError> + Send + Sync + 'a;

/// Whether the set that was checked last does not know the quote's TCB, module or quoting enclave.
type Unknown<'a> = dyn Fn() -> bool + Send + Sync + 'a;

/// A request for the collateral of one platform, with the check that it must pass.
///
/// A verifier's check is the one that stapled collateral must pass too: signatures, chains, dates, platform, and the policy's
/// floor of `tcbEvaluationDataNumber`. What the collateral says of the very quote that it is wanted for does not count: the
/// list that revokes a machine is no worse for that.
#[derive(Clone, Copy)]
pub struct CollateralRequest<'a> {
    platform: PlatformId,
    now: SystemTime,
    check: &'a Check<'a>,
    unknown: Option<&'a Unknown<'a>>,
}

impl<'a> CollateralRequest<'a> {
    /// Collateral of `platform` that is to hold at the wall-clock time `now`. `check` judges what a source finds, and says
    /// until when it holds: it is what keeps a set that is damaged, or another platform's, out of a memory.
    pub fn new(platform: PlatformId, now: SystemTime, check: &'a Check<'a>) -> Self {
        Self { platform, now, check, unknown: None }
    }

    /// Says when a set that passes the check may be too old to know the platform.
    pub(in crate::platform::tdx) fn unknown_to_last(mut self, unknown: &'a Unknown<'a>) -> Self {
        self.unknown = Some(unknown);
        self
    }

    /// Whether newer collateral, if there is any, may know what the set that was checked last does not.
    pub(super) fn wants_newer(&self) -> bool {
        self.unknown.is_some_and(|unknown| unknown())
    }

    /// Which platform's collateral is wanted: the key to keep it by.
    pub fn platform(&self) -> PlatformId {
        self.platform
    }

    /// The time at which it is to hold.
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// Whether `collateral` is what is wanted. Returns until when it holds.
    ///
    /// # Errors
    ///
    /// `Refused`, with the refusal of whoever asks as source, or because it no longer holds.
    pub fn check(&self, collateral: &Arc<Collateral>) -> Result<SystemTime, EndorsementError> {
        let end = (self.check)(collateral).map_err(|refusal| {
            let message = format!("collateral for {}", self.platform);
            EndorsementError::with_source(EndorsementErrorKind::Refused, message, refusal)
        })?;
        if self.now < end {
            return Ok(end);
        }
        let message = format!(
            "collateral for {}: expected it to hold at {}, found its end at {}",
            self.platform,
            show_time(self.now),
            show_time(end)
        );
        Err(EndorsementError::new(EndorsementErrorKind::Refused, message))
    }
}

impl fmt::Debug for CollateralRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CollateralRequest").field(&self.platform).finish()
    }
}
