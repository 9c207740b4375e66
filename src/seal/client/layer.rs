//! [`SealLayer`]: what a client demands before it seals.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::service::Seal;
use crate::client::{AttestLayer, Verdict};
use crate::error::BoxError;
use crate::time::Clock;
use crate::verifier::ReportVerifier;

/// Puts [`Seal`] around a client's HTTP service: each request is encrypted to a key that a genuine TEE vouches for.
///
/// `C` is the body type of that service, which is inferred. See the [module](super) for an example. Each call of
/// [`layer`](Layer::layer) starts with no trust; clones of the [`Seal`] it makes share theirs.
pub struct SealLayer<C> {
    attest: AttestLayer,
    carrier: PhantomData<fn() -> C>,
}

impl<C> SealLayer<C> {
    /// Seals to what `verifier` accepts. Nothing leaves unsealed, and no other response than a sealed one is handed out.
    pub fn new(verifier: impl ReportVerifier + 'static) -> Self {
        // What carries sealed requests need not be trusted, so that it need not be attested either.
        Self::from(AttestLayer::new(verifier).accept_presence())
    }

    fn from(attest: AttestLayer) -> Self {
        Self { attest, carrier: PhantomData }
    }

    /// Expects `name` among the names that the server's key document lists. Without it any name will do.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self::from(self.attest.name(name))
    }

    /// Expects this SHA-256 of the server's effective configuration. Repeat it to accept several, as while a server moves
    /// from one to another. Without it any configuration will do.
    #[must_use]
    pub fn config(self, digest: [u8; 32]) -> Self {
        Self::from(self.attest.config(digest))
    }

    /// How long keys are sealed to after the nonce in their evidence was drawn; 10 minutes unless set.
    ///
    /// Either clock may say that it has passed. After half of it one request renews the evidence; only past it do requests
    /// wait.
    #[must_use]
    pub fn max_evidence_age(self, age: Duration) -> Self {
        Self::from(self.attest.max_evidence_age(age))
    }

    /// How long fetching and verifying evidence may take, apart from the request's own time; 10 seconds unless set.
    #[must_use]
    pub fn verification_timeout(self, timeout: Duration) -> Self {
        Self::from(self.attest.verification_timeout(timeout))
    }

    /// The most bytes of evidence that are read from the endpoint; 256 KiB unless set, which is also the protocol's limit.
    #[must_use]
    pub fn evidence_limit(self, bytes: usize) -> Self {
        Self::from(self.attest.evidence_limit(bytes))
    }

    /// The clock for ages and timers; [`SystemClock`](crate::time::SystemClock) unless set.
    #[must_use]
    pub fn clock(self, clock: impl Clock + 'static) -> Self {
        Self::from(self.attest.clock(clock))
    }

    /// Calls `f` with the verdict on each request: once per request, before its response or error is handed out. Its mode is
    /// always [`Required`](crate::Mode::Required).
    #[must_use]
    pub fn on_verdict(self, f: impl Fn(&Verdict) + Send + Sync + 'static) -> Self {
        Self::from(self.attest.on_verdict(f))
    }

    /// Fetches evidence through `service` instead of the inner service, for example past a limit on the inner one.
    #[must_use]
    pub fn preflight_via<T, ReqBody, ResBody>(self, service: T) -> Self
    where
        T: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
        T::Error: Into<BoxError>,
        T::Future: Send,
        ReqBody: Default + Send + 'static,
        ResBody: Body + Send + 'static,
        ResBody::Data: Send,
        ResBody::Error: Into<BoxError>,
    {
        Self::from(self.attest.preflight_via(service))
    }
}

impl<S, C> Layer<S> for SealLayer<C> {
    type Service = Seal<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Seal::new(inner, self.attest.shared())
    }
}

impl<C> Clone for SealLayer<C> {
    fn clone(&self) -> Self {
        Self::from(self.attest.clone())
    }
}

impl<C> fmt::Debug for SealLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealLayer").field("attest", &self.attest).finish()
    }
}
