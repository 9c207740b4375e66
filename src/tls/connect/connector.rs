//! How the bytes get to the server: TCP, a Unix socket, or any tower service that gives an IO.

use std::pin::Pin;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use tower_service::Service;

use crate::error::BoxError;

/// Bytes both ways, not yet encrypted.
pub(super) trait Io: Read + Write + Send {}

impl<T: Read + Write + Send> Io for T {}

pub(super) type BoxIo = Pin<Box<dyn Io>>;

pub(super) type Connector = BoxCloneSyncService<Uri, BoxIo, BoxError>;

/// TCP with name resolution and happy eyeballs (RFC 6555), as hyper-util does it, without Nagle's delay.
pub(super) fn tcp() -> Connector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    erase(connector)
}

#[cfg(unix)]
pub(super) fn unix_socket(path: std::path::PathBuf) -> Connector {
    erase(tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    }))
}

pub(super) fn erase<C>(connector: C) -> Connector
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    let boxed = |io| -> BoxIo { Box::pin(io) };
    BoxCloneSyncService::new(connector.map_response(boxed).map_err(Into::into))
}

/// The connection as tokio-rustls takes it.
pub(super) async fn open(connector: &Connector, address: &Uri) -> Result<TokioIo<BoxIo>, BoxError> {
    connector.clone().oneshot(address.clone()).await.map(TokioIo::new)
}
