//! Runs the connections of clients: protocols, limits, and the end of each.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_attest::BoxError;
use tower_service::Service;

use super::activity::{Exchanges, SLACK};
use super::limits::Limits;
use super::opening::Opening;
use super::shutdown::Running;
use super::unread::Unread;

/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);

/// HTTP/2's window in bytes of one stream: what a request's body may be ahead of whoever reads it.
const WINDOW: u32 = 256 << 10;

/// Serves one connection, HTTP/2 if it begins with the preface of that and else HTTP/1, until it ends: by the client, by a limit, or by a shutdown once its exchanges have ended.
pub(crate) async fn serve_connection<I, S, B>(
    io: I,
    service: S,
    exchanges: Exchanges,
    limits: &Limits,
    mut running: Running,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let builder = builder(limits);
    // An exchange's own clock, which has an answer to give, comes first.
    let unread = limits.idle().map(|limit| limit.saturating_add(SLACK));
    let io = TokioIo::new(Unread::new(Opening::new(io, limits.header_timeout), unread));
    let mut connection = pin!(builder.serve_connection_with_upgrades(io, TowerToHyperService::new(service)));
    let mut overdue = pin!(exchanges.overdue(limits));
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return log(ended),
            () = &mut overdue => return tracing::debug!("connection ended: its client does not read"),
            () = running.ending(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let header_bytes = usize::try_from(limits.max_header_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(header_bytes)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(connection_window(limits.max_streams))
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_header_bytes);
    builder
}

/// Room for each stream's window: a body that nobody reads holds up no other on its connection, which many clients share
/// if it is a balancer's.
fn connection_window(streams: u32) -> u32 {
    const MAX: u32 = (1 << 31) - 1;
    WINDOW.saturating_mul(streams).min(MAX)
}

/// Most connections that end with an error were ended by their client.
fn log(ended: Result<(), Box<dyn Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
