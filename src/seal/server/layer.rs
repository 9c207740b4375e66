//! [`UnsealLayer`] and what it is set up with.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use tower_layer::Layer;

use super::service::Unseal;
use crate::protocol::{SEALED_PATH, WELL_KNOWN_PATH};
use crate::server::{Attester, AttesterError};

/// Opens sealed requests and seals their responses. See the [module](super).
#[derive(Clone, Debug)]
pub struct UnsealLayer {
    settings: Arc<Settings>,
}

/// Made once, outside [`Layer::layer`], which some routers call for each route.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) attester: Attester,
    sealed_only: bool,
    exempt: Option<Exempt>,
}

type Exempt = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

impl UnsealLayer {
    /// A layer that opens what is sealed to this attester's keys, and lets plaintext requests through.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::AttesterErrorKind::Configuration) if the attester was not told to
    /// [`seal`](crate::AttesterBuilder::seal): no client could seal anything to it.
    pub fn new(attester: Attester) -> Result<Self, AttesterError> {
        attester.must_seal()?;
        Ok(Self { settings: Arc::new(Settings { attester, sealed_only: false, exempt: None }) })
    }

    /// Refuses plaintext requests, apart from those to the well-known paths: 403, or `PERMISSION_DENIED` over gRPC. The
    /// refusal comes before the request's body is read; that the client has sent it in the clear is past helping.
    #[must_use]
    pub fn sealed_only(mut self) -> Self {
        Arc::make_mut(&mut self.settings).sealed_only = true;
        self
    }

    /// Lets through what [`sealed_only`](Self::sealed_only) would refuse and `exempt` accepts: health checks.
    ///
    /// ```
    /// # #[cfg(feature = "mock")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use http::{Request, Response, StatusCode};
    /// use http_body_util::Empty;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_attest::seal::UnsealLayer;
    /// use tower_attest::{Attester, mock::MockTee};
    ///
    /// let attester = Attester::builder(MockTee::new().provider()).name("localhost").seal().start().await?;
    /// let layer = UnsealLayer::new(attester)?.sealed_only().exempt(|request| request.uri.path() == "/healthz");
    /// let service = ServiceBuilder::new()
    ///     .layer(layer)
    ///     .service(service_fn(async |_| Ok::<_, std::io::Error>(Response::new(String::new()))));
    ///
    /// let healthz = Request::get("/healthz").body(Empty::<bytes::Bytes>::new())?;
    /// assert_eq!(service.clone().oneshot(healthz).await?.status(), StatusCode::OK);
    /// let prove = Request::get("/prove").body(Empty::new())?;
    /// assert_eq!(service.oneshot(prove).await?.status(), StatusCode::FORBIDDEN);
    /// # Ok(()) }
    /// # #[cfg(not(feature = "mock"))] fn main() {}
    /// ```
    #[must_use]
    pub fn exempt(mut self, exempt: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.settings).exempt = Some(Arc::new(exempt));
        self
    }
}

impl<S> Layer<S> for UnsealLayer {
    type Service = Unseal<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Unseal::new(inner, Arc::clone(&self.settings))
    }
}

impl Settings {
    /// Whether a request may come in the clear.
    pub(super) fn takes_plaintext(&self, request: &Parts) -> bool {
        !self.sealed_only
            || is_well_known(request.uri.path())
            || self.exempt.as_ref().is_some_and(|exempt| exempt(request))
    }
}

/// What the layers answer themselves.
pub(super) fn is_well_known(path: &str) -> bool {
    path == WELL_KNOWN_PATH || path == SEALED_PATH
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("attester", &self.attester)
            .field("sealed_only", &self.sealed_only)
            .finish_non_exhaustive()
    }
}
