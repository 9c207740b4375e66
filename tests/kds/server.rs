//! A key server on a loopback socket that speaks AMD's URLs, serves the simulator's certificates, and can misbehave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri, header};
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tower_attest::platform::snp::sim::{Authority, SimulatedAmd};
use tower_attest::platform::snp::{Product, Tcb};

/// How the server answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Never answers.
    Silent,
    /// 429 with these seconds.
    TooManyRequests(u64),
    /// A status without a body.
    Status(u16),
    /// The genuine certificate of another chip.
    AnotherChip,
    /// The genuine certificate of another TCB.
    AnotherTcb,
    /// Half a certificate, in a whole response.
    HalfACertificate,
    /// Half a certificate, in a response that promised all of it.
    BrokenOff,
    /// 100 MB.
    Huge,
    /// Bytes without end, as fast as they are taken.
    Endless,
    /// One byte, and then nothing for ever.
    Stalled,
    /// 302 to a path that serves the right certificate.
    Redirect,
    /// The right certificate, said to be HTML.
    AnotherContentType,
}

pub(crate) struct Kds {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::AbortHandle,
}

struct Shared {
    fault: Mutex<Fault>,
    requests: Mutex<Vec<String>>,
    crls: Mutex<HashMap<Product, Vec<u8>>>,
}

impl Kds {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { fault: Mutex::new(Fault::None), requests: Mutex::default(), crls: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }).abort_handle();
        Self { address, shared, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Serves `crl` for `product`; before, there is none.
    pub(crate) fn publish(&self, product: Product, crl: Vec<u8>) {
        self.shared.crls.lock().unwrap().insert(product, crl);
    }

    /// Path and query of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.requests().len()
    }
}

impl Drop for Kds {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri) -> Response<Body> {
    shared.requests.lock().unwrap().push(uri.to_string());
    let fault = *shared.fault.lock().unwrap();
    if let Some(path) = uri.path().strip_prefix("/elsewhere") {
        return content(&shared, path, uri.query(), Fault::None);
    }
    match fault {
        Fault::Silent => pending().await,
        Fault::TooManyRequests(seconds) => {
            with_header(StatusCode::TOO_MANY_REQUESTS, header::RETRY_AFTER, &seconds.to_string())
        }
        Fault::Status(status) => Response::builder().status(status).body(Body::empty()).unwrap(),
        Fault::Redirect => with_header(StatusCode::FOUND, header::LOCATION, &format!("/elsewhere{uri}")),
        Fault::Huge => Response::new(Body::from(vec![0; 100_000_000])),
        Fault::Endless => stream(tokio_stream::iter(std::iter::repeat(Bytes::from_static(&[0; 4096])))),
        Fault::Stalled => stream(tokio_stream::once(Bytes::from_static(b"0")).chain(tokio_stream::pending())),
        _ => content(&shared, uri.path(), uri.query(), fault),
    }
}

fn with_header(status: StatusCode, name: header::HeaderName, value: &str) -> Response<Body> {
    Response::builder().status(status).header(name, value).body(Body::empty()).unwrap()
}

fn stream(chunks: impl tokio_stream::Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    Response::new(Body::from_stream(chunks.map(Ok::<_, Infallible>)))
}

fn content(shared: &Shared, path: &str, query: Option<&str>, fault: Fault) -> Response<Body> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let found = match parts.as_slice() {
        ["vcek", "v1", product, "crl"] => {
            product_of(product).and_then(|p| shared.crls.lock().unwrap().get(&p).cloned())
        }
        ["vcek", "v1", product, "cert_chain"] => product_of(product).map(chain),
        ["vcek", "v1", product, hwid] => product_of(product).and_then(|p| vcek(p, hwid, query?, fault)),
        _ => None,
    };
    let Some(mut der) = found else { return Response::builder().status(404).body(Body::empty()).unwrap() };
    let whole = der.len();
    match fault {
        Fault::HalfACertificate => der.truncate(whole / 2),
        Fault::BrokenOff => {
            der.truncate(whole / 2);
            let half = tokio_stream::once(Ok(Bytes::from(der)));
            let torn = half.chain(tokio_stream::once(Err(std::io::Error::other("torn"))));
            let response = Response::builder().header(header::CONTENT_LENGTH, whole);
            return response.body(Body::from_stream(torn)).unwrap();
        }
        Fault::AnotherContentType => {
            return Response::builder().header(header::CONTENT_TYPE, "text/html").body(Body::from(der)).unwrap();
        }
        _ => {}
    }
    Response::new(Body::from(der))
}

fn product_of(name: &str) -> Option<Product> {
    // As strict as AMD's server: case counts.
    Product::ALL.into_iter().find(|product| product.name() == name)
}

fn vcek(product: Product, hwid: &str, query: &str, fault: Fault) -> Option<Vec<u8>> {
    let hwid = hex::decode(hwid).ok().filter(|id| id.len() == product.chip_id_len())?;
    let mut chip_id = [0; 64];
    chip_id[..hwid.len()].copy_from_slice(&hwid);
    let mut spls: HashMap<&str, u8> = HashMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=')?;
        spls.insert(name, value.parse().ok()?);
    }
    let mut tcb = Tcb {
        fmc: if product == Product::Turin { Some(spls.remove("fmcSPL")?) } else { None },
        bootloader: spls.remove("blSPL")?,
        tee: spls.remove("teeSPL")?,
        snp: spls.remove("snpSPL")?,
        microcode: spls.remove("ucodeSPL")?,
    };
    if !spls.is_empty() {
        return None;
    }
    match fault {
        Fault::AnotherChip => chip_id[0] ^= 1,
        Fault::AnotherTcb => tcb.snp ^= 1,
        _ => {}
    }
    Some(SimulatedAmd::new().vcek(product, &chip_id, tcb))
}

fn chain(product: Product) -> Vec<u8> {
    use base64::Engine as _;
    let mut pem = String::new();
    for authority in [Authority::Ask, Authority::Ark] {
        let der = SimulatedAmd::new().certificate(product, authority);
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).unwrap());
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem.into_bytes()
}

/// A list that begins `since` ago and serves for `until` from now.
pub(crate) fn crl(product: Product, revoked: &[Authority], since: Duration, until: Duration) -> Vec<u8> {
    let now = SystemTime::now();
    SimulatedAmd::new().crl(product, revoked, now - since, now + until)
}
