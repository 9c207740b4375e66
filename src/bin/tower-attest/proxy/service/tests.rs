use std::sync::Mutex;
use std::time::Duration;

use http::HeaderMap;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::super::body::{empty, full};
use super::super::limits::tests::limits;
use super::super::shutdown::Shutdown;
use super::*;

type Seen = (HeaderMap, Vec<u8>);

/// Answers as it is told, and remembers what reached it.
#[derive(Clone)]
struct Far {
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: fn() -> Option<Response<ProxyBody>>,
    meter: Meter,
}

impl Far {
    fn new(answer: fn() -> Option<Response<ProxyBody>>) -> Self {
        Self { seen: Arc::default(), answer, meter: Meter::new(1) }
    }

    fn proxy(&self, flags: &[&str]) -> Proxy<Self> {
        let (shutdown, running) = Shutdown::new();
        drop(shutdown);
        Proxy::new(self.clone(), Arc::new(limits(flags)), Exchanges::default(), running, None, self.meter.clone())
    }
}

impl Backend for Far {
    fn prepare(&self, request: &mut Parts, _: Option<SocketAddr>) -> Result<(), Problem> {
        assert!(!request.headers.contains_key("connection"), "it is cleaned before");
        Ok(())
    }

    async fn send(&self, request: Request<ProxyBody>, _: bool) -> Result<Response<ProxyBody>, Problem> {
        let (parts, body) = request.into_parts();
        let broke = |_| Problem::new(StatusCode::BAD_GATEWAY, Code::UpstreamBroke, "the body broke");
        let body = body.collect().await.map_err(broke)?.to_bytes().to_vec();
        self.seen.lock().unwrap().push((parts.headers, body));
        match (self.answer)() {
            Some(response) => Ok(response),
            None => std::future::pending().await,
        }
    }
}

fn post(body: &'static str) -> Request<ProxyBody> {
    Request::post("/").header("host", "prover.example").body(full(body)).unwrap()
}

fn ok() -> Option<Response<ProxyBody>> {
    let response =
        Response::builder().header("connection", "x-private").header("x-private", "1").header("x-public", "2");
    Some(response.version(Version::HTTP_10).body(full("answer")).unwrap())
}

#[tokio::test]
async fn an_exchange_passes_without_what_concerns_one_connection() {
    let far = Far::new(ok);
    let mut request = post("question");
    for (name, value) in [
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("x-end", "2"),
        ("attestation-report", "v=1"),
        ("attestation-nonce", ":AA==:"),
        ("content-length", "8"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = far.proxy(&[]).oneshot(request).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_11));
    assert!(!response.headers().contains_key("x-private") && response.headers().contains_key("x-public"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "answer");

    let (headers, body) = far.seen.lock().unwrap().pop().unwrap();
    let names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["host", "x-end"]);
    assert_eq!(body, b"question");
}

#[tokio::test]
async fn a_body_that_grows_past_its_limit_is_413_and_over_grpc_resource_exhausted() {
    let far = Far::new(ok);
    let response = far.proxy(&["--max-body-bytes=7"]).oneshot(post("question")).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let mut request = post("question");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let response = far.proxy(&["--max-body-bytes=7"]).oneshot(request).await.unwrap();
    assert_eq!((response.status(), &response.headers()["grpc-status"]), (StatusCode::OK, &"8".parse().unwrap()));
    assert!(far.seen.lock().unwrap().is_empty());
    let response = far.proxy(&["--max-body-bytes=8"]).oneshot(post("question")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_far_end_that_does_not_answer_is_504_and_over_grpc_deadline_exceeded() {
    let far = Far::new(|| None);
    for flag in ["--idle-timeout=5s", "--total-timeout=5s"] {
        let started = tokio::time::Instant::now();
        let response = far.proxy(&[flag]).oneshot(post("")).await.unwrap();
        assert_eq!((response.status(), started.elapsed()), (StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(5)));
        let mut request = post("");
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let response = far.proxy(&[flag]).oneshot(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "4");
    }
}

#[tokio::test]
async fn a_change_of_protocol_that_nobody_asked_for_is_502() {
    let far = Far::new(|| Some(Response::builder().status(101).body(empty()).unwrap()));
    let response = far.proxy(&[]).oneshot(post("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn what_cannot_be_carried_never_reaches_the_far_end() {
    let far = Far::new(ok);
    let mut request = post("question");
    request.headers_mut().append("host", "other.example".parse().unwrap());
    let response = far.proxy(&[]).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(far.seen.lock().unwrap().is_empty());
}
