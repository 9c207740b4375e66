//! The settings of a channel.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use http::{Request, Uri};
use hyper::client::conn::http2;
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tower::balance::p2c::Balance;
use tower::discover::Change;
use tower::reconnect::Reconnect;
use tower_service::Service;

use super::balance::{Endpoints, endpoint};
use super::channel::AttestedChannel;
use super::connector::{self, Connector};
use super::error::{ChannelError, Stage};
use super::establish::establish;
use super::make::MakeConnection;
use super::observe::{Attestation, Observer};
use super::roots::{Identity, Roots, client_config};
use super::sender::RequestBody;
use super::settings::{Settings, authority, host};
use super::status::Registry;
use crate::client::exchange::Expectations;
use crate::client::{DEFAULT_MAX_EVIDENCE_AGE, DEFAULT_VERIFICATION_TIMEOUT};
use crate::error::{AttestError, BoxError, ErrorKind};
use crate::time::{Clock, SystemClock};
use crate::verifier::ReportVerifier;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const BUFFER: usize = 1024;

/// Settings of an [`AttestedChannel`], from [`AttestedChannel::builder`].
///
/// | setting | default |
/// |---|---|
/// | [`name`](Self::name) expected in the evidence | the URI's host |
/// | roots for the certificate | Mozilla's ([`native_roots`](Self::native_roots), [`roots`](Self::roots)) |
/// | [`alpn`](Self::alpn) | `h2`, `http/1.1` |
/// | [`connect_timeout`](Self::connect_timeout), [`handshake_timeout`](Self::handshake_timeout), [`verification_timeout`](Self::verification_timeout) | 10 s each |
/// | [`max_evidence_age`](Self::max_evidence_age) | 10 min |
/// | [`connections`](Self::connections) | 1 |
/// | [`buffer`](Self::buffer) of requests that wait | 1 024 |
/// | pause after a failed attempt | 100 ms, doubling up to 30 s, with jitter |
#[must_use = "a channel is made by connect() or connect_lazy()"]
pub struct ChannelBuilder {
    uri: Uri,
    verifier: Arc<dyn ReportVerifier>,
    name: Option<String>,
    any_name: bool,
    configs: Vec<[u8; 32]>,
    roots: Roots,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    connector: Connector,
    http2: http2::Builder<TokioExecutor>,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    verification_timeout: Duration,
    max_evidence_age: Duration,
    connections: usize,
    buffer: usize,
    observer: Observer,
    clock: Arc<dyn Clock>,
}

impl ChannelBuilder {
    pub(super) fn new(uri: Uri, verifier: Arc<dyn ReportVerifier>) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new());
        Self {
            uri,
            verifier,
            name: None,
            any_name: false,
            configs: Vec::new(),
            roots: Roots::WebPki,
            identity: None,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            connector: connector::tcp(),
            http2,
            connect_timeout: CONNECT_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            verification_timeout: DEFAULT_VERIFICATION_TIMEOUT,
            max_evidence_age: DEFAULT_MAX_EVIDENCE_AGE,
            connections: 1,
            buffer: BUFFER,
            observer: Observer::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Expects `name` among the names that the server's key document lists, in place of the URI's host. The
    /// certificate is still judged by the URI.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Expects no name in the key document: any server that the verifier accepts will do.
    pub fn any_name(mut self) -> Self {
        self.any_name = true;
        self
    }

    /// Expects this SHA-256 of the server's effective configuration. Repeat it to accept several, as while a server moves
    /// from one to another. Without it any configuration will do.
    pub fn config(mut self, digest: [u8; 32]) -> Self {
        self.configs.push(digest);
        self
    }

    /// Trusts the operating system's root certificates in place of Mozilla's.
    pub fn native_roots(mut self) -> Self {
        self.roots = Roots::Native;
        self
    }

    /// Trusts these root certificates alone.
    pub fn roots(mut self, roots: RootCertStore) -> Self {
        self.roots = Roots::Custom(roots);
        self
    }

    /// Takes any certificate, such as a self-signed one: the evidence alone identifies the server.
    ///
    /// The connection still ends in the TEE, since the evidence is bound to it. What goes is WebPKI's word on whose
    /// server it is: with it goes the protection where someone else runs the same measured program on another machine,
    /// unless the policy pins the chip or the configuration. Before the evidence is judged, anyone on the path can
    /// answer and learns that a client asks.
    pub fn dangerous_trust_attestation_alone(mut self) -> Self {
        self.roots = Roots::Attestation;
        self
    }

    /// Shows this certificate to servers that ask for one.
    ///
    /// It goes to whoever holds the server's certificate, before any evidence is judged: a relay with a certificate for
    /// the name learns who the client is, though nothing that it sends.
    pub fn client_certificate(mut self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        self.identity = Some(Identity { chain, key });
        self
    }

    /// The protocols offered, preferred first: `h2`, `http/1.1` or both. Default: both.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// Gets connections from a tower service in place of TCP. It is asked for the URI and gives bytes both ways.
    pub fn connector<C>(mut self, connector: C) -> Self
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: Read + Write + Send + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send + 'static,
    {
        self.connector = connector::erase(connector);
        self
    }

    /// Connects through a Unix socket.
    #[cfg(unix)]
    pub fn unix_socket(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.connector = connector::unix_socket(path.into());
        self
    }

    /// How long one attempt to connect may take. Default: 10 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one TLS handshake may take. Default: 10 seconds.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How long fetching and verifying evidence may take. Default: 10 seconds.
    pub fn verification_timeout(mut self, timeout: Duration) -> Self {
        self.verification_timeout = timeout;
        self
    }

    /// How old a connection's evidence may be when a request starts. Default: 10 minutes.
    ///
    /// It is renewed on the connection after half of that. Past it requests wait for new evidence; those that run go on.
    pub fn max_evidence_age(mut self, age: Duration) -> Self {
        self.max_evidence_age = age;
        self
    }

    /// How many connections to keep, at least one. Each is attested by itself. Default: 1, which on HTTP/1.1 carries
    /// one request at a time.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// How many requests may wait for a connection before callers wait to hand in theirs, at least one. Default: 1 024.
    pub fn buffer(mut self, requests: usize) -> Self {
        self.buffer = requests.max(1);
        self
    }

    /// Calls `f` each time that a connection was attested, or was not: new ones, renewals of their evidence, and each attempt
    /// that failed. It runs on a task of the channel's own, so it must not block. A panic in it fails the attempt.
    pub fn on_attestation(mut self, f: impl Fn(&Attestation) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(f);
        self
    }

    /// Where ages are read from. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// HTTP/2: pings an idle or silent connection this often, and gives it up `timeout` after a ping without answer.
    /// Default: no pings.
    pub fn http2_keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.http2.keep_alive_interval(interval).keep_alive_timeout(timeout).keep_alive_while_idle(true);
        self
    }

    /// HTTP/2: flow-control windows in bytes, of each stream and of the connection. Default: hyper's, 2 MiB and 5 MiB.
    pub fn http2_windows(mut self, stream: u32, connection: u32) -> Self {
        self.http2.initial_stream_window_size(stream).initial_connection_window_size(connection);
        self
    }

    /// HTTP/2: sizes the windows by the measured bandwidth and delay, in place of fixed ones.
    pub fn http2_adaptive_window(mut self) -> Self {
        self.http2.adaptive_window(true);
        self
    }

    /// HTTP/2: the most bytes that a response's fields may have. Default: 16 KiB.
    pub fn http2_max_header_list_size(mut self, bytes: u32) -> Self {
        self.http2.max_header_list_size(bytes);
        self
    }

    /// Connects, and returns once the first connection is attested. Further [`connections`](Self::connections) are made
    /// as requests come.
    ///
    /// # Errors
    ///
    /// A [`ChannelError`] whose [`stage`](ChannelError::stage) says what failed. No later attempt is made.
    pub async fn connect(self) -> Result<AttestedChannel, ChannelError> {
        let (connections, buffer) = (self.connections, self.buffer);
        let (settings, address) = self.settings()?;
        let registry = Registry::default();
        let report = registry.enter(address.clone());
        let (started, served) = (settings.clock.now().monotonic, Arc::default());
        let first = establish(&settings, &address, Arc::clone(&served)).await?;
        let first = first.reporting(&report);
        let make = MakeConnection::new(Arc::clone(&settings), report).after(started, served);
        let first = Reconnect::with_connection(first, make, address.clone());
        Ok(assemble(first, connections, buffer, settings, registry, &address))
    }

    /// Connects when the first request comes; it waits for the verdict.
    ///
    /// # Errors
    ///
    /// A [`ChannelError`] of kind [`Configuration`](ErrorKind::Configuration): a setting cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn connect_lazy(self) -> Result<AttestedChannel, ChannelError> {
        let (connections, buffer) = (self.connections, self.buffer);
        let (settings, address) = self.settings()?;
        let registry = Registry::default();
        let first = reconnect(&settings, &registry, &address);
        Ok(assemble(first, connections, buffer, settings, registry, &address))
    }

    pub(super) fn balance<K, A>(self, addresses: A) -> Result<AttestedChannel, ChannelError>
    where
        K: std::hash::Hash + Eq + Clone + fmt::Debug + Send + Sync + Unpin + 'static,
        A: Stream<Item = Change<K, Uri>> + Unpin + Send + 'static,
    {
        let buffer = self.buffer;
        let (settings, _) = self.settings()?;
        let registry = Registry::default();
        let endpoints = Endpoints::new(addresses, Arc::clone(&settings), registry.clone());
        Ok(AttestedChannel::new(Balance::<_, Request<RequestBody>>::new(endpoints), settings, registry, buffer))
    }

    pub(super) fn settings(self) -> Result<(Arc<Settings>, Uri), ChannelError> {
        let wrong = |error| ChannelError::new(Stage::Request, error);
        let authority = authority(&self.uri).map_err(wrong)?;
        let server_name = ServerName::try_from(host(&authority).to_owned()).map_err(|error| {
            let message = format!("channel URI: expected a DNS name or an IP address, found {:?}", authority.host());
            wrong(AttestError::with_source(ErrorKind::Configuration, message, error))
        })?;
        let name = self.name.unwrap_or_else(|| host(&authority).to_owned());
        let tls = client_config(self.roots, self.identity, self.alpn)
            .map_err(|error| wrong(AttestError::with_source(ErrorKind::Configuration, "TLS settings", error)))?;
        let settings = Settings {
            authority,
            server_name,
            connector: self.connector,
            tls: Arc::new(tls),
            http2: self.http2,
            expectations: Expectations {
                name: (!self.any_name).then_some(name),
                configs: self.configs,
                platforms: self.verifier.platforms(),
            },
            verifier: self.verifier,
            connect_timeout: self.connect_timeout,
            handshake_timeout: self.handshake_timeout,
            verification_timeout: self.verification_timeout,
            max_evidence_age: self.max_evidence_age,
            observer: self.observer,
            clock: self.clock,
        };
        Ok((Arc::new(settings), self.uri))
    }
}

fn reconnect(settings: &Arc<Settings>, registry: &Registry, address: &Uri) -> Reconnect<MakeConnection, Uri> {
    let make = MakeConnection::new(Arc::clone(settings), registry.enter(address.clone()));
    Reconnect::new(make, address.clone())
}

/// One connection stands alone; several are chosen among as if they were several servers.
fn assemble(
    first: Reconnect<MakeConnection, Uri>,
    connections: usize,
    buffer: usize,
    settings: Arc<Settings>,
    registry: Registry,
    address: &Uri,
) -> AttestedChannel {
    if connections == 1 {
        return AttestedChannel::new(first, settings, registry, buffer);
    }
    let further = (1..connections).map(|_| reconnect(&settings, &registry, address));
    let services: Vec<_> = std::iter::once(first).chain(further).map(endpoint).collect();
    let list = tower::discover::ServiceList::new::<Request<RequestBody>>(services);
    AttestedChannel::new(Balance::<_, Request<RequestBody>>::new(list), settings, registry, buffer)
}

impl fmt::Debug for ChannelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelBuilder")
            .field("uri", &self.uri)
            .field("verifier", &self.verifier)
            .field("name", &self.name)
            .field("max_evidence_age", &self.max_evidence_age)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
