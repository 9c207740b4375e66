use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{Service, ServiceExt, service_fn};
use tower_attest::BoxError;

use super::super::activity::Exchanges;
use super::super::body::{ProxyBody, RequestBody, empty, full};
use super::super::limits::tests::limits;
use super::super::service::{Backend, Proxy};
use super::super::shutdown::Shutdown;
use super::super::timed::Timed;
use super::*;

/// Answers by the path.
#[derive(Clone)]
struct Far;

impl Backend for Far {
    fn prepare(&self, _: &mut Parts, _: Option<SocketAddr>) -> Result<(), Problem> {
        Ok(())
    }

    async fn send(&self, request: Request<ProxyBody>, _: bool) -> Result<Response<ProxyBody>, Problem> {
        let (parts, body) = request.into_parts();
        let status = |code: &str| HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
        let data = || Ok(Frame::data(Bytes::from_static(b"data")));
        let framed = |frames: Vec<Result<Frame<Bytes>, BoxError>>| {
            Response::new(StreamBody::new(tokio_stream::iter(frames)).boxed_unsync())
        };
        Ok(match parts.uri.path() {
            "/teapot" => Response::builder().status(StatusCode::IM_A_TEAPOT).body(empty()).unwrap(),
            "/down" => return Err(Problem::new(StatusCode::BAD_GATEWAY, Code::UpstreamDown, "down")),
            "/hangs" => std::future::pending().await,
            "/stands-still" => {
                let still = tokio_stream::StreamExt::chain(tokio_stream::iter([data()]), tokio_stream::pending());
                Response::new(StreamBody::new(still).boxed_unsync())
            }
            "/breaks" => framed(vec![data(), Err("broke".into())]),
            "/call" => framed(vec![data(), Ok(Frame::trailers(status("5")))]),
            "/odd" => framed(vec![Ok(Frame::trailers(status("whatever")))]),
            "/no-status" => framed(vec![data()]),
            "/trailers-only" => {
                let mut response = Response::new(empty());
                *response.headers_mut() = status("0");
                response
            }
            "/announces" => Response::builder().header("content-length", "4").body(full("data")).unwrap(),
            "/modified" => Response::builder().status(304).body(full("")).unwrap(),
            _ => {
                let sent = body.collect().await;
                let sent = sent.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, Code::ClientGone, "gone"))?;
                Response::new(full(sent.to_bytes()))
            }
        })
    }
}

fn proxy(meter: &Meter) -> Proxy<Far> {
    let flags = limits(&["--idle-timeout=5s", "--max-body-bytes=4"]);
    Proxy::new(Far, Arc::new(flags), Exchanges::default(), Shutdown::new().1, None, meter.clone())
}

fn request(method: &str, path: &str, grpc: bool) -> http::request::Builder {
    let content_type = if grpc { "application/grpc" } else { "text/plain" };
    Request::builder().method(method).uri(path).header("host", "a").header("content-type", content_type)
}

/// The lines of the requests that were counted: labels and number.
fn counted(meter: &Meter) -> Vec<String> {
    let text = meter.text();
    let mut lines: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("requests_total{")).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn labels(protocol: &str, status: &str, outcome: &str, reason: &str) -> String {
    format!("protocol=\"{protocol}\",status=\"{status}\",outcome=\"{outcome}\",reason=\"{reason}\"}} 1")
}

#[tokio::test(start_paused = true)]
async fn each_end_of_an_exchange_is_counted_once_under_its_name() {
    for (method, path, grpc, body, expected) in [
        ("GET", "/", false, "", labels("http", "2xx", "answered", "")),
        ("POST", "/", false, "sent", labels("http", "2xx", "answered", "")),
        ("GET", "/teapot", false, "", labels("http", "4xx", "answered", "")),
        ("HEAD", "/announces", false, "", labels("http", "2xx", "answered", "")),
        ("GET", "/modified", false, "", labels("http", "3xx", "answered", "")),
        ("CONNECT", "a:1", false, "", labels("http", "4xx", "refused", "request")),
        ("POST", "/", false, "too much", labels("http", "4xx", "refused", "body-too-large")),
        ("GET", "/down", false, "", labels("http", "5xx", "refused", "upstream-down")),
        ("GET", "/hangs", false, "", labels("http", "5xx", "refused", "timeout")),
        ("GET", "/stands-still", false, "", labels("http", "2xx", "broken", "timeout")),
        ("GET", "/breaks", false, "", labels("http", "2xx", "broken", "upstream-broke")),
        ("POST", "/call", true, "", labels("grpc", "NOT_FOUND", "answered", "")),
        ("POST", "/odd", true, "", labels("grpc", "other", "answered", "")),
        ("POST", "/no-status", true, "", labels("grpc", "none", "answered", "")),
        ("POST", "/trailers-only", true, "", labels("grpc", "OK", "answered", "")),
        ("POST", "/teapot", true, "", labels("grpc", "4xx", "answered", "")),
        ("POST", "/down", true, "", labels("grpc", "UNAVAILABLE", "refused", "upstream-down")),
        ("POST", "/call", false, "", labels("http", "2xx", "answered", "")),
    ] {
        let meter = Meter::new(1);
        let response = proxy(&meter).oneshot(request(method, path, grpc).body(full(body)).unwrap()).await.unwrap();
        let mut body = response.into_body();
        // As hyper reads: not past what says that it is at its end, and not at all for HEAD and 304.
        while method != "HEAD" && path != "/modified" && !http_body::Body::is_end_stream(&body) {
            let Some(Ok(_)) = body.frame().await else { break };
        }
        drop(body);
        assert_eq!(counted(&meter), [expected], "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_is_counted_wherever_it_goes() {
    let meter = Meter::new(1);
    let waiting = proxy(&meter).oneshot(request("GET", "/hangs", false).body(empty()).unwrap());
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
    assert_eq!(counted(&meter), [labels("http", "none", "broken", "client-gone")]);

    let meter = Meter::new(1);
    let reading = proxy(&meter).oneshot(request("GET", "/stands-still", false).body(empty()).unwrap());
    let mut body = reading.await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert!(meter.text().contains("\nrequests_in_flight 1\n"));
    assert!(counted(&meter).is_empty(), "it has not ended");
    drop(body);
    assert_eq!(counted(&meter), [labels("http", "2xx", "broken", "client-gone")]);
    assert!(meter.text().contains("\nrequests_in_flight 0\n"));
}

#[tokio::test(start_paused = true)]
async fn durations_run_to_the_end_of_the_body() {
    let meter = Meter::new(1);
    let response = proxy(&meter).oneshot(request("GET", "/stands-still", false).body(empty()).unwrap()).await.unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(body);
    let text = meter.text();
    assert!(text.contains("request_duration_seconds_bucket{le=\"2.5\",protocol=\"http\"} 0\n"), "{text}");
    assert!(text.contains("request_duration_seconds_bucket{le=\"5.0\",protocol=\"http\"} 1\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_is_around_the_proxy_counts_what_never_gets_there_and_nothing_twice() {
    type Sealed = UnsyncBoxBody<Bytes, Infallible>;
    let around = |meter: &Meter, opens: bool| {
        let proxy = proxy(meter);
        let inner = service_fn(move |sealed: Request<RequestBody<Sealed>>| {
            let (parts, body) = sealed.into_parts();
            // Another request than the one outside, with its extensions.
            let mut opened = request("POST", "/call", true).body(empty()).unwrap();
            *opened.extensions_mut() = parts.extensions;
            let answer = proxy.clone().call(opened);
            async move {
                if opens {
                    return answer.await;
                }
                let whole = body.collect().await.is_ok();
                Ok::<_, Infallible>(Response::builder().status(if whole { 400 } else { 500 }).body(full("")).unwrap())
            }
        });
        let flags = limits(&["--idle-timeout=5s", "--max-body-bytes=4"]);
        Timed::new(inner, Arc::new(flags), Exchanges::default(), meter.clone())
    };
    let sealed = |body: Sealed| request("POST", "/sealed", false).body(body).unwrap();
    let whole = |text: &'static str| Full::from(text).boxed_unsync();
    let silent = || StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, Infallible>>()).boxed_unsync();

    let meter = Meter::new(1);
    let response = around(&meter, true).oneshot(sealed(whole("data"))).await.unwrap();
    response.into_body().collect().await.unwrap();
    assert_eq!(counted(&meter), [labels("grpc", "NOT_FOUND", "answered", "")], "as the request inside");

    let meter = Meter::new(1);
    around(&meter, false).oneshot(sealed(whole("data"))).await.unwrap();
    assert_eq!(counted(&meter), [labels("http", "4xx", "refused", "not-opened")]);

    let meter = Meter::new(1);
    around(&meter, false).oneshot(sealed(whole("too much"))).await.unwrap();
    assert_eq!(counted(&meter), [labels("http", "4xx", "refused", "body-too-large")]);

    let meter = Meter::new(1);
    around(&meter, false).oneshot(sealed(silent())).await.unwrap();
    assert_eq!(counted(&meter), [labels("http", "5xx", "refused", "timeout")]);

    let meter = Meter::new(1);
    let gone = around(&meter, false).oneshot(sealed(silent()));
    assert!(tokio::time::timeout(Duration::from_secs(1), gone).await.is_err());
    assert_eq!(counted(&meter), [labels("http", "none", "broken", "client-gone")]);
}

#[test]
fn nothing_that_a_client_sends_becomes_a_label() {
    let meter = Meter::new(7);
    let sent = ["x-marked", "marked/1", "MARKED", "999", "-1", "\u{7f}"];
    for value in sent {
        let mut builder = Request::builder().method("MARKED").uri("/marked?marked");
        if let Ok(value) = http::HeaderValue::from_str(value) {
            builder = builder.header("content-type", value.clone()).header("grpc-status", value);
        }
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        let mut measure = meter.begin(&Asked::of(&parts));
        let mut response = Response::new(Full::<Bytes>::default());
        *response.headers_mut() = parts.headers;
        measure.answered(&response);
    }
    let text = meter.text();
    assert!(!text.to_lowercase().contains("marked"), "{text}");
    assert_eq!(counted(&meter).len(), 1, "{text}");
    assert!(text.contains("\nconnections_limit 7\n"));
}
