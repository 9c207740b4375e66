//! What a client knows after it has verified: [`VerifiedReport`], and [`Observation`] where nothing is enforced.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::exchange::{Signed, VerifiedKeys};
use super::layer::Mode;
use crate::error::AttestError;
use crate::protocol::KeysDigest;
use crate::report::{Hex, Platform};
#[cfg(any(feature = "seal", feature = "tls"))]
use crate::time::Now;
use crate::verifier::Claims;

/// What a verified response is worth. These are properties, not a scale: ask for the one that you need.
///
/// | strength | the request stays secret | the answer is the TEE's own |
/// |---|---|---|
/// | `Presence` | no: a relay with a certificate for the name reads and changes it | status only; fields, body and trailers may be a relay's |
/// | `Channel` | yes | yes, by TLS |
/// | `Sealed` | yes, through any carrier | yes |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strength {
    /// A TEE with these keys saw this nonce, method and target, and answered this status, over a connection that nobody
    /// attested before sending.
    Presence,
    /// Evidence bound to the TLS exporter of this very connection was verified before any request left on it.
    Channel,
    /// The whole request was encrypted to a key in verified evidence.
    Sealed,
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Strength {
    /// Whether the far end was known to be the TEE before the request's content left this process.
    pub fn secret_before_send(self) -> bool {
        matches!(self, Self::Channel | Self::Sealed)
    }

    /// Whether fields, body and trailers of the response are the TEE's own, and not only its status.
    pub fn response_intact(self) -> bool {
        matches!(self, Self::Channel | Self::Sealed)
    }
}

/// Proof that a response was signed by keys that a genuine, accepted TEE vouches for.
///
/// There is no way to make one but by verifying. Cheap to clone.
#[derive(Clone)]
pub struct VerifiedReport {
    keys: Arc<VerifiedKeys>,
    strength: Strength,
    channel_bound: bool,
    age: Duration,
}

impl VerifiedReport {
    pub(super) fn new(keys: Arc<VerifiedKeys>, signed: &Signed) -> Self {
        let age = keys.age(signed.at());
        Self { keys, strength: signed.strength(), channel_bound: signed.bound(), age }
    }

    /// The same for a sealed response to a request that was sealed to `keys`. Those need not be the keys that signed: a
    /// server that has just renewed its keys still opens what is sealed to the last ones.
    #[cfg(feature = "seal")]
    pub(crate) fn sealed(self, keys: Arc<VerifiedKeys>, at: Now) -> Self {
        Self { age: keys.age(at), keys, strength: Strength::Sealed, ..self }
    }

    /// The same for a request that starts at `now`.
    #[cfg(feature = "tls")]
    pub(crate) fn at(&self, now: Now) -> Self {
        Self { age: self.keys.age(now), ..self.clone() }
    }

    /// The report that an [`AttestLayer`](crate::AttestLayer) in [`Mode::Required`] put into a reply's extensions.
    ///
    /// `None` if no such layer is on the stack. Takes an [`http::Response`], an [`http::Extensions`], or (feature `tonic`) a
    /// `tonic::Response`.
    pub fn of<R: Reply>(reply: &R) -> Option<&Self> {
        reply.attest_extensions().get()
    }

    /// What the hardware signed, as the verifier read it.
    pub fn claims(&self) -> &Claims {
        self.keys.claims()
    }

    /// The kind of TEE.
    pub fn platform(&self) -> &Platform {
        self.claims().platform()
    }

    /// What program runs: MEASUREMENT of SNP, MRTD of TDX.
    pub fn measurement(&self) -> &[u8] {
        self.claims().measurement()
    }

    /// The policy's name for this measurement, if it gives one.
    pub fn measurement_name(&self) -> Option<&str> {
        self.claims().measurement_name()
    }

    /// The value of a fact such as `tcb` or `chip`.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.claims().fact(name)
    }

    /// What this response is worth.
    pub fn strength(&self) -> Strength {
        self.strength
    }

    /// Whether the far end was known to be the TEE before the request's content left this process.
    pub fn secret_before_send(&self) -> bool {
        self.strength.secret_before_send()
    }

    /// Whether fields, body and trailers of the response are the TEE's own, and not only its status.
    pub fn response_intact(&self) -> bool {
        self.strength.response_intact()
    }

    /// Whether the signature is bound to the TLS connection that carried the response, so that the TEE itself ends that
    /// connection.
    ///
    /// True at [`Strength::Channel`]. With [`bind_channel`](crate::AttestLayer::bind_channel) also at
    /// [`Strength::Presence`]: then it became known with the response, after the request had left.
    pub fn channel_bound(&self) -> bool {
        self.channel_bound
    }

    /// The digest of the server's key document.
    pub fn keys_digest(&self) -> &KeysDigest {
        self.keys.digest()
    }

    /// The host names that the server answers for.
    pub fn server_names(&self) -> &[String] {
        &self.keys.document().fields().names
    }

    /// SHA-256 of the server's effective configuration, if it states one.
    pub fn config_digest(&self) -> Option<&[u8; 32]> {
        self.keys.document().fields().config.as_ref()
    }

    /// How old the evidence was when this request's nonce was drawn: zero if the evidence came with this very response.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// When the nonce in the evidence was drawn, by this machine's wall clock.
    pub fn drawn_at(&self) -> SystemTime {
        self.keys.drawn().wall
    }
}

impl fmt::Debug for VerifiedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedReport")
            .field("platform", self.platform())
            .field("measurement", &format_args!("{}", Hex(self.measurement())))
            .field("measurement_name", &self.measurement_name())
            .field("strength", &self.strength)
            .field("channel_bound", &self.channel_bound)
            .field("keys", self.keys_digest())
            .field("names", &self.server_names())
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

/// What a layer that does not enforce found out about a response: in the response's extensions under
/// [`Mode::Optional`] and [`Mode::Observe`], and in each [`Verdict`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Observation {
    /// [`Mode::Required`] would have accepted it.
    Verified(VerifiedReport),
    /// There is no report.
    Missing,
    /// [`Mode::Required`] would have refused it, for this reason.
    Refused(AttestError),
    /// [`Mode::Observe`] alone: it could not be judged without making the response wait. [`Mode::Required`] would have waited:
    /// for the verifier to fetch collateral, or for the endpoint.
    Undecided(AttestError),
}

impl Observation {
    /// The observation in a reply's extensions, as [`VerifiedReport::of`] reads it.
    pub fn of<R: Reply>(reply: &R) -> Option<&Self> {
        reply.attest_extensions().get()
    }

    /// The verified report.
    pub fn report(&self) -> Option<&VerifiedReport> {
        match self {
            Self::Verified(report) => Some(report),
            _ => None,
        }
    }

    /// Why it was refused, or could not be decided.
    pub fn error(&self) -> Option<&AttestError> {
        match self {
            Self::Refused(error) | Self::Undecided(error) => Some(error),
            _ => None,
        }
    }
}

/// What was judged, and how: the argument of [`on_verdict`](crate::AttestLayer::on_verdict).
#[derive(Debug, Clone)]
pub struct Verdict {
    mode: Mode,
    observation: Observation,
}

impl Verdict {
    pub(super) fn new(mode: Mode, observation: Observation) -> Self {
        Self { mode, observation }
    }

    /// The mode of the layer that judged.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What was found.
    pub fn observation(&self) -> &Observation {
        &self.observation
    }

    /// The verified report.
    pub fn report(&self) -> Option<&VerifiedReport> {
        self.observation.report()
    }

    /// Why it was refused, or could not be decided.
    pub fn error(&self) -> Option<&AttestError> {
        self.observation.error()
    }
}

/// A reply whose extensions can hold a [`VerifiedReport`]. Sealed.
pub trait Reply: sealed::Sealed {
    #[doc(hidden)]
    fn attest_extensions(&self) -> &http::Extensions;
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for http::Response<T> {}
    impl Sealed for http::Extensions {}
    #[cfg(feature = "tonic")]
    impl<T> Sealed for tonic::Response<T> {}
}

impl<T> Reply for http::Response<T> {
    fn attest_extensions(&self) -> &http::Extensions {
        self.extensions()
    }
}

impl Reply for http::Extensions {
    fn attest_extensions(&self) -> &http::Extensions {
        self
    }
}

#[cfg(feature = "tonic")]
impl<T> Reply for tonic::Response<T> {
    fn attest_extensions(&self) -> &http::Extensions {
        self.extensions()
    }
}
