//! Connections that change their protocol, such as WebSocket over HTTP/1.1: bytes both ways, until one side is done.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::activity::{Activity, Timer};
use super::body::{ProxyBody, empty};
use super::head::{remove_hop_by_hop, tokens};
use super::shutdown::Running;

const BUFFER: usize = 16 * 1024;

/// A client that asks for another protocol, and the end of the connection that it will speak it on.
#[derive(Debug)]
pub(crate) struct Upgrade {
    client: OnUpgrade,
    protocol: HeaderValue,
}

impl Upgrade {
    /// Takes the wish out of an HTTP/1.1 request. A wish for `h2c`, another HTTP or TLS is not granted, which RFC 9110
    /// allows: requests would then pass that nobody looks at.
    pub(crate) fn take(request: &mut Parts) -> Option<Self> {
        let asks = request.version == Version::HTTP_11
            && request.method == Method::GET
            && tokens(&request.headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
            && request.headers.get_all(UPGRADE).iter().all(carries_no_requests);
        if !asks {
            return None;
        }
        let protocol = request.headers.get(UPGRADE)?.clone();
        Some(Self { client: request.extensions.remove()?, protocol })
    }

    /// Puts the wish into the request that is sent on.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        say(headers, &self.protocol);
    }

    /// Joins both ends once the far end has agreed. The response tells the client.
    pub(crate) fn join(
        self,
        mut response: Response<ProxyBody>,
        idle: Option<Duration>,
        running: Running,
    ) -> Response<ProxyBody> {
        let protocol = response.headers().get(UPGRADE).cloned().unwrap_or_else(|| self.protocol.clone());
        remove_hop_by_hop(response.headers_mut());
        say(response.headers_mut(), &protocol);
        let upstream = hyper::upgrade::on(&mut response);
        // What belongs to the exchange is held until it ends: the body may count it.
        let held = (running, std::mem::replace(response.body_mut(), empty()));
        tokio::spawn(async move {
            let _held = held;
            match tokio::try_join!(self.client, upstream) {
                Ok((client, upstream)) => tunnel(TokioIo::new(client), TokioIo::new(upstream), idle).await,
                Err(error) => tracing::debug!(%error, "upgrade not completed"),
            }
        });
        response
    }
}

/// What cannot be read here, another may read.
fn carries_no_requests(protocols: &HeaderValue) -> bool {
    let harmless = |protocol: &str| {
        let name = protocol.split('/').next().unwrap_or_default().trim();
        !["h2c", "h2", "http", "tls"].iter().any(|http| name.eq_ignore_ascii_case(http))
    };
    protocols.to_str().is_ok_and(|protocols| protocols.split(',').all(harmless))
}

fn say(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// Ends when both directions have ended, when one fails, or when nothing moves for `idle`.
async fn tunnel(client: impl AsyncRead + AsyncWrite, upstream: impl AsyncRead + AsyncWrite, idle: Option<Duration>) {
    let activity = Activity::start(idle, None);
    let (from_client, to_client) = tokio::io::split(client);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let both = async {
        tokio::try_join!(pump(from_client, to_upstream, &activity), pump(from_upstream, to_client, &activity))
    };
    tokio::select! {
        ended = both => if let Err(error) = ended {
            tracing::debug!(%error, "upgraded connection broke");
        },
        expired = Timer::new(Arc::clone(&activity)) => tracing::debug!(?expired, "upgraded connection ended"),
    }
}

async fn pump(from: impl AsyncRead, to: impl AsyncWrite, activity: &Activity) -> io::Result<()> {
    let (mut from, mut to) = (pin!(from), pin!(to));
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        activity.touch();
        match buffer.get(..read) {
            Some(bytes) if read > 0 => {
                to.write_all(bytes).await?;
                to.flush().await?;
            }
            _ => return to.shutdown().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_each_end_is_passed_on() {
        let (mut client, client_end) = tokio::io::duplex(64);
        let (upstream_end, mut upstream) = tokio::io::duplex(64);
        let tunnel = tokio::spawn(tunnel(client_end, upstream_end, None));
        client.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        upstream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
        client.shutdown().await.unwrap();
        assert_eq!(upstream.read(&mut bytes).await.unwrap(), 0);
        upstream.write_all(b"late").await.unwrap();
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"late");
        drop(upstream);
        tunnel.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_tunnel_ends() {
        let (client, client_end) = tokio::io::duplex(64);
        let (upstream_end, upstream) = tokio::io::duplex(64);
        let started = tokio::time::Instant::now();
        tunnel(client_end, upstream_end, Some(Duration::from_secs(60))).await;
        assert_eq!(started.elapsed().as_secs(), 60);
        drop((client, upstream));
    }

    /// A request that hyper could upgrade: made by hyper itself.
    async fn upgradable(head: &'static str) -> Option<HeaderValue> {
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(head.as_bytes()).await.unwrap();
        let (sender, mut found) = tokio::sync::mpsc::channel(1);
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let sender = sender.clone();
            async move {
                let taken = Upgrade::take(&mut request.into_parts().0).map(|upgrade| upgrade.protocol);
                sender.send(taken).await.unwrap();
                Ok::<_, std::convert::Infallible>(Response::new(empty()))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
        tokio::spawn(connection.with_upgrades());
        found.recv().await.unwrap()
    }

    #[tokio::test]
    async fn only_a_wish_that_can_be_granted_is_taken() {
        let found = upgradable("GET / HTTP/1.1\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n").await;
        assert_eq!(found.unwrap(), "websocket");
        for head in [
            "GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nconnection: upgrade\r\n\r\n",
            "GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nconnection: upgrade, http2-settings\r\nupgrade: H2C\r\n\r\n",
            "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c, \u{fc}\r\n\r\n",
            "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c, \u{fc}\r\n\r\n",
            "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket, HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: TLS/1.2\r\n\r\n",
            "POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert_eq!(upgradable(head).await, None, "{head}");
        }
    }
}
