//! The listener: handshakes side by side, limits, drain, certificates, clients with certificates.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_attest::tls::{Tls, TlsListener};

use crate::support::{roots, until};

pub(crate) fn client(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(crate) async fn connect(
    port: u16,
    config: ClientConfig,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(("127.0.0.1", port)).await?).await
}

pub(crate) async fn bind(tls: &Tls) -> (TlsListener, u16) {
    let listener = TlsListener::bind("127.0.0.1:0", tls.clone()).await.unwrap();
    let port = listener.local_addr().port();
    (listener, port)
}

#[tokio::test]
async fn both_ends_read_the_same_exporter_and_another_connection_has_another() {
    let tls = Tls::self_signed("localhost").unwrap();
    let (mut listener, port) = bind(&tls).await;
    let mut exporters = Vec::new();
    for _ in 0..2 {
        let (client, server) = tokio::join!(connect(port, client(roots(&tls))), listener.accept());
        let (client, (server, _)) = (client.unwrap(), server.unwrap());
        let label = tower_attest::protocol::EXPORTER_LABEL;
        let exporter = client.get_ref().1.export_keying_material([0; 32], label, None).unwrap();
        assert_eq!(&exporter, server.info().binding().as_bytes());
        exporters.push(exporter);
    }
    assert_ne!(exporters[0], exporters[1]);
}

#[tokio::test]
async fn a_stalled_handshake_delays_no_other_connection() {
    let tls = Tls::self_signed("localhost").unwrap();
    let (mut listener, port) = bind(&tls).await;
    let mut stalled = Vec::new();
    for _ in 0..10 {
        stalled.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let (client, accepted) = tokio::join!(connect(port, client(roots(&tls))), listener.accept());
    assert!(client.is_ok() && accepted.is_some());
    assert_eq!(listener.handle().stats().completed, 1);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended_and_counted() {
    let tls = Tls::self_signed("localhost").unwrap();
    let (listener, port) = bind(&tls).await;
    let mut listener = listener.handshake_timeout(Duration::from_millis(50));
    let handle = listener.handle();
    tokio::spawn(async move { listener.accept().await.map(drop) });
    let mut stalled = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(stalled.read(&mut [0; 16]).await.unwrap_or(0), 0, "hung up");
    until(|| handle.stats().timed_out == 1).await;
}

#[tokio::test]
async fn at_the_cap_further_connections_wait_for_a_handshake_to_end() {
    let tls = Tls::self_signed("localhost").unwrap();
    let (listener, port) = bind(&tls).await;
    let mut listener = listener.max_handshakes(1);
    let handle = listener.handle();
    let stalled = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let waiting = tokio::spawn(connect(port, client(roots(&tls))));
    let accepting = tokio::spawn(async move { listener.accept().await.map(|(stream, _)| stream) });
    crate::support::settle().await;
    assert_eq!(handle.stats().completed, 0, "the second waits");
    drop(stalled);
    assert!(waiting.await.unwrap().is_ok());
    assert!(accepting.await.unwrap().is_some());
    assert_eq!((handle.stats().completed, handle.stats().failed), (1, 1));
}

#[tokio::test]
async fn noise_is_counted_and_harms_nobody() {
    let tls = Tls::self_signed("localhost").unwrap();
    let (mut listener, port) = bind(&tls).await;
    let handle = listener.handle();
    let mut noise = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    noise.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (client, accepted) = tokio::join!(connect(port, client(roots(&tls))), listener.accept());
    assert!(client.is_ok() && accepted.is_some());
    drop(noise);
    until(|| handle.stats().failed == 1).await;
}

#[tokio::test]
async fn a_drain_closes_the_socket_and_finishes_the_handshakes_that_run() {
    let tls = Tls::self_signed("localhost").unwrap();
    let (mut listener, port) = bind(&tls).await;
    let handle = listener.handle();
    // A handshake that has begun: its connection is accepted, its hello is not there yet.
    let slow = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let accepting = tokio::spawn(async move {
        let first = listener.accept().await.is_some();
        (first, listener.accept().await.is_none())
    });
    crate::support::settle().await;
    handle.drain();
    until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_err()).await;
    let name = ServerName::try_from("localhost").unwrap();
    let config = Arc::new(client(roots(&tls)));
    assert!(TlsConnector::from(config).connect(name, slow).await.is_ok(), "it is finished");
    assert_eq!(accepting.await.unwrap(), (true, true), "handed out, and then the end");
}

#[tokio::test]
async fn no_session_is_resumed_even_for_a_client_that_would() {
    let tls = Tls::self_signed("localhost").unwrap();
    let (mut listener, port) = bind(&tls).await;
    let config = client(roots(&tls));
    for _ in 0..3 {
        let (client, server) = tokio::join!(connect(port, config.clone()), listener.accept());
        let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
        // Tickets would come with the first bytes.
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        client.read_u8().await.unwrap();
        assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(client.get_ref().1.tls13_tickets_received(), 0);
    }
}

struct Pem {
    dir: std::path::PathBuf,
}

impl Pem {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tower-attest-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    /// Writes a new pair and returns its certificate as a root.
    fn write(&self) -> RootCertStore {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pem = |label: &str, der: &[u8]| {
            use base64::Engine as _;
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        std::fs::write(self.dir.join("cert.pem"), pem("CERTIFICATE", made.cert.der())).unwrap();
        std::fs::write(self.dir.join("key.pem"), pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        roots
    }
}

impl Drop for Pem {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test]
async fn a_certificate_that_changes_on_disk_serves_the_next_handshake() {
    let pem = Pem::new("reload");
    let old = pem.write();
    let tls = Tls::pem(pem.dir.join("cert.pem"), pem.dir.join("key.pem")).unwrap();
    let (mut listener, port) = bind(&tls).await;
    tokio::spawn(async move { while listener.accept().await.is_some() {} });
    assert!(connect(port, client(old.clone())).await.is_ok());
    // File systems stamp with a coarse clock.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let new = pem.write();
    assert!(connect(port, client(new)).await.is_ok());
    assert!(connect(port, client(old)).await.is_err());
}

#[tokio::test]
async fn client_certificates_are_asked_for_judged_and_handed_on() {
    let made = rcgen::generate_simple_self_signed(["client.example".to_owned()]).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(made.cert.der().clone()).unwrap();
    let stranger = rcgen::generate_simple_self_signed(["client.example".to_owned()]).unwrap();
    let with = |tls: &Tls, made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots(tls))
            .with_client_auth_cert(vec![made.cert.der().clone()], key)
            .unwrap()
    };

    let required = Tls::self_signed("localhost").unwrap().require_client_certificate(trusted.clone()).unwrap();
    let optional = Tls::self_signed("localhost").unwrap().accept_client_certificate(trusted).unwrap();
    for (tls, anonymous_is_served) in [(&required, false), (&optional, true)] {
        let (mut listener, port) = bind(tls).await;
        let handle = listener.handle();
        let (connected, accepted) = tokio::join!(connect(port, with(tls, &made)), listener.accept());
        assert!(connected.is_ok());
        let chain = accepted.unwrap().0.info().client_certificates().to_vec();
        assert_eq!(chain, [made.cert.der().to_vec()]);

        let serving = tokio::spawn(async move { while listener.accept().await.is_some() {} });
        // In TLS 1.3 the client learns of the refusal after its own end of the handshake.
        let _refused = connect(port, with(tls, &stranger)).await;
        until(|| handle.stats().failed == 1).await;
        let _anonymous = connect(port, client(roots(tls))).await;
        let served = if anonymous_is_served { (2, 1) } else { (1, 2) };
        until(|| (handle.stats().completed, handle.stats().failed) == served).await;
        serving.abort();
    }
}

#[test]
fn roots_that_hold_nothing_are_refused() {
    let tls = || Tls::self_signed("localhost").unwrap();
    assert!(tls().require_client_certificate(RootCertStore::empty()).is_err());
    assert!(tls().accept_client_certificate(RootCertStore::empty()).is_err());
}
