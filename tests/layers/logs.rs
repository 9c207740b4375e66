//! What the crate says at the most talkative level, and in its errors: nothing that is somebody's secret.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_attest::ReportLayer;
use tower_attest::mock::MockTee;

use crate::support::{attester, layer};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What must stand nowhere: nonces and signatures as they passed, in each form that a log could give them.
fn forms(value: &HeaderValue) -> Vec<String> {
    let text = value.to_str().unwrap();
    let sequences: Vec<_> = text.split(':').filter(|part| part.len() == 44 || part.len() == 88).collect();
    let mut forms = Vec::new();
    for sequence in sequences {
        let bytes = STANDARD.decode(sequence).unwrap();
        let listed = format!("{bytes:?}");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        forms.extend([sequence.to_owned(), listed.trim_matches(['[', ']']).to_owned(), hex]);
    }
    forms
}

#[tokio::test]
async fn no_event_and_no_error_holds_a_nonce_a_body_or_a_query() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // For all threads: what another test has said before anybody listened would count as said to nobody.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let tee = MockTee::new();
    let app = service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("the-proof")))
    });
    let server = ReportLayer::new(attester(tee.provider()).await).layer(app);
    let (secrets, spoil) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Mutex::new("")));
    let (noted, spoilt) = (Arc::clone(&secrets), Arc::clone(&spoil));
    let between = service_fn(move |request: Request<Full<Bytes>>| {
        let (server, noted, spoil) = (server.clone(), Arc::clone(&noted), *spoilt.lock().unwrap());
        async move {
            noted.lock().unwrap().extend(forms(&request.headers()["attestation-nonce"]).into_iter().take(3));
            let mut response = server.oneshot(request).await?;
            let report = response.headers_mut().remove("attestation-report").unwrap();
            let report = match spoil {
                "the signature" => {
                    let (head, signature) = report.to_str().unwrap().split_once("sig=:").unwrap();
                    Some(format!("{head}sig=:AAAA{}", &signature[4..]).parse().unwrap())
                }
                "the status" => {
                    *response.status_mut() = http::StatusCode::ACCEPTED;
                    Some(report)
                }
                "the field" => None,
                _ => Some(report),
            };
            if let Some(report) = report {
                response.headers_mut().insert("attestation-report", report);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let client = layer(&tee).layer(between);
    let mut errors = String::new();
    for what in ["", "", "the signature", "the status", "the field"] {
        *spoil.lock().unwrap() = what;
        let request =
            Request::post("https://localhost/prove?token=the-token").header("authorization", "the-credential");
        let answered = client.clone().oneshot(request.body(Full::from("the-witness")).unwrap()).await;
        assert_eq!(answered.is_ok(), what.is_empty(), "{what}");
        if let Err(error) = answered {
            errors.push_str(&format!("{error} {error:?}"));
        }
    }

    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for said in ["response verified", "attestation refused", "the hardware made a report"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    let mut secrets = secrets.lock().unwrap().clone();
    assert!(secrets.len() >= 5 * 3);
    secrets.extend(["the-proof", "the-token", "the-credential", "the-witness"].map(str::to_owned));
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} in {log}");
        assert!(!errors.contains(&secret), "{secret} in {errors}");
    }
}
