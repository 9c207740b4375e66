//! [`ReportLayer`] and what it is set up with.

use std::fmt;
use std::sync::Arc;

use http::Extensions;
use http::request::Parts;
use tower_layer::Layer;

use super::attester::Attester;
use super::outcome::{Observer, Outcome};
use super::service::AttachReport;
use crate::connection::ConnectionInfo;
use crate::protocol::ChannelBinding;

/// Signs responses, answers the endpoint and attaches evidence. See the [module](super).
#[derive(Clone, Debug)]
pub struct ReportLayer {
    settings: Arc<Settings>,
}

/// Made once, outside [`Layer::layer`], which some routers call for each route.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) attester: Attester,
    pub(super) header_limit: usize,
    pub(super) nonce_required: bool,
    pub(super) observer: Observer,
    exempt: Option<Exempt>,
    binding: Option<ReadBinding>,
}

type Exempt = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;
type ReadBinding = Arc<dyn Fn(&Extensions) -> Option<ChannelBinding> + Send + Sync>;

impl ReportLayer {
    /// A layer that lets requests without a nonce through untouched.
    pub fn new(attester: Attester) -> Self {
        let settings = Settings {
            attester,
            header_limit: 4000,
            nonce_required: false,
            observer: Observer::default(),
            exempt: None,
            binding: None,
        };
        Self { settings: Arc::new(settings) }
    }

    /// The longest `Attestation-Report` value, in bytes. Evidence that does not fit is left out, and clients fetch it
    /// from the endpoint. Default: 4 000, since common proxies hold a response head in one page of 4 KiB.
    #[must_use]
    pub fn header_limit(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.settings).header_limit = bytes;
        self
    }

    /// Refuses requests without a nonce: 428, or `FAILED_PRECONDITION` over gRPC.
    #[must_use]
    pub fn require_nonce(mut self) -> Self {
        Arc::make_mut(&mut self.settings).nonce_required = true;
        self
    }

    /// Lets through what [`require_nonce`](Self::require_nonce) would refuse and `exempt` accepts: health checks, and
    /// `OPTIONS` where browsers are clients, since their CORS preflight cannot carry a nonce.
    ///
    /// ```
    /// # #[cfg(feature = "mock")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use http::{Method, Request, Response, StatusCode};
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_attest::{Attester, ReportLayer, mock::MockTee};
    ///
    /// let attester = Attester::builder(MockTee::new().provider()).name("localhost").start().await?;
    /// let layer = ReportLayer::new(attester)
    ///     .require_nonce()
    ///     .exempt(|request| request.method == Method::OPTIONS || request.uri.path() == "/healthz");
    /// let service = ServiceBuilder::new()
    ///     .layer(layer)
    ///     .service(service_fn(async |_: Request<String>| Ok::<_, std::io::Error>(Response::new(String::new()))));
    ///
    /// let healthz = service.clone().oneshot(Request::get("/healthz").body(String::new())?).await?;
    /// assert_eq!(healthz.status(), StatusCode::OK);
    /// let prove = service.oneshot(Request::get("/prove").body(String::new())?).await?;
    /// assert_eq!(prove.status(), StatusCode::PRECONDITION_REQUIRED);
    /// # Ok(()) }
    /// # #[cfg(not(feature = "mock"))] fn main() {}
    /// ```
    #[must_use]
    pub fn exempt(mut self, exempt: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.settings).exempt = Some(Arc::new(exempt));
        self
    }

    /// Calls `f` with what became of each request: once, when the head of its response is ready. Not called where the
    /// application fails with an error, or the client goes away before.
    ///
    /// ```
    /// # #[cfg(feature = "mock")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::{Arc, Mutex};
    /// use http::{Request, Response};
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_attest::server::Outcome;
    /// use tower_attest::{Attester, ReportLayer, mock::MockTee};
    ///
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let sink = Arc::clone(&seen);
    /// let attester = Attester::builder(MockTee::new().provider()).name("localhost").start().await?;
    /// let layer = ReportLayer::new(attester).on_outcome(move |outcome| sink.lock().unwrap().push(outcome));
    /// let service = ServiceBuilder::new()
    ///     .layer(layer)
    ///     .service(service_fn(async |_: Request<String>| Ok::<_, std::io::Error>(Response::new(String::new()))));
    ///
    /// service.oneshot(Request::get("/prove").body(String::new())?).await?;
    /// assert_eq!(*seen.lock().unwrap(), [Outcome::Unasked], "this client asks for nothing");
    /// # Ok(()) }
    /// # #[cfg(not(feature = "mock"))] fn main() {}
    /// ```
    #[must_use]
    pub fn on_outcome(mut self, f: impl Fn(Outcome) + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.settings).observer = Observer::new(f);
        self
    }

    /// Reads the channel binding from a request's extensions in a way of your own, and in no other.
    ///
    /// Default: a [`ChannelBinding`] or a [`ConnectionInfo`] in the extensions, or, with the feature `axum`, axum's
    /// `ConnectInfo` of either. Whatever it returns must come from the server's own TLS stack.
    #[must_use]
    pub fn binding_from(
        mut self,
        binding: impl Fn(&Extensions) -> Option<ChannelBinding> + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.settings).binding = Some(Arc::new(binding));
        self
    }
}

impl<S> Layer<S> for ReportLayer {
    type Service = AttachReport<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttachReport::new(inner, Arc::clone(&self.settings))
    }
}

impl Settings {
    pub(super) fn is_exempt(&self, request: &Parts) -> bool {
        self.exempt.as_ref().is_some_and(|exempt| exempt(request))
    }

    pub(super) fn binding(&self, extensions: &Extensions) -> Option<ChannelBinding> {
        match &self.binding {
            Some(binding) => binding(extensions),
            None => from_extensions(extensions),
        }
    }
}

fn from_extensions(extensions: &Extensions) -> Option<ChannelBinding> {
    if let Some(binding) = extensions.get::<ChannelBinding>() {
        return Some(*binding);
    }
    if let Some(info) = extensions.get::<ConnectionInfo>() {
        return Some(info.binding());
    }
    #[cfg(feature = "axum")]
    {
        use axum::extract::ConnectInfo;
        if let Some(ConnectInfo(binding)) = extensions.get::<ConnectInfo<ChannelBinding>>() {
            return Some(*binding);
        }
        if let Some(ConnectInfo(info)) = extensions.get::<ConnectInfo<ConnectionInfo>>() {
            return Some(info.binding());
        }
    }
    None
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("attester", &self.attester)
            .field("header_limit", &self.header_limit)
            .field("nonce_required", &self.nonce_required)
            .finish_non_exhaustive()
    }
}
