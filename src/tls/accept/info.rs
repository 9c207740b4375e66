//! For servers on plain hyper: puts what is known of the connection into each request's extensions.

use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use crate::connection::ConnectionInfo;

/// Puts one connection's [`ConnectionInfo`] into the extensions of each request. tonic and axum do so themselves.
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_attest::tls::ConnectionInfoLayer;
/// use tower_attest::{ChannelBinding, ConnectionInfo};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let info = ConnectionInfo::new(ChannelBinding::from_tls_exporter([7; 32])); // of an accepted stream: `stream.info()`
/// let service = ConnectionInfoLayer::new(info).layer(service_fn(async |request: Request<()>| {
///     let known = request.extensions().get::<ConnectionInfo>().is_some();
///     Ok::<_, std::convert::Infallible>(Response::new(known))
/// }));
/// assert!(service.oneshot(Request::new(())).await?.into_body());
/// # Ok::<(), std::convert::Infallible>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConnectionInfoLayer {
    info: ConnectionInfo,
}

impl ConnectionInfoLayer {
    /// A layer for the requests of the connection that `info` speaks of, and of no other.
    pub fn new(info: ConnectionInfo) -> Self {
        Self { info }
    }
}

impl<S> Layer<S> for ConnectionInfoLayer {
    type Service = AddConnectionInfo<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AddConnectionInfo { inner, info: self.info.clone() }
    }
}

/// The service that [`ConnectionInfoLayer`] makes.
#[derive(Debug, Clone)]
pub struct AddConnectionInfo<S> {
    inner: S,
    info: ConnectionInfo,
}

impl<S, B> Service<Request<B>> for AddConnectionInfo<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.info.clone());
        self.inner.call(request)
    }
}
