//! For those who keep hyper-util's pooled `Client`: a connector whose responses say which TLS connection served them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::accept::TlsConfigError;
use super::connect::{Roots, client_config};
use super::io::BindingIo;
use crate::error::BoxError;
#[cfg(doc)]
use crate::protocol::ChannelBinding;

/// Puts TLS 1.3 on another connector's connections and the exporter of the connection that served it, as
/// [`ChannelBinding`], into each response's extensions.
///
/// An [`AttestLayer`](crate::AttestLayer) with [`bind_channel`](crate::AttestLayer::bind_channel) above the client then
/// verifies that the TEE itself ends that connection. The strength stays
/// [`Presence`](crate::Strength::Presence), because the request has left by then; `channel_bound()` is true. A
/// connection whose response is refused is closed, so that the pool uses it no more. To know before sending, use
/// [`AttestedChannel`](crate::tls::AttestedChannel).
///
/// ```
/// use hyper_util::client::legacy::Client;
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use hyper_util::rt::TokioExecutor;
/// use tower_attest::tls::BindingConnector;
///
/// let mut http = HttpConnector::new();
/// http.enforce_http(false);
/// let client: Client<_, String> = Client::builder(TokioExecutor::new()).build(BindingConnector::webpki_roots(http)?);
/// # drop(client);
/// # Ok::<(), tower_attest::tls::TlsConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BindingConnector<C> {
    inner: C,
    tls: Arc<ClientConfig>,
}

impl<C> BindingConnector<C> {
    /// Trusts Mozilla's root certificates.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError::Certificate`] if rustls refuses the settings.
    pub fn webpki_roots(inner: C) -> Result<Self, TlsConfigError> {
        Self::new(inner, Roots::WebPki)
    }

    /// Trusts the operating system's root certificates.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError::Roots`] if the system has none.
    pub fn native_roots(inner: C) -> Result<Self, TlsConfigError> {
        Self::new(inner, Roots::Native)
    }

    /// Trusts these root certificates alone.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError::Roots`] if `roots` is empty.
    pub fn roots(inner: C, roots: RootCertStore) -> Result<Self, TlsConfigError> {
        Self::new(inner, Roots::Custom(roots))
    }

    fn new(inner: C, roots: Roots) -> Result<Self, TlsConfigError> {
        let tls = client_config(roots, None, vec![b"h2".to_vec(), b"http/1.1".to_vec()])?;
        Ok(Self { inner, tls: Arc::new(tls) })
    }
}

impl<C> Service<Uri> for BindingConnector<C>
where
    C: Service<Uri>,
    C::Response: Read + Write + Connection + Send + Unpin + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = BindingIo<C::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let name = server_name(&uri);
        let (connecting, tls) = (self.inner.call(uri), TlsConnector::from(Arc::clone(&self.tls)));
        Box::pin(async move {
            let name = name?;
            let io = connecting.await.map_err(Into::into)?;
            Ok(BindingIo::new(tls.connect(name, TokioIo::new(io)).await?)?)
        })
    }
}

fn server_name(uri: &Uri) -> Result<ServerName<'static>, BoxError> {
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(host)) => {
            Ok(ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())?)
        }
        (scheme, _) => Err(format!("expected an https URI, found scheme {scheme:?}").into()),
    }
}
