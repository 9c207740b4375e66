//! Where `serve` sends requests: an address, what is spoken there, and the connections to it.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use clap::ValueEnum;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower_service::Service;

/// What is spoken with the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UpstreamProtocol {
    /// HTTP/2 without TLS for gRPC, HTTP/1.1 for the rest.
    Auto,
    /// HTTP/1.1 for everything.
    H1,
    /// HTTP/2 without TLS (prior knowledge) for everything but upgrades.
    H2c,
}

impl fmt::Display for UpstreamProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::H1 => "h1",
            Self::H2c => "h2c",
        })
    }
}

/// `http://HOST:PORT`, `unix:PATH`, or `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Upstream {
    Tcp {
        host: String,
        port: u16,
    },
    /// A worker, which must prove what it is.
    Tls {
        host: String,
        port: u16,
    },
    #[cfg(unix)]
    Unix(PathBuf),
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("expected http://HOST:PORT, unix:PATH or https://HOST:PORT, found {text:?}{why}");
        #[cfg(unix)]
        if let Some(path) = text.strip_prefix("unix:") {
            // The path stands in a text of lines, whose digest clients pin.
            return match path {
                "" => Err(wrong("")),
                _ if path.contains(char::is_control) => Err(wrong(": control characters in the path")),
                _ => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let uri: Uri = text.parse().map_err(|error| wrong(&format!(": {error}")))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("")),
        };
        if !matches!(uri.path_and_query().map(|target| target.as_str()), None | Some("/")) {
            return Err(wrong(": a path would be ignored"));
        }
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(|| wrong(""))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(match tls {
            false => Self::Tcp { host, port: authority.port_u16().unwrap_or(80) },
            true => Self::Tls { host: host.to_ascii_lowercase(), port: authority.port_u16().unwrap_or(443) },
        })
    }
}

/// As it was written; also how it stands in the effective configuration.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "http://{}:{port}", bracketed(host)),
            Self::Tls { host, port } => write!(f, "https://{}:{port}", bracketed(host)),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An IPv6 address as URLs have it.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl Upstream {
    /// Whether it must prove what it is.
    pub(crate) fn is_worker(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }

    /// Its URL under another name, if it has one.
    pub(crate) fn named(&self, name: Option<&str>) -> String {
        match (self, name) {
            (Self::Tls { port, .. }, Some(name)) => Self::Tls { host: name.to_owned(), port: *port }.to_string(),
            _ => self.to_string(),
        }
    }

    /// Whether plaintext that is sent there stays on this machine: a Unix socket, a loopback address, or `localhost`, whose
    /// addresses are looked at again at each connection.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
            Self::Tls { .. } => false,
            #[cfg(unix)]
            Self::Unix(_) => true,
        }
    }
}

/// Connects to one upstream, whatever the URI.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    upstream: Arc<Upstream>,
    timeout: Duration,
}

impl Connector {
    pub(crate) fn new(upstream: Upstream, timeout: Duration) -> Self {
        Self { upstream: Arc::new(upstream), timeout }
    }

    async fn connect(&self) -> io::Result<UpstreamIo> {
        match &*self.upstream {
            Upstream::Tcp { host, port } | Upstream::Tls { host, port } => {
                let tcp = TcpStream::connect((host.as_str(), *port)).await?;
                let peer = tcp.peer_addr()?.ip();
                if self.upstream.is_local() && !peer.is_loopback() {
                    return Err(io::Error::other(format!("{host} should be a loopback address, but is {peer}")));
                }
                tcp.set_nodelay(true)?;
                Ok(UpstreamIo::new(tcp))
            }
            #[cfg(unix)]
            Upstream::Unix(path) => tokio::net::UnixStream::connect(path).await.map(UpstreamIo::new),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = UpstreamIo;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<UpstreamIo>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { tokio::time::timeout(this.timeout, this.connect()).await? })
    }
}

trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection to the upstream.
pub(crate) struct UpstreamIo(TokioIo<Pin<Box<dyn Io>>>);

impl UpstreamIo {
    fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self(TokioIo::new(Box::pin(io)))
    }
}

impl Connection for UpstreamIo {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for UpstreamIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for UpstreamIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for (text, canonical, local) in [
            ("http://127.0.0.1:8082", "http://127.0.0.1:8082", true),
            ("http://localhost", "http://localhost:80", true),
            ("http://[::1]:9/", "http://[::1]:9", true),
            ("http://10.0.0.1:80", "http://10.0.0.1:80", false),
            ("http://localhost.example:80", "http://localhost.example:80", false),
            ("https://Worker.example", "https://worker.example:443", false),
            ("https://[::1]:9", "https://[::1]:9", false),
            ("unix:/run/app.sock", "unix:/run/app.sock", true),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!((upstream.to_string().as_str(), upstream.is_local()), (canonical, local), "{text}");
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for text in [
            "127.0.0.1:8082",
            "https://127.0.0.1/path",
            "https://user@127.0.0.1",
            "h2c://127.0.0.1",
            "http://127.0.0.1/path",
            "http://127.0.0.1/?query",
            "http://user@127.0.0.1",
            "unix:",
            "unix:/a\nnames=b",
            "",
        ] {
            assert!(text.parse::<Upstream>().is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn an_upstream_that_does_not_answer_is_given_up() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let upstream = format!("http://127.0.0.1:{port}").parse().unwrap();
        let mut connector = Connector::new(upstream, Duration::from_secs(5));
        assert!(connector.call(Uri::from_static("http://anything")).await.is_err());
    }
}
