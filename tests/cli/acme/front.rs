//! A CA on a bad day: gateways that answer in its place, limits, certificates that do not fit; and renewal information,
//! which this Pebble does not have.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_attest::platform::fetch::HttpsClient;
use tower_attest::tls::{Tls, TlsListener};

use super::pebble::{NAME, Pebble, is_issued_by, logs, shown, soon};
use crate::sidecar::support::Sidecar;

type Answer = Response<Full<Bytes>>;

/// A proxy between a `serve` and Pebble. It ends with its runtime.
struct Front {
    port: u16,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Front {
    /// `instead` may answer in Pebble's place: by the path, and how often it was asked for before.
    async fn start(pebble: &Pebble, instead: impl Fn(&str, usize) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let own = pebble.own_certificate();
        let tls = Tls::pem(&own, own.with_file_name("key.pem")).unwrap().alpn(["http/1.1"]);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(own).unwrap()).unwrap();
        let (client, ca) = (HttpsClient::with_roots(roots), format!("localhost:{}", pebble.port()));
        let listener = TlsListener::bind("127.0.0.1:0", tls).await.unwrap();
        let port = listener.local_addr().port();
        let seen = Arc::<Mutex<Vec<(String, Value)>>>::default();
        let (record, instead) = (Arc::clone(&seen), Arc::new(instead));
        let app = axum::Router::new().fallback(move |request: Request<axum::body::Body>| {
            let (client, ca, record, instead) = (client.clone(), ca.clone(), Arc::clone(&record), Arc::clone(&instead));
            async move {
                let (mut parts, body) = request.into_parts();
                let path = parts.uri.path().to_owned();
                let body = body.collect().await.unwrap().to_bytes();
                let before = {
                    let mut seen = record.lock().unwrap();
                    seen.push((path.clone(), payload(&body)));
                    seen.iter().filter(|(other, _)| *other == path).count() - 1
                };
                if let Some(answer) = instead(&path, before) {
                    return answer;
                }
                // The field `Host` stays, and with it the URLs that Pebble makes.
                parts.uri = Uri::builder().scheme("https").authority(ca).path_and_query(path.as_str()).build().unwrap();
                let answer = client.oneshot(Request::from_parts(parts, Full::new(body))).await.unwrap();
                let (mut parts, body) = answer.into_parts();
                for framing in ["transfer-encoding", "content-length"] {
                    parts.headers.remove(framing);
                }
                let mut body = body.collect().await.unwrap().to_bytes();
                if path == "/dir" {
                    let mut directory: Value = serde_json::from_slice(&body).unwrap();
                    directory["renewalInfo"] = format!("https://localhost:{port}/renewal").into();
                    body = directory.to_string().into();
                }
                Response::from_parts(parts, Full::new(body))
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { port, seen }
    }

    fn serve(&self, pebble: &Pebble) -> Sidecar {
        pebble.serve_with(&format!("https://localhost:{}/dir", self.port), "http://127.0.0.1:1", &[])
    }

    fn requests(&self, start: &str) -> Vec<(String, Value)> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(path, _)| path.starts_with(start)).cloned().collect()
    }
}

/// What a signed request says.
fn payload(body: &[u8]) -> Value {
    let jws: Value = serde_json::from_slice(body).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(jws["payload"].as_str().unwrap_or_default()).unwrap();
    serde_json::from_slice(&payload).unwrap_or_default()
}

fn answer(status: u16, kind: &str, retry_after: &str, body: impl Into<Bytes>) -> Option<Answer> {
    let answer = Response::builder().status(status).header("content-type", kind).header("retry-after", retry_after);
    Some(answer.body(Full::new(body.into())).unwrap())
}

#[tokio::test]
async fn what_a_gateway_answers_in_the_cas_place_is_told_by_its_status_and_asked_again() {
    let Some(pebble) = Pebble::start(json!({})).await else { return };
    let front = Front::start(&pebble, |path, before| match (path, before) {
        ("/dir", 0) => answer(502, "text/html", "0", "<html>"),
        ("/order-plz", 0) => answer(503, "text/html", "1", "<html>"),
        ("/dir", 2) => answer(200, "application/json", "0", vec![b' '; 2 << 20]),
        _ => None,
    })
    .await;
    let serve = front.serve(&pebble);
    pebble.issued(&serve, NAME).await;
    for text in ["localhost: status 502 Bad Gateway", "ordering: localhost: status 503", "length limit exceeded"] {
        assert!(serve.log().contains(text), "{text}: {}", serve.log());
    }
}

#[tokio::test]
async fn a_limit_of_the_cas_is_waited_for_and_a_signal_tries_again() {
    let Some(pebble) = Pebble::start(json!({})).await else { return };
    let front = Front::start(&pebble, |path, before| match (path, before) {
        ("/order-plz", 0) => {
            let problem =
                json!({ "type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many", "status": 429 });
            answer(429, "application/problem+json", "7200", problem.to_string())
        }
        _ => None,
    })
    .await;
    let serve = front.serve(&pebble);
    logs(&serve, "rateLimited").await;
    soon("the pause that was asked for", &serve, async || {
        serve.log().contains("\"next_attempt_in\":\"1h 59m").then_some(())
    })
    .await;
    serve.signal("HUP");
    pebble.issued(&serve, NAME).await;
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_not_served_and_not_kept() {
    let Some(pebble) = Pebble::start(json!({})).await else { return };
    let front = Front::start(&pebble, |path, _| {
        path.starts_with("/certZ/").then(|| {
            let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
            let body = base64::engine::general_purpose::STANDARD.encode(made.cert.der());
            let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            answer(200, "application/pem-certificate-chain", "0", pem).unwrap()
        })
    })
    .await;
    let serve = front.serve(&pebble);
    logs(&serve, "what the CA issued: certificate and key").await;
    assert!(!is_issued_by(&shown(serve.addr(), NAME).await.unwrap(), &pebble.root().await, NAME));
    assert!(!pebble.state().join(format!("localhost_{}_dir/certificate.pem", front.port)).exists());
}

#[tokio::test]
async fn a_certificate_that_has_ended_when_it_arrives_is_not_served_and_not_kept() {
    let Some(pebble) = Pebble::start(json!({ "certificateValidityPeriod": 1 })).await else { return };
    let front = Front::start(&pebble, |path, _| {
        if path.starts_with("/certZ/") {
            std::thread::sleep(std::time::Duration::from_secs(3));
        }
        None
    })
    .await;
    let serve = front.serve(&pebble);
    logs(&serve, "what the CA issued: expected a certificate that is valid now").await;
    assert_eq!(shown(serve.addr(), NAME).await.unwrap().len(), 1, "self-signed");
    assert!(!pebble.state().join(format!("localhost_{}_dir/certificate.pem", front.port)).exists());
}

#[tokio::test]
async fn renewal_information_makes_it_earlier_but_no_ca_can_make_a_server_order_without_end() {
    let Some(pebble) = Pebble::start(json!({})).await else { return };
    let front = Front::start(&pebble, |path, _| {
        path.starts_with("/renewal/").then(|| {
            // Long ago: this certificate is to be replaced at once.
            let window = json!({ "start": "2025-01-02T04:00:00Z", "end": "2025-01-03T04:00:00Z" });
            answer(200, "application/json", "21600", json!({ "suggestedWindow": window }).to_string()).unwrap()
        })
    })
    .await;
    let asked = || front.requests("/renewal/").into_iter().map(|(path, _)| path.replace("/renewal/", ""));
    let replaced = || {
        let orders = front.requests("/order-plz").into_iter();
        orders.filter_map(|(_, order)| order["replaces"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let serve = front.serve(&pebble);
    let first = pebble.issued(&serve, NAME).await;
    soon("the question", &serve, async || (asked().count() == 1).then_some(())).await;
    assert_eq!(serve.terminate().await, Some(0));
    assert_eq!((pebble.orders(), replaced().len()), (1, 0), "a new one settles for an hour");

    // One that was there at the start is replaced at once.
    let serve = front.serve(&pebble);
    soon("the replacement", &serve, async || {
        let shown = shown(serve.addr(), NAME).await?;
        (shown[0] != first).then_some(())
    })
    .await;
    soon("the question about the new one", &serve, async || (asked().count() == 3).then_some(())).await;
    let identifiers: Vec<_> = asked().collect();
    assert!(identifiers[0] == identifiers[1] && identifiers[1] != identifiers[2], "{identifiers:?}");
    // Asked for once by name; this Pebble does not say that it has understood, so once more without.
    assert_eq!(replaced(), identifiers[..1]);
    assert_eq!(pebble.orders(), 3);
}
