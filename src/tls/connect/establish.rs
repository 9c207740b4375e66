//! One attempt: connect, TLS, HTTP, preflight. Only what has passed all four becomes a [`Connection`].

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::Uri;
use hyper::client::conn::http1;
use tokio_rustls::TlsConnector;

use super::super::io::BindingIo;
use super::attest::attest;
use super::connection::Connection;
use super::connector::{self, BoxIo};
use super::error::{ChannelError, Stage};
use super::observe::Attestation;
use super::sender::Sender;
use super::settings::Settings;
use crate::error::{AttestError, BoxError, ErrorKind};

/// Tells how it went.
pub(super) async fn establish(
    settings: &Arc<Settings>,
    address: &Uri,
    served: Arc<AtomicBool>,
) -> Result<Connection, ChannelError> {
    let started = settings.clock.now().monotonic;
    let outcome = attempt(settings, address, served).await;
    settings.observer.tell(&Attestation {
        address: address.clone(),
        renewal: false,
        took: settings.clock.now().monotonic.saturating_sub(started),
        outcome: outcome.as_ref().map(|connection| connection.attested().report.clone()).map_err(Clone::clone),
    });
    outcome
}

async fn attempt(settings: &Arc<Settings>, address: &Uri, served: Arc<AtomicBool>) -> Result<Connection, ChannelError> {
    let io = within(settings.connect_timeout, Stage::Connect, "a connection", async {
        connector::open(&settings.connector, address)
            .await
            .map_err(|error| ChannelError::io(Stage::Connect, format!("connecting to {address} failed"), error))
    })
    .await?;
    let tls = within(settings.handshake_timeout, Stage::Tls, "a TLS handshake", async {
        let connector = TlsConnector::from(Arc::clone(&settings.tls));
        connector.connect(settings.server_name.clone(), io).await.map_err(tls_error)
    })
    .await?;
    let io =
        BindingIo::new(tls).map_err(|error| ChannelError::io(Stage::Tls, "the TLS stack gave no exporter", error))?;
    let is_http2 = match io.session().alpn_protocol() {
        Some(protocol) => protocol == b"h2",
        None if settings.tls.alpn_protocols.iter().any(|protocol| protocol == b"http/1.1") => false,
        None => {
            let message = "ALPN: expected h2, found a server that chose no protocol";
            return Err(ChannelError::new(Stage::Tls, AttestError::new(ErrorKind::Transport, message)));
        }
    };

    let (binding, closer) = (io.binding(), io.closer());
    let mut sender = handshake(settings, io, is_http2)
        .await
        .map_err(|error| ChannelError::io(Stage::Http, "the HTTP handshake failed", error))?;
    match attest(settings, &mut sender, binding).await {
        Ok(attested) => {
            poll_fn(|cx| sender.poll_ready(cx)).await.map_err(|error| {
                ChannelError::io(Stage::Http, "the server closed the connection after it had given evidence", error)
            })?;
            Ok(Connection::new(Arc::clone(settings), address.clone(), sender, binding, attested, closer, served))
        }
        Err(error) => {
            closer.close();
            Err(error)
        }
    }
}

/// Starts HTTP on the connection and the task that moves its bytes.
async fn handshake(settings: &Settings, io: BindingIo<BoxIo>, is_http2: bool) -> hyper::Result<Sender> {
    if is_http2 {
        let (sender, connection) = settings.http2.handshake(io).await?;
        drive(connection);
        Ok(Sender::Http2(sender))
    } else {
        let (sender, connection) = http1::handshake(io).await?;
        drive(connection.with_upgrades());
        Ok(Sender::Http1(sender))
    }
}

/// Moves a connection's bytes. It ends by itself once no sender and no stream is left, or once the connection is closed.
fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
}

async fn within<T>(
    limit: Duration,
    stage: Stage,
    doing: &str,
    step: impl Future<Output = Result<T, ChannelError>>,
) -> Result<T, ChannelError> {
    match tokio::time::timeout(limit, step).await {
        Ok(done) => done,
        Err(_) => Err(ChannelError::timeout(stage, doing, limit)),
    }
}

/// Tells a certificate that was refused from a handshake that failed.
fn tls_error(error: io::Error) -> ChannelError {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some_and(|error| {
        matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    });
    let (stage, message) = match refused {
        true => (Stage::WebPki, "the server's certificate was refused"),
        false => (Stage::Tls, "the TLS handshake failed"),
    };
    ChannelError::io(stage, message, BoxError::from(error))
}
