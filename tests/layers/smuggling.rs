//! Fields of attestation as a proxy may garble them, and as somebody would who hopes that two readers differ.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_attest::mock::MockTee;
use tower_attest::{ErrorKind, ReportLayer, VerifiedReport};

use crate::support::{attester, echo_server, get, http1, kind, layer};

type Sent = Request<Full<Bytes>>;
type Answer = Response<BoxBody<Bytes, Infallible>>;
/// What somebody makes of a text on its way.
type Change = fn(&str) -> String;

const REPORT: &str = "attestation-report";
const NONCE: &str = "attestation-nonce";

fn post() -> Sent {
    Request::post("https://localhost/prove").body(Full::from("witness")).unwrap()
}

/// An attested server.
async fn server(
    tee: &MockTee,
) -> impl Service<Sent, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + 'static {
    let app = service_fn(|_: Sent| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("proof"))) });
    ReportLayer::new(attester(tee.provider()).await).layer(app).map_response(|response| response.map(BodyExt::boxed))
}

/// What a client says of a server whose answers somebody changes. The endpoint's pass as they are.
async fn judged(change: impl Fn(Answer) -> Answer + Send + Sync + 'static) -> Result<(), ErrorKind> {
    let tee = MockTee::new();
    let (server, change) = (server(&tee).await, Arc::new(change));
    let between = service_fn(move |request: Sent| {
        let (server, change) = (server.clone(), Arc::clone(&change));
        async move {
            let asks = request.uri().path() != "/prove";
            let response = server.oneshot(request).await?;
            Ok::<_, Infallible>(if asks { response } else { change(response) })
        }
    });
    match layer(&tee).layer(between).oneshot(post()).await {
        Ok(response) => {
            assert!(VerifiedReport::of(&response).is_some());
            Ok(())
        }
        Err(error) => Err(kind(&*error).expect("an error of attestation")),
    }
}

/// The same for a change of the field's value.
async fn with_value(change: Change) -> Result<(), ErrorKind> {
    judged(move |mut response| {
        let value = change(response.headers()[REPORT].to_str().unwrap());
        response.headers_mut().insert(REPORT, HeaderValue::try_from(value).unwrap());
        response
    })
    .await
}

#[tokio::test]
async fn a_report_that_does_not_stand_in_the_head_under_its_own_name_is_absent() {
    let no_report = Err(ErrorKind::NoReport { status: 200 });
    assert_eq!(judged(|response| response).await, Ok(()));
    let in_trailers = |mut response: Answer| {
        let report = response.headers_mut().remove(REPORT).unwrap();
        let trailers = HeaderMap::from_iter([(REPORT.parse().unwrap(), report)]);
        response.map(|body| body.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed())
    };
    assert_eq!(judged(in_trailers).await, no_report, "a trailer");
    for name in ["attestation_report", "x-attestation-report", "attestation-reports"] {
        let renamed = move |mut response: Answer| {
            let report = response.headers_mut().remove(REPORT).unwrap();
            response.headers_mut().insert(name, report);
            response
        };
        assert_eq!(judged(renamed).await, no_report, "{name}");
    }
}

#[tokio::test]
async fn a_report_that_two_readers_could_read_differently_is_malformed() {
    for (what, second) in [("the same again", None), ("an empty line", Some("")), ("another", Some("v=1"))] {
        let twice = move |mut response: Answer| {
            let report = second.map_or_else(|| response.headers()[REPORT].clone(), HeaderValue::from_static);
            response.headers_mut().append(REPORT, report);
            response
        };
        assert_eq!(judged(twice).await, Err(ErrorKind::Malformed), "{what}");
    }
    let changes: [(&str, Change); 9] = [
        ("two lines that a proxy has joined", |value| format!("{value}, {value}")),
        ("a line that a proxy has joined with an empty one", |value| format!("{value}, ")),
        ("another signature behind the first", |value| format!("{value}, sig=:{}:", "A".repeat(86) + "==")),
        ("another version before the first", |value| format!("v=2, {value}")),
        ("in quotes", |value| format!("{value:?}")),
        ("another case of its keys", |value| value.replace("keys=", "KEYS=")),
        ("without the padding of its base64", |value| value.replace("=:", ":")),
        ("base64 in the alphabet of URLs", |value| value.replace("sig=:", "sig=:-_")),
        ("nothing", |_| String::new()),
    ];
    for (what, change) in changes {
        assert_eq!(with_value(change).await, Err(ErrorKind::Malformed), "{what}");
    }
}

#[tokio::test]
async fn what_means_the_same_passes() {
    let changes: [Change; 3] = [
        |value| value.replace(", ", ",\t"),
        |value| format!("other=1, {value};parameter=2"),
        |value| value.replace("v=1, ", "") + ", v=1",
    ];
    for change in changes {
        assert_eq!(with_value(change).await, Ok(()));
    }
}

#[tokio::test]
async fn a_nonce_that_two_readers_could_read_differently_is_refused_and_another_name_is_none() {
    let server = server(&MockTee::new()).await;
    let nonce = format!(":{}=:", "A".repeat(43));
    let ask = |fields: &[(&'static str, String)]| {
        let mut request = post();
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let server = server.clone();
        async move {
            let response = server.oneshot(request).await.unwrap();
            (response.status(), response.headers().contains_key(REPORT))
        }
    };
    assert_eq!(ask(&[(NONCE, nonce.clone())]).await, (StatusCode::OK, true));
    for fields in [
        vec![(NONCE, nonce.clone()), (NONCE, nonce.clone())],
        vec![(NONCE, nonce.clone()), (NONCE, String::new())],
        vec![(NONCE, format!("{nonce}, {nonce}"))],
        vec![(NONCE, format!("{nonce};bind=tls-exporter;bind=none"))],
        vec![(NONCE, String::new())],
    ] {
        assert_eq!(ask(&fields).await, (StatusCode::BAD_REQUEST, false), "{fields:?}");
    }
    for name in ["attestation_nonce", "x-attestation-nonce"] {
        assert_eq!(ask(&[(name, nonce.clone())]).await, (StatusCode::OK, false), "{name}");
    }
}

/// Passes each request on, and changes the head of the answer to `/prove` as bytes.
async fn on_the_wire(server: SocketAddr, change: Change) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let asked = String::from_utf8(head).unwrap();
                let mut upstream = TcpStream::connect(server).await?;
                upstream.write_all(asked.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes()).await?;
                let mut answer = String::new();
                upstream.read_to_string(&mut answer).await?;
                let (head, body) = answer.split_once("\r\n\r\n").unwrap();
                let head = if asked.starts_with("GET /prove") { change(head) } else { head.to_owned() };
                client.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
                client.shutdown().await?;
                Ok::<_, std::io::Error>(())
            });
        }
    });
    address
}

#[tokio::test]
async fn a_head_that_readers_mend_each_in_their_own_way_does_not_pass() {
    let tee = MockTee::new();
    let server = echo_server(tee.provider()).await;
    let judged = |change| {
        let tee = &tee;
        async move {
            let address = on_the_wire(server, change).await;
            layer(tee).layer(http1()).oneshot(get(address, "/prove")).await.map(|_| ())
        }
    };
    assert!(judged(str::to_owned).await.is_ok());
    let changes: [(&str, Change); 5] = [
        ("a folded line", |head| head.replace(", sig=", ",\r\n sig=")),
        ("a space before the colon", |head| head.replace("attestation-report:", "attestation-report :")),
        ("a space before the name", |head| head.replace("attestation-report:", " attestation-report:")),
        ("a zero byte in the value", |head| head.replace(", sig=", ",\0sig=")),
        ("a lone carriage return", |head| head.replace(", sig=", ",\rsig=")),
    ];
    for (what, change) in changes {
        let error = judged(change).await.expect_err(what);
        assert!(kind(&*error).is_none(), "{what}: the transport refuses it already: {error:?}");
    }
}
