//! Where collateral comes from when none is stapled to the report.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

use super::Collateral;
use crate::error::BoxError;
use crate::report::Hex;

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
        write!(f, "PlatformId(fmspc {}, {} CA)", Hex(&self.fmspc), self.ca.as_str())
    }
}

/// Supplies collateral for platforms. The verifier asks only for platforms whose quote has already been found genuine,
/// so that strangers cannot make it fetch.
#[async_trait]
pub trait CollateralSource: Send + Sync + fmt::Debug {
    /// Collateral for `platform` that is valid at `now`.
    ///
    /// # Errors
    ///
    /// A [`CollateralError`] whose kind says whether to try again.
    async fn collateral(&self, platform: &PlatformId, now: SystemTime) -> Result<Arc<Collateral>, CollateralError>;

    /// Asks `other` where this source fails, or has nothing but collateral past its `nextUpdate`.
    fn or_else<T: CollateralSource>(self, other: T) -> OrElse<Self, T>
    where
        Self: Sized,
    {
        OrElse { first: self, other }
    }
}

/// Two sources, the second for what the first does not have. Made by [`CollateralSource::or_else`].
#[derive(Debug, Clone)]
pub struct OrElse<A, B> {
    first: A,
    other: B,
}

#[async_trait]
impl<A: CollateralSource, B: CollateralSource> CollateralSource for OrElse<A, B> {
    async fn collateral(&self, platform: &PlatformId, now: SystemTime) -> Result<Arc<Collateral>, CollateralError> {
        match self.first.collateral(platform, now).await {
            Ok(found) if found.next_update().is_some_and(|end| now < end) => Ok(found),
            _ => self.other.collateral(platform, now).await,
        }
    }
}

#[async_trait]
impl<S: CollateralSource + ?Sized> CollateralSource for Arc<S> {
    async fn collateral(&self, platform: &PlatformId, now: SystemTime) -> Result<Arc<Collateral>, CollateralError> {
        (**self).collateral(platform, now).await
    }
}

/// One set, for whatever platform is asked about: a set for another platform is refused by the verifier.
#[async_trait]
impl CollateralSource for Collateral {
    async fn collateral(&self, _: &PlatformId, _: SystemTime) -> Result<Arc<Collateral>, CollateralError> {
        Ok(Arc::new(self.clone()))
    }
}

/// Why there is no collateral. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CollateralError {
    kind: CollateralErrorKind,
    message: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// What kind of failure a [`CollateralError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CollateralErrorKind {
    /// The source does not know the platform: no retry helps.
    NotFound,
    /// The source cannot be reached or is overloaded: try again later.
    Unavailable,
    /// The source answered with something that is not collateral.
    Invalid,
}

impl CollateralError {
    /// An error of `kind` whose message says what was asked of whom.
    pub fn new(kind: CollateralErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> CollateralErrorKind {
        self.kind
    }
}

impl fmt::Display for CollateralError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            CollateralErrorKind::NotFound => "no collateral for this platform: ",
            CollateralErrorKind::Unavailable => "collateral cannot be had now: ",
            CollateralErrorKind::Invalid => "the answer is not collateral: ",
        })?;
        f.write_str(&self.message)
    }
}

impl std::error::Error for CollateralError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}
